//! The differences of the two readings of a config, and their effect.

use super::world::{READINGS, error, inversion_error, miss, strays, variance};
use anyhow::{Context, Result};
use latentrace_pipeline::schedulers::{Config, Plan, Reading};
use serde_json::{Map, Value};
use std::fmt::Write;

/// A fault of diffusers that the diffusers reading reproduces, and what the exact reading does instead.
struct Fault {
    of: &'static str,
    fault: &'static str,
    mended: &'static str,
    /// A run that shows the effect, if there is one.
    shown: Option<Shown>,
}

/// A run, and what is measured of it.
struct Shown {
    sampler: &'static str,
    /// The options besides Stable Diffusion's schedule, as JSON.
    options: &'static str,
    steps: usize,
    strength: Option<f64>,
    measure: Measure,
}

/// What is measured of a run.
#[derive(Clone, Copy)]
enum Measure {
    /// The distance from its result to the end of the exact flow of its first sample.
    Error,
    /// The distance from its results to the quantiles of the data.
    Miss,
    /// The error down to sigma 1/4, without that of the last step.
    Strays,
    /// The distance from an inverted image to the end of the exact flow.
    Inversion,
    /// The variance of its results over that of the data.
    Variance,
    /// The variance of its first sample over that of the level.
    StartVariance,
    /// The weight of the noise in its first sample, over sigma.
    StartNoise,
    /// The sigma of its first level.
    StartSigma,
    /// The number of draws of noise, with the first one.
    Draws,
    /// The time of the second call.
    MiddleTime,
}

/// Stable Diffusion's schedule. The spacing is the default of the class.
const BASE: &str = r#"{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": false,
    "skip_prk_steps": true, "steps_offset": 1, "set_alpha_to_one": true}"#;

const fn shown(sampler: &'static str, options: &'static str, steps: usize, measure: Measure) -> Option<Shown> {
    Some(Shown { sampler, options, steps, strength: None, measure })
}

const fn from_image(
    sampler: &'static str,
    options: &'static str,
    steps: usize,
    strength: f64,
    measure: Measure,
) -> Option<Shown> {
    Some(Shown { sampler, options, steps, strength: Some(strength), measure })
}

