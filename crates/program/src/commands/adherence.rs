//! `latentrace adherence`: how much of what a caption asks for is seen in its picture.

use crate::arguments::ModelArguments;
use crate::printer::{Printer, line};
use anyhow::{Result, ensure};
use latentrace::files::{Table, fields};
use latentrace::shapes::Tally;
use latentrace_studies::adherence::{Finding, Match, Study, Variety};
use std::path::{Path, PathBuf};

/// Measure how often pictures show what their captions ask for
///
/// Of a model of shapes, for captions that it was not trained on. Rates have Wilson's 95 % interval, and stand below the
/// rates of the checker itself, on drawn pictures of the same scenes. Edges are as steep as a share of those of drawn
/// pictures.
#[derive(clap::Args)]
pub struct Adherence {
    #[command(flatten)]
    model: ModelArguments,
    /// How many held-out captions
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    captions: u64,
    /// How many captions with a pair of shape and colour that no training shows, at guidance 5
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    unseen: u64,
    /// How many captions that leave one attribute open, for each attribute, with two seeds each, at guidance 3
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    open: u64,
    /// Guidance scales of the held-out captions
    #[arg(long, value_delimiter = ',', default_value = "1,3,5,7.5,10,20", allow_negative_numbers = true)]
    guidance: Vec<f64>,
    /// Numbers of sampling steps
    #[arg(long, value_delimiter = ',', default_value = "50,20")]
    steps: Vec<usize>,
    /// Seed of the captions and of the pictures
    #[arg(long, default_value_t = 193)]
    seed: u64,
    /// Where to write the figures as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

impl Adherence {
    /// Measures every set on the same captions and seeds for all scales and numbers of steps.
    pub fn run(self) -> Result<()> {
        let folder = self.csv.as_deref().and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            ensure!(folder.is_dir(), "{}: no such folder, and --csv writes into it", folder.display());
        }
        let model = self.model.open()?;
        let Adherence { captions, unseen, open, guidance, steps, seed, .. } = self;
        let [captions, unseen, open] = [captions, unseen, open].map(|count| count as usize);
        let study = Study { captions, unseen, open, guidance, steps, seed };
        let printer = Printer::with_bar(study.calls(&model)?);
        let mut table = Table::new(["set", "steps", "guidance", "attribute", "right", "asked", "rate", "low", "high"]);
        line!("{captions} held-out captions, seed {seed}");
        study.measure(&model, &printer, |finding| {
            printer.line(match finding {
                Finding::Match(found) => matched(found, &mut table),
                Finding::Variety(found) => varied(found, &mut table),
            });
        })?;
        printer.end();
        if let Some(path) = &self.csv {
            table.write(path)?;
        }
        Ok(())
    }
}

/// The line of a set of pictures, and its rows.
fn matched(found: &Match, table: &mut Table) -> String {
    let Match { set, sampled, adherence, edges } = found;
    let [steps, guidance] = match sampled {
        Some((steps, guidance)) => [steps.to_string(), guidance.to_string()],
        None => [const { String::new() }; 2],
    };
    let mut text = match sampled {
        Some((steps, guidance)) => format!("{set}, {steps} steps, guidance {guidance}:"),
        None => format!("{set}:"),
    };
    for (attribute, tally) in adherence.attributes().into_iter().chain([("whole", adherence.whole)]) {
        let Tally { right, asked } = tally;
        let (rate, (low, high)) = (tally.rate().unwrap_or(f64::NAN), tally.interval());
        text += &format!(" {attribute} {:.1} %", 100.0 * rate);
        if attribute == "whole" {
            text += &format!(" ({:.1} to {:.1})", 100.0 * low, 100.0 * high);
        }
        let [rate, low, high] = [rate, low, high].map(|share| format!("{share:.4}"));
        table.row(fields![set.as_str(), steps.as_str(), guidance.as_str(), attribute, right, asked, rate, low, high]);
    }
    if let Some(steepness) = edges.steepness() {
        text += &format!(", edges {steepness:.2}");
        table.row(fields![
            set.as_str(),
            steps.as_str(),
            guidance.as_str(),
            "edges",
            "",
            "",
            format!("{steepness:.4}"),
            "",
            ""
        ]);
    }
    text
}

/// The line of captions that leave an attribute open, and its rows.
fn varied(found: &Variety, table: &mut Table) -> String {
    let Variety { attribute, steps, guidance, pairs, unclear, .. } = found;
    let Tally { right, asked } = *pairs;
    let name = attribute.name();
    let Some((relative, (low, high))) = found.relative() else {
        return format!("{name} left open, {steps} steps, guidance {guidance}: no pair shows one thing each");
    };
    let [rate, lowest, highest] = [relative, low, high].map(|share| format!("{share:.4}"));
    let set = format!("{name} left open");
    table.row(fields![set.as_str(), *steps, *guidance, "differs", right, asked, rate, lowest, highest]);
    let unclear = if *unclear > 0 { format!(", {unclear} unclear") } else { String::new() };
    format!(
        "{set}, {steps} steps, guidance {guidance}: {right} of {asked} pairs differ{unclear}: {relative:.2} ({low:.2} to {high:.2}) of chance"
    )
}
