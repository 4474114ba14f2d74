//! Pictures made and told of, as `generate` and `vary` do.

use crate::bytes::human;
use crate::estimate::estimate;
use crate::interrupt;
use crate::printer::{self, Printer, line};
use anyhow::Result;
use latentrace::experiments::{Picture, Pictures, Watch};
use latentrace::runs::{
    Event, Job, Like, Likeness, Observer, RunFolder, Sources, lost, open_at, pixels, set_by_pipeline, unstable,
};
use latentrace::trace::Foreseen;

/// What of a cell's settings nobody has named, so that the model may decide it.
#[derive(Clone, Copy, Debug)]
pub struct Unnamed {
    /// The guidance weight: a distilled model has its own.
    pub guidance: bool,
    /// What an empty negative prompt means that was named: it is a text.
    pub empty_negative: bool,
}

/// Makes the pictures; the first is compared with the one that it is to be like. With `dry_run` says what they would cost.
pub fn make(mut pictures: Pictures, unnamed: Unnamed, like: Option<Like>, dry_run: bool) -> Result<()> {
    let printer = Printer::new();
    let cell = &pictures.cell;
    let options = like.as_ref().map_or(cell.options(), |like| like.options(cell));
    let mut model = open_at(&cell.place()?, &cell.choice(), options, &printer)?;
    model.threads = like.as_ref().map_or(model.threads, Like::threads);
    if unnamed.guidance {
        pictures.cell = pictures.cell.with_own_guidance(&model.checkpoint);
    }
    if unnamed.empty_negative {
        pictures.cell = pictures.cell.with_empty_text(&model.checkpoint);
    }
    let mut sources = Sources::default();
    let first = pictures.first(&model, &mut sources)?;
    first.check()?;
    lost::warn(first.description(), &printer);
    first.ready().notes().iter().for_each(printer::note);
    set_by_pipeline(&first.ready().request().scheduler).iter().for_each(printer::warn);
    if dry_run {
        return estimate(&first, pictures.images);
    }
    first.fires().notes().iter().for_each(printer::note);
    beyond_budget(&first).iter().for_each(printer::note);
    let printer = Printer::with_bar(first.calls() * pictures.images as usize);
    let seed = pictures.cell.seed;
    let grid = pictures.make(first, &mut sources, &Teller { printer: &printer, like, first: seed })?;
    printer.end();
    grid.iter().for_each(|path| line!("{}", path.display()));
    Ok(())
}

/// What the budget keeps out, if the rules select more.
fn beyond_budget(job: &Job) -> Option<String> {
    let selected: u64 = job.fires().capture.iter().map(Foreseen::bytes).sum();
    let budget = job.description().budget.filter(|budget| *budget < selected)?;
    let (selected, budget) = (human(selected), human(budget));
    Some(format!(
        "the rules select {selected}, and the budget is {budget}: what passes first is kept, until it is full"
    ))
}

/// Tells of each picture.
struct Teller<'a> {
    printer: &'a Printer,
    like: Option<Like>,
    /// The seed of the picture that is compared.
    first: u64,
}

impl Observer for Teller<'_> {
    fn tell(&self, event: Event) {
        self.printer.tell(event);
    }
}

impl Watch for Teller<'_> {
    fn begins(&self, seed: u64, run: &RunFolder) {
        self.printer.message(format!("seed {seed}"));
        interrupt::says(format!("latentrace resume {} goes on with it", run.path().display()));
    }

    fn made(&self, Picture { run, recorded, about }: &Picture) -> Result<()> {
        let seconds = recorded.elapsed.as_secs_f64();
        self.printer.line(format!("{} ({seconds:.1} s)", run.picture().display()));
        if recorded.beyond_budget > 0 {
            self.printer.warn(&format!("{} tensors were beyond the budget and not kept", recorded.beyond_budget));
        }
        unstable::warn(run, &recorded.description, self.printer);
        if let Some(like) = self.like.as_ref().filter(|_| about.cell.seed == self.first) {
            self.compared(like, &like.compare(&pixels(&recorded.outcome.picture), about)?);
        }
        Ok(())
    }
}

impl Teller<'_> {
    /// Says how a picture that was made again compares with the first.
    fn compared(&self, like: &Like, likeness: &Likeness) {
        let path = like.path().display();
        match likeness {
            Likeness::Same => self.printer.line(format!("the same pixels as {path}")),
            Likeness::Changed { changes, others } => {
                self.printer.line(format!("like {path}, but for {}", changes.join(", ")));
                others.iter().for_each(|other| self.printer.line(format!("note: {other}")));
            }
            Likeness::Apart { bytes, of, most, others } => {
                self.printer.warn(&format!("{bytes} of {of} bytes differ from {path}, by {most} at most"));
                others.iter().for_each(|other| self.printer.note(other));
            }
        }
    }
}
