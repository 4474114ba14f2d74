//! The experiments of the source article, with its numbers, on any checkpoint; and one page about them.
//!
//! The article walks through Stable Diffusion in Python's diffusers: from a prompt to embeddings, a denoising loop written
//! by hand, a sweep of guidance scales, negative prompts, and variations of a picture. Each is a spec of its own, which
//! `latentrace run` can run again.

mod by_hand;
mod page;
mod part;
mod python;
mod text;

pub use part::{Part, Subject};

use anyhow::{Context, Result, ensure};
use by_hand::ByHand;
use latentrace_experiments::{Estimate, How, Progress, Results, Spec, Sweep};
use latentrace_files::replace;
use latentrace_pipeline::schedulers::Prediction;
use latentrace_pipeline::{Model, UnetInput};
use latentrace_runs::{Cell, Event, Observer, open};
use page::{Page, Section};
use std::path::{Path, PathBuf};
use text::Embedded;

/// The article's experiments on one or two checkpoints.
pub struct Article {
    /// The checkpoint and how it is loaded. Everything else of the cell is the default.
    pub base: Cell,
    /// The checkpoint of the variations.
    pub base_of_variations: Cell,
    /// The texts.
    pub subject: Subject,
    /// The picture that the variations start from.
    pub image: PathBuf,
    /// The parts to run.
    pub parts: Vec<Part>,
    /// What the page says about the choice of checkpoints.
    pub notes: Vec<String>,
}

impl Article {
    /// Runs what is missing of every part, and writes the page. Returns its path.
    ///
    /// # Errors
    /// A part cannot be run, or a file cannot be written.
    pub fn run(&self, output: &Path, tell: &dyn Fn(Progress)) -> Result<PathBuf> {
        std::fs::create_dir_all(output).with_context(|| output.display().to_string())?;
        let model = open(&self.base, &Told(tell))?;
        ensure!(
            model.checkpoint.input() == UnetInput::Sample,
            "{}: an inpainting model, which runs with a picture and a mask only\nhint: the article's experiments need an ordinary checkpoint",
            model.checkpoint.place().display()
        );
        let mut sections = Vec::new();
        for part in self.ordered() {
            sections.push(self.section(part, &model, output, tell).with_context(|| part.title().to_string())?);
        }
        let path = output.join(self.page_name());
        let about = page::about_models(self, &model)?;
        let page = Page { title: page::title(&self.base), about, notes: self.notes.clone(), sections };
        replace(&path, page.html().as_bytes())?;
        Ok(path)
    }

    /// The parts to run, in the article's order.
    fn ordered(&self) -> impl Iterator<Item = Part> {
        Part::ALL.into_iter().filter(|part| self.parts.contains(part))
    }

    /// The file of the page: a page of some parts does not replace that of all.
    fn page_name(&self) -> String {
        let names: Vec<&str> = self.ordered().map(Part::name).collect();
        if names.len() == Part::ALL.len() { "article.html".into() } else { format!("article-{}.html", names.join("-")) }
    }

    /// What everything would cost: the pictures, the evaluations of the network, the time, and the bytes on disk.
    ///
    /// # Errors
    /// A part cannot be run.
    pub fn estimate(&self, tell: &dyn Fn(Progress)) -> Result<Estimate> {
        let folder = tempfile::tempdir()?;
        let mut whole = Estimate::default();
        for part in self.ordered() {
            for (name, spec) in part.specs(self)? {
                let spec = opened(folder.path(), name, &spec)?;
                let Estimate { labels, evaluations, apart, time, bytes } =
                    Sweep::new(&spec, How::default(), &folder.path().join(name), tell)?.estimate(tell)?;
                whole.labels.extend(labels.into_iter().map(|label| format!("{}: {label}", part.title())));
                whole.evaluations += evaluations;
                whole.apart += apart;
                whole.time += time;
                whole.bytes += bytes;
            }
        }
        Ok(whole)
    }

    fn section(&self, part: Part, model: &Model, output: &Path, tell: &dyn Fn(Progress)) -> Result<Section> {
        let mut section = Section::of(part, self);
        let specs = part.specs(self)?;
        let swept: Vec<Results> = specs
            .iter()
            .map(|(name, spec)| swept(&opened(output, name, spec)?, &output.join(name), tell))
            .collect::<Result<_>>()?;
        match (part, swept.as_slice()) {
            (Part::Text, _) => section.text(&Embedded::of(model, &self.subject.prompt)?),
            (Part::Loop, [as_written, own]) => {
                if model.scheduler.prediction() != Prediction::Epsilon {
                    section.remark(OTHER_PREDICTION);
                }
                ByHand::new(model, as_written, own, &Told(tell))?.write(output, &mut section)?;
            }
            (_, all) => specs.iter().zip(all).for_each(|((name, _), results)| section.grid(name, results)),
        }
        Ok(section)
    }
}

/// What the page says where the default scheduler would misread what the network predicts.
const OTHER_PREDICTION: &str = "This checkpoint does not predict the noise, which PNDMScheduler() would take its output for. Both rows read the output as the checkpoint's configuration says.";

/// Writes a spec into a folder, and reads it.
fn opened(folder: &Path, name: &str, text: &str) -> Result<Spec> {
    let path = folder.join(name).with_extension("toml");
    replace(&path, text.as_bytes())?;
    Spec::open(&path, &[])
}

/// Runs what is missing of a spec.
fn swept(spec: &Spec, folder: &Path, tell: &dyn Fn(Progress)) -> Result<Results> {
    let results = Sweep::new(spec, How::default(), folder, tell)?.run(tell)?;
    let failed = results.failed.first().map(|failed| format!("{}: {}", failed.label, failed.error));
    ensure!(failed.is_none(), "{}", failed.unwrap_or_default());
    Ok(results)
}

/// Tells of the events of a run.
struct Told<'a>(&'a dyn Fn(Progress));

impl Observer for Told<'_> {
    fn tell(&self, event: Event) {
        (self.0)(Progress::Run(event));
    }
}
