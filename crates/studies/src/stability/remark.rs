//! What is known of a sampler's stability with a model, for those who are about to use both.

use super::table_of;
use anyhow::Result;
use latentrace_files::Table;
use latentrace_runs::page;
use std::path::Path;

/// A line on a sampler with a number of steps, from the table of limits in a model's folder; `None` if there is no table, if the
/// sampler is not in it, or if it is stable at every weight that was tried.
///
/// # Errors
/// The table cannot be read.
pub fn remark(model: &Path, sampler: &str, steps: usize) -> Result<Option<String>> {
    let path = table_of(model);
    if !path.is_file() {
        return Ok(None);
    }
    let rows = rows(&Table::read(&path)?, sampler);
    let below = rows.iter().rev().find(|row| row.steps <= steps);
    let above = rows.iter().find(|row| row.steps >= steps);
    let mut parts: Vec<String> = below.into_iter().chain(above).filter_map(Row::part).collect();
    parts.dedup();
    Ok((!parts.is_empty()).then(|| {
        format!(
            "with this model predicted to be unstable from guidance {} on ({})",
            parts.join(", from "),
            page("schedulers/stability.md")
        )
    }))
}

/// A row of the table.
struct Row {
    steps: usize,
    /// The smallest weight at which the product of the plan's matrices says so; NaN if there is none.
    predicted: f64,
}

impl Row {
    fn part(&self) -> Option<String> {
        self.predicted.is_finite().then(|| format!("{} at {} steps", self.predicted, self.steps))
    }
}

/// The rows of a sampler, by steps.
fn rows(table: &Table, sampler: &str) -> Vec<Row> {
    let columns: Vec<&str> = table.columns().collect();
    let place = |name: &str| columns.iter().position(|column| *column == name);
    let (Some(name), Some(steps), Some(predicted)) = (place("sampler"), place("steps"), place("predicted")) else {
        return Vec::new();
    };
    let of = table.rows().iter().filter(|row| row[name].text() == sampler);
    let mut rows: Vec<Row> =
        of.map(|row| Row { steps: row[steps].number() as usize, predicted: row[predicted].number() }).collect();
    rows.sort_by_key(|row| row.steps);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_around_the_steps_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let told = |sampler: &str, steps: usize| remark(folder.path(), sampler, steps).unwrap();
        assert_eq!(told("pndm", 20), None);
        let table = "sampler,steps,predicted,seen\npndm,20,3,4\npndm,50,6,\npndm,100,,\nheun,20,,\n";
        std::fs::write(table_of(folder.path()), table).unwrap();
        let line = |what: &str| {
            Some(format!(
                "with this model predicted to be unstable from guidance {what} on (docs/schedulers/stability.md)"
            ))
        };
        assert_eq!(told("pndm", 20), line("3 at 20 steps"));
        assert_eq!(told("pndm", 30), line("3 at 20 steps, from 6 at 50 steps"));
        assert_eq!(told("pndm", 10), line("3 at 20 steps"));
        assert_eq!(told("pndm", 70), line("6 at 50 steps"));
        assert_eq!([told("pndm", 200), told("heun", 20), told("lms", 20)], [None, None, None]);
    }
}
