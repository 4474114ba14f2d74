//! How often a model of shapes shows what held-out captions ask for.

use anyhow::{Context, Result, ensure};
use latentrace_pipeline::nn::Pass;
use latentrace_pipeline::{Model, Request};
use latentrace_runs::{Event, Observer, lost::Captions};
use latentrace_shapes::{Adherence, Canvas, Detail, Scene, Stream, adherence, look, parse};

/// Pictures of held-out captions at several weights of guidance.
pub struct HeldOut {
    /// Scenes that no training saw; each is asked for by its full caption.
    pub scenes: Vec<Scene>,
    /// Weights of guidance.
    pub guidance: Vec<f64>,
    /// Sampling steps.
    pub steps: usize,
    /// The seed of the first picture; the next has the next.
    pub seed: u64,
}

impl HeldOut {
    /// Network calls of all pictures.
    ///
    /// # Errors
    /// The model's scheduler cannot sample so many steps.
    pub fn calls(&self, model: &Model) -> Result<usize> {
        let calls = model.check(&Request { steps: self.steps, ..model.request("", 0) })?.calls();
        Ok(calls * self.scenes.len() * self.guidance.len())
    }

    /// Makes the pictures and looks at them; `measured` is told of each weight of guidance when its pictures are made. The
    /// captions and seeds are the same for all.
    ///
    /// # Errors
    /// The seeds go beyond 64 bits, or a picture cannot be made.
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

/// Scenes that no training saw.
pub fn held_out(seed: u64, count: usize) -> Vec<Scene> {
    let scenes = (0..).map(|index| Scene::random(&mut Stream::numbered(seed ^ 0x6865_6c64, index)));
    scenes.filter(Scene::held_out).take(count).collect()
}
