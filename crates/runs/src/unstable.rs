//! Warnings of runs whose solver was unstable.

use crate::description::Description;
use crate::folder::RunFolder;
use crate::home::page;
use crate::observer::Observer;
use crate::scalars::Scalars;

impl RunFolder {
    /// The call from which the clean estimates of a run alternate, as its table of numbers says: see [`Scalars::alternates`].
    /// `None` if the sampler draws noise: then estimates may also alternate where it is stable.
    pub fn alternates(&self) -> Option<usize> {
        let call = Scalars::read(self.trace()).ok()?.alternates()?;
        let draws_noise = Description::of(&self.read().ok()?).ok()?.draws_noise().ok()?;
        (!draws_noise).then_some(call)
    }
}

/// Warns of a run whose clean estimates alternate.
pub fn warn(run: &RunFolder, description: &Description, observer: &dyn Observer) {
    let Some(call) = run.alternates() else { return };
    let Ok(request) = description.request() else { return };
    let sampler = request.scheduler.class().name();
    observer.warn(&format!(
        "from call {call} of {} on the clean estimates alternate from step to step: {sampler} is unstable here, and the picture may be the solver's, not the model's\n{}",
        description.calls,
        hint(Some(sampler))
    ));
}

/// What would help. `sampler` is the class that was used, if it was one.
pub fn hint(sampler: Option<&str>) -> String {
    let other = match sampler {
        Some(STABLE) => "",
        Some(_) => ", or --sampler dpm++2m",
        None => ", or another sampler",
    };
    format!("hint: more steps, less guidance{other} ({})", page("schedulers/stability.md"))
}

/// The class of the sampler that the hint names.
const STABLE: &str = "dpm_multistep";