/// The faults, sorted by class. Those of most classes come first.
const FAULTS: [Fault; 38] = [
    Fault {
        of: "all",
        fault: "the schedule is kept in single precision",
        mended: "double precision",
        shown: shown("euler", "{}", 20, Measure::StartSigma),
    },
    Fault {
        of: "all",
        fault: "a strength is cut off to whole steps",
        mended: "it is where it says, the nearest level moved there",
        shown: from_image("euler", "{}", 10, 0.37, Measure::StartSigma),
    },
    Fault {
        of: "all but DPM-Solver, DEIS, UniPC and SA-Solver",
        fault: "one step with `linspace` starts at time 0, where there is hardly any noise",
        mended: "starts at the last time",
        shown: shown("euler", "{}", 1, Measure::StartSigma),
    },
    Fault {
        of: "all",
        fault: "between two training times a level is linear in sigma, and the time of a sigma linear in its logarithm",
        mended: "both in the logarithm, so that each undoes the other",
        shown: None,
    },
    Fault {
        of: "all",
        fault: "sums are in single precision: with `squaredcos_cap_v2`, whose sigmas go up to 2e4, latents are rounded by up to 5.4 (ancestral DPM2) and 3.0 (Heun), by 0.02 to 0.2 in the others, and on Stable Diffusion's schedule by 1e-5 to 3e-5 (20 steps, outputs drawn at random). No reading reproduces that: plans are in double precision",
        mended: "the same",
        shown: None,
    },
    Fault {
        of: "LMS, Euler, Heun, DPM2, the ancestral of them, DPM++ SDE",
        fault: "with `linspace` and `trailing` the first sample has the variance sigma²",
        mended: "sigma² + 1, as the network expects",
        shown: shown("euler", r#"{"timestep_spacing": "trailing"}"#, 20, Measure::StartVariance),
    },
    Fault {
        of: "solvers that count in whole times",
        fault: "times of Karras and like sigmas are rounded, or cut off, which costs nothing here",
        mended: "told as they are",
        shown: shown("dpm++2m", r#"{"use_karras_sigmas": true}"#, 40, Measure::Error),
    },
    Fault {
        of: "Euler, Euler-ancestral, DPM-Solver, UniPC",
        fault: "schedules stretched to zero signal end at sigma 4096",
        mended: "at 2²⁴, as for the others",
        shown: shown(
            "euler",
            r#"{"rescale_betas_zero_snr": true, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}"#,
            20,
            Measure::StartSigma,
        ),
    },
    Fault {
        of: "DDPM",
        fault: "draws a last noise of weight 1e-10 where the last time is above 0",
        mended: "draws what it uses",
        shown: shown("ddpm", "{}", 20, Measure::Draws),
    },
    Fault {
        of: "DDPM",
        fault: "`fixed_large_log` is the square root of a negative number (an error)",
        mended: "the variance it means: `fixed_large`",
        shown: shown("ddpm", r#"{"variance_type": "fixed_large_log"}"#, 50, Measure::Variance),
    },
    Fault {
        of: "DDIM",
        fault: "goes down by `T / steps` whatever its list of times says",
        mended: "each step ends on the next time of the list",
        shown: shown("ddim", r#"{"timestep_spacing": "linspace"}"#, 60, Measure::Error),
    },
    Fault {
        of: "DDIM",
        fault: "leaves the noise of time 0 in the image unless `set_alpha_to_one`",
        mended: "always ends clean",
        shown: shown("ddim", r#"{"set_alpha_to_one": false}"#, 250, Measure::Error),
    },
    Fault {
        of: "DDIM",
        fault: "holds the estimate within the limit and not the noise with it, unless a caller passes `use_clipped_model_output` (no pipeline does)",
        mended: "both",
        shown: None,
    },
    Fault {
        of: "DDIM inverse",
        fault: "tells the network the time of the level that it goes to, which costs nothing here",
        mended: "of the level that the sample has",
        shown: shown("ddim_inverse", "{}", 100, Measure::Inversion),
    },
    Fault {
        of: "PNDM",
        fault: "goes down by `T / steps` whatever its list of times says",
        mended: "each step ends on the next time of the list",
        shown: shown("pndm", r#"{"timestep_spacing": "linspace"}"#, 60, Measure::Error),
    },
    Fault {
        of: "PNDM",
        fault: "averages raw velocities of different noise levels, then converts the average",
        mended: "converts each output at its own level",
        shown: shown("pndm", r#"{"prediction_type": "v_prediction"}"#, 50, Measure::Error),
    },
    Fault {
        of: "PNDM",
        fault: "leaves the noise of time 0 in the image unless `set_alpha_to_one`",
        mended: "always ends clean",
        shown: shown("pndm", r#"{"set_alpha_to_one": false}"#, 250, Measure::Error),
    },
    Fault {
        of: "PNDM",
        fault: "from an image drops the second call of its first step, and stays one level off",
        mended: "makes both calls",
        shown: from_image("pndm", "{}", 50, 0.5, Measure::Error),
    },
    Fault {
        of: "PNDM",
        fault: "its Runge-Kutta start overruns its list from an image",
        mended: "as many such steps as there are",
        shown: from_image("pndm", r#"{"skip_prk_steps": false}"#, 50, 0.5, Measure::Error),
    },
    Fault {
        of: "PNDM",
        fault: "its Runge-Kutta start fails below 4 steps",
        mended: "as many such steps as there are",
        shown: shown("pndm", r#"{"skip_prk_steps": false}"#, 3, Measure::Error),
    },
    Fault {
        of: "IPNDM",
        fault: "has levels and times of its own, from pure noise and time 1 to 0, whatever the network was trained on, and forgets the first output; `trained_betas` are its levels",
        mended: "the levels of the schedule, each step from the network's estimate",
        shown: shown("ipndm", r#"{"prediction_type": "v_prediction"}"#, 20, Measure::Miss),
    },
    Fault {
        of: "IPNDM",
        fault: "takes every output for a velocity (other `prediction_type`s are an error)",
        mended: "for what `prediction_type` says",
        shown: shown("ipndm", "{}", 20, Measure::Miss),
    },
    Fault {
        of: "IPNDM",
        fault: "cannot start from an image (an error)",
        mended: "starts from one like the others",
        shown: from_image("ipndm", r#"{"prediction_type": "v_prediction"}"#, 40, 0.5, Measure::Error),
    },
    Fault {
        of: "LMS",
        fault: "from an image weighs a history that it does not have",
        mended: "the order grows with the history",
        shown: from_image("lms", "{}", 50, 0.5, Measure::Error),
    },
    Fault {
        of: "Euler",
        fault: "with `s_churn` puts noise in after the network's call, which has not seen it",
        mended: "before, as the paper has it",
        shown: shown("euler", r#"{"s_churn": 20}"#, 50, Measure::Variance),
    },
    Fault {
        of: "Euler",
        fault: "`log_linear` interpolation makes a sigma too many, tells times of other levels, and never reaches the end",
        mended: "each level has its time, and the last step ends clean",
        shown: shown("euler", r#"{"interpolation_type": "log_linear"}"#, 20, Measure::Error),
    },
    Fault {
        of: "Euler-ancestral, DDIM, SA-Solver, DPM-Solver",
        fault: "draw noise of weight zero",
        mended: "draw what they use",
        shown: shown("euler_a", "{}", 20, Measure::Draws),
    },
    Fault {
        of: "Euler-ancestral, ancestral DPM2, DPM++ SDE",
        fault: "take where a step goes down to as the difference of two variances in single precision, which loses most figures in a long step; ancestral DPM2 calls its middle at another time",
        mended: "a product, which loses none",
        shown: shown(
            "dpm2_a",
            r#"{"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "linspace"}"#,
            10,
            Measure::MiddleTime,
        ),
    },
    Fault {
        of: "DPM-Solver",
        fault: "the third order weighs its second difference by half of what it should, so it is of second order",
        mended: "the weights of the polynomial, which pay from some 40 steps on: see the third order at few steps",
        shown: shown("dpm++3m", r#"{"use_exponential_sigmas": true}"#, 200, Measure::Strays),
    },
    Fault {
        of: "DPM-Solver",
        fault: "with noise (`sde-dpmsolver++`) the third order has a wrong sign too",
        mended: "the right one",
        shown: shown("dpm++3m_sde", "{}", 200, Measure::Variance),
    },
    Fault {
        of: "DPM-Solver",
        fault: "the third order of `sde-dpmsolver` is missing (an error)",
        mended: "it is there",
        shown: shown(
            "dpm_multistep",
            r#"{"algorithm_type": "sde-dpmsolver", "solver_order": 3, "final_sigmas_type": "sigma_min"}"#,
            50,
            Measure::Variance,
        ),
    },
    Fault {
        of: "DPM-Solver",
        fault: "`dpmsolver` cannot end clean (an error)",
        mended: "ends in a step of first order",
        shown: shown(
            "dpm_multistep",
            r#"{"algorithm_type": "dpmsolver", "use_karras_sigmas": true}"#,
            40,
            Measure::Error,
        ),
    },
    Fault {
        of: "DEIS, SA-Solver, TCD",
        fault: "leave the noise of time 0 in the image, after a step of no length where sigmas are Karras or the like",
        mended: "end clean; DEIS follows its polynomial down to the noise of time 0 and its newest slope from there, and SA-Solver's order falls",
        shown: shown("deis", r#"{"use_karras_sigmas": true}"#, 40, Measure::Error),
    },
    Fault {
        of: "DPM-Solver, UniPC",
        fault: "with `sigma_min` Karras and like sigmas reach the smallest before the last step, which has no length",
        mended: "at its end",
        shown: shown("dpm_solver_2m", r#"{"use_karras_sigmas": true}"#, 20, Measure::Error),
    },
    Fault {
        of: "TCD",
        fault: "goes down to a time that is cut off to a whole one",
        mended: "to the time that `eta` means",
        shown: shown("tcd", "{}", 4, Measure::Variance),
    },
    Fault {
        of: "UniPC",
        fault: "steps to no noise at a high order, which is infinite",
        mended: "goes back to first order there",
        shown: shown("unipc", r#"{"lower_order_final": false}"#, 20, Measure::Error),
    },
    Fault {
        of: "UniPC without `predict_x0`, TCD",
        fault: "ignore thresholding",
        mended: "hold the estimate within it",
        shown: None,
    },
    Fault {
        of: "SA-Solver",
        fault: "from an image adds the noise of the rounded time",
        mended: "of the level",
        shown: from_image("sa_solver", r#"{"use_karras_sigmas": true}"#, 20, 0.4, Measure::StartNoise),
    },
];

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
            Measure::Error | Measure::Inversion => "error",
            Measure::Miss => "distance to the data",
            Measure::Strays => "error down to sigma ¼",
            Measure::Variance => "variance",
            Measure::StartVariance => "variance of the first sample",
            Measure::StartNoise => "noise in the first sample, over sigma",
            Measure::StartSigma => "first sigma",
            Measure::Draws => "draws",
            Measure::MiddleTime => "time of the first middle",
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
            Measure::Error => small(error(&config, &plan, self.strength.map(|_| image.as_slice()))),
            Measure::Miss => small(miss(&config, &plan)),
            Measure::Strays => small(strays(&config, &plan)),
            Measure::Inversion => inversion_error(&config, &plan).map_or("–".into(), small),
            Measure::Variance => format!("{:.2}", variance(&config, &plan)),
            Measure::StartVariance => format!("{:.4}", start().powi(2) / (first.level.sigma.powi(2) + 1.0)),
            Measure::StartNoise => format!("{:.4}", start() / first.level.sigma),
            Measure::StartSigma => format!("{:.6}", first.level.sigma).trim_end_matches(".000000").to_owned(),
            Measure::Draws => plan.draws().to_string(),
            Measure::MiddleTime => format!("{:.1}", plan.steps()[1].level.t),
        })
    }
}
