//! The differences of the two readings of a config, and their effect.

use super::faults::{BASE, FAULTS, Fault, Quantity, Shown};
use super::world::{READINGS, error, inversion_error, miss, strays, variance};
use anyhow::{Context, Result};
use latentrace_pipeline::schedulers::{Config, Plan, Reading};
use serde_json::{Map, Value};
use std::fmt::Write;

/// The table of faults, with the measured effect of each, as Markdown.
pub fn table() -> Result<String> {
    let mut text =
        String::from("| of | diffusers | exact | measured | diffusers | exact |\n|---|---|---|---|---|---|\n");
    for Fault { of, fault, mended, shown } in FAULTS {
        write!(text, "| {of} | {fault} | {mended} |")?;
        match shown {
            None => text += " | | |\n",
            Some(shown) => {
                let [theirs, ours] = READINGS.map(|(reading, _)| shown.measured(reading));
                writeln!(text, " {} | {} | {} |", shown.label()?, theirs?, ours?)?;
            }
        }
    }
    Ok(text)
}

impl Shown {
    fn options(&self) -> Result<Map<String, Value>> {
        serde_json::from_str(self.options).with_context(|| format!("{}: {}", self.sampler, self.options))
    }

    fn config(&self) -> Result<Config> {
        let start = Config::from_json_as(BASE, self.sampler)?;
        Ok(self.options()?.into_iter().try_fold(start, |config, (key, value)| config.with(&key, value))?)
    }

    fn plan(&self, config: &Config, reading: Reading) -> Option<Plan> {
        let plan = match self.strength {
            None => config.plan(self.steps, reading),
            Some(strength) => config.plan_from_image(self.steps, strength, reading),
        };
        plan.ok()
    }

    fn label(&self) -> Result<String> {
        let what = match self.measure {
            Quantity::Error | Quantity::Inversion => "error",
            Quantity::Miss => "distance to the data",
            Quantity::Strays => "error down to sigma ¼",
            Quantity::Variance => "variance",
            Quantity::StartVariance => "variance of the first sample",
            Quantity::StartNoise => "noise in the first sample, over sigma",
            Quantity::StartSigma => "first sigma",
            Quantity::Draws => "draws",
            Quantity::MiddleTime => "time of the first middle",
        };
        let plain = |(key, value): (String, Value)| format!(" `{key}={}`", value.to_string().replace('"', ""));
        let options: String = self.options()?.into_iter().map(plain).collect();
        let strength = self.strength.map_or(String::new(), |strength| format!(", strength {strength}"));
        let steps = if self.steps == 1 { "one step".into() } else { format!("{} steps", self.steps) };
        Ok(format!("{what}: {}, {steps}{strength}{options}", self.sampler))
    }

    fn measured(&self, reading: Reading) -> Result<String> {
        let config = self.config()?;
        let Some(plan) = self.plan(&config, reading) else { return Ok("an error".into()) };
        let first = plan.steps()[0];
        let start = || plan.row(first.sample).terms().map(|(_, weight)| weight).last().unwrap_or_default();
        let image: Vec<f64> = super::tables::images();
        let small = |number: f64| format!("{number:.1e}");
        Ok(match self.measure {
            Quantity::Error => small(error(&config, &plan, self.strength.map(|_| image.as_slice()))),
            Quantity::Miss => small(miss(&config, &plan)),
            Quantity::Strays => small(strays(&config, &plan)),
            Quantity::Inversion => inversion_error(&config, &plan).map_or("–".into(), small),
            Quantity::Variance => format!("{:.2}", variance(&config, &plan)),
            Quantity::StartVariance => format!("{:.4}", start().powi(2) / (first.level.sigma.powi(2) + 1.0)),
            Quantity::StartNoise => format!("{:.4}", start() / first.level.sigma),
            Quantity::StartSigma => format!("{:.6}", first.level.sigma).trim_end_matches(".000000").to_owned(),
            Quantity::Draws => plan.draws().to_string(),
            Quantity::MiddleTime => format!("{:.1}", plan.steps()[1].level.t),
        })
    }
}
