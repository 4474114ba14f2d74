//! Timings of a step in either space, in pairs.

use super::Heard;
use super::{read, shape};
use anyhow::Result;
use latentrace_pipeline::nn::tch::{Device, Kind, Tensor, no_grad};
use latentrace_pipeline::nn::{Pass, replace, set_threads};
use latentrace_pipeline::{Bare, Model, Unet};
use latentrace_runs::Program;
use latentrace_schedulers::Reading;
use latentrace_train::{Space, Trainee, TrainingSet};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// The timings, in milliseconds. Entry `i` of each list was measured directly after entry `i` of the other lists, so a
/// busy machine slows both sides of a ratio alike.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Clock {
    /// A sampling step: one network call with guidance for one picture, and the sampler's arithmetic.
    pub sampling: Pairs,
    /// The decoding of one picture. A picture of latents needs it once.
    pub decoding: Vec<f64>,
    /// A training step: batch, text encoder, forward and backward pass, optimizer.
    pub training: Pairs,
    /// The encoding of one batch. A training that uses each picture only once would need it at every step; here all
    /// pictures are encoded before the training.
    pub encoding: Vec<f64>,
    /// The seconds that encoding all pictures took.
    pub encoding_seconds: f64,
    /// The program and the machine of the timings.
    pub program: Option<Program>,
}

/// Timings of both spaces, taken alternately.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pairs {
    pub latents: Vec<f64>,
    pub pixels: Vec<f64>,
}

/// The quartiles of a list of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quartiles {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Clock {
    /// Reads the timings of an earlier run, if there are any.
    pub fn read(state: &Path) -> Result<Option<Clock>> {
        read(&state.join("clock.json"))
    }

    /// Writes the timings.
    pub fn keep(&self, state: &Path) -> Result<()> {
        Ok(replace(&state.join("clock.json"), format!("{:#}\n", json!(self)).as_bytes())?)
    }

    /// How many times as long a whole picture takes in pixels as in latents, with the decoding of the latents. `calls`
    /// is the number of network calls of a picture.
    pub fn picture_ratio(&self, calls: usize) -> Quartiles {
        let calls = calls as f64;
        let pairs = self.sampling.pixels.iter().zip(&self.sampling.latents).zip(&self.decoding);
        quartiles(pairs.map(|((pixels, latents), decoding)| pixels * calls / (latents * calls + decoding)))
    }

    /// How many times as long a training step takes in pixels as in latents, if the latter encodes its batch.
    pub fn training_ratio_with_encoding(&self) -> Quartiles {
        let pairs = self.training.pixels.iter().zip(&self.training.latents).zip(&self.encoding);
        quartiles(pairs.map(|((pixels, latents), encoding)| pixels / (latents + encoding)))
    }
}

impl Pairs {
    /// How many times as long pixels take as latents, pair by pair.
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

    /// Times both spaces, one after the other. The order alternates between pairs.
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

/// The quartiles of numbers, with linear interpolation. NaN if there are no numbers.
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

/// Everything that the timings need.
pub struct Timing<'a> {
    pub model: &'a Model,
    pub pictures: &'a TrainingSet,
    pub batch: usize,
    pub pairs: u64,
}

/// The number of sampling steps of the timed run. The time of a call is that of the run, divided by its calls.
const STEPS: usize = 4;

impl Timing<'_> {
    /// Times pairs of both spaces. The first pair is a warm-up and is not counted.
    pub fn measure(&self, mut two: [Trainee; 2], tell: &dyn Fn(Heard)) -> Result<Clock> {
        tell(Heard::Line(format!("timing {} pairs", self.pairs)));
        let mut clock = Clock { program: Some(Program::this(self.model.device, set_threads())), ..Clock::default() };
        for pair in 0..=self.pairs {
            let mut one = Clock::default();
            one.sampling.take(pair, |space| self.sample(space, two[space as usize].unet()))?;
            one.decoding.push(self.decode()?);
            one.training.take(pair, |space| {
                let began = Instant::now();
                two[space as usize].step()?; // returns the loss as a number, so the step is complete
                Ok(milliseconds(began))
            })?;
            one.encoding.push(self.encode());
            if pair > 0 {
                clock.add(one);
            }
        }
        Ok(clock)
    }

    /// The time of a network call in a run of a few steps, in milliseconds.
    fn sample(&self, space: Space, unet: &Unet) -> Result<f64> {
        let (model, text) = (self.model, self.model.encode("", &mut Pass::silent())?.1);
        let plan = model.scheduler.plan(STEPS, Reading::Diffusers)?;
        let [channels, height, width] = shape(self.model, space)?;
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
        let [side, _] = self.model.checkpoint.unet.config.sample_size;
        let latents = Tensor::zeros(
            [1, self.model.checkpoint.unet.config.in_channels, side, side],
            (Kind::Float, self.model.device),
        );
        let began = Instant::now();
        self.model.decode(&latents, &mut Pass::silent())?;
        Ok(milliseconds(began))
    }

    fn encode(&self) -> f64 {
        let count = self.pictures.scenes.len();
        let numbers: Vec<usize> = (0..self.batch).map(|number| number % count).collect();
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
        // The machine was half as fast for the second pair.
        let pairs = Pairs { latents: vec![1.0, 2.0], pixels: vec![3.0, 6.0] };
        assert_eq!(pairs.ratio(), Quartiles { low: 3.0, median: 3.0, high: 3.0 });
        let clock = Clock { sampling: pairs, decoding: vec![10.0, 20.0], ..Clock::default() };
        assert_eq!(clock.picture_ratio(50).median, 150.0 / 60.0);
    }
}
