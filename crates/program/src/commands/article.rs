//! `latentrace article`: the experiments of the source article on any checkpoint, on one page.

use crate::arguments::ModelArguments;
use crate::bytes::human;
use crate::interrupt;
use crate::printer::{Printer, line};
use crate::sweeps::Teller;
use anyhow::{Context, Result};
use clap::ValueEnum;
use indicatif::HumanDuration;
use latentrace::experiments::{Estimate, Progress};
use latentrace::files::counted;
use latentrace::nn::first_cuda;
use latentrace::pipeline::Dtype;
use latentrace::runs::{Cell, Observer, RunFolder, check_picture, fetched, home};
use latentrace_studies::article::{Article as Study, Part, Subject};
use std::path::{Path, PathBuf};

/// Run the experiments of the source article, and write a page
///
/// With the article's own numbers.
#[derive(clap::Args)]
#[command(after_help = DEFAULT)]
pub struct Article {
    #[command(flatten)]
    model: ModelArguments,
    /// The picture that the variations start from: a file, or the folder of a run [default: the bundled drawing]
    #[arg(long, value_name = "PICTURE")]
    image: Option<PathBuf>,
    /// The prompt of the loop and of the guidance scales [default: one that the model knows]
    #[arg(long)]
    prompt: Option<String>,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    only: Vec<PartName>,
    /// Folder of the page and of the experiments
    #[arg(long, default_value = "runs/article", value_name = "FOLDER")]
    output: PathBuf,
    /// Say what would be run, how long it may take and how large it is, and run nothing
    #[arg(long)]
    dry_run: bool,
}

/// Which checkpoint is used, for the end of the help.
const DEFAULT: &str = "\
Without --model it takes Stable Diffusion 1.4, and 1.5 for the variations, from the hub's cache.
What is not there is downloaded, several GB, except with --offline. Where they cannot be had it
takes the bundled model and says so.";

/// [`Part`] by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum PartName {
    /// From a prompt to tokens and to embeddings
    Text,
    /// The denoising loop, by hand
    Loop,
    /// Nine guidance scales
    Guidance,
    /// Nine pictures with a negative prompt
    Negative,
    /// Nine variations of a picture
    Variations,
}

impl From<PartName> for Part {
    fn from(name: PartName) -> Part {
        match name {
            PartName::Text => Part::Text,
            PartName::Loop => Part::Loop,
            PartName::Guidance => Part::Guidance,
            PartName::Negative => Part::Negative,
            PartName::Variations => Part::Variations,
        }
    }
}

/// The article's checkpoint, and where the one of its variations is now.
const MODEL: &str = "CompVis/stable-diffusion-v1-4";
const MODEL_OF_VARIATIONS: &str = "stable-diffusion-v1-5/stable-diffusion-v1-5";

impl Article {
    /// Runs what is missing, and writes the page.
    pub fn run(self) -> Result<()> {
        let study = self.study()?;
        let teller = Teller::new(false);
        let tell = |progress: Progress| teller.tell(progress);
        if self.dry_run {
            estimated(&self.output, &study.estimate(&tell)?);
            return Ok(());
        }
        interrupt::says("the same command goes on where this one stopped".into());
        let page = study.run(&self.output, &tell)?;
        teller.end();
        line!("{}", page.display());
        Ok(())
    }

    fn study(&self) -> Result<Study> {
        let mut notes = Vec::new();
        let base = match &self.model.model {
            Some(model) => self.cell(Some(model.clone())),
            None => self.article_model(MODEL, &mut notes).unwrap_or_else(|| self.cell(None)),
        };
        let base_of_variations = match (&self.model.model, &base.model) {
            (None, Some(_)) => self.article_model(MODEL_OF_VARIATIONS, &mut notes).unwrap_or_else(|| base.clone()),
            _ => base.clone(),
        };
        let mut subject = if base.model.is_none() { Subject::of_shapes() } else { Subject::of_photographs() };
        subject.prompt = self.prompt.clone().unwrap_or(subject.prompt);
        let image = match &self.image {
            Some(image) => RunFolder::picture_at(image)?,
            None => home()
                .context("data/pictures/init.png is not beside the program\nhint: --image names a picture")?
                .join("data/pictures/init.png"),
        };
        check_picture(&image)?;
        if self.image.is_none() && base.model.is_some() {
            notes.push("The variations start from a drawing of shapes; --image names another picture.".into());
        }
        let parts =
            if self.only.is_empty() { Part::ALL.into() } else { self.only.iter().map(|&part| part.into()).collect() };
        Ok(Study { base, base_of_variations, subject, image, parts, notes })
    }

    /// A cell with a checkpoint and how it is loaded.
    fn cell(&self, model: Option<PathBuf>) -> Cell {
        let latentrace::pipeline::Options { dtype, device, .. } = self.model.options();
        let kernels = self.model.kernels;
        Cell { model, dtype, device, kernels, ..Cell::default() }.with_choice(self.model.choice())
    }

    /// A checkpoint of the article, in half precision on a CUDA device. If it is neither in the cache of the hub nor can
    /// be downloaded, says so.
    fn article_model(&self, id: &str, notes: &mut Vec<String>) -> Option<Cell> {
        let mut cell = self.cell(Some(id.into()));
        if first_cuda().is_some() && self.model.dtype.is_none() {
            cell.dtype = Dtype::F16;
            cell.variant.get_or_insert("fp16".into());
        }
        let printer = Printer::new();
        match fetched(Path::new(id), &cell.choice(), &printer) {
            Ok(_) => Some(cell),
            Err(error) => {
                let cause = format!("{error:#}");
                let cause = cause.lines().next().unwrap_or_default();
                let note = format!("The article's checkpoint is not used here: {cause}");
                printer.warn(&note);
                notes.push(note);
                None
            }
        }
    }
}

/// Says what everything would cost.
fn estimated(output: &Path, Estimate { labels, evaluations, time, bytes, .. }: &Estimate) {
    line!("{} into {}", counted(labels.len(), "picture"), output.display());
    line!("{evaluations} evaluations of the network; each computes one picture with one text at one step");
    line!("about {}, from probes of two calls", HumanDuration(*time));
    line!("about {} on disk", human(*bytes));
}
