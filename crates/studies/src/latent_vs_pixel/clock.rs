//! What a step costs in either space, in pairs.

use super::Heard;
use super::read;
use anyhow::Result;
use latentrace_pipeline::nn::tch::{Device, Kind, Tensor, no_grad};
use latentrace_pipeline::nn::{Pass, replace};
use latentrace_pipeline::{Bare, Model, Unet};
use latentrace_runs::Program;
use latentrace_schedulers::Reading;
use latentrace_train::{Space, Trainee, TrainingSet};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// Every timing in milliseconds. Number `i` of each list was taken right after the others' number `i`, so that a busy
/// machine slows both sides of a ratio alike.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Clock {
    /// A sampling step: one network evaluation under guidance of one picture, and the sampler's sums.
    pub sampling: Pairs,
    /// The decoding of one picture, which a sample of latents pays once.
    pub decoding: Vec<f64>,
    /// A training step: batch, text, forward, backward, optimizer.
    pub training: Pairs,
    /// The encoding of one batch, which a training pays that meets its pictures only once; this one encodes all ahead.
    pub encoding: Vec<f64>,
    /// The seconds for which all pictures were encoded ahead.
    pub encoding_seconds: f64,
    /// What was timed, and on what.
    pub program: Option<Program>,
}

/// Timings in turn.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pairs {
    pub latents: Vec<f64>,
    pub pixels: Vec<f64>,
}

/// The middle half of numbers, and their middle.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quartiles {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Clock {
    /// What was measured before, if it was.
    pub fn read(state: &Path) -> Result<Option<Clock>> {
        read(&state.join("clock.json"))
    }

    /// Keeps it.
    pub fn keep(&self, state: &Path) -> Result<()> {
        Ok(replace(&state.join("clock.json"), format!("{:#}\n", json!(self)).as_bytes())?)
    }

    /// How many times as long a whole picture of so many calls takes in pixels: the latents' is decoded.
    pub fn picture_ratio(&self, calls: usize) -> Quartiles {
        let calls = calls as f64;
        let pairs = self.sampling.pixels.iter().zip(&self.sampling.latents).zip(&self.decoding);
        quartiles(pairs.map(|((pixels, latents), decoding)| pixels * calls / (latents * calls + decoding)))
    }

    /// How many times as long a training step takes in pixels, if that of latents encodes its batch.
    pub fn training_ratio_with_encoding(&self) -> Quartiles {
        let pairs = self.training.pixels.iter().zip(&self.training.latents).zip(&self.encoding);
        quartiles(pairs.map(|((pixels, latents), encoding)| pixels / (latents + encoding)))
    }
}

impl Pairs {
    /// How many times as long pixels take, pair by pair.
    pub fn ratio(&self) -> Quartiles {
        quartiles(self.pixels.iter().zip(&self.latents).map(|(pixels, latents)| pixels / latents))
    }

    /// The timings of a space.
    pub fn of(&self, space: Space) -> Quartiles {
        match space {
            Space::Latents => quartiles(self.latents.iter().copied()),
            Space::Pixels => quartiles(self.pixels.iter().copied()),
        }
    }

    /// Times both, one after the other; who is first changes from pair to pair.
    fn take(&mut self, pair: u64, mut work: impl FnMut(Space) -> Result<f64>) -> Result<()> {
        let order =
            if pair.is_multiple_of(2) { [Space::Latents, Space::Pixels] } else { [Space::Pixels, Space::Latents] };
        for space in order {
            let milliseconds = work(space)?;
            match space {
                Space::Latents => self.latents.push(milliseconds),
                Space::Pixels => self.pixels.push(milliseconds),
            }
        }
        Ok(())
    }
}

/// The quartiles of numbers, between two of them where need be; not a number where there are none.
pub fn quartiles(numbers: impl Iterator<Item = f64>) -> Quartiles {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(f64::total_cmp);
    let at = |part: f64| {
        let place = part * sorted.len().saturating_sub(1) as f64;
        let (below, above) = (sorted.get(place.floor() as usize), sorted.get(place.ceil() as usize));
        below.zip(above).map_or(f64::NAN, |(below, above)| below + (above - below) * place.fract())
    };
    Quartiles { low: at(0.25), median: at(0.5), high: at(0.75) }
}

