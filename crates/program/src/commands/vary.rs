//! `latentrace vary`: variations of a picture.

use crate::arguments::{FitName, RULES, Settings};
use crate::headings;
use crate::pictures::{Unnamed, make};
use anyhow::{Context, Result};
use latentrace::experiments::Pictures;
use latentrace::pipeline::Guidance;
use latentrace::runs::{Cell, RunFolder, STRENGTH, check_picture, parse_guidance};
use std::path::PathBuf;

/// Make variations of a picture that a prompt leads
#[derive(clap::Args)]
#[command(after_long_help = RULES)]
pub struct Vary {
    /// The picture: PNG, JPEG, WebP, GIF, BMP or TIFF; or the folder of a run
    picture: PathBuf,
    /// What to show
    prompt: String,
    /// Make only a part anew: a picture that is white there, and black where the picture stays
    ///
    /// With an inpainting checkpoint or any other.
    #[arg(long, help_heading = headings::PICTURES)]
    mask: Option<PathBuf>,
    /// How much is made anew: near 0 the picture stays, 1 leaves little of it
    ///
    /// With a mask, 1 (the default in diffusers) starts from noise alone.
    #[arg(long, default_value_t = STRENGTH, allow_negative_numbers = true, help_heading = headings::PICTURES)]
    strength: f64,
    /// How a picture of other proportions is brought to size, and its mask
    #[arg(long, value_enum, default_value_t, help_heading = headings::PICTURES)]
    fit: FitName,
    /// How many variations
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    #[arg(help_heading = headings::PICTURES)]
    images: u64,
    #[command(flatten)]
    settings: Settings,
    /// w in u + w (c - u); 0 ignores the prompt [default: 6, 1 for Turbo]
    ///
    /// 1 follows the prompt without emphasis.
    #[arg(long, allow_negative_numbers = true, value_parser = parse_guidance, help_heading = headings::SAMPLING)]
    guidance: Option<Guidance>,
    /// Folder of the results
    #[arg(long, default_value = "runs/vary", value_name = "FOLDER", help_heading = headings::OUTPUT)]
    output: PathBuf,
}

/// The guidance weight of variations, as in the article that the commands follow.
const GUIDANCE: f64 = 6.0;

impl Vary {
    /// Makes the variations, and sets them beside the picture.
    pub fn run(mut self) -> Result<()> {
        self.picture = RunFolder::picture_at(&self.picture)?;
        let unnamed = Unnamed { guidance: self.guidance.is_none(), empty_negative: self.settings.names_no_negative() };
        let cell = self.settings.over(Cell {
            prompt: self.prompt,
            seed: Settings::SEED,
            guidance: self.guidance.unwrap_or(GUIDANCE.into()),
            image: Some(self.picture.clone()),
            mask: self.mask.clone(),
            strength: Some(self.strength),
            fit: self.fit.into(),
            ..Cell::default()
        })?;
        cell.check_strength()?;
        check_picture(&self.picture)?;
        self.mask.as_deref().map_or(Ok(()), |mask| check_picture(mask).context("--mask"))?;
        let capture = self.settings.capture();
        let pictures = Pictures { cell, images: self.images, kept: capture.kept()?, output: self.output };
        make(pictures, unnamed, None, capture.dry_run)
    }
}
