//! The noise of a run.

use latentrace_nn::seeded;
use latentrace_nn::tch::{Device, Kind, Tensor};

/// All normal noise of a run, drawn before the run on the CPU from the image's own seed, in the order in which
/// diffusers draws. So a seed gives the same numbers as `torch.Generator("cpu").manual_seed(seed)`, and the noise of an
/// image does not depend on the other images of its batch or on the device.
pub struct Draws {
    /// For each image, its draws that are left.
    left: Vec<std::vec::IntoIter<Tensor>>,
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
        Draws { left: drawn.into_iter().map(Vec::into_iter).collect() }
    }
}

impl Iterator for Draws {
    type Item = Tensor;

    fn next(&mut self) -> Option<Tensor> {
        let rows: Vec<Tensor> = self.left.iter_mut().map_while(Iterator::next).collect();
        match rows.len() {
            count if count < self.left.len() => None,
            1 => rows.into_iter().next(),
            _ => Some(Tensor::cat(&rows, 0)),
        }
    }
}
