//! The settings of a training, and its progress reports.

use std::time::Duration;

/// Everything that decides the trained weights.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Recipe {
    /// The seed of weights, pictures and noise.
    pub seed: u64,
    /// The number of training pictures.
    pub pictures: usize,
    /// The VAE's training.
    pub autoencoder: PhaseRecipe,
    /// The training of UNet and text encoder.
    pub denoiser: PhaseRecipe,
    /// The weight of the VAE's Kullback-Leibler term; the other terms are means over pixels.
    pub divergence: f64,
}

/// The settings of one of the two trainings.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PhaseRecipe {
    /// The number of steps.
    pub steps: u64,
    /// The batch size.
    pub batch: usize,
    /// The highest learning rate. It is reached after [`PhaseRecipe::warm_up`] steps, and then decays to a hundredth
    /// along a cosine.
    pub learning_rate: f64,
    /// Steps of linear warm-up.
    pub warm_up: u64,
    /// The largest decay of the moving average of the weights.
    pub average: f64,
}

impl PhaseRecipe {
    /// A training of unknown length, such as one that is limited in seconds. The learning rate is constant after a
    /// short warm-up, so a longer training continues a shorter one, and a training of few steps is not all warm-up.
    pub fn endless(batch: usize, learning_rate: f64) -> PhaseRecipe {
        PhaseRecipe { steps: u64::MAX, batch, learning_rate, warm_up: 50, ..Recipe::default().denoiser }
    }

    /// The learning rate at a step.
    pub fn learning_rate_at(&self, step: u64) -> f64 {
        if step < self.warm_up {
            return self.learning_rate * (step + 1) as f64 / self.warm_up as f64;
        }
        let left = (self.steps - self.warm_up).max(1) as f64;
        let done = ((step - self.warm_up) as f64 / left).min(1.0);
        self.learning_rate * (0.01 + 0.99 * (1.0 + (std::f64::consts::PI * done).cos()) / 2.0)
    }

    /// The decay of the moving average at a step: smaller at first, so that it forgets the initial weights.
    pub fn average_at(&self, step: u64) -> f64 {
        self.average.min((1.0 + step as f64) / (10.0 + step as f64))
    }
}

impl Default for Recipe {
    fn default() -> Recipe {
        Recipe {
            seed: 193,
            pictures: 24_000,
            autoencoder: PhaseRecipe { steps: 2_200, batch: 16, learning_rate: 2e-3, warm_up: 100, average: 0.999 },
            denoiser: PhaseRecipe { steps: 9_500, batch: 32, learning_rate: 1e-3, warm_up: 300, average: 0.999 },
            divergence: 1e-3,
        }
    }
}

/// A progress report of a training.
#[derive(Clone, Copy, Debug)]
pub struct TrainingProgress {
    /// Which training.
    pub phase: &'static str,
    /// The number of steps done.
    pub step: u64,
    /// The number of steps in all.
    pub steps: u64,
    /// The mean loss since the last report.
    pub loss: f64,
    /// The time since this process began the training.
    pub elapsed: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_rises_then_falls_to_a_hundredth() {
        let phase = Recipe::default().denoiser;
        let rates: Vec<f64> = (0..phase.steps).map(|step| phase.learning_rate_at(step)).collect();
        let top = phase.warm_up as usize;
        assert!(rates[..top].windows(2).all(|pair| pair[0] < pair[1]));
        assert!(rates[top..].windows(2).all(|pair| pair[0] > pair[1]));
        assert!((rates[top] - phase.learning_rate).abs() < 1e-12);
        assert!((rates[rates.len() - 1] / phase.learning_rate - 0.01).abs() < 1e-4);
        let endless = PhaseRecipe::endless(8, 0.5);
        assert!((endless.learning_rate_at(1_000_000_000) - 0.5).abs() < 1e-9);
    }
}
