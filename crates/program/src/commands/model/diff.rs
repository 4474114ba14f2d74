//! `latentrace model diff`: how two checkpoints differ, tensor by tensor.

use crate::printer::{Printer, line};
use anyhow::Result;
use latentrace::checkpoints::Difference;
use latentrace::files::counted;
use latentrace::pipeline::Choice;
use latentrace::runs::fetched;
use std::path::PathBuf;

/// Compare the tensors of two checkpoints, the most different first
#[derive(clap::Args)]
pub struct Diff {
    /// A checkpoint: a folder, a single file, or a hub id
    first: PathBuf,
    /// Another checkpoint
    second: PathBuf,
    /// How many tensors to show; 0 shows all
    #[arg(long, default_value_t = 20)]
    rows: usize,
}

impl Diff {
    /// Prints the differences.
    pub fn run(self) -> Result<()> {
        let [first, second] =
            [&self.first, &self.second].map(|place| fetched(place, &Choice::default(), &Printer::new()));
        let (first, second) = (first?, second?);
        let (mut equal, mut others, mut numbers) = (0, Vec::new(), Vec::new());
        first.differences(&second, |name, difference| match difference {
            None => equal += 1,
            Some(Difference::Numbers { largest, rms }) => numbers.push((name.to_owned(), largest, rms)),
            Some(Difference::OnlyFirst) => others.push(format!("{name}: only in the first")),
            Some(Difference::OnlySecond) => others.push(format!("{name}: only in the second")),
            Some(Difference::Shape(one, two)) => others.push(format!("{name}: {one:?} and {two:?}")),
        })?;
        line!("{} equal, {} different", counted(equal, "tensor"), numbers.len() + others.len());
        let most = |count: usize| if self.rows == 0 { count } else { self.rows.min(count) };
        let more = |count: usize| {
            if count > most(count) {
                line!("and {} more; --rows 0 shows all", count - most(count));
            }
        };
        others.iter().take(most(others.len())).for_each(|other| line!("{other}"));
        more(others.len());
        if numbers.is_empty() {
            return Ok(());
        }
        numbers.sort_by(|a, b| b.2.total_cmp(&a.2));
        line!("");
        line!("of the first one's root mean square:");
        line!("{:>9} {:>9}  tensor", "rms", "largest");
        for (name, largest, rms) in numbers.iter().take(most(numbers.len())) {
            line!("{rms:>9.1e} {largest:>9.1e}  {name}");
        }
        more(numbers.len());
        Ok(())
    }
}
