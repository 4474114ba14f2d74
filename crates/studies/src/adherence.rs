//! How often a model of shapes shows the attributes of held-out captions.

use anyhow::{Context, Result, ensure};
use latentrace_pipeline::nn::Pass;
use latentrace_pipeline::{Model, Request};
use latentrace_runs::{Event, Observer, lost::Captions};
use latentrace_shapes::{Adherence, Canvas, Detail, Scene, Stream, adherence, look, parse};

/// Pictures of held-out captions at several weights of guidance.
pub struct HeldOut {
    /// Scenes that are in no training set. The prompts are their full captions.
    pub scenes: Vec<Scene>,
    /// The guidance weights.
    pub guidance: Vec<f64>,
    /// The number of sampling steps.
    pub steps: usize,
    /// The seed of the first picture. The seeds of the others follow it.
    pub seed: u64,
}

impl HeldOut {
    /// The number of network calls of all pictures.
    ///
    /// # Errors
    /// The model's scheduler cannot sample this number of steps.
    pub fn calls(&self, model: &Model) -> Result<usize> {
        let calls = model.check(&Request { steps: self.steps, ..model.request("", 0) })?.calls();
        Ok(calls * self.scenes.len() * self.guidance.len())
    }

    /// Makes the pictures and checks them with their captions. `measured` is called with the result of each guidance
    /// weight. Captions and seeds are the same for all weights.
    ///
    /// # Errors
    /// A seed is above 2^64 - 1, or a picture cannot be made.
    pub fn measure(
        &self,
        model: &Model,
        observer: &dyn Observer,
        mut measured: impl FnMut(f64, &Adherence),
    ) -> Result<()> {
        let more = self.scenes.len() as u64;
        ensure!(self.seed.checked_add(more).is_some(), "seed: {} and {more} more go beyond {}", self.seed, u64::MAX);
        let mut lost = Captions::default();
        for &guidance in &self.guidance {
            let mut total = Adherence::default();
            for (number, scene) in self.scenes.iter().enumerate() {
                let caption = scene.caption(Detail::FULL);
                let own = model.request(&caption, self.seed + number as u64);
                let request = Request { steps: self.steps, guidance: guidance.into(), ..own };
                let outcome = model.run(&request, &mut Pass::silent())?;
                lost.warn(&outcome.tokens[0], observer);
                let picture = outcome.picture;
                let seen = look(&Canvas { width: picture.width, height: picture.height, pixels: picture.pixels });
                total += adherence(&parse(&caption).context("a caption of this world")?, &seen);
                (0..outcome.plan.calls()).for_each(|_| observer.tell(Event::Call));
            }
            measured(guidance, &total);
        }
        Ok(())
    }
}

/// Random scenes that are in no training set.
pub fn held_out(seed: u64, count: usize) -> Vec<Scene> {
    let scenes = (0..).map(|index| Scene::random(&mut Stream::numbered(seed ^ 0x6865_6c64, index)));
    scenes.filter(Scene::held_out).take(count).collect()
}
