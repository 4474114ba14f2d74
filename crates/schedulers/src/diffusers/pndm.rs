//! `PNDMScheduler`.

use super::prelude::*;
use crate::samplers::{pndm, weighted};
use crate::{Form, Noised, Schedule};

pub(super) static PNDM: Scheduler = Scheduler {
    name: "pndm",
    diffusers: Some("PNDMScheduler"),
    about: "Adams-Bashforth for even steps, with a warm-up",
    options: &[
        &DDPM_TRAINING,
        &spacing("leading"),
        &[("skip_prk_steps", Flag(false)), ("set_alpha_to_one", Flag(false))],
    ],
    only_exact: &[],
    layout: Layout::WHOLE,
    lacks: &[AYS, DDPM_BETAS, HEUN_BETAS, SAMPLE_PREDICTION],
    spacing: read_spacing,
    sampler: read,
};

#[derive(Debug)]
struct Pndm {
    /// Whether the first three steps are Runge-Kutta steps.
    warm_up: bool,
    set_alpha_to_one: bool,
}

fn read(read: &Reader) -> Result<Arc<dyn Sampler>, Error> {
    let (skip, set_alpha_to_one) = (read.flag("skip_prk_steps")?, read.flag("set_alpha_to_one")?);
    Ok(Arc::new(Pndm { warm_up: !skip, set_alpha_to_one }))
}

impl Sampler for Pndm {
    fn steps(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        pndm(tape, x, path.rest(), path.schedule, self.warm_up)
    }

    /// From an image, the list of calls begins at the index of the step, which is one call too early or inside the
    /// Runge-Kutta start.
    fn run_in_diffusers(&self, tape: &mut Tape, run: &Run) -> Result<(Val, Level), Error> {
        let Path { levels, begin, schedule, .. } = run.path;
        let list: Vec<f64> = levels[..run.steps].iter().map(|level| level.t).collect();
        let times = Times::new(&list, schedule.len(), self.warm_up)?;
        let x = run.start(tape, schedule.level(times.calls[begin] as f64));
        steps(tape, x, &times, begin, schedule, run.alpha_end(self.set_alpha_to_one))
    }
}

/// The times of the network calls in diffusers.
struct Times {
    /// One for each call, descending.
    calls: Vec<i64>,
    /// How far a step goes down, whatever the list is.
    stride: i64,
    /// How many calls belong to the Runge-Kutta start.
    warm_up: usize,
}

/// A sample and the level that it was brought to.
type Held = (Val, Level);

impl Times {
    /// The calls for a list of times: without `warm_up` the second time is called twice, with it each of the first three steps
    /// makes four calls.
    fn new(times: &[f64], len: usize, warm_up: bool) -> Result<Times, Error> {
        let stride = (len / times.len()) as i64;
        let times: Vec<i64> = times.iter().map(|&t| t as i64).collect();
        if let Some(&time) = times.iter().find(|&&t| t >= len as i64) {
            return Err(Error::Time { time, len });
        }
        let (calls, warm_up) = match (times.as_slice(), warm_up) {
            ([first, second, rest @ ..], false) => ([&[*first, *second, *second], rest].concat(), 0),
            (_, false) => (times, 0),
            ([a, b, c, d, ..], true) => {
                let half = stride / 2;
                let start = [*a, b + half, b + half, *b, *b, c + half, c + half, *c, *c, d + half, d + half, *d];
                ([&start, &times[3..]].concat(), start.len())
            }
            (_, true) => return Err(Error::WarmUp { steps: times.len() }),
        };
        Ok(Times { calls, stride, warm_up })
    }
}

/// Takes the steps of the calls from `begin` down from `x`, to `end` if the time is below zero.
///
/// It averages raw outputs and converts the average (arXiv 2202.09778, eq. 9, 12 and 13), so `v` outputs of different levels
/// mix; and it takes each sample to be at the time of its call, whatever level the last step went to.
fn steps(tape: &mut Tape, x: Val, times: &Times, begin: usize, schedule: &Schedule, end: Level) -> Result<Held, Error> {
    let at = |t: i64| match t {
        ..0 => Ok(end),
        _ if t < schedule.len() as i64 => Ok(schedule.level(t as f64)),
        _ => Err(Error::Time { time: t, len: schedule.len() }),
    };
    let mut held: Held = (x, at(times.calls[begin])?);
    let mut base = held;
    let mut outputs: Vec<Form> = Vec::new();
    let mut sum = Form::default();
    for (counter, &t) in times.calls[begin..].iter().enumerate() {
        let goes_on = if counter < times.warm_up { counter % 4 != 0 } else { counter == 1 };
        if !goes_on {
            tape.begin_step();
        }
        let level = Level { t: t as f64, sigma: held.1.sigma };
        let call = tape.call_with(held.0, level, Noised::used_as(at(t)?, level));
        let output = Form::from(call.output);
        let (from, to, slope) = if counter < times.warm_up {
            let stage = counter % 4;
            if stage == 0 {
                (base, sum) = (held, Form::default());
                outputs.insert(0, output.clone());
            }
            sum = sum + output.clone() * [1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0][stage];
            let to = if stage % 2 == 0 { t - times.stride / 2 } else { t };
            (times.calls[counter / 4 * 4], to, if stage == 3 { sum.clone() } else { output })
        } else if counter == 1 {
            (t + times.stride, t, (output + outputs[0].clone()) * 0.5)
        } else {
            base = held;
            outputs.insert(0, output);
            outputs.truncate(4);
            (t, t - times.stride, weighted(&outputs))
        };
        let to = at(to)?;
        held = (tape.step(call, moved(tape, base, at(from)?, to, slope)), to);
    }
    Ok(held)
}

/// `base` moved along a combination of raw outputs from one level to another: eq. 9 as `x' = x + (sigma' − sigma)·noise`, with
/// `base` taken for a sample at `from`.
fn moved(tape: &Tape, base: Held, from: Level, to: Level, outputs: Form) -> Form {
    let x = base.0 * (base.1.input_scale() / from.input_scale());
    let (a, b) = tape.prediction.epsilon(from.sigma);
    let noise = x.clone() * a + outputs * b;
    x + noise * (to.sigma - from.sigma)
}
