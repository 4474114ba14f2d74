//! `latentrace resume`: a recorded run that was cut off goes on.

use crate::printer::{Printer, line};
use anyhow::Result;
use latentrace::experiments::keep;
use latentrace::runs::{Description, Job, Phased, RunFolder, lost, open_recorded};
use std::path::PathBuf;

/// Go on with a recorded run that was cut off
#[derive(clap::Args)]
pub struct Resume {
    /// The run: its folder, or its record
    run: PathBuf,
    /// Where the checkpoint of the run is now [default: where it was, from the root or from the record]
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
}

impl Resume {
    /// Makes the calls that are missing, into the same record; and the picture, where that alone is missing.
    pub fn run(self) -> Result<()> {
        let run = RunFolder::find(&self.run)?;
        let trace = run.read()?;
        let description = Description::of(&trace)?;
        trace.check_idle()?;
        let is_whole = trace.end().is_some_and(|end| end.error.is_none());
        trace.check_run()?;
        if is_whole && run.picture().exists() {
            line!("{}: all {} calls are there", run.path().display(), trace.complete());
            return Ok(());
        }
        let printer = Printer::new();
        let model = open_recorded(&description, run.trace(), self.model.as_deref(), &printer)?;
        let taken_over = Phased::new(&model, &trace, None, &printer)?.taken_over()?;
        let job = Job::resume(&model, &trace, taken_over.as_ref().map(|(_, past)| past))?;
        lost::warn(job.description(), &printer);
        line!("{} of {} calls are there", trace.complete(), description.calls);
        let recorded = match is_whole {
            true => job.again()?,
            false => {
                let printer = Printer::with_bar(job.calls());
                let recorded = job.record_on(&trace, &printer)?;
                printer.end();
                recorded
            }
        };
        keep(&run, &recorded, &model, &printer)?;
        line!("{} ({:.1} s)", run.picture().display(), recorded.elapsed.as_secs_f64());
        Ok(())
    }
}
