//! The options that decide the levels of a run.

use super::reader::{Reader, wrong};
use crate::diffusers::Scheduler;
use crate::levels::{Given, Grid, Sigmas, Times};
use crate::{Error, Prediction};
use serde_json::Value;

/// The options that space sigmas between two ends; at most one can be on. The numbers are those of the papers.
const SIGMAS: [(&str, Sigmas); 6] = [
    ("use_karras_sigmas", Sigmas::Karras { rho: 7.0 }),
    ("use_exponential_sigmas", Sigmas::Exponential),
    ("use_beta_sigmas", Sigmas::Beta { shape: 0.6 }),
    ("use_lu_lambdas", Sigmas::Lu),
    ("use_polyexponential_sigmas", Sigmas::Polyexponential { rho: 1.0 }),
    ("use_vp_sigmas", Sigmas::VariancePreserving { beta_d: 19.9, beta_min: 0.1, least_time: 1e-3 }),
];

impl Reader<'_> {
    /// Reads the options that decide the levels.
    pub(super) fn grid(&self, scheduler: &Scheduler, len: usize) -> Result<Grid, Error> {
        let ends_clean = match self.has("final_sigmas_type") {
            true => self.choice("final_sigmas_type", &[("zero", true), ("sigma_min", false)])?,
            false => true,
        };
        Ok(Grid {
            spacing: (scheduler.spacing)(self, len)?,
            sigmas: self.sigmas()?,
            given: self.given(len, scheduler.layout.times)?,
            ends_clean,
            least_lambda: self.least_lambda()?,
            ends: self.ends()?,
            is_log_linear: self.is_log_linear()?,
            is_cosine: self.value("beta_schedule") == "squaredcos_cap_v2",
            time_is_log_sigma: self.time_is_log_sigma()?,
        })
    }

    fn sigmas(&self) -> Result<Sigmas, Error> {
        let mut chosen = None;
        for (name, sigmas) in SIGMAS {
            match (self.flag(name)?, chosen) {
                (true, None) => chosen = Some((name, sigmas)),
                (true, Some((first, _))) => return Err(Error::Both { first, second: name }),
                (false, _) => (),
            }
        }
        let plain = if self.is_log_linear()? { Sigmas::LogLinear } else { Sigmas::Times };
        self.shaped(chosen.map_or(plain, |(_, sigmas)| sigmas))
    }

    /// The sigmas with their numbers from the config. A number for sigmas that are not on is an error.
    fn shaped(&self, sigmas: Sigmas) -> Result<Sigmas, Error> {
        let given = |name| self.number_or_null(name, f64::MIN_POSITIVE, "a number above 0, or null for the default");
        let (rho, beta_d) = (given("rho")?, given("vp_beta_d")?);
        let (beta_min, least_time) = (given("vp_beta_min")?, given("vp_eps_s")?);
        if let Some(time) = least_time.filter(|time| *time >= 1.0) {
            return Err(wrong("vp_eps_s", "a number above 0 and below 1", &time.into()));
        }
        let is_vp = matches!(sigmas, Sigmas::VariancePreserving { .. });
        let has_rho = matches!(sigmas, Sigmas::Karras { .. } | Sigmas::Polyexponential { .. });
        let unused = [
            (
                "rho",
                rho.filter(|_| !has_rho),
                "is for use_karras_sigmas and use_polyexponential_sigmas, and neither is on",
            ),
            ("vp_beta_d", beta_d.filter(|_| !is_vp), "is for use_vp_sigmas, which is off"),
            ("vp_beta_min", beta_min.filter(|_| !is_vp), "is for use_vp_sigmas, which is off"),
            ("vp_eps_s", least_time.filter(|_| !is_vp), "is for use_vp_sigmas, which is off"),
        ];
        if let Some((field, Some(found), reason)) = unused.into_iter().find(|(_, found, _)| found.is_some()) {
            return Err(Error::Unsupported { field, found: found.to_string(), reason });
        }
        Ok(match sigmas {
            Sigmas::Karras { rho: default } => Sigmas::Karras { rho: rho.unwrap_or(default) },
            Sigmas::Polyexponential { rho: default } => Sigmas::Polyexponential { rho: rho.unwrap_or(default) },
            Sigmas::VariancePreserving { beta_d: d, beta_min: min, least_time: time } => Sigmas::VariancePreserving {
                beta_d: beta_d.unwrap_or(d),
                beta_min: beta_min.unwrap_or(min),
                least_time: least_time.unwrap_or(time),
            },
            other => other,
        })
    }

    fn is_log_linear(&self) -> Result<bool, Error> {
        let kinds = [("linear", false), ("log_linear", true)];
        if self.has("interpolation_type") { self.choice("interpolation_type", &kinds) } else { Ok(false) }
    }

    /// The smallest and the largest of sigmas that are not those of the times.
    fn ends(&self) -> Result<(Option<f64>, Option<f64>), Error> {
        if !self.has("sigma_min") {
            return Ok((None, None));
        }
        let end = |name| self.number_or_null(name, f64::MIN_POSITIVE, "a number above 0, or null");
        let (least, most) = (end("sigma_min")?, end("sigma_max")?);
        match (least, most) {
            (Some(low), Some(high)) if low >= high => {
                Err(wrong("sigma_max", &format!("a number above sigma_min, {low}"), &self.value("sigma_max")))
            }
            ends => Ok(ends),
        }
    }

    fn given(&self, len: usize, times: Times) -> Result<Option<Given>, Error> {
        let last = len - 1;
        let falls = |list: &[f64]| !list.is_empty() && list.windows(2).all(|pair| pair[0] > pair[1]);
        let is_whole = times != Times::Fractional;
        let kind = if is_whole { "whole numbers" } else { "numbers" };
        let expected = format!("null or a falling list of {kind} in 0..={last}");
        let time = |value: &Value| {
            let time = value.as_f64().filter(|time| (0.0..=last as f64).contains(time))?;
            (!is_whole || time.fract() == 0.0).then_some(time)
        };
        let times = self.list("timesteps", time, &expected)?;
        let sigma = |value: &Value| value.as_f64().filter(|sigma| (0.0..=1e7).contains(sigma));
        let what = "null or a falling list of two numbers or more in 0..=1e7, one more than there are steps";
        let sigmas = self.list("sigmas", sigma, what)?;
        let spread = SIGMAS.into_iter().find(|(name, _)| self.flag(name).is_ok_and(|is_on| is_on));
        match (times, sigmas) {
            (Some(_), Some(_)) => Err(Error::Both { first: "timesteps", second: "sigmas" }),
            (Some(_), _) if let Some((second, _)) = spread => Err(Error::Both { first: "timesteps", second }),
            (_, Some(_)) if let Some((second, _)) = spread => Err(Error::Both { first: "sigmas", second }),
            (Some(times), None) if falls(&times) => Ok(Some(Given::Times(times))),
            (Some(_), None) => Err(wrong("timesteps", &expected, &self.value("timesteps"))),
            (None, Some(sigmas)) if falls(&sigmas) && sigmas.len() > 1 => Ok(Some(Given::Sigmas(sigmas))),
            (None, Some(_)) => Err(wrong("sigmas", what, &self.value("sigmas"))),
            (None, None) => Ok(None),
        }
    }

    /// The smallest half log signal-to-noise ratio of the run. diffusers writes `-Infinity` for no limit.
    fn least_lambda(&self) -> Result<Option<f64>, Error> {
        if !self.has("lambda_min_clipped") || self.value("lambda_min_clipped") == "-Infinity" {
            return Ok(None);
        }
        self.number_or_null("lambda_min_clipped", f64::MIN, "a number, or null for no limit")
    }

    fn time_is_log_sigma(&self) -> Result<bool, Error> {
        if !self.has("timestep_type") {
            return Ok(false);
        }
        let is_continuous = self.choice("timestep_type", &[("discrete", false), ("continuous", true)])?;
        Ok(is_continuous && self.prediction()? == Prediction::Velocity)
    }
}
