//! The batches of a denoiser's training.

use crate::Clean;
use crate::draws::Draws;
use crate::error::Result;
use crate::recipe::Weighting;
use latentrace_nn::tch::{Device, Kind, Tensor};
use latentrace_nn::{Pass, seeded};
use latentrace_schedulers::Config;
use latentrace_shapes::{Detail, Stream};
use latentrace_text::Tokenizer;
use latentrace_unet::Unet;

/// An endless sequence of batches of noisy samples with captions. A part of batch `k` depends on the seed, `k` and the
/// number of the part alone.
pub(crate) struct Batches<'a> {
    clean: Clean<'a>,
    tokenizer: &'a Tokenizer,
    seed: u64,
    signal: Tensor,  // [times], the cumulative product of alphas
    weights: Tensor, // [times], of the squared error
}

/// A part of one batch.
pub(crate) struct Batch {
    noisy: Tensor,          // [batch, channels, height, width]
    velocity: Tensor,       // [batch, channels, height, width]
    times: Tensor,          // [batch]
    weights: Tensor,        // [batch]
    pub(crate) ids: Tensor, // [batch, tokens]
}

impl Batch {
    /// The tensors, for [`Batch::of`].
    pub(crate) fn into_tensors(self) -> [Tensor; 5] {
        [self.noisy, self.velocity, self.times, self.weights, self.ids]
    }

    /// A batch of the tensors of [`Batch::into_tensors`].
    pub(crate) fn of(tensors: &[Tensor]) -> Batch {
        let at = |index: usize| tensors[index].shallow_clone();
        Batch { noisy: at(0), velocity: at(1), times: at(2), weights: at(3), ids: at(4) }
    }

    /// The weighted mean of the squared error of the velocity `sqrt(a) eps - sqrt(1 - a) x0` (Salimans and Ho 2022) that
    /// the UNet predicts from `text`, `[batch, tokens, features]`.
    pub(crate) fn loss(&self, unet: &Unet, text: &Tensor) -> Tensor {
        let predicted = unet.forward(&mut Pass::silent(), &self.noisy, &self.times, text);
        let errors = (predicted - &self.velocity).square().mean_dim([1_i64, 2, 3].as_slice(), false, Kind::Float);
        (errors * &self.weights).mean(Kind::Float)
    }
}

impl<'a> Batches<'a> {
    /// Batches of these samples, with the noise levels of the scheduler's training schedule.
    pub(crate) fn new(
        clean: Clean<'a>,
        tokenizer: &'a Tokenizer,
        scheduler: &Config,
        weighting: Weighting,
        seed: u64,
    ) -> Batches<'a> {
        let signal: Vec<f64> = scheduler.schedule().alphas_cumprod().iter().copied().collect();
        let as_f32 = |numbers: &[f64]| Tensor::from_slice(&numbers.iter().map(|&x| x as f32).collect::<Vec<f32>>());
        let weights = as_f32(&weighting.of(&signal));
        Batches { signal: as_f32(&signal), weights, clean, tokenizer, seed }
    }

    /// A part of batch `step`, of `size` samples.
    pub(crate) fn part(&self, step: u64, part: usize, size: usize) -> Result<Batch> {
        let (device, mut stream) = (self.clean.device(), Draws::Batch.stream(self.seed, step, part));
        let scenes = self.clean.pictures.scenes.len();
        let numbers: Vec<usize> = (0..size).map(|_| (stream.unit() * scenes as f64) as usize).collect();
        let clean = self.clean.batch(&numbers);
        let noise = seeded(stream.bits(), || Tensor::randn(clean.size(), (Kind::Float, Device::Cpu))).to_device(device);
        let times = self.times(&mut stream, size);
        let at = |table: &Tensor| table.index_select(0, &times).to_device(device);
        let signal = at(&self.signal).view([-1, 1, 1, 1]);
        let (alpha, sigma) = (signal.sqrt(), (-&signal + 1.0).sqrt());
        let captions = self.captions(&numbers, &mut Draws::Captions.stream(self.seed, step, part))?;
        Ok(Batch {
            noisy: &alpha * &clean + &sigma * &noise,
            velocity: alpha * noise - sigma * clean,
            weights: at(&self.weights),
            times: times.to_device(device).to_kind(Kind::Float),
            ids: captions.to_device(device),
        })
    }

    /// The noise levels `[batch]`: each equally likely, and evenly spread in the batch, which makes the loss less noisy
    /// (Kingma et al. 2021, appendix I.1).
    fn times(&self, stream: &mut Stream, size: usize) -> Tensor {
        let (all, first) = (self.signal.size()[0], stream.unit());
        let time = |sample: usize| ((first + sample as f64 / size as f64).fract() * all as f64) as i64;
        Tensor::from_slice(&(0..size).map(time).collect::<Vec<i64>>())
    }

    /// The tokens `[batch, tokens]` of captions with random detail. Some captions are empty, as guidance needs.
    ///
    /// Captions are tokenized each time. Kept ones would be small pieces of memory
    /// between the large ones of the tensors, which then no longer fit where others were: the process grew by 100 MB a
    /// minute.
    fn captions(&self, numbers: &[usize], stream: &mut Stream) -> Result<Tensor> {
        let mut ids = Vec::new();
        for &number in numbers {
            let caption = self.clean.pictures.scenes[number].caption(Detail::random(stream));
            ids.extend(self.tokenizer.encode(&caption)?.ids);
        }
        Ok(Tensor::from_slice(&ids).view([numbers.len() as i64, -1]))
    }
}

impl Weighting {
    /// The weight of each level, with mean 1, for these cumulative products of alphas.
    fn of(self, signal: &[f64]) -> Vec<f64> {
        let weight = |&signal: &f64| {
            let ratio = signal / (1.0 - signal);
            match self {
                Weighting::Uniform => 1.0,
                Weighting::MinSnr(gamma) => ratio.min(gamma) / (ratio + 1.0),
            }
        };
        let weights: Vec<f64> = signal.iter().map(weight).collect();
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        weights.into_iter().map(|weight| weight / mean).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn min_snr_counts_low_noise_less() {
        let signal = [0.999, 0.9, 0.5, 0.001];
        assert_eq!(Weighting::Uniform.of(&signal), [1.0; 4]);
        let weights = Weighting::MinSnr(5.0).of(&signal);
        assert!((weights.iter().sum::<f64>() - 4.0).abs() < 1e-12);
        // Ratios 999, 9, 1 and 1/999: weights 5/1000, 5/10, 1/2 and 1/1000 before the mean.
        for (weight, expected) in weights.iter().zip([0.005, 0.5, 0.5, 0.001]) {
            assert!((weight / weights[1] - expected / 0.5).abs() < 1e-12, "{weights:?}");
        }
    }
}
