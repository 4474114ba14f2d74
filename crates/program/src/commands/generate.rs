//! `latentrace generate`: pictures of a prompt, or of another picture's settings.

use crate::arguments::{FitName, RULES, Settings};
use crate::headings;
use crate::pictures::{Unnamed, make};
use crate::printer::{line, note};
use anyhow::{Context, Result, ensure};
use latentrace::experiments::Pictures;
use latentrace::pipeline::Guidance;
use latentrace::pipeline::nn::Pass;
use latentrace::runs::{Cell, Instead, Kept, Like, Ready, RunFolder, Sources, check_picture, open, parse_guidance};
use std::path::{Path, PathBuf};

/// Make pictures of a prompt, or a picture again with --like
#[derive(clap::Args)]
#[command(after_long_help = RULES)]
pub struct Generate {
    /// What to show; the bundled model knows "a large red circle on the left, white background"
    #[arg(required_unless_present = "like")]
    prompt: Option<String>,
    /// Make a picture again, by its file or its run; other options change it
    ///
    /// By what the picture's file says of how it was made; `latentrace show` prints it. A run is a folder.
    #[arg(long, value_name = "PICTURE", help_heading = headings::PICTURES)]
    like: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    /// How many pictures
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    #[arg(help_heading = headings::PICTURES)]
    images: u64,
    /// w in u + w (c - u); 0 ignores the prompt [default: 7.5, 1 for Turbo]
    ///
    /// 1 follows the prompt without emphasis.
    #[arg(long, allow_negative_numbers = true, value_parser = parse_guidance, help_heading = headings::SAMPLING)]
    guidance: Option<Guidance>,
    /// With --like: another picture to start from
    #[arg(long, requires = "like", value_name = "PICTURE", help_heading = headings::PICTURES)]
    image: Option<PathBuf>,
    /// With --like: another mask of the picture that it starts from
    #[arg(long, requires = "like", value_name = "PICTURE", help_heading = headings::PICTURES)]
    mask: Option<PathBuf>,
    /// With --like: how much of the picture that it starts from is made anew
    #[arg(long, requires = "like", allow_negative_numbers = true, help_heading = headings::PICTURES)]
    strength: Option<f64>,
    /// With --like: how it is made to fit
    ///
    /// How a picture of other proportions is brought to size.
    #[arg(long, requires = "like", value_enum, help_heading = headings::PICTURES)]
    fit: Option<FitName>,
    /// Write the text features of both prompts, as diffusers names them, into a .safetensors file
    #[arg(long, value_name = "FILE", help_heading = headings::OUTPUT, hide_short_help = true)]
    save_features: Option<PathBuf>,
    /// Folder of the results
    #[arg(long, default_value = "runs/generate", value_name = "FOLDER", help_heading = headings::OUTPUT)]
    output: PathBuf,
}

impl Generate {
    /// Makes the pictures.
    pub fn run(mut self) -> Result<()> {
        self.image = self.image.as_deref().map(RunFolder::picture_at).transpose()?;
        let like = self.like.as_deref().map(Like::open).transpose()?;
        let unnamed = Unnamed {
            guidance: self.guidance.is_none() && like.is_none(),
            empty_negative: self.settings.names_no_negative(),
        };
        let base = match &like {
            Some(like) => {
                self.settings.keep_as(like.kept());
                self.mask.as_deref().map_or(Ok(()), |mask| check_picture(mask).context("--mask"))?;
                let (model, image) = (self.settings.model(), self.image.as_deref());
                like.cell(Instead { model, image, mask: self.mask.as_deref() })?
            }
            None => Cell { seed: Settings::SEED, ..Cell::default() },
        };
        let mut cell = self.settings.over(base)?;
        self.settings.kept_prompt(self.prompt.as_ref(), &cell).iter().for_each(note);
        cell.prompt = self.prompt.unwrap_or(cell.prompt);
        cell.guidance = self.guidance.unwrap_or(cell.guidance);
        cell.strength = self.strength.or(cell.strength);
        cell.fit = self.fit.map_or(cell.fit, FitName::into);
        if let (None, Some(like)) = (&cell.image, &self.like) {
            let given = [
                ("--mask", self.mask.is_some()),
                ("--strength", self.strength.is_some()),
                ("--fit", self.fit.is_some()),
            ];
            let options: Vec<&str> =
                given.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect();
            ensure!(
                options.is_empty(),
                "{}: {} starts from noise\nhint: --image names a picture to start from",
                options.join(" and "),
                like.display()
            );
        }
        cell.check_strength()?;
        if let Some(path) = &self.save_features {
            save_features(&cell, path)?;
        }
        let capture = self.settings.capture();
        let pictures = Pictures { cell, images: self.images, kept: capture.kept()?, output: self.output };
        make(pictures, unnamed, like, capture.dry_run)
    }
}

/// Writes the text features of a cell.
fn save_features(cell: &Cell, path: &Path) -> Result<()> {
    let model = open(cell, &())?;
    let ready = Ready::new(&model, cell, &Kept::default(), &mut Sources::default())?;
    model.features(ready.prepared(), &mut Pass::silent())?.save(path)?;
    line!("{}", path.display());
    Ok(())
}
