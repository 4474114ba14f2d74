//! A config's values, checked and typed.

use crate::class::Family;
use crate::plan::Limit;
use crate::reader::{MOST_TIMES, Reader, wrong};
use crate::samplers::{Churn, Ending, Fresh, Of, Over, SaSolver, Sampler, Solver, TwoStages, UniPc, Variance};
use crate::schedule::{Betas, ZeroSnr};
use crate::spacing::{Given, Grid, Sigmas, Spacing};
use crate::{Class, Error, Prediction, Reading, Schedule};
use serde_json::Value;

/// What a config says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) betas: Betas,
    pub(crate) len: usize,
    pub(crate) zero_snr: ZeroSnr,
    pub(crate) prediction: Prediction,
    limit: Option<Limit>,
    pub(crate) grid: Grid,
    pub(crate) sampler: Sampler,
}

impl Options {
    /// Reads a class's options out of their values; `knows` tells whether the class has an option.
    pub(crate) fn read(
        class: Class,
        value: &dyn Fn(&str) -> Value,
        knows: &dyn Fn(&str) -> bool,
    ) -> Result<Options, Error> {
        let read = ClassReader { read: Reader { value }, class, knows };
        let len = read.read.integer("num_train_timesteps", 2, MOST_TIMES)?;
        let sampler = read.sampler()?;
        Ok(Options {
            betas: read.betas(len)?,
            len,
            zero_snr: match (read.flag("rescale_betas_zero_snr")?, class.family()) {
                (false, _) => ZeroSnr::No,
                (true, Family::Whole) => ZeroSnr::Yes,
                (true, _) => ZeroSnr::Nearly,
            },
            prediction: read.prediction()?,
            limit: read.limit()?,
            grid: read.grid(len)?,
            sampler,
        })
    }

    /// The training noise schedule.
    pub(crate) fn schedule(&self, reading: Reading) -> Result<Schedule, Error> {
        Schedule::new(&self.betas, self.len, self.zero_snr, reading)
    }

    /// What the clean estimate is held within. TCD, and UniPC where it integrates the noise, never look at it in diffusers.
    pub(crate) fn limit(&self, reading: Reading) -> Option<Limit> {
        let is_ignored = match &self.sampler {
            Sampler::Tcd { .. } => true,
            Sampler::UniPc(solver) => solver.of == Of::Noise,
            _ => false,
        };
        self.limit.filter(|_| reading == Reading::Exact || !is_ignored)
    }

    /// What cannot be run under a reading.
    pub(crate) fn check(&self, class: Class, steps: usize, reading: Reading) -> Result<(), Error> {
        let refuse = |field, found: &str, reason| Err(Error::Unsupported { field, found: found.into(), reason });
        if reading == Reading::Exact {
            return Ok(());
        }
        if !class.is_in_diffusers() {
            return refuse("scheduler class", class.name(), "is not in diffusers; the exact reading has it");
        }
        let ends_clean = self.grid.end == End::Clean;
        match &self.sampler {
            Sampler::Ddpm { undefined: true, .. } => refuse(
                "variance_type",
                "fixed_large_log",
                "is the square root of a negative number in diffusers; the exact reading takes it as fixed_large",
            ),
            Sampler::Multistep { solver, .. } | Sampler::Singlestep { solver, .. }
                if solver.of == Of::Noise && ends_clean =>
            {
                let reason = "does not go with an algorithm_type without ++ in diffusers (sigma_min does); in the exact reading it does";
                refuse("final_sigmas_type", "zero", reason)
            }
            Sampler::Multistep { solver, order: 3, ending }
                if solver.of == Of::Noise && solver.is_stochastic() && ending.reaches_third(steps) =>
            {
                refuse("solver_order", "3", "is missing for sde-dpmsolver in diffusers; the exact reading has it")
            }
            _ => Ok(()),
        }
    }
}

/// Where a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Without noise.
    Clean,
    /// With the noise of the first training time.
    Least,
}

