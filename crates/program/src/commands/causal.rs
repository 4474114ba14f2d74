//! `latentrace causal`: which tensor, at which steps, carries what one run has and another has not.

use crate::printer::{self, Printer, line};
use anyhow::{Result, ensure};
use latentrace::experiments::views;
use latentrace::files::{counted, create_folder};
use latentrace::runs::{self, Description, RunFolder, lost, open_recorded};
use std::path::PathBuf;

/// Put tensors of one run into another, and draw the effects
///
/// Site by site, and block by block of steps.
#[derive(clap::Args)]
pub struct Causal {
    /// The run that is changed: its folder, or its record
    base: PathBuf,
    /// The run that the tensors come from; it must hold the sites whole
    #[arg(long, value_name = "RUN")]
    from: PathBuf,
    /// The sites
    #[arg(long, default_value = "unet.{down_blocks.*,mid_block,up_blocks.*}.out", value_name = "SELECTOR")]
    sites: String,
    /// Blocks of steps [default: 5]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    blocks: Option<u64>,
    /// Where the checkpoint of the base is now [default: where it was, from the root or from the record]
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
    /// Of a base that was forked by an earlier version: where the run is now that it was forked from
    #[arg(long, value_name = "RUN")]
    parent: Option<PathBuf>,
    /// Folder of the map: causal.svg, .png and .csv [default: causal, in the base]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// The number of blocks of steps, unless another is given.
const BLOCKS: u64 = 5;

impl Causal {
    /// Runs the base once for every site and block.
    pub fn run(self) -> Result<()> {
        let run = RunFolder::find(&self.base)?;
        let (base, source) = (run.read()?, RunFolder::find(&self.from)?.read()?);
        let description = Description::of(&base)?;
        ensure!(
            base.complete() == description.calls,
            "{path}: {} of {} calls are recorded\nhint: `latentrace resume {path}` completes it",
            base.complete(),
            description.calls,
            path = self.base.display()
        );
        source.check_idle()?;
        let printer = Printer::new();
        lost::warn(&description, &printer);
        let model = open_recorded(&description, run.trace(), self.model.as_deref(), &printer)?;
        let parent = self.parent.as_deref().map(RunFolder::find).transpose()?;
        let parent = parent.as_ref().map(RunFolder::trace);
        let wanted = (self.sites.as_str(), self.blocks.unwrap_or(BLOCKS) as usize);
        let causal = runs::CausalTracing::new(&model, (&base, &source), wanted, parent, &printer)?;
        let (sites, blocks, calls) = (causal.sites.len(), causal.blocks.len(), causal.calls());
        if let Some(asked) = self.blocks.filter(|asked| *asked > blocks as u64) {
            printer::note(format_args!("--blocks {asked}: the run has {}", counted(blocks, "step")));
        }
        let (sites, blocks) = (counted(sites, "site"), counted(blocks, "block"));
        let passes = if description.negative_is.rows() == 1 { "one pass" } else { "two passes" };
        line!("{sites}, {blocks} of steps: {} of {passes} each", counted(calls, "network call"));
        let bar = Printer::with_bar(calls);
        let values = causal.measure(|site, calls| {
            bar.message(site);
            bar.called(calls);
        })?;
        bar.end();
        let folder = self.output.clone().unwrap_or_else(|| run.path().join("causal"));
        create_folder(&folder)?;
        printer::files(&views::causal(&folder, &description, &source, &causal, values)?);
        Ok(())
    }
}
