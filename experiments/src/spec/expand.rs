//! From a spec to its cells.

use super::Spec;
use super::axis::Axis;
use super::exclude::Excluded;
use super::groups::Group;
use super::words::plain;
use anyhow::{Context, Result, anyhow, bail};
use latentrace_files::counted;
use latentrace_runs::{Cell, FIELDS, PREFIX, Sampler};
use serde::Deserialize;
use std::collections::HashMap;
use toml::{Table, Value};

/// Every cell of an experiment.
pub struct Expanded {
    /// What varies; the last varies fastest.
    pub axes: Vec<Axis>,
    /// The cells, in order.
    pub points: Vec<Point>,
    /// The fine solutions that cells are compared with, each once.
    pub references: Vec<Cell>,
}

/// A cell and where it stands.
#[derive(Clone, Debug)]
pub struct Point {
    /// Its settings.
    pub cell: Cell,
    /// For each axis, which of its values it has.
    pub place: Vec<usize>,
}

impl Spec {
    /// Every cell, in order, without those that are excluded.
    ///
    /// # Errors
    /// Two cells are the same, an `exclude` excludes nothing, all cells are excluded, or a text has a word without a
    /// value.
    pub fn expand(&self) -> Result<Expanded> {
        let axes: Vec<Axis> = self.groups.iter().map(Axis::of).collect();
        let mut points: Vec<Point> = Vec::new();
        let mut references: Vec<Cell> = Vec::new();
        let mut excluded = Excluded::new(&self.exclude);
        let mut seen: HashMap<String, usize> = HashMap::new();
        for index in 0..self.count() {
            let place = digits(index, &self.groups);
            let mut table = self.table(&place);
            if excluded.takes(&table) {
                continue;
            }
            let point = Point { cell: self.cell(&table)?, place };
            if let Some(other) = seen.insert(serde_json::to_string(&point.cell)?, points.len()) {
                bail!(
                    "{}: two cells are the same: {}; and {}\nhint: each value once; exclude leaves one of them out",
                    self.file.display(),
                    points[other].label(&axes),
                    point.label(&axes)
                );
            }
            points.push(point);
            if !self.reference.is_empty() {
                table.extend(self.reference.clone());
                let cell = self.cell(&table)?;
                if !references.contains(&cell) {
                    references.push(cell);
                }
            }
        }
        self.check_excluded(&excluded)?;
        if points.is_empty() {
            let of = counted(self.count(), "cell");
            let error =
                anyhow!("all of the {of} are excluded\nhint: an exclude leaves out the cells that have all its values");
            return Err(self.at("exclude", error));
        }
        Ok(Expanded { axes, points, references })
    }

    /// How many cells there are before any is excluded.
    pub fn count(&self) -> usize {
        self.groups.iter().map(Group::len).fold(1, usize::saturating_mul)
    }

    /// All fields and words of the cell at a place.
    fn table(&self, place: &[usize]) -> Table {
        let mut table = self.fixed.clone();
        for (group, index) in self.groups.iter().zip(place) {
            for (field, values) in &group.fields {
                table.insert(field.clone(), values[*index].clone());
            }
        }
        table
    }

    /// The cell of a table, words put into its texts.
    fn cell(&self, table: &Table) -> Result<Cell> {
        let (options, rest): (Table, Table) = table.clone().into_iter().partition(|(key, _)| key.starts_with(PREFIX));
        let (mut fields, words): (Table, Table) = rest.into_iter().partition(|(key, _)| FIELDS.contains(&key.as_str()));
        if !options.is_empty() {
            let options = options.into_iter().map(|(key, value)| (key.trim_start_matches(PREFIX).to_string(), value));
            fields.insert("scheduler".into(), Value::Table(options.collect()));
        }
        for name in WITH_WORDS {
            for text in fields.get_mut(*name).into_iter().flat_map(texts) {
                *text = filled(text, &words).with_context(|| format!("{}: {name}", self.file.display()))?;
            }
        }
        let mut cell = Cell::deserialize(fields)
            .map_err(|error| anyhow!("{}: {}", self.file.display(), plain(error.message())))?;
        cell.sampler = cell.sampler.map(Sampler::resolved).transpose()?;
        Ok(cell)
    }
}

/// The fields whose texts words are put into.
pub(super) const WITH_WORDS: &[&str] = &["prompt", "negative", "prompt_2", "negative_2", "loras"];

/// Every text of a value.
pub(super) fn texts(value: &mut Value) -> Vec<&mut String> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(list) => list.iter_mut().flat_map(texts).collect(),
        Value::Table(table) => table.iter_mut().flat_map(|(_, value)| texts(value)).collect(),
        _ => Vec::new(),
    }
}

impl Point {
    /// What a legend calls the cell: `guidance 4, seed 1`.
    pub fn label(&self, axes: &[Axis]) -> String {
        let part = |(axis, index): (&Axis, &usize)| axis.label(*index);
        let parts: Vec<String> = axes.iter().zip(&self.place).map(part).collect();
        if parts.is_empty() { format!("seed {}", self.cell.seed) } else { parts.join(", ") }
    }
}

/// A number in the mixed base of the groups' sizes, the last digit the fastest.
fn digits(mut index: usize, groups: &[Group]) -> Vec<usize> {
    let mut place: Vec<usize> = groups
        .iter()
        .rev()
        .map(|group| {
            let digit = index % group.len();
            index /= group.len();
            digit
        })
        .collect();
    place.reverse();
    place
}

/// A text with every `{word}` replaced by its value; `{{` and `}}` stand for the braces themselves.
fn filled(text: &str, words: &Table) -> Result<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(place) = rest.find(['{', '}']) {
        filled += &rest[..place];
        let (brace, after) = rest[place..].split_at(1);
        if let Some(after) = after.strip_prefix(brace) {
            filled += brace;
            rest = after;
            continue;
        }
        let end = (brace == "{").then(|| after.find('}')).flatten();
        let Some(end) = end else {
            bail!("a lone {brace} in {text:?}\nhint: {brace}{brace} stands for the sign itself")
        };
        let word = &after[..end];
        match words.get(word) {
            Some(Value::String(value)) => filled += value,
            Some(value) => filled += &value.to_string(),
            None if word.contains('=') => bail!(
                "{text:?}: what is in braces is a word\nhint: a LoRA whose scale is a table is one too: {{ file = \"FILE\", scale = {{{word}}} }}"
            ),
            None if FIELDS.contains(&word) => bail!(
                "{{{word}}}: a field of the cell, and no word of a text\nhint: choose another name for the word, and give it under fixed or vary"
            ),
            None => bail!("{{{word}}}: no such word\nhint: give it under fixed or vary, as {word} = [..]"),
        }
        rest = &after[end + 1..];
    }
    Ok(filled + rest)
}

/// The words that a text asks for.
pub(super) fn words(text: &str) -> Vec<&str> {
    let plain = text.split("{{").flat_map(|part| part.split('{').skip(1));
    plain.filter_map(|part| part.split_once('}').map(|(word, _)| word)).collect()
}