/// The options that lay sigmas between their ends, of which one at most can be on. The numbers are those of the papers.
const SPREADS: [(&str, Sigmas); 6] = [
    ("use_karras_sigmas", Sigmas::Karras { rho: 7.0 }),
    ("use_exponential_sigmas", Sigmas::Exponential),
    ("use_beta_sigmas", Sigmas::Beta { shape: 0.6 }),
    ("use_lu_lambdas", Sigmas::Lu),
    ("use_polyexponential_sigmas", Sigmas::Polyexponential { rho: 1.0 }),
    ("use_vp_sigmas", Sigmas::VariancePreserving { beta_d: 19.9, beta_min: 0.1, least_time: 1e-3 }),
];

/// The options of one class.
struct ClassReader<'a> {
    read: Reader<'a>,
    class: Class,
    knows: &'a dyn Fn(&str) -> bool,
}

impl ClassReader<'_> {
    /// A truth value, false where the class has no such option.
    fn flag(&self, name: &str) -> Result<bool, Error> {
        if (self.knows)(name) { self.read.flag(name) } else { Ok(false) }
    }

    fn betas(&self, len: usize) -> Result<Betas, Error> {
        let end = |name| self.read.number(name, f64::MIN_POSITIVE, 1.0 - f64::EPSILON, "a number above 0 and below 1");
        let (start, end) = (end("beta_start")?, end("beta_end")?);
        let kinds = [
            ("linear", Betas::Linear { start, end }),
            ("scaled_linear", Betas::ScaledLinear { start, end }),
            ("squaredcos_cap_v2", Betas::SquaredCosine),
            ("sigmoid", Betas::Sigmoid { start, end }),
            ("laplace", Betas::Laplace),
            ("exp", Betas::Exponential),
        ];
        let named = self.read.choice("beta_schedule", &kinds)?;
        match self.read.list("trained_betas", Value::as_f64, "null or a list of numbers")? {
            None => Ok(named),
            Some(betas) if betas.len() == len => Ok(Betas::Trained(betas)),
            Some(betas) => Err(Error::Value {
                field: "trained_betas".into(),
                expected: format!("{len} numbers, as num_train_timesteps says"),
                found: format!("{} numbers", betas.len()),
            }),
        }
    }

    fn prediction(&self) -> Result<Prediction, Error> {
        let all =
            [("epsilon", Prediction::Epsilon), ("v_prediction", Prediction::Velocity), ("sample", Prediction::Sample)];
        self.read.choice("prediction_type", &all)
    }

    fn limit(&self) -> Result<Option<Limit>, Error> {
        if self.flag("thresholding")? {
            let ratio = self.read.number("dynamic_thresholding_ratio", 0.0, 1.0, "a number in 0..=1")?;
            let max = self.read.number("sample_max_value", 1.0, f64::MAX, "a number not below 1")?;
            return Ok(Some(Limit::Dynamic { ratio, max }));
        }
        if self.flag("clip_sample")? {
            let range = self.read.number("clip_sample_range", f64::MIN_POSITIVE, f64::MAX, "a number above 0")?;
            return Ok(Some(Limit::Clamp { range }));
        }
        Ok(None)
    }

    fn grid(&self, len: usize) -> Result<Grid, Error> {
        let end = match self.class {
            Class::Deis | Class::SaSolver | Class::Tcd => End::Least,
            _ if (self.knows)("final_sigmas_type") => {
                self.read.choice("final_sigmas_type", &[("zero", End::Clean), ("sigma_min", End::Least)])?
            }
            _ => End::Clean,
        };
        Ok(Grid {
            class: self.class,
            family: self.class.family(),
            spacing: self.spacing(len)?,
            sigmas: self.sigmas()?,
            given: self.given(len)?,
            end,
            least_lambda: self.least_lambda()?,
            ends: self.ends()?,
            is_log_linear: self.is_log_linear()?,
            is_cosine: (self.read.value)("beta_schedule") == "squaredcos_cap_v2",
            tells_log_sigma: self.tells_log_sigma()?,
        })
    }

    fn spacing(&self, len: usize) -> Result<Spacing, Error> {
        if matches!(self.class, Class::Lcm | Class::Tcd) {
            let original = self.read.integer("original_inference_steps", 1, len)?;
            return Ok(Spacing::Distilled { original });
        }
        let offset = self.read.integer("steps_offset", 0, len - 1)?;
        let mut spacings = vec![("leading", Spacing::Leading { offset })];
        if self.class != Class::DdimInverse {
            spacings.push(("linspace", Spacing::Linspace));
        }
        spacings.push(("trailing", Spacing::Trailing));
        if self.class != Class::DdimInverse {
            spacings.push(("ays", Spacing::AlignYourSteps));
        }
        self.read.choice("timestep_spacing", &spacings)
    }

    fn sigmas(&self) -> Result<Sigmas, Error> {
        let mut chosen = None;
        for (name, sigmas) in SPREADS {
            match (self.flag(name)?, chosen) {
                (true, None) => chosen = Some((name, sigmas)),
                (true, Some((first, _))) => return Err(Error::Both { first, second: name }),
                (false, _) => (),
            }
        }
        let plain = if self.is_log_linear()? { Sigmas::LogLinear } else { Sigmas::Times };
        self.shaped(chosen.map_or(plain, |(_, sigmas)| sigmas))
    }

    /// The sigmas with the numbers that the config gives for them; a number that is given for others is an error.
    fn shaped(&self, sigmas: Sigmas) -> Result<Sigmas, Error> {
        let given =
            |name| self.read.number_or_null(name, f64::MIN_POSITIVE, "a number above 0, or null for the usual one");
        let (rho, beta_d) = (given("rho")?, given("vp_beta_d")?);
        let (beta_min, least_time) = (given("vp_beta_min")?, given("vp_eps_s")?);
        if let Some(time) = least_time.filter(|time| *time >= 1.0) {
            return Err(wrong("vp_eps_s", "a number above 0 and below 1", &time.into()));
        }
        let is_vp = matches!(sigmas, Sigmas::VariancePreserving { .. });
        let has_rho = matches!(sigmas, Sigmas::Karras { .. } | Sigmas::Polyexponential { .. });
        let idle = [
            (
                "rho",
                rho.filter(|_| !has_rho),
                "shapes use_karras_sigmas and use_polyexponential_sigmas, and neither is on",
            ),
            ("vp_beta_d", beta_d.filter(|_| !is_vp), "shapes use_vp_sigmas, which is off"),
            ("vp_beta_min", beta_min.filter(|_| !is_vp), "shapes use_vp_sigmas, which is off"),
            ("vp_eps_s", least_time.filter(|_| !is_vp), "shapes use_vp_sigmas, which is off"),
        ];
        if let Some((field, Some(found), reason)) = idle.into_iter().find(|(_, found, _)| found.is_some()) {
            return Err(Error::Unsupported { field, found: found.to_string(), reason });
        }
        Ok(match sigmas {
            Sigmas::Karras { rho: usual } => Sigmas::Karras { rho: rho.unwrap_or(usual) },
            Sigmas::Polyexponential { rho: usual } => Sigmas::Polyexponential { rho: rho.unwrap_or(usual) },
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
        if (self.knows)("interpolation_type") { self.read.choice("interpolation_type", &kinds) } else { Ok(false) }
    }

    /// The smallest and the largest sigma of a spread that is not the spacing's own.
    fn ends(&self) -> Result<(Option<f64>, Option<f64>), Error> {
        if !(self.knows)("sigma_min") {
            return Ok((None, None));
        }
        let end = |name| self.read.number_or_null(name, f64::MIN_POSITIVE, "a number above 0, or null");
        let (least, most) = (end("sigma_min")?, end("sigma_max")?);
        match (least, most) {
            (Some(low), Some(high)) if low >= high => {
                Err(wrong("sigma_max", &format!("a number above sigma_min, {low}"), &(self.read.value)("sigma_max")))
            }
            ends => Ok(ends),
        }
    }

    fn given(&self, len: usize) -> Result<Option<Given>, Error> {
        let last = len - 1;
        let falls = |list: &[f64]| !list.is_empty() && list.windows(2).all(|pair| pair[0] > pair[1]);
        let is_whole = self.class.family() != Family::Fractional;
        let kind = if is_whole { "whole numbers" } else { "numbers" };
        let expected = format!("null or a falling list of {kind} in 0..={last}");
        let time = |value: &Value| {
            let time = value.as_f64().filter(|time| (0.0..=last as f64).contains(time))?;
            (!is_whole || time.fract() == 0.0).then_some(time)
        };
        let times = self.read.list("timesteps", time, &expected)?;
        let sigma = |value: &Value| value.as_f64().filter(|sigma| (0.0..=1e7).contains(sigma));
        let what = "null or a falling list of two numbers or more in 0..=1e7, one more than there are steps";
        let sigmas = self.read.list("sigmas", sigma, what)?;
        let spread = SPREADS.into_iter().find(|(name, _)| self.flag(name).is_ok_and(|is_on| is_on));
        match (times, sigmas) {
            (Some(_), Some(_)) => Err(Error::Both { first: "timesteps", second: "sigmas" }),
            (Some(_), _) if let Some((second, _)) = spread => Err(Error::Both { first: "timesteps", second }),
            (_, Some(_)) if let Some((second, _)) = spread => Err(Error::Both { first: "sigmas", second }),
            (Some(times), None) if falls(&times) => Ok(Some(Given::Times(times))),
            (Some(_), None) => Err(wrong("timesteps", &expected, &(self.read.value)("timesteps"))),
            (None, Some(sigmas)) if falls(&sigmas) && sigmas.len() > 1 => Ok(Some(Given::Sigmas(sigmas))),
            (None, Some(_)) => Err(wrong("sigmas", what, &(self.read.value)("sigmas"))),
            (None, None) => Ok(None),
        }
    }

    /// Half the log signal-to-noise ratio below which nothing is sampled. diffusers writes no limit as `-Infinity`.
    fn least_lambda(&self) -> Result<Option<f64>, Error> {
        if !(self.knows)("lambda_min_clipped") || (self.read.value)("lambda_min_clipped") == "-Infinity" {
            return Ok(None);
        }
        self.read.number_or_null("lambda_min_clipped", f64::MIN, "a number, or null for no limit")
    }

    fn tells_log_sigma(&self) -> Result<bool, Error> {
        if !(self.knows)("timestep_type") {
            return Ok(false);
        }
        let is_continuous = self.read.choice("timestep_type", &[("discrete", false), ("continuous", true)])?;
        Ok(is_continuous && self.prediction()? == Prediction::Velocity)
    }

    fn sampler(&self) -> Result<Sampler, Error> {
        let off = |name, reason| if (self.knows)(name) { self.read.must_be_off(name, reason) } else { Ok(()) };
        off("use_flow_sigmas", "is for flow-matching networks, whose samples are not x₀ + sigma·noise")?;
        if self.class != Class::Ddpm {
            off("variance_type", LEARNED)?;
        }
        off("tau_func", "is a function, which no config can hold")?;
        off("solver_p", "is another scheduler, which no config can hold")?;
        let order = || self.read.integer("order", 1, 4);
        Ok(match self.class {
            Class::Ddpm => self.ddpm()?,
            Class::Ddim => Sampler::Ddim { eta: self.eta()?, to_clean: self.flag("set_alpha_to_one")? },
            Class::DdimInverse => Sampler::DdimInverse { from_clean: self.flag("set_alpha_to_one")? },
            Class::Pndm => {
                Sampler::Pndm { warm_up: !self.flag("skip_prk_steps")?, to_clean: self.flag("set_alpha_to_one")? }
            }
            Class::Ipndm => Sampler::Adams { over: Over::Index, order: order()?, ending: Ending::default() },
            Class::Lms => Sampler::Adams { over: Over::Sigma, order: order()?, ending: Ending::default() },
            Class::Deis => self.deis()?,
            Class::Euler => Sampler::Euler { churn: self.churn()? },
            Class::EulerAncestral => Sampler::Ancestral { fresh: self.fresh()? },
            Class::Heun => Sampler::Heun { churn: self.churn()? },
            Class::Dpm2 | Class::Dpm2Ancestral | Class::Dpm2sAncestral => Sampler::TwoStages(self.two_stages()?),
            Class::DpmSde => Sampler::DpmSde { fresh: self.fresh()?, middle: self.middle()? },
            Class::DpmFast => Sampler::DpmFast { fresh: self.fresh()? },
            Class::DpmMultistep | Class::DpmSinglestep => self.dpm_solver()?,
            Class::UniPc => self.unipc()?,
            Class::SaSolver => self.sa_solver()?,
            Class::Lcm => Sampler::Lcm { scaling: self.scaling()? },
            Class::Tcd => {
                self.scaling()?;
                Sampler::Tcd { eta: self.eta()? }
            }
        })
    }

    fn ddpm(&self) -> Result<Sampler, Error> {
        let types = [
            ("fixed_small", Ok((Variance::Small, false))),
            ("fixed_small_log", Ok((Variance::Small, false))),
            ("fixed_large", Ok((Variance::Large, false))),
            ("fixed_large_log", Ok((Variance::Large, true))),
            ("learned", Err("learned")),
            ("learned_range", Err("learned_range")),
        ];
        let (variance, undefined) = self.read.choice("variance_type", &types)?.map_err(|found| Error::Unsupported {
            field: "variance_type",
            found: found.into(),
            reason: LEARNED,
        })?;
        Ok(Sampler::Ddpm { variance, undefined })
    }

    fn eta(&self) -> Result<f64, Error> {
        self.read.number("eta", 0.0, 1.0, "a number in 0..=1")
    }

    /// The fresh noise of an ancestral sampler.
    fn fresh(&self) -> Result<Fresh, Error> {
        Ok(Fresh { share: self.eta()?, deviation: self.deviation()? })
    }

    fn deviation(&self) -> Result<f64, Error> {
        self.read.number("s_noise", 0.0, f64::MAX, "a number not below 0")
    }

    fn two_stages(&self) -> Result<TwoStages, Error> {
        let is_churned = self.class == Class::Dpm2;
        Ok(TwoStages {
            of: if self.class == Class::Dpm2sAncestral { Of::Data } else { Of::Noise },
            fresh: if is_churned { Fresh::NONE } else { self.fresh()? },
            churn: if is_churned { self.churn()? } else { Churn::NONE },
            middle: self.middle()?,
        })
    }

    /// Where the second of two stages is, as a share of the step.
    fn middle(&self) -> Result<f64, Error> {
        match (self.knows)("r") {
            true => self.read.number("r", f64::MIN_POSITIVE, 1.0, "a number above 0 and at most 1"),
            false => Ok(0.5),
        }
    }

    fn scaling(&self) -> Result<f64, Error> {
        self.read.number("timestep_scaling", f64::MIN_POSITIVE, 1e9, "a number above 0")
    }

    fn churn(&self) -> Result<Churn, Error> {
        let least = |name| self.read.number(name, 0.0, f64::MAX, "a number not below 0");
        let most = self.read.number_or_null("s_tmax", 0.0, "a number not below 0, or null for no limit")?;
        Ok(Churn {
            amount: least("s_churn")?,
            within: (least("s_tmin")?, most.unwrap_or(f64::INFINITY)),
            noise: self.deviation()?,
        })
    }

    fn ending(&self) -> Result<Ending, Error> {
        Ok(Ending { falls: self.flag("lower_order_final")?, with_euler: self.flag("euler_at_final")? })
    }

    fn deis(&self) -> Result<Sampler, Error> {
        // Names of other solvers are taken for this one, as a config that another class wrote has them.
        self.read.choice("algorithm_type", &["deis", "dpmsolver", "dpmsolver++"].map(|name| (name, ())))?;
        self.read.choice("solver_type", &["logrho", "midpoint", "heun", "bh1", "bh2"].map(|name| (name, ())))?;
        let order = self.read.integer("solver_order", 1, 3)?;
        Ok(Sampler::Adams { over: Over::LogSigma, order, ending: self.ending()? })
    }

    fn dpm_solver(&self) -> Result<Sampler, Error> {
        let mut algorithms = vec![
            ("dpmsolver++", (Of::Data, false)),
            ("dpmsolver", (Of::Noise, false)),
            ("sde-dpmsolver++", (Of::Data, true)),
        ];
        if self.class == Class::DpmMultistep {
            algorithms.push(("sde-dpmsolver", (Of::Noise, true)));
        }
        algorithms.push(("deis", (Of::Data, false)));
        let (of, is_stochastic) = self.read.choice("algorithm_type", &algorithms)?;
        let types = [("midpoint", false), ("heun", true), ("logrho", false), ("bh1", false), ("bh2", false)];
        let is_heun = self.read.choice("solver_type", &types)?;
        let solver = Solver { of, fresh: self.fresh_of_solver(is_stochastic)?, is_heun };
        let order = self.read.integer("solver_order", 1, 3)?;
        let ending = self.ending()?;
        Ok(match self.class {
            Class::DpmMultistep => Sampler::Multistep { solver, order, ending },
            _ => Sampler::Singlestep { solver, order, falls: ending.falls },
        })
    }

    /// The fresh noise of a DPM-Solver; where it draws none, nothing may be said of it.
    fn fresh_of_solver(&self, is_stochastic: bool) -> Result<Fresh, Error> {
        let share = self.read.number("eta", 0.0, 100.0, "a number in 0..=100")?;
        let fresh = Fresh { share, deviation: self.deviation()? };
        let idle = [("eta", fresh.share), ("s_noise", fresh.deviation)].into_iter().find(|(_, value)| *value != 1.0);
        match idle {
            Some((field, value)) if !is_stochastic => {
                let reason = "is for an algorithm_type that draws noise: sde-dpmsolver++, or sde-dpmsolver";
                Err(Error::Unsupported { field, found: value.to_string(), reason })
            }
            _ => Ok(if is_stochastic { fresh } else { Fresh::NONE }),
        }
    }

    fn unipc(&self) -> Result<Sampler, Error> {
        let types = [("bh2", false), ("bh1", true), ("midpoint", false), ("heun", false), ("logrho", false)];
        let index = |value: &Value| value.as_u64().map(|index| index as usize);
        let uncorrected = self.read.list("disable_corrector", index, "a list of steps")?.unwrap_or_default();
        Ok(Sampler::UniPc(UniPc {
            of: if self.flag("predict_x0")? { Of::Data } else { Of::Noise },
            is_linear: self.read.choice("solver_type", &types)?,
            order: self.read.integer("solver_order", 1, 4)?,
            falls: self.flag("lower_order_final")?,
            uncorrected,
        }))
    }

    fn sa_solver(&self) -> Result<Sampler, Error> {
        let of = [("data_prediction", Of::Data), ("noise_prediction", Of::Noise)];
        Ok(Sampler::SaSolver(SaSolver {
            of: self.read.choice("algorithm_type", &of)?,
            predictor: self.read.integer("predictor_order", 1, 4)?,
            corrector: self.read.integer("corrector_order", 1, 4)?,
            falls: self.flag("lower_order_final")?,
            tau: self.read.number_or_null(
                "tau",
                0.0,
                "a number not below 0, or null for 1 in the middle of the run",
            )?,
        }))
    }
}

const LEARNED: &str = "needs a network that puts out its own variance, and latent diffusion networks do not";
