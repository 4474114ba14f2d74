//! The noise of a run.

use crate::error::Result;
use crate::execute::missing;
use crate::start::Encodings;
use latentrace_nn::seeded;
use latentrace_nn::tch::{Device, Kind, Tensor};
use std::collections::VecDeque;

/// All normal noise of a run, drawn before the run on the CPU from the image's own seed, in the order in which
/// diffusers draws. So a seed gives the same numbers as `torch.Generator("cpu").manual_seed(seed)`, and the noise of an
/// image does not depend on the other images of its batch or on the device.
pub struct Draws {
    /// For each image, its draws that are left.
    left: Vec<VecDeque<Tensor>>,
}

impl Draws {
    /// Makes `count` draws of a shape for one image, from its seed.
    pub fn new(seed: u64, count: usize, shape: [i64; 4], device: Device) -> Draws {
        Draws::of_images(&[seed], count, shape, device)
    }

    /// Makes `count` draws of a shape for every image. Each draw has the images along its first axis. Images with the
    /// same seed have the same draws.
    pub fn of_images(seeds: &[u64], count: usize, shape: [i64; 4], device: Device) -> Draws {
        let draw = || Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_device(device);
        let mut drawn: Vec<Vec<Tensor>> = Vec::new();
        for (image, seed) in seeds.iter().enumerate() {
            let row = match seeds[..image].iter().position(|earlier| earlier == seed) {
                Some(same) => drawn[same].iter().map(Tensor::shallow_clone).collect(),
                None => seeded(*seed, || (0..count).map(|_| draw()).collect()),
            };
            drawn.push(row);
        }
        Draws { left: drawn.into_iter().map(VecDeque::from).collect() }
    }

    /// The next draw, which stays the next.
    pub(crate) fn peek(&self) -> Option<Tensor> {
        stacked(self.left.iter().map_while(|row| row.front().map(Tensor::shallow_clone)).collect(), self.left.len())
    }

    /// Takes the draws of the encoder, which are before and after that of the start.
    pub(crate) fn take_for(&mut self, encodings: Encodings) -> Result<EncoderNoise> {
        let image = if encodings.image { Some(self.next().ok_or_else(missing)?) } else { None };
        let images = self.left.len();
        let mut second = || stacked(self.left.iter_mut().map_while(|row| row.remove(1)).collect(), images);
        let masked = if encodings.masked { Some(second().ok_or_else(missing)?) } else { None };
        Ok(EncoderNoise { image, masked })
    }
}

/// The noise that samples from the encoder's distributions, `[images, 4, height, width]` each.
pub(crate) struct EncoderNoise {
    /// For the picture.
    pub(crate) image: Option<Tensor>,
    /// For the picture without its masked part.
    pub(crate) masked: Option<Tensor>,
}

/// The rows of all images as one draw; `None` if an image has no more.
fn stacked(rows: Vec<Tensor>, images: usize) -> Option<Tensor> {
    match rows.len() {
        count if count < images => None,
        1 => rows.into_iter().next(),
        _ => Some(Tensor::cat(&rows, 0)),
    }
}

impl Iterator for Draws {
    type Item = Tensor;

    fn next(&mut self) -> Option<Tensor> {
        let images = self.left.len();
        stacked(self.left.iter_mut().map_while(VecDeque::pop_front).collect(), images)
    }
}
