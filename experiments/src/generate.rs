//! `latentrace generate`: pictures of a prompt.

use crate::capture::RULES;
use crate::pictures::{Pictures, Settings};
use crate::store::slug;
use anyhow::Result;
use latentrace_pipeline::Guidance;
use std::path::PathBuf;

/// Make pictures of a prompt
#[derive(clap::Args)]
#[command(after_help = RULES)]
pub struct Generate {
    /// What to show; the bundled model knows "a large red circle on the left, white background"
    prompt: String,
    #[command(flatten)]
    settings: Settings,
    /// How many pictures
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    images: u64,
    /// w in u + w (c - u): 0 ignores the prompt, 1 follows it without emphasis
    #[arg(long, default_value = "7.5", allow_negative_numbers = true, value_parser = crate::cell::parse_guidance)]
    guidance: Guidance,
    /// Folder of the results
    #[arg(long, default_value = "runs/generate", value_name = "FOLDER")]
    output: PathBuf,
}

impl Generate {
    /// Makes the pictures.
    pub fn run(self) -> Result<()> {
        let cell = self.settings.cell(&self.prompt, &self.guidance);
        let name = slug(&self.prompt);
        Pictures { settings: self.settings, cell, images: self.images, name, output: self.output }.make()
    }
}