/// What is timed.
pub struct Timing<'a> {
    pub model: &'a Model,
    pub pictures: &'a TrainingSet,
    pub batch: usize,
    pub pairs: u64,
}

/// Sampling steps of the run that is timed; a call's time is the run's by its calls.
const STEPS: usize = 4;

impl Timing<'_> {
    /// Times both, a pair at a time, after one that does not count.
    pub fn measure(&self, mut two: [Trainee; 2], tell: &dyn Fn(Heard)) -> Result<Clock> {
        tell(Heard::Line(format!("timing {} pairs", self.pairs)));
        let mut clock = Clock { program: Some(Program::this(self.model.device)), ..Clock::default() };
        for pair in 0..=self.pairs {
            let mut one = Clock::default();
            one.sampling.take(pair, |space| self.sample(space, two[space as usize].unet()))?;
            one.decoding.push(self.decode()?);
            one.training.take(pair, |space| {
                let began = Instant::now();
                two[space as usize].step()?; // gives the loss as a number, so the step is over
                Ok(milliseconds(began))
            })?;
            one.encoding.push(self.encode());
            if pair > 0 {
                clock.add(one);
            }
        }
        Ok(clock)
    }

    /// The time of a call, of a run of a few steps.
    fn sample(&self, space: Space, unet: &Unet) -> Result<f64> {
        let (model, text) = (self.model, self.model.encode("", &mut Pass::silent())?.1);
        let plan = model.scheduler.plan(STEPS, Reading::Diffusers)?;
        let [channels, height, width] = space.shape()?;
        let bare = Bare {
            unet,
            conditional: &text,
            unconditional: &text,
            plan: &plan,
            prediction: model.scheduler.prediction(),
            guidance: 4.0,
            seed: 0,
            shape: [1, channels, height, width],
        };
        let began = Instant::now();
        let _ = bare.run(&mut Pass::silent())?.to_device(Device::Cpu); // waits for a GPU
        Ok(milliseconds(began) / plan.calls() as f64)
    }

    fn decode(&self) -> Result<f64> {
        let side = self.model.unet_config.sample_size;
        let latents =
            Tensor::zeros([1, self.model.unet_config.in_channels, side, side], (Kind::Float, self.model.device));
        let began = Instant::now();
        self.model.decode(&latents, &mut Pass::silent())?;
        Ok(milliseconds(began))
    }

    fn encode(&self) -> f64 {
        let count = self.pictures.scenes.len() as i64;
        let numbers = Tensor::arange(self.batch as i64, (Kind::Int64, Device::Cpu)).remainder(count);
        let began = Instant::now();
        let pictures = self.pictures.batch(&numbers, self.model.device);
        let _ = no_grad(|| self.model.vae.encode(&mut Pass::silent(), &pictures).mean.to_device(Device::Cpu));
        milliseconds(began)
    }
}

impl Clock {
    fn add(&mut self, one: Clock) {
        self.sampling.latents.extend(one.sampling.latents);
        self.sampling.pixels.extend(one.sampling.pixels);
        self.training.latents.extend(one.training.latents);
        self.training.pixels.extend(one.training.pixels);
        self.decoding.extend(one.decoding);
        self.encoding.extend(one.encoding);
    }
}

fn milliseconds(began: Instant) -> f64 {
    1e3 * began.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_numbers_and_ratios_are_of_pairs() {
        let four = quartiles([4.0, 1.0, 3.0, 2.0].into_iter());
        assert_eq!(four, Quartiles { low: 1.75, median: 2.5, high: 3.25 });
        assert!(quartiles(std::iter::empty()).median.is_nan());
        // The second pair was taken on a machine twice as slow.
        let pairs = Pairs { latents: vec![1.0, 2.0], pixels: vec![3.0, 6.0] };
        assert_eq!(pairs.ratio(), Quartiles { low: 3.0, median: 3.0, high: 3.0 });
        let clock = Clock { sampling: pairs, decoding: vec![10.0, 20.0], ..Clock::default() };
        assert_eq!(clock.picture_ratio(50).median, 150.0 / 60.0);
    }
}
