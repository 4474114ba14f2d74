//! `latentrace causal`: which tensor, at which steps, carries what one run has and another has not.

use crate::description::Description;
use crate::lost;
use crate::models;
use crate::phases::Phased;
use crate::record::bar;
use anyhow::{Context, Result, ensure};
use latentrace_pipeline::Model;
use latentrace_pipeline::nn::SamplerValue;
use latentrace_pipeline::nn::tch::{Kind, Tensor};
use latentrace_plot::{Colours, HeatMap, write};
use latentrace_trace::{Selector, Trace};
use std::path::PathBuf;

/// Put tensors of one run into another, site by site and block by block of steps, and draw what each does
#[derive(clap::Args)]
pub struct Causal {
    /// The run that is changed
    base: PathBuf,
    /// The run that the tensors come from; it must hold the sites whole
    #[arg(long, value_name = "TRACE")]
    from: PathBuf,
    /// The sites
    #[arg(long, default_value = "unet.{down_blocks.*,mid_block,up_blocks.*}.out", value_name = "SELECTOR")]
    sites: String,
    /// Blocks of steps
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    blocks: u64,
    /// Where the checkpoint of the base is now [default: where it was, from the root or from the trace]
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
    /// Of a base that was forked by an earlier version: where the run is now that it was forked from
    #[arg(long, value_name = "TRACE")]
    parent: Option<PathBuf>,
    /// Folder of the map: causal.svg, .png and .csv [default: causal, beside the base]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

impl Causal {
    /// Runs the base once for every site and block.
    pub fn run(self) -> Result<()> {
        let (base, source) = (Trace::open(&self.base)?, Trace::open(&self.from)?);
        let description = Description::of(&base)?;
        ensure!(base.complete() == description.calls, "{}: not a whole run", self.base.display());
        source.check_idle()?;
        lost::say(&description);
        let model = models::open_recorded(&description, &self.base, self.model.as_deref())?;
        let run = Phased::new(&model, &base, self.parent.as_deref())?;
        let sites = self.sites(&model, &source)?;
        let (first, last) = run.steps();
        let blocks = blocks(first, last, self.blocks as usize);
        let end = |trace: &Trace| -> Result<Tensor> {
            let entry = trace.values(SamplerValue::Latents).next().context("a run without its end")?;
            Ok(trace.tensor(entry)?)
        };
        let (from, to) = (end(&base)?, end(&source)?);
        let apart = distance(&from, &to);
        ensure!(apart > 0.0, "the two runs end in the same latents");
        let first_call =
            |step: usize| base.entries().iter().find(|entry| entry.step == step).map_or(0, |entry| entry.call);
        let left: usize = blocks.iter().map(|(first, _)| description.calls - first_call(*first)).sum();
        println!(
            "{} sites, {} blocks of steps: {} network calls of two passes each",
            sites.len(),
            blocks.len(),
            left * sites.len()
        );
        let bar = bar(left * sites.len());
        let mut values = Vec::new();
        for site in &sites {
            bar.set_message(site.clone());
            let mut row = Vec::new();
            for (first, last) in &blocks {
                let call = first_call(*first);
                let rule = format!("{site} @step[{first}:{last}] => replace({})", self.from.display());
                let patched = run.patched(&rule, call)?;
                row.push(1.0 - distance(&patched, &to) / apart);
                bar.inc((description.calls - call) as u64);
            }
            values.push(row);
        }
        bar.finish_and_clear();
        self.draw(&description, &source, sites, &blocks, values)
    }

    fn sites(&self, model: &Model, source: &Trace) -> Result<Vec<String>> {
        let selector = Selector::parse(&self.sites)?;
        let sites: Vec<String> =
            model.taps.iter().filter(|tap| selector.names(tap)).map(|tap| tap.name().to_string()).collect();
        ensure!(!sites.is_empty(), selector.fits_nothing(model.taps.iter().map(|tap| tap.name())));
        let whole = |site: &str| source.of_tap(site).any(|entry| entry.kept.is_empty() && entry.stored.is_some());
        if let Some(site) = sites.iter().find(|site| !whole(site)) {
            anyhow::bail!(
                "{}: {site} was not kept whole\nhint: record it with --capture \"{}\"",
                self.from.display(),
                self.sites
            );
        }
        Ok(sites)
    }

    fn draw(
        &self,
        base: &Description,
        source: &Trace,
        sites: Vec<String>,
        blocks: &[(usize, usize)],
        values: Vec<Vec<f64>>,
    ) -> Result<()> {
        let to = Description::of(source)
            .map_or_else(|_| "the other run".into(), |source| format!("“{}”", source.cell.prompt));
        let figure = HeatMap {
            title: "how far each site leads one run to another".into(),
            rows: sites,
            columns: blocks.iter().map(|(first, last)| format!("{first}–{}", last - 1)).collect(),
            values,
            x_label: "steps in which the site is taken from the other run".into(),
            value_label: "part of the way".into(),
            notes: vec![
                format!("the run: “{}”", base.cell.prompt),
                format!("led to: {to}"),
                "1 is the other run, 0 the run itself".into(),
            ],
            colours: Colours::Diverging,
            low: Some(-1.0),
            high: Some(1.0),
            ..HeatMap::default()
        };
        let folder = self.output.clone().unwrap_or_else(|| self.base.with_extension("causal"));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        for path in write(&folder, "causal", &figure)? {
            println!("  {}", path.display());
        }
        Ok(())
    }
}

/// The steps from `first` to before `last` in blocks as even as they can be: the first of each, and one after its last.
fn blocks(first: usize, last: usize, count: usize) -> Vec<(usize, usize)> {
    let steps = last.saturating_sub(first).max(1);
    let count = count.min(steps).max(1);
    (0..count).map(|block| (first + block * steps / count, first + (block + 1) * steps / count)).collect()
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).to_kind(Kind::Double).square().mean(Kind::Double).sqrt().double_value(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_all_steps_once() {
        assert_eq!(blocks(0, 50, 5), [(0, 10), (10, 20), (20, 30), (30, 40), (40, 50)]);
        assert_eq!(blocks(0, 3, 2), [(0, 1), (1, 3)]);
        assert_eq!(blocks(0, 2, 9), [(0, 1), (1, 2)]);
        assert_eq!(blocks(30, 50, 2), [(30, 40), (40, 50)]);
    }
}
