//! `latentrace vary`: variations of a picture.

use crate::capture::RULES;
use crate::cell::{Cell, STRENGTH};
use crate::init_image::{self, Fit};
use crate::pictures::{Pictures, Settings};
use crate::store::slug;
use anyhow::{Result, ensure};
use latentrace_pipeline::Guidance;
use std::path::PathBuf;

/// Make variations of a picture that a prompt leads
#[derive(clap::Args)]
#[command(after_help = RULES)]
pub struct Vary {
    /// The picture, PNG or JPEG
    picture: PathBuf,
    /// What to show
    prompt: String,
    #[command(flatten)]
    settings: Settings,
    /// How much is made anew: near 0 the picture stays, 1 leaves little of it
    #[arg(long, default_value_t = STRENGTH, allow_negative_numbers = true)]
    strength: f64,
    /// How a picture of other proportions is brought to size
    #[arg(long, value_enum, default_value_t)]
    fit: Fit,
    /// How many variations
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    images: u64,
    /// w in u + w (c - u): 0 ignores the prompt, 1 follows it without emphasis
    #[arg(long, default_value = "6", allow_negative_numbers = true, value_parser = crate::cell::parse_guidance)]
    guidance: Guidance,
    /// Folder of the results
    #[arg(long, default_value = "runs/vary", value_name = "FOLDER")]
    output: PathBuf,
}

impl Vary {
    /// Makes the variations, and sets them beside the picture.
    pub fn run(self) -> Result<()> {
        ensure!(
            self.strength > 0.0 && self.strength <= 1.0,
            "strength: expected a number above 0 and at most 1, found {}",
            self.strength
        );
        init_image::check(&self.picture)?;
        let stem = self.picture.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = slug(&format!("{stem} {}", self.prompt));
        let cell = Cell {
            image: Some(self.picture),
            strength: Some(self.strength),
            fit: self.fit,
            ..self.settings.cell(&self.prompt, &self.guidance)
        };
        Pictures { settings: self.settings, cell, images: self.images, name, output: self.output }.make()
    }
}
