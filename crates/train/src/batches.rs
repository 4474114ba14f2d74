//! The batches of a denoiser's training.

use crate::Clean;
use crate::error::Result;
use latentrace_nn::tch::{Device, Kind, Tensor};
use latentrace_nn::{Pass, seeded};
use latentrace_schedulers::Config;
use latentrace_shapes::{Detail, Stream};
use latentrace_text::Tokenizer;
use latentrace_unet::Unet;
use std::collections::HashMap;

/// An endless sequence of batches of noisy samples with captions. Batch `k` depends on the seed and `k` alone.
pub(crate) struct Batches<'a> {
    clean: &'a Clean<'a>,
    tokenizer: &'a Tokenizer,
    known: HashMap<String, Vec<i64>>,
    signal: Tensor, // [times], the cumulative product of alphas
}

/// One batch.
pub(crate) struct Batch {
    noisy: Tensor,          // [batch, channels, height, width]
    velocity: Tensor,       // [batch, channels, height, width]
    times: Tensor,          // [batch]
    pub(crate) ids: Tensor, // [batch, tokens]
}

impl Batch {
    /// The mean squared error of the velocity `sqrt(a) eps - sqrt(1 - a) x0` (Salimans and Ho 2022) that the UNet
    /// predicts from `text`, `[batch, tokens, features]`.
    pub(crate) fn loss(&self, unet: &Unet, text: &Tensor) -> Tensor {
        let predicted = unet.forward(&mut Pass::silent(), &self.noisy, &self.times, text);
        (predicted - &self.velocity).square().mean(Kind::Float)
    }
}

impl<'a> Batches<'a> {
    /// Batches of these samples, with the noise levels of the scheduler's training schedule.
    pub(crate) fn new(clean: &'a Clean<'a>, tokenizer: &'a Tokenizer, scheduler: &Config) -> Batches<'a> {
        let levels = scheduler.schedule().alphas_cumprod().iter();
        let signal: Vec<f32> = levels.map(|&signal| signal as f32).collect();
        Batches { clean, tokenizer, known: HashMap::new(), signal: Tensor::from_slice(&signal) }
    }

    /// Batch `step`, of `size` samples.
    pub(crate) fn batch(&mut self, seed: u64, step: u64, size: usize) -> Result<Batch> {
        let (size, device, cpu) = (size as i64, self.clean.device(), Device::Cpu);
        let [channels, height, width] = self.clean.space().shape()?;
        let (numbers, times, noise) = seeded(seed ^ (step << 20) ^ (1 << 62), || {
            let numbers = Tensor::randint(self.clean.pictures.scenes.len() as i64, [size], (Kind::Int64, cpu));
            let times = Tensor::randint(self.signal.size()[0], [size], (Kind::Int64, cpu));
            (numbers, times, Tensor::randn([size, channels, height, width], (Kind::Float, cpu)))
        });
        let ids = self.captions(&numbers, &mut Stream::numbered(seed ^ 0x6361_7074, step))?;
        let (clean, noise) = (self.clean.batch(&numbers), noise.to_device(device));
        let signal = self.signal.index_select(0, &times).to_device(device).view([-1, 1, 1, 1]);
        let (alpha, sigma) = (signal.sqrt(), (-&signal + 1.0).sqrt());
        Ok(Batch {
            noisy: &alpha * &clean + &sigma * &noise,
            velocity: alpha * noise - sigma * clean,
            times: times.to_device(device).to_kind(Kind::Float),
            ids: ids.to_device(device),
        })
    }

    /// The tokens `[batch, tokens]` of captions with random detail. Some captions are empty, as guidance needs.
    fn captions(&mut self, numbers: &Tensor, stream: &mut Stream) -> Result<Tensor> {
        let size = numbers.size()[0];
        let mut ids = Vec::new();
        for row in 0..size {
            let scene = &self.clean.pictures.scenes[numbers.int64_value(&[row]) as usize];
            let caption = scene.caption(Detail::random(stream));
            if !self.known.contains_key(&caption) {
                self.known.insert(caption.clone(), self.tokenizer.encode(&caption)?.ids);
            }
            ids.extend_from_slice(&self.known[&caption]);
        }
        Ok(Tensor::from_slice(&ids).view([size, -1]))
    }
}
