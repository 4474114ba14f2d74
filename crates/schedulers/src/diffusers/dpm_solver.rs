//! What `DPMSolverMultistepScheduler` and `DPMSolverSinglestepScheduler` have in common.

use super::prelude::*;
use crate::samplers::{Draws, Fresh, Of, Solver, ThirdOrder};

pub(super) const fn solver_options(lower_order_final: bool) -> [Setting; 8] {
    [
        ("solver_order", Whole(2)),
        ("algorithm_type", Word("dpmsolver++")),
        ("solver_type", Word("midpoint")),
        ("lower_order_final", Flag(lower_order_final)),
        ("final_sigmas_type", Word("zero")),
        ("lambda_min_clipped", Null),
        ("variance_type", Null),
        ("timesteps", Null),
    ]
}

/// What an `algorithm_type` integrates, and whether it draws noise.
pub(super) type Algorithm = (&'static str, (Of, bool));

/// A value of `algorithm_type` that only DEIS has: other classes take it for their default.
pub(super) const FROM_DEIS: Algorithm = ("deis", (Of::Data, false));

/// Reads the solver and its order.
pub(super) fn read_solver(read: &Reader, algorithms: &[Algorithm]) -> Result<(Solver, usize), Error> {
    refuse_flow(read)?;
    refuse_learned_variance(read)?;
    let (of, is_stochastic) = read.choice("algorithm_type", algorithms)?;
    let types = [("midpoint", false), ("heun", true), ("logrho", false), ("bh1", false), ("bh2", false)];
    let is_heun = read.choice("solver_type", &types)?;
    let solver = Solver { of, fresh: read_fresh(read, is_stochastic)?, is_heun, third: ThirdOrder::Polynomial };
    Ok((solver, read.integer("solver_order", 1, 3)?))
}

/// The fresh noise. It is an error to set its options for an algorithm that draws none.
fn read_fresh(read: &Reader, is_stochastic: bool) -> Result<Fresh, Error> {
    let share = read.number("eta", 0.0, 100.0, "a number in 0..=100")?;
    let fresh = Fresh { share, deviation: read_deviation(read)?, draws: Draws::Used };
    let unused = [("eta", fresh.share), ("s_noise", fresh.deviation)].into_iter().find(|(_, value)| *value != 1.0);
    match unused {
        Some((field, value)) if !is_stochastic => {
            let reason = "is for an algorithm_type that draws noise: sde-dpmsolver++, or sde-dpmsolver";
            Err(Error::Unsupported { field, found: value.to_string(), reason })
        }
        _ => Ok(if is_stochastic { fresh } else { Fresh::NONE }),
    }
}

/// The solver in diffusers: a draw in every step, and a third order with wrong weights.
pub(super) fn in_diffusers(solver: Solver) -> Solver {
    let fresh = Fresh { draws: Draws::Always, ..solver.fresh };
    Solver { fresh, third: ThirdOrder::OfDiffusers, ..solver }
}

/// Checks that diffusers can end the run without noise, if that is asked.
pub(super) fn check_end_in_diffusers(solver: Solver, ends_clean: bool) -> Result<(), Error> {
    if solver.of == Of::Data || !ends_clean {
        return Ok(());
    }
    let reason =
        "does not work with an algorithm_type without ++ in diffusers (sigma_min does); in the exact reading it does";
    Err(Error::Unsupported { field: "final_sigmas_type", found: "zero".into(), reason })
}
