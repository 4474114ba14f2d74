//! The options of a config, checked and typed.

mod known;
mod levels;
mod reader;
mod values;

pub(crate) use known::{Known, TRAINING, known_to, known_to_some_class};
pub(crate) use reader::Reader;
pub use values::{Origin, Pipeline};
pub(crate) use values::{Values, object};

use crate::diffusers::Sampler;
use crate::levels::{Grid, Layout};
use crate::plan::Limit;
use crate::schedule::Betas;
use crate::{Class, Error, Prediction, Schedule};
use reader::MOST_TIMES;
use serde_json::Value;
use std::sync::Arc;

/// The options of a config.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) betas: Betas,
    len: usize,
    /// `rescale_betas_zero_snr`.
    is_rescaled: bool,
    pub(crate) prediction: Prediction,
    /// What clean estimates are clipped to.
    pub(crate) limit: Option<Limit>,
    pub(crate) grid: Grid,
    pub(crate) sampler: Arc<dyn Sampler>,
}

impl Options {
    /// Reads the options of a class.
    pub(crate) fn read(class: Class, read: &Reader) -> Result<Options, Error> {
        let scheduler = class.scheduler();
        let len = read.integer("num_train_timesteps", 2, MOST_TIMES)?;
        let sampler = (scheduler.sampler)(read)?;
        Ok(Options {
            betas: read.betas(len)?,
            len,
            is_rescaled: read.flag("rescale_betas_zero_snr")?,
            prediction: read.prediction()?,
            limit: read.limit()?,
            grid: read.grid(scheduler, len)?,
            sampler,
        })
    }

    /// The training noise schedule.
    pub(crate) fn schedule(&self, layout: &Layout) -> Result<Schedule, Error> {
        let rescale = self.is_rescaled.then_some(layout.terminal);
        Schedule::new(&self.betas, self.len, rescale, layout.precision)
    }
}

impl Reader<'_> {
    fn betas(&self, len: usize) -> Result<Betas, Error> {
        let end = |name| self.number(name, f64::MIN_POSITIVE, 1.0 - f64::EPSILON, "a number above 0 and below 1");
        let (start, end) = (end("beta_start")?, end("beta_end")?);
        let kinds = [
            ("linear", Betas::Linear { start, end }),
            ("scaled_linear", Betas::ScaledLinear { start, end }),
            ("squaredcos_cap_v2", Betas::SquaredCosine),
            ("sigmoid", Betas::Sigmoid { start, end }),
            ("laplace", Betas::Laplace),
            ("exp", Betas::Exponential),
        ];
        let named = self.choice("beta_schedule", &kinds)?;
        match self.list("trained_betas", Value::as_f64, "null or a list of numbers")? {
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
        self.choice("prediction_type", &all)
    }

    fn limit(&self) -> Result<Option<Limit>, Error> {
        if self.flag("thresholding")? {
            let ratio = self.number("dynamic_thresholding_ratio", 0.0, 1.0, "a number in 0..=1")?;
            let max = self.number("sample_max_value", 1.0, f64::MAX, "a number not below 1")?;
            return Ok(Some(Limit::Dynamic { ratio, max }));
        }
        if self.flag("clip_sample")? {
            let range = self.number("clip_sample_range", f64::MIN_POSITIVE, f64::MAX, "a number above 0")?;
            return Ok(Some(Limit::Clamp { range }));
        }
        Ok(None)
    }
}
