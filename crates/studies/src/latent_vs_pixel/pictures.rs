//! The pictures of held-out captions, and how well they match the captions.

use super::turns::Turns;
use super::{Heard, shape};
use crate::adherence::held_out;
use anyhow::{Context, Result};
use latentrace_pipeline::nn::Pass;
use latentrace_pipeline::nn::tch::Tensor;
use latentrace_pipeline::{Bare, Model, Picture, Unet};
use latentrace_plot::{RgbImage, open_image, read_png_text, save_png};
use latentrace_runs::lost::Captions;
use latentrace_runs::{Event, pixels};
use latentrace_schedulers::{Plan, Reading};
use latentrace_shapes::{Adherence, Detail, adherence, look, parse};
use latentrace_train::Space;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The pictures that both networks make.
pub struct Asked {
    /// The captions, of scenes that are in no training set.
    pub captions: Vec<String>,
    /// The plan of every picture.
    pub plan: Plan,
    /// The number of sampling steps.
    pub steps: usize,
    /// The guidance weight, `w` in `u + w (c - u)`.
    pub guidance: f64,
    /// The seed of the first picture. The seeds of the others follow it.
    pub seed: u64,
}

impl Asked {
    /// Draws the captions, and plans the pictures with the scheduler of the model.
    pub fn new(model: &Model, seed: u64, captions: usize, steps: usize, guidance: f64) -> Result<Asked> {
        let captions = held_out(seed, captions).iter().map(|scene| scene.caption(Detail::FULL)).collect();
        Ok(Asked { captions, plan: model.scheduler.plan(steps, Reading::Diffusers)?, steps, guidance, seed })
    }
}

/// The folder of the pictures. Each file has its provenance as a text, which tells whether a picture must be made
/// again.
pub struct Gallery<'a> {
    folder: PathBuf,
    asked: &'a Asked,
    settings: Value,
}

impl<'a> Gallery<'a> {
    /// The gallery in the folder of the results.
    pub fn new(output: &Path, asked: &'a Asked, settings: Value) -> Gallery<'a> {
        Gallery { folder: output.join("pictures"), asked, settings }
    }

    /// Whether the folder has every picture of the networks in their present state.
    pub fn is_whole(&self, turns: &Turns) -> bool {
        let numbers = 0..self.asked.captions.len();
        Space::BOTH.iter().all(|space| numbers.clone().all(|number| self.has(*space, number, turns)))
    }

    /// Makes the pictures that are missing.
    pub fn fill(&self, model: &Model, turns: &Turns, trained: &[Unet; 2], tell: &dyn Fn(Heard)) -> Result<()> {
        std::fs::create_dir_all(&self.folder).with_context(|| format!("{}: cannot create", self.folder.display()))?;
        let calls = self.asked.plan.calls();
        tell(Heard::Begin(2 * calls * self.asked.captions.len()));
        let unconditional = model.encode("", &mut Pass::silent())?.1;
        let mut lost = Captions::default();
        for (number, caption) in self.asked.captions.iter().enumerate() {
            let (tokens, conditional) = model.encode(caption, &mut Pass::silent())?;
            lost.warn(&tokens, &|event: Event| tell(Heard::Run(event)));
            for space in Space::BOTH {
                tell(Heard::Making(format!("{} {number}", space.name())));
                if !self.has(space, number, turns) {
                    let unet = &trained[space as usize];
                    let picture = self.sample(model, unet, space, number, [&unconditional, &conditional])?;
                    let text = self.provenance(space, number, turns);
                    save_png(&self.path(space, number), &pixels(&picture), &text)?;
                }
                tell(Heard::Called(calls));
            }
        }
        tell(Heard::End);
        Ok(())
    }

    /// The picture of a caption, and how well it matches the caption.
    pub fn judged(&self, space: Space, number: usize) -> Result<(RgbImage, Adherence)> {
        let image = open_image(&self.path(space, number))?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        let seen = look(&latentrace_shapes::Canvas { width, height, pixels: image.as_raw().clone() });
        let asked = parse(&self.asked.captions[number]).context("a caption of this world")?;
        Ok((image, adherence(&asked, &seen)))
    }

    /// Samples a picture with the network of a space.
    fn sample(&self, model: &Model, unet: &Unet, space: Space, number: usize, text: [&Tensor; 2]) -> Result<Picture> {
        let [channels, height, width] = shape(model, space)?;
        let bare = Bare {
            unet,
            unconditional: text[0],
            conditional: text[1],
            plan: &self.asked.plan,
            prediction: model.scheduler.prediction(),
            guidance: self.asked.guidance,
            seed: self.asked.seed + number as u64,
            shape: [1, channels, height, width],
        };
        let sample = bare.run(&mut Pass::silent())?;
        Ok(match space {
            Space::Latents => model.decode(&sample, &mut Pass::silent())?,
            Space::Pixels => Picture::from_tensor(&sample)?,
        })
    }

    fn has(&self, space: Space, number: usize, turns: &Turns) -> bool {
        read_png_text(&self.path(space, number)).is_ok_and(|text| text == self.provenance(space, number, turns))
    }

    /// The texts of a picture's PNG file, as keyword and value.
    fn provenance(&self, space: Space, number: usize, turns: &Turns) -> Vec<(String, String)> {
        let Asked { captions, steps, guidance, seed, .. } = self.asked;
        let about = json!({
            "space": space, "seed": seed + number as u64, "steps": steps, "guidance": guidance,
            "trained": turns.last(space).about(), "settings": self.settings,
        });
        vec![("Description".into(), captions[number].clone()), ("Latentrace".into(), about.to_string())]
    }

    fn path(&self, space: Space, number: usize) -> PathBuf {
        self.folder.join(format!("{number:04}-{}.png", space.name()))
    }
}
