//! `latentrace adherence`: how much of what a caption asks for is seen in its picture.

use crate::arguments::ModelArguments;
use crate::printer::{Printer, line};
use anyhow::{Result, ensure};
use latentrace::files::{Table, fields};
use latentrace_studies::adherence::{HeldOut, held_out};
use std::path::{Path, PathBuf};

/// Measure how often a model of shapes shows what held-out captions ask for
#[derive(clap::Args)]
pub struct Adherence {
    #[command(flatten)]
    model: ModelArguments,
    /// How many held-out captions
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    captions: u64,
    /// Guidance scales
    #[arg(long, value_delimiter = ',', default_value = "0,1,2,4,8", allow_negative_numbers = true)]
    guidance: Vec<f64>,
    /// Sampling steps
    #[arg(long, default_value_t = 50)]
    steps: usize,
    /// Seed of the captions and of the pictures
    #[arg(long, default_value_t = 193)]
    seed: u64,
    /// Where to write the figures as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

impl Adherence {
    /// Measures every guidance scale on the same captions and seeds.
    pub fn run(self) -> Result<()> {
        let folder = self.csv.as_deref().and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            ensure!(folder.is_dir(), "{}: no such folder, and --csv writes into it", folder.display());
        }
        let model = self.model.open()?;
        let Adherence { guidance, steps, seed, .. } = self;
        let study = HeldOut { scenes: held_out(seed, self.captions as usize), guidance, steps, seed };
        let printer = Printer::with_bar(study.calls(&model)?);
        let mut table = Table::new(["guidance", "attribute", "right", "asked", "rate", "low", "high"]);
        line!("{} held-out captions, {steps} steps, seed {seed}", study.scenes.len());
        study.measure(&model, &printer, |guidance, total| {
            let mut text = format!("guidance {guidance}:");
            for (attribute, tally) in total.attributes().into_iter().chain([("whole", total.whole)]) {
                let (rate, (low, high)) = (tally.rate().unwrap_or(f64::NAN), tally.interval());
                text += &format!(" {attribute} {:.1} %", 100.0 * rate);
                let [rate, low, high] = [rate, low, high].map(|share| format!("{share:.4}"));
                table.row(fields![guidance, attribute, tally.right, tally.asked, rate, low, high]);
            }
            printer.line(text);
        })?;
        printer.end();
        if let Some(path) = &self.csv {
            table.write(path)?;
        }
        Ok(())
    }
}
