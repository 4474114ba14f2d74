//! `latentrace resume`: a recorded run that was cut off goes on.

use crate::printer::{self, Printer, line};
use anyhow::Result;
use latentrace::experiments::{keep, keep_files};
use latentrace::runs::{Description, Job, Observer, Phased, Recorded, RunFolder, lost, open_recorded, unstable};
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
    /// Makes the calls that are missing, into the same record; or the files that are missing, if all calls are there.
    pub fn run(self) -> Result<()> {
        let run = RunFolder::find(&self.run)?;
        let trace = run.read()?;
        let description = Description::of(&trace)?;
        trace.check_idle()?;
        let is_whole = trace.end().is_some_and(|end| end.error.is_none());
        trace.check_run()?;
        let missing = run.missing()?;
        if is_whole && missing.is_empty() {
            line!("{}: all {} calls are there", run.path().display(), trace.complete());
            return Ok(());
        }
        let printer = Printer::new();
        let model = open_recorded(&description, run.trace(), self.model.as_deref(), &printer)?;
        let taken_over = Phased::new(&model, &trace, None, &printer)?.taken_over()?;
        let job = Job::resume(&model, &trace, taken_over.as_ref().map(|(_, past)| past))?;
        lost::warn(job.description(), &printer);
        let together = run.was_made_together();
        if together {
            printer
                .note("the run was made in a batch with others, and goes on alone: its pixels may differ by rounding");
        }
        line!("{} of {} calls are there", trace.complete(), description.calls);
        if is_whole {
            let recorded = Recorded { together, ..job.again()? };
            printer::files(&keep_files(&run, &missing, &recorded, &model, &printer)?);
            return Ok(());
        }
        let printer = Printer::with_bar(job.calls());
        let recorded = Recorded { together, ..job.record_on(&trace, &printer)? };
        printer.end();
        keep(&run, &recorded, &model, &printer)?;
        line!("{} ({:.1} s)", run.picture().display(), recorded.elapsed.as_secs_f64());
        unstable::warn(&run, &recorded.description, &printer);
        Ok(())
    }
}
