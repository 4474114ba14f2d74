//! `latentrace stability`: at which guidance weight each sampler becomes unstable, predicted and observed, as a page.

use crate::arguments::ModelArguments;
use crate::printer::{self, aside};
use anyhow::Result;
use latentrace_studies::stability::{Source, Study};
use std::path::PathBuf;

/// Measure at which guidance each sampler becomes unstable
///
/// Writes the page docs/schedulers/stability.md.
#[derive(clap::Args)]
pub struct Stability {
    #[command(flatten)]
    model: ModelArguments,
    /// Numbers of steps with the model
    #[arg(long, value_delimiter = ',', default_value = "10,20,50")]
    steps: Vec<usize>,
    /// Guidance weights with the model, rising
    #[arg(long, value_delimiter = ',', default_value = "1,2,3,4,6,8,12,16,24,32")]
    weights: Vec<f64>,
    /// Samplers with the model [default: all of the atlas]
    #[arg(long, value_delimiter = ',')]
    samplers: Vec<String>,
    /// Prompt of the model's runs
    #[arg(long, default_value = "a large red circle on the left, white background")]
    prompt: String,
    /// Seed of the model's runs
    #[arg(long, default_value_t = 193)]
    seed: u64,
    /// Measure nothing: write the page, its figures and the limits again, from the tables in its folder and for the --prompt and --seed that they were measured with
    #[arg(long, conflicts_with_all = ["steps", "weights", "samplers"])]
    page: bool,
    /// Folder of the page
    #[arg(long, default_value = "docs/schedulers", value_name = "FOLDER")]
    output: PathBuf,
    /// File of the model's limits, which `latentrace schedule` reads as stability.csv in the model's folder
    #[arg(long, default_value = "data/models/shapes/stability.csv", value_name = "FILE")]
    table: PathBuf,
}

impl Stability {
    /// Writes the page and its figures.
    pub fn run(self) -> Result<()> {
        let model = self.model.open()?;
        let Stability { steps, weights, samplers, prompt, seed, page, output, table, .. } = self;
        let source = if page { Source::Tables } else { Source::Measured };
        let study = Study { model: &model, prompt, seed, steps, weights, samplers, source, output, table };
        printer::files(&study.measure(&|what| aside!("{what}"))?);
        Ok(())
    }
}
