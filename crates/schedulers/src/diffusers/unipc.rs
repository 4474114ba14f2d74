//! `UniPCMultistepScheduler`.

use super::prelude::*;
use crate::samplers::{Of, UniPc, unipc};
use serde_json::Value;

pub(super) static UNIPC: Scheduler = Scheduler {
    name: "unipc",
    diffusers: Some("UniPCMultistepScheduler"),
    about: "exponential predictor and corrector",
    options: &[
        &DDPM_TRAINING,
        &spacing("linspace"),
        &RESCALE,
        &SIGMAS,
        &THRESHOLD,
        &[
            ("solver_order", Whole(2)),
            ("predict_x0", Flag(true)),
            ("solver_type", Word("bh2")),
            ("lower_order_final", Flag(true)),
            ("disable_corrector", EmptyList),
            ("solver_p", Null),
            ("final_sigmas_type", Word("zero")),
        ],
        &FLOW,
    ],
    only_exact: &[],
    layout: Layout { ramp: Ramp::Repeated, ..Layout::DROPPED },
    lacks: &[AYS, DDPM_BETAS, HEUN_BETAS],
    spacing: read_spacing,
    sampler: read,
};

/// UniPC with `B₁(h)`.
pub(super) const PRESETS: &[Preset] =
    &[Preset { name: "unipc_bh1", class: Class::UniPc, options: &[("solver_type", Word("bh1"))] }];

fn read(read: &Reader) -> Result<Arc<dyn Sampler>, Error> {
    refuse_flow(read)?;
    read.must_be_off("solver_p", "is another scheduler, which no config can hold")?;
    let types = [("bh2", false), ("bh1", true), ("midpoint", false), ("heun", false), ("logrho", false)];
    let index = |value: &Value| value.as_u64().map(|index| index as usize);
    let uncorrected = read.list("disable_corrector", index, "a list of steps")?.unwrap_or_default();
    Ok(Arc::new(UniPc {
        of: if read.flag("predict_x0")? { Of::Data } else { Of::Noise },
        is_linear: read.choice("solver_type", &types)?,
        order: read.integer("solver_order", 1, 4)?,
        falls: read.flag("lower_order_final")?,
        uncorrected,
    }))
}

impl Sampler for UniPc {
    /// The order falls before a step to sigma 0, where a higher order is infinite.
    fn steps(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        let ends_clean = path.levels.last().is_some_and(|end| end.sigma == 0.0);
        unipc(tape, x, path, &UniPc { falls: self.falls || ends_clean, ..self.clone() })
    }

    fn steps_in_diffusers(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        unipc(tape, x, path, self)
    }

    fn clips_in_diffusers(&self) -> bool {
        self.of == Of::Data
    }
}
