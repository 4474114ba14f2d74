//! Why samplers break under guidance: their regions of stability, and the guidance weight at which they leave them.

mod figures;
mod fine;
mod known;
mod limits;
mod network;
mod page;
mod region;
mod remark;
mod world;

pub use remark::remark;

use crate::atlas::{Sampler, samplers};
use anyhow::{Context, Result, ensure};
use fine::Grid;
use known::Known;
use latentrace_files::{Table, replace};
use latentrace_pipeline::Model;
use latentrace_pipeline::schedulers::Config;
use latentrace_plot::write;
use limits::{Case, Criterion, Solved, WEIGHTS};
use network::Prompted;
use std::path::{Path, PathBuf};
use world::World;

/// Where the numbers of the page come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// They are measured.
    Measured,
    /// They are read from the page's own tables, which an earlier study wrote.
    Tables,
}

/// The study: a model, what is asked of it, and where the results go.
pub struct Study<'a> {
    /// The model.
    pub model: &'a Model,
    /// The prompt of its runs.
    pub prompt: String,
    /// The seed of its runs.
    pub seed: u64,
    /// The numbers of steps.
    pub steps: Vec<usize>,
    /// The guidance weights, rising. With [`Source::Tables`] those of the table.
    pub weights: Vec<f64>,
    /// The samplers; all if there are none.
    pub samplers: Vec<String>,
    /// Where the numbers come from.
    pub source: Source,
    /// The folder of the page.
    pub output: PathBuf,
    /// The file of the model's limits, which [`remark`] reads beside the model.
    pub table: PathBuf,
}

/// The real limit of a sampler's region of stability at the ratio of 20 even steps; `None` if there is none in sight.
pub(crate) fn limit_at_20(config: &Config) -> Option<f64> {
    let (ratio, _) = figures::RATIOS[1];
    region::real_limit(&region::steady(config, ratio).ok()?, ratio)
}

/// The numbers of steps whose limits the page has as tables.
const SHOWN: [usize; 2] = [20, 50];

impl Study<'_> {
    /// Measures normal data, the mixture of the atlas and the model, or reads what was measured. Writes the page `stability.md` with its figures and tables, and the
    /// table of the model's limits. `tell` is told what is measured.
    ///
    /// # Errors
    /// A sampler cannot be run, a table is missing or of another version, or a file cannot be written.
    pub fn measure(&self, tell: &dyn Fn(String)) -> Result<Vec<PathBuf>> {
        ensure!(self.weights.is_sorted() && !self.weights.is_empty(), "weights: expected rising numbers");
        let all: Vec<Sampler> = samplers()?.into_iter().flatten().collect();
        let is_asked = |name: &str| self.samplers.is_empty() || self.samplers.iter().any(|asked| asked == name);
        let asked: Vec<Sampler> = all.iter().filter(|(name, _)| is_asked(name)).cloned().collect();
        let unknown = self.samplers.iter().find(|asked| all.iter().all(|(name, _)| name != asked));
        ensure!(unknown.is_none(), "sampler {}: not in the atlas", unknown.map_or("", String::as_str));

        let mut made = write(&self.output, "stability-regions", &figures::regions(&all)).context("stability")?;
        let grid = Grid { steps: 512, every: 1 };
        let known = |stem: &str, world: Known, steps: &[usize]| match self.source {
            Source::Measured => measured(&world, &all, &WEIGHTS, steps, grid, tell),
            Source::Tables => self.kept(stem, &all),
        };
        let of_normal = known("stability-normal", Known::normal()?, &SHOWN)?;
        made.extend(self.files("stability-normal", &of_normal, None)?);
        let of_mixture = known("stability-mixture", Known::mixture()?, &[10, 20, 50, 100])?;
        made.extend(self.files("stability-mixture", &of_mixture, Some(("The mixture", &WEIGHTS, page::SEPARATE)))?);

        let model = Prompted::new(self.model, &self.prompt, self.seed)?;
        // A Jacobian of more elements costs their square.
        let every = if model.elements() <= 256 { 8 } else { 16 };
        let grid = Grid { steps: 128, every };
        let of_model = match self.source {
            Source::Measured => measured(&model, &asked, &self.weights, &self.steps, grid, tell)?,
            Source::Tables => self.kept("stability-model", &all)?,
        };
        let weights = match self.source {
            Source::Measured => self.weights.clone(),
            Source::Tables => tried(&of_model),
        };
        made.extend(self.files("stability-model", &of_model, Some(("The model", &weights, page::ASTRAY_TOO)))?);
        page::limits_table(&of_model).write(&self.table)?;
        let path = self.output.join("stability.md");
        let about = page::About {
            prompt: &self.prompt,
            seed: self.seed,
            elements: model.elements(),
            levels: 128 / every + 1,
            differences: world::carried(model.elements() as i64) as usize,
            weights: &weights,
        };
        let text = page::page(&all, [&of_normal, &of_mixture, &of_model], &about);
        replace(&path, text.as_bytes()).with_context(|| path.display().to_string())?;
        made.extend([path, self.table.clone()]);
        Ok(made)
    }

    /// The cases of a table that an earlier study wrote.
    fn kept(&self, stem: &str, samplers: &[Sampler]) -> Result<Vec<Case>> {
        let path = self.output.join(format!("{stem}.csv"));
        page::cases(&Table::read(&path)?, samplers).with_context(|| path.display().to_string())
    }

    /// The numbers of cases as a table, and their figure.
    fn files(
        &self,
        stem: &str,
        cases: &[Case],
        figure: Option<(&str, &[f64], (&str, Criterion))>,
    ) -> Result<Vec<PathBuf>> {
        let mut made = match figure {
            Some((title, weights, seen)) => write(&self.output, stem, &figures::limits(title, cases, weights, seen))?,
            None => Vec::new(),
        };
        let path = self.output.join(format!("{stem}.csv"));
        page::numbers(cases).write(&path)?; // in place of the figure's, which has less
        if !made.contains(&path) {
            made.push(path);
        }
        Ok(made)
    }
}

/// Every sampler with every number of steps.
fn measured(
    world: &dyn World,
    samplers: &[Sampler],
    weights: &[f64],
    steps: &[usize],
    grid: Grid,
    tell: &dyn Fn(String),
) -> Result<Vec<Case>> {
    let solved =
        Solved::new(world, weights, grid, &|weight| tell(format!("{}: solution at guidance {weight}", world.name())));
    let mut cases = Vec::new();
    for (name, _) in samplers {
        let config = world.config().with_class(name)?;
        tell(format!("{}: {name}", world.name()));
        for steps in steps {
            cases.push(solved.case(name, &config, *steps)?);
        }
    }
    Ok(cases)
}

/// The weights of cases, rising.
fn tried(cases: &[Case]) -> Vec<f64> {
    let mut weights: Vec<f64> = cases.iter().flat_map(|case| &case.behaviour).map(|one| one.guidance).collect();
    weights.sort_by(f64::total_cmp);
    weights.dedup();
    weights
}

/// The file of a model's limits, in its folder.
fn table_of(model: &Path) -> PathBuf {
    model.join("stability.csv")
}
