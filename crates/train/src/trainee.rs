//! A UNet that is trained step by step with a frozen text encoder.

use crate::batches::Batches;
use crate::error::{Error, Result};
use crate::optimizer::Optimizer;
use crate::state::State;
use crate::{Clean, PhaseRecipe, Space, Weighting};
use latentrace_nn::tch::no_grad;
use latentrace_nn::{Pass, Weights};
use latentrace_schedulers::Config;
use latentrace_text::{TextEncoder, Tokenizer};
use latentrace_unet::{Unet, UnetConfig};
use std::path::Path;

/// A UNet that is trained from random weights step by step, so that two can take turns on one machine. Step `k` depends
/// on the seed and `k` alone, whoever else trains in between.
pub struct Trainee<'a> {
    unet: Unet,
    frozen: Frozen<'a>,
    batches: Batches<'a>,
    optimizer: Optimizer,
    phase: PhaseRecipe,
    space: Space,
}

/// The parts of a model that a trainee uses and does not train.
#[derive(Clone, Copy)]
pub struct Frozen<'a> {
    /// The tokenizer of the captions.
    pub tokenizer: &'a Tokenizer,
    /// The text encoder.
    pub text_encoder: &'a TextEncoder,
    /// The noise schedule.
    pub scheduler: &'a Config,
}

impl<'a> Trainee<'a> {
    /// A denoiser of the samples, with random weights from `seed`.
    ///
    /// # Errors
    /// If no UNet can be built from the configuration.
    pub fn new(
        clean: &'a Clean<'a>,
        unet: &UnetConfig,
        frozen: Frozen<'a>,
        phase: PhaseRecipe,
        seed: u64,
    ) -> Result<Trainee<'a>> {
        let space = clean.space();
        let (weights, variables) = Weights::trainable("unet", seed, clean.device());
        Ok(Trainee {
            unet: Unet::load(&weights, unet)?,
            frozen,
            batches: Batches::new(clean.again(), frozen.tokenizer, frozen.scheduler, Weighting::Uniform, seed),
            optimizer: Optimizer::new(variables.named().into_iter().collect()),
            phase,
            space,
        })
    }

    /// Makes one step, and returns the loss before it.
    ///
    /// # Errors
    /// If the loss is no longer finite.
    pub fn step(&mut self) -> Result<f64> {
        let step = self.optimizer.step;
        let batch = self.batches.part(step, 0, self.phase.batch)?;
        let text = no_grad(|| self.frozen.text_encoder.forward(&mut Pass::silent(), &batch.ids));
        let loss = batch.loss(&self.unet, &text);
        self.optimizer.descend(&loss, &self.phase);
        let loss = loss.double_value(&[]);
        if !loss.is_finite() {
            return Err(Error::Diverged { phase: self.space.name(), step, loss });
        }
        Ok(loss)
    }

    /// The number of steps made.
    pub fn steps(&self) -> u64 {
        self.optimizer.step
    }

    /// Saves the whole state. The file appears whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.optimizer.save(path, None)
    }

    /// Loads a saved state, if there is one.
    ///
    /// # Errors
    /// If the file cannot be read, or is of another network.
    pub fn resume(&mut self, path: &Path) -> Result<()> {
        match State::read(path)? {
            Some(state) => self.optimizer.restore(&state),
            None => Ok(()),
        }
    }

    /// The network with its current weights, not their moving average.
    pub fn unet(&self) -> &Unet {
        &self.unet
    }

    /// The trained network, with the moving average of the weights.
    pub fn finish(mut self) -> Unet {
        self.optimizer.settle();
        self.unet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::Networks;
    use crate::space::tests::unets;
    use crate::{Recipe, TrainingSet, learn};
    use latentrace_nn::tch::{Device, Kind, Tensor};
    use latentrace_vae::Vae;

    /// Pictures, and frozen networks with random weights.
    struct World {
        pictures: TrainingSet,
        vae: Vae,
        tokenizer: Tokenizer,
        text_encoder: TextEncoder,
        scheduler: Config,
    }

    impl World {
        fn new() -> World {
            let folder = tempfile::tempdir().unwrap();
            let vocabulary = learn(1, 300).unwrap();
            let weights = |part: &str| Weights::random(part, 3, Kind::Float, Device::Cpu);
            let recipe = Recipe { side: 64, ..Recipe::shapes().unwrap() };
            let networks = Networks::of(&recipe, vocabulary.len()).unwrap();
            World {
                pictures: TrainingSet::new(7, 6, 64),
                vae: Vae::load(&weights("vae"), &networks.vae).unwrap(),
                tokenizer: crate::vocabulary::tokenizer(&vocabulary, folder.path()).unwrap(),
                text_encoder: TextEncoder::load(&weights("text"), &networks.text).unwrap(),
                scheduler: recipe.noise().unwrap(),
            }
        }

        fn clean(&self, space: Space) -> Clean<'_> {
            match space {
                Space::Latents => Clean::latents(&self.pictures, &self.vae, 0.5, Device::Cpu),
                Space::Pixels => Clean::pixels(&self.pictures, Device::Cpu),
            }
        }

        fn trainee<'a>(&'a self, clean: &'a Clean<'a>, seed: u64) -> Trainee<'a> {
            let World { tokenizer, text_encoder, scheduler, .. } = self;
            let unet = clean.space().unet(&unets()[0], 8).unwrap();
            let frozen = Frozen { tokenizer, text_encoder, scheduler };
            Trainee::new(clean, &unet, frozen, PhaseRecipe::endless(2, 1e-3), seed).unwrap()
        }
    }

    #[test]
    fn three_steps_in_either_space_are_finite_and_decided_by_the_seed() {
        let world = World::new();
        for space in Space::BOTH {
            let clean = world.clean(space);
            assert_eq!(clean.space(), space);
            let run = |seed| {
                let mut trainee = world.trainee(&clean, seed);
                let losses: Vec<f64> = (0..3).map(|_| trainee.step().unwrap()).collect();
                (losses, trainee.steps())
            };
            let (first, again, other) = (run(5), run(5), run(6));
            assert!(first.0.iter().all(|loss| *loss > 0.0) && first.1 == 3, "{first:?}");
            assert_eq!(first, again, "{}", space.name());
            assert_ne!(first, other, "{}", space.name());
        }
    }

    #[test]
    fn a_state_goes_on_as_if_never_stopped_and_the_trained_network_is_the_average() {
        let world = World::new();
        let (clean, path) = (world.clean(Space::Latents), tempfile::NamedTempFile::new().unwrap().into_temp_path());
        let mut whole = world.trainee(&clean, 5);
        whole.step().unwrap();
        whole.save(&path).unwrap();
        let mut resumed = world.trainee(&clean, 5);
        resumed.resume(&path).unwrap();
        assert_eq!((resumed.steps(), resumed.step().unwrap()), (1, whole.step().unwrap()));
        let text = Tensor::zeros([1, 4, 96], (Kind::Float, Device::Cpu));
        let (x, t) = (Tensor::ones([1, 4, 8, 8], (Kind::Float, Device::Cpu)), Tensor::from_slice(&[9f32]));
        let look = |unet: &Unet| no_grad(|| unet.forward(&mut Pass::silent(), &x, &t, &text));
        let before = look(whole.unet());
        let (one, other) = (look(&whole.finish()), look(&resumed.finish()));
        assert!(one.equal(&other) && !one.equal(&before));
    }
}
