//! `DDIMInverseScheduler`: DDIM up from an image to its noise.

use super::ddim::rescaled;
use super::prelude::*;
use crate::samplers::inversion;

pub(super) static DDIM_INVERSE: Scheduler = Scheduler {
    name: "ddim_inverse",
    diffusers: Some("DDIMInverseScheduler"),
    about: "DDIM backwards, from an image to its noise",
    options: &[&DDPM_TRAINING, &spacing("leading"), &RESCALE, &[("set_alpha_to_one", Flag(true))], &clip(true)],
    only_exact: &[],
    layout: Layout::WHOLE,
    lacks: &[AYS, DDPM_BETAS, HEUN_BETAS],
    spacing: read_spacing,
    sampler: read,
};

#[derive(Debug)]
struct DdimInverse {
    set_alpha_to_one: bool,
}

fn read_spacing(read: &Reader, len: usize) -> Result<Spacing, Error> {
    let offset = read.integer("steps_offset", 0, len - 1)?;
    read.choice("timestep_spacing", &[("leading", Spacing::Leading { offset }), ("trailing", Spacing::Trailing)])
}

fn read(read: &Reader) -> Result<Arc<dyn Sampler>, Error> {
    Ok(Arc::new(DdimInverse { set_alpha_to_one: read.flag("set_alpha_to_one")? }))
}

/// The levels of a run going up, if it starts from what an inversion can start from.
fn upwards(run: &Run) -> Result<impl Iterator<Item = Level>, Error> {
    match run.source {
        Source::Noise => Ok(run.path.levels[..run.steps].iter().rev().copied()),
        Source::Image | Source::Sample => Err(Error::Inverse),
    }
}

impl Sampler for DdimInverse {
    fn steps(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        inversion(tape, x, path.rest())
    }

    /// Up from the first training time, the smallest level with a slope.
    fn run(&self, tape: &mut Tape, run: &Run) -> Result<(Val, Level), Error> {
        let least = run.path.schedule.level(0.0);
        let above = upwards(run)?.filter(|level| level.sigma > least.sigma);
        let levels: Vec<Level> = std::iter::once(least).chain(above).collect();
        let image = tape.given();
        let last = self.steps(tape, image, Path { levels: &levels, begin: 0, ..run.path });
        Ok((last, levels[levels.len() - 1]))
    }

    /// The network gets the time of the level that a step goes to, one stride above that of the sample.
    fn run_in_diffusers(&self, tape: &mut Tape, run: &Run) -> Result<(Val, Level), Error> {
        let schedule = run.path.schedule;
        let stride = (schedule.len() / run.steps) as f64;
        let start = run.alpha_end(self.set_alpha_to_one);
        let at = |t: f64| if t < 0.0 { start } else { schedule.level(t.min((schedule.len() - 1) as f64)) };
        let levels: Vec<Level> = upwards(run)?.collect();
        // diffusers takes the image for a sample of unit variance at its first level.
        let first = at(levels[0].t - stride);
        let image = tape.given();
        let mut held = (tape.sum(image * (1.0 / first.input_scale())), first);
        for next in levels {
            tape.begin_step();
            let now = Level { t: next.t, ..at(next.t - stride) };
            let x = rescaled(tape, held, now);
            let call = tape.call(x, now);
            held = (tape.step(call, call.denoised + call.noise() * next.sigma), next);
        }
        Ok(held)
    }
}
