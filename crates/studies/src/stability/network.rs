//! A model with a prompt as a world.

use super::world::{Jacobian, World};
use anyhow::Result;
use latentrace_pipeline::nn::Pass;
use latentrace_pipeline::nn::tch::{Device, Kind, Tensor, no_grad};
use latentrace_pipeline::schedulers::Config;
use latentrace_pipeline::{Draws, Model};

/// How many samples are computed at once, without and with the prompt.
const ROWS: i64 = 64;

/// Half the distance of the two samples of a difference quotient, at unit variance. Smaller, and rounding in f32 would show: a
/// unit in the last place of the output over this is 1e-5.
const STEP: f64 = 0.02;

/// A model, a prompt and a seed.
pub struct Prompted<'a> {
    model: &'a Model,
    name: String,
    seed: u64,
    /// `[2, tokens, features]`: without and with the prompt.
    texts: Tensor,
    /// `[1, channels, height, width]`
    shape: [i64; 4],
}

impl<'a> Prompted<'a> {
    /// Encodes the prompt.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn new(model: &'a Model, prompt: &str, seed: u64) -> Result<Prompted<'a>> {
        let encode = |text: &str| Ok::<_, anyhow::Error>(model.encode(text, &mut Pass::silent())?.1);
        let texts = Tensor::cat(&[encode("")?, encode(prompt)?], 0);
        let unet = &model.checkpoint.unet.config;
        let [height, width] = unet.sample_size;
        let shape = [1, unet.in_channels, height, width];
        Ok(Prompted { model, name: prompt.into(), seed, texts, shape })
    }

    /// The number of elements of a sample.
    pub fn elements(&self) -> usize {
        self.shape.iter().product::<i64>() as usize
    }

    /// The outputs `[rows, ..]` without and with the prompt, for samples `[rows, ..]` at unit variance.
    fn outputs(&self, t: f64, input: &Tensor) -> [Tensor; 2] {
        let unet = &self.model.unet;
        let times = Tensor::full([1], t, (Kind::Float, unet.device()));
        let parts = (0..input.size()[0]).step_by(ROWS as usize).map(|first| {
            let part = input.narrow(0, first, ROWS.min(input.size()[0] - first));
            let texts = self.texts.repeat_interleave_self_int(part.size()[0], 0, None);
            no_grad(|| unet.forward(&mut Pass::silent(), &Tensor::cat(&[&part, &part], 0), &times, &texts))
        });
        let halves: Vec<Vec<Tensor>> = parts.map(|both| both.chunk(2, 0)).collect();
        [0, 1].map(|text| Tensor::cat(&halves.iter().map(|half| &half[text]).collect::<Vec<_>>(), 0))
    }
}

impl World for Prompted<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn config(&self) -> &Config {
        &self.model.scheduler_in_pipeline
    }

    fn draws(&self, count: usize) -> Vec<Tensor> {
        Draws::new(self.seed, count, self.shape, Device::Cpu).map(|draw| draw.to_device(self.model.device)).collect()
    }

    fn output(&self, guidance: f64, t: f64, input: &Tensor) -> Tensor {
        let [u, c] = self.outputs(t, input);
        &u + (c - &u) * guidance
    }

    /// By central differences, whose error is the third derivative times the square of their length.
    fn jacobians(&self, sigma: f64, x: &Tensor) -> [Jacobian; 2] {
        let config = self.config();
        let scale = sigma.hypot(1.0);
        let input = x / scale; // [1, channels, height, width]
        let size = input.numel() as i64;
        let away =
            Tensor::eye(size, (Kind::Float, input.device())).view([size, -1, self.shape[2], self.shape[3]]) * STEP;
        let t = config.schedule().time(sigma);
        let ahead = self.outputs(t, &(&input + &away));
        let behind = self.outputs(t, &(&input - &away));
        let (p, q) = config.prediction().denoising(sigma);
        let mut pairs = ahead.into_iter().zip(behind).map(|(ahead, behind)| {
            // A row for each element of the input; D = p·x + q·output.
            let slope = ((ahead - behind) / (2.0 * STEP)).view([size, size]).tr();
            Jacobian::Whole(slope * (q / scale) + Tensor::eye(size, (Kind::Float, input.device())) * p)
        });
        [(); 2].map(|()| pairs.next().expect("a pair for each text"))
    }

    fn is_separable(&self) -> bool {
        false
    }

    fn nearness(&self) -> f64 {
        1e-3 // far above the rounding of f32, and its tenfold is still small
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_pipeline::Options;
    use latentrace_pipeline::nn::seeded;
    use latentrace_runs::bundled;

    #[test]
    fn the_difference_quotients_are_the_jacobian_of_backpropagation() {
        let model = Model::open(&bundled().unwrap(), Options::default()).unwrap();
        let world = Prompted::new(&model, "a large red circle on the left, white background", 193).unwrap();
        // Half of the model's height and width: the same network, and a sixteenth of the work.
        let world = Prompted { shape: [1, world.shape[1], world.shape[2] / 2, world.shape[3] / 2], ..world };
        let sigma = 0.8f64;
        let scale = sigma.hypot(1.0);
        let x = world.draws(1).remove(0) * scale;
        let jacobians = world.jacobians(sigma, &x);
        let (p, q) = world.config().prediction().denoising(sigma);
        let times = Tensor::full([1], world.config().schedule().time(sigma), (Kind::Float, Device::Cpu));
        let rows = seeded(1, || Tensor::randn(world.shape, (Kind::Float, Device::Cpu)));
        for (text, jacobian) in (0..).zip(jacobians) {
            let Jacobian::Whole(numbers) = jacobian else { panic!("a whole matrix") };
            let input = (&x / scale).set_requires_grad(true);
            let output = model.unet.forward(&mut Pass::silent(), &input, &times, &world.texts.narrow(0, text, 1));
            let sum = (&output * &rows).sum(Kind::Float);
            let slope = Tensor::run_backward(&[sum], &[&input], false, false).remove(0);
            let want = (&rows * p + slope * (q / scale)).flatten(0, -1);
            let found = numbers.tr().mv(&rows.flatten(0, -1));
            let error = ((found - &want).norm() / want.norm()).double_value(&[]);
            // The square of the quotient's length, 4e-4, times a sixth of the third derivative, which is some tens.
            assert!(error < 5e-3, "text {text}: {error}");
        }
    }
}
