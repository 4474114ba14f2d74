//! Checks of a spec that need no model: its fields, their values, and whether what is asked has something to act on.

use super::expand::{self, words};
use super::values::number;
use super::words::{self, plain};
use super::written::{TEXTS, TOP};
use super::{Spec, needs};
use crate::figures::Figure;
use crate::measure::Measure;
use crate::tables::is_column;
use anyhow::{Error, Result, anyhow, bail, ensure};
use latentrace_pipeline::check_guidance;
use latentrace_pipeline::checkpoints::{Error as CheckpointError, describe};
use latentrace_runs::{Cell, FIELDS, PREFIX, Sampler, is_id};
use serde::Deserialize;
use toml::{Table, Value};

/// A field or word that is given somewhere in a spec, with its values.
pub(super) struct Entry<'a> {
    /// The table: `fixed`, `vary`, `zip.0`, `exclude.0` or `reference`.
    pub(super) table: String,
    /// The field.
    pub(super) key: &'a str,
    /// Its values: one, except where it varies.
    pub(super) values: Vec<&'a Value>,
}

impl Entry<'_> {
    /// Where the field stands: `fixed.steps`.
    pub(super) fn path(&self) -> String {
        format!("{}.{}", self.table, self.key)
    }

    /// Where a value of it stands: `vary.steps.2`.
    pub(super) fn path_of(&self, index: usize) -> String {
        if self.varies() { format!("{}.{index}", self.path()) } else { self.path() }
    }

    /// Whether the cells may have several values of it.
    fn varies(&self) -> bool {
        self.table == "vary" || self.table.starts_with("zip")
    }

    /// Whether every cell has it.
    pub(super) fn is_of_cells(&self) -> bool {
        self.varies() || self.table == "fixed"
    }

    /// Whether it says which cells are left out.
    pub(super) fn excludes(&self) -> bool {
        self.table.starts_with("exclude")
    }
}

impl Spec {
    /// Checks all that can be checked without the models.
    ///
    /// # Errors
    /// The first that is wrong, with its place.
    pub(super) fn check(&self) -> Result<()> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        if self.name.is_empty() || !self.name.chars().all(plain) {
            return Err(self.at("name", anyhow!("expected letters, digits, - and _, found {:?}", self.name)));
        }
        if self.columns == Some(0) {
            return Err(self.at("columns", anyhow!("expected 1 or more, found 0")));
        }
        if let Some(index) = self.exclude.iter().position(Table::is_empty) {
            let hint = "hint: it has the values of the cells to leave out";
            return Err(self.at(&format!("exclude.{index}"), anyhow!("an exclude without a field\n{hint}")));
        }
        let entries = self.entries();
        self.check_fields(&entries)?;
        self.groups.iter().try_for_each(|group| self.check_varies(group))?;
        if let Some((path, error)) = needs::without_effect(&entries) {
            return Err(self.at(&path, error));
        }
        self.check_given_once()?;
        self.check_outputs()
    }

    /// Checks that every field is known and given once, and that its values are of its kind.
    fn check_fields(&self, entries: &[Entry]) -> Result<()> {
        let texts = self.texts();
        let asked: Vec<&str> = texts.iter().flat_map(|text| words(text)).collect();
        let mut seen: Vec<&str> = Vec::new();
        for entry in entries {
            let key = entry.key;
            let here = |error: Error| self.at(&entry.path(), error);
            known(key, &asked).map_err(here)?;
            if seen.contains(&key) && entry.is_of_cells() {
                return Err(here(anyhow!("given twice: a field is fixed, or varies, or varies together with others")));
            }
            seen.push(key);
            for (index, value) in entry.values.iter().enumerate() {
                check_kind(key, value).map_err(|error| self.at(&entry.path_of(index), error))?;
            }
            if FIELDS.contains(&key) {
                for (index, value) in entry.values.iter().enumerate() {
                    check(key, value).map_err(|error| self.at(&entry.path_of(index), error))?;
                }
            }
        }
        Ok(())
    }

    /// Every field that is given anywhere: first those that vary, then those that are fixed.
    pub(super) fn entries(&self) -> Vec<Entry<'_>> {
        let mut entries = Vec::new();
        for group in &self.groups {
            entries.extend(group.fields.iter().map(|(key, values)| Entry {
                table: group.path.clone(),
                key,
                values: values.iter().collect(),
            }));
        }
        let tables = [("fixed".to_string(), &self.fixed)].into_iter();
        let excluded = self.exclude.iter().enumerate().map(|(index, table)| (format!("exclude.{index}"), table));
        for (table, fields) in tables.chain(excluded).chain([("reference".to_string(), &self.reference)]) {
            entries.extend(fields.iter().map(|(key, value)| Entry { table: table.clone(), key, values: vec![value] }));
        }
        entries
    }

    /// Every text that words are put into, before that.
    fn texts(&self) -> Vec<String> {
        let with_words = self.entries().into_iter().filter(|entry| expand::WITH_WORDS.contains(&entry.key));
        let values = with_words.flat_map(|entry| entry.values).cloned();
        values
            .flat_map(|mut value| expand::texts(&mut value).into_iter().map(std::mem::take).collect::<Vec<_>>())
            .collect()
    }

    /// Checks that no measure, figure or capture rule is given twice.
    fn check_given_once(&self) -> Result<()> {
        let measures = self.measure.iter().map(|measure| measure.name().to_string()).collect();
        let figures = self.figures.iter().map(|figure| figure.name().to_string()).collect();
        let rules = self.capture.iter().map(ToString::to_string).collect();
        let lists: [(&str, Vec<String>); 3] = [("measure", measures), ("figures", figures), ("capture", rules)];
        for (list, items) in lists {
            if let Some(index) = (1..items.len()).find(|index| items[..*index].contains(&items[*index])) {
                let path = format!("{list}.{index}");
                return Err(self.at(&path, anyhow!("{} is given twice\nhint: leave it out here", items[index])));
            }
        }
        Ok(())
    }

    /// Checks that whatever is kept, measured and drawn has something to act on.
    fn check_outputs(&self) -> Result<()> {
        let draws = |figure: Figure| self.figures.contains(&figure);
        let place = |index: Option<usize>, list: &str| index.map(|index| format!("{list}.{index}"));
        let figure = |of: Figure| place(self.figures.iter().position(|figure| *figure == of), "figures");
        let measure = |of: Measure| place(self.measure.iter().position(|measure| *measure == of), "measure");
        let given = |is_given: bool, field: &str| is_given.then(|| field.to_string());
        let wrong = [
            (given(self.budget.is_some() && self.capture.is_empty(), "budget"), BUDGET),
            (given(self.columns.is_some() && !draws(Figure::Grid), "columns"), COLUMNS),
            // With --set, the same spec may have one field that varies or several.
            (given(self.columns.is_some() && self.groups.len() > 1 && self.overrides.is_empty(), "columns"), ROWS),
            (figure(Figure::Adherence).filter(|_| self.measure.is_empty()), NOTHING_MEASURED),
            (measure(Measure::Diversity).filter(|_| !draws(Figure::Adherence)), DIVERSITY),
            (figure(Figure::Schedulers).filter(|_| self.reference.is_empty()), NO_REFERENCE),
            (given(!self.reference.is_empty() && !draws(Figure::Schedulers), "reference"), REFERENCE),
        ];
        match wrong.into_iter().find_map(|(path, error)| Some((path?, error))) {
            Some((path, error)) => Err(self.at(&path, anyhow!(error))),
            None => Ok(()),
        }
    }
}

/// A budget of what is captured, without `capture`.
const BUDGET: &str = "has no effect, because nothing is captured\nhint: it limits what the rules of capture keep";

/// Columns of a grid, without the figure.
const COLUMNS: &str = "has no effect, because no grid is drawn\nhint: add grid to figures";

/// Columns of a grid whose columns are a field.
const ROWS: &str = "has no effect, because several fields vary: the last of them has the columns\nhint: leave it out";

/// The figure of measures, without `measure`.
const NOTHING_MEASURED: &str =
    "adherence draws what is measured, and nothing is\nhint: measure = [\"adherence\"] measures what captions ask for";

/// A measure of several pictures, without the figure that has it.
const DIVERSITY: &str =
    "diversity is a number of several pictures, which the figure adherence alone has\nhint: add adherence to figures";

/// The figure of errors, without a solution to compare with.
const NO_REFERENCE: &str =
    "schedulers draws the distance to a reference, and there is none\nhint: [reference] with steps = 500 makes one";

/// A solution to compare with, without the figure of errors.
const REFERENCE: &str =
    "has no effect, because nothing is compared with it\nhint: add schedulers to figures, which draws the distance";

/// Checks that a field is one of a cell's, or a word that a text asks for.
fn known(key: &str, asked: &[&str]) -> Result<()> {
    if FIELDS.contains(&key) {
        return Ok(());
    }
    if asked.contains(&key) {
        ensure!(!is_column(key), "a column of the tables has this name\nhint: give the word another one");
        return Ok(());
    }
    if let Some(option) = key.strip_prefix(PREFIX) {
        return latentrace_runs::is_known(option);
    }
    if TOP.contains(&key) {
        bail!(
            "a field of the experiment, and none of its cells\nhint: it stands at the top of the spec, above [fixed], and --set cannot replace it"
        );
    }
    let hint = match latentrace_files::near(key, FIELDS) {
        Some(field) => format!("did you mean {field}?"),
        None => format!("the fields are {}; a word of a prompt stands in it as {{{key}}}", FIELDS.join(", ")),
    };
    bail!("unknown field\nhint: {hint}")
}

/// What a guidance may be.
const GUIDANCE: &str = "expected a number, { weight = 8, sigma = [0.3, 5] } or { sigma = [15, 1], weight = [1, 8] }";

/// Checks that a value is a text, a number, or true or false, where nothing else has a meaning: serde also reads a list as a table,
/// and a date as a text.
fn check_kind(key: &str, value: &Value) -> Result<()> {
    let found = words::shown(value);
    match key {
        "guidance" => {
            ensure!(number(value).is_some() || value.is_table(), "{GUIDANCE}, found {found}")
        }
        key if TEXTS.contains(&key) => ensure!(value.is_str(), "expected a text in quotes, found {found}"),
        key if FIELDS.contains(&key) || key.starts_with(PREFIX) => (),
        _ => {
            let is_plain = value.is_str() || value.is_bool() || number(value).is_some_and(f64::is_finite);
            ensure!(is_plain, "expected a text, a number, true or false for a word, found {found}");
        }
    }
    Ok(())
}

/// Checks that a field's value is of its kind and, as far as can be said without the model, in its range.
fn check(key: &str, value: &Value) -> Result<()> {
    let table = Table::from_iter([(key.to_string(), value.clone())]);
    let cell = Cell::deserialize(table).map_err(|error| anyhow!("{}", plain(error.message())))?;
    check_guidance(&cell.guidance).map_err(|error| anyhow!("{}", error.to_string().replace("guidance: ", "")))?;
    ensure!(cell.steps > 0, "expected 1 or more, found 0");
    for side in [cell.height, cell.width].into_iter().flatten() {
        ensure!(side > 0, "expected a number of pixels above 0, found {side}");
    }
    if let Some(strength) = cell.strength {
        ensure!(
            strength > 0.0 && strength <= 1.0,
            "expected a number above 0 and at most 1, found {strength}\nhint: 1 makes everything anew, and little above 0 leaves the picture as it is"
        );
    }
    if let Some(sampler) = cell.sampler.map(Sampler::resolved).transpose()?
        && let Sampler::Named(name) = sampler
    {
        latentrace_pipeline::schedulers::class_of(&name)?;
    }
    if let Some(name) = &cell.spacing {
        let known = ["leading", "trailing", "linspace", "ays"];
        ensure!(known.contains(&name.as_str()), "expected {}, found {name}", known.join(", "));
    }
    for lora in &cell.loras {
        lora.check()?;
    }
    for picture in [&cell.image, &cell.mask].into_iter().flatten() {
        latentrace_runs::check_picture(picture)?;
    }
    if let Some(model) = cell.model.filter(|model| !model.exists() && !is_id(model)) {
        return Err(CheckpointError::NotACheckpoint(describe(&model)).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SMALL, spec, spec_with};

    fn wrong(text: &str) -> String {
        format!("{:#}", spec(text).err().expect(text))
    }

    #[test]
    fn a_typo_is_an_error_with_the_near_name_the_file_and_the_line() {
        let error = wrong("name='x'\n[fixed]\nstpes=3");
        assert!(error.contains(":3: fixed.stpes: unknown field") && error.contains("did you mean steps?"), "{error}");
        let set = |text: &str| format!("{:#}", spec_with(SMALL, &["steps=4", text]).err().expect(text));
        let error = set("sede=3");
        assert!(error.starts_with("--set sede=3: unknown field\nhint: did you mean seed?"), "{error}");
        let error = set("seed=[1, -2]");
        assert!(error.starts_with("--set seed=[1, -2]: expected a seed"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_an_error_with_its_line() {
        for (text, says) in [
            ("name='../x'", ":1: name"),
            ("name='x'\n[vary]\nseed=[1,\n'two']", ":4: vary.seed.1: expected a seed from 0 to"),
            ("name='x'\n[vary]\nseed=[1, -2]", ":3: vary.seed.1: expected a seed from 0 to"),
            ("name='x'\n[fixed]\nseed='18446744073709551616'", ":3: fixed.seed: expected a seed from 0 to"),
            (
                "name='x'\n[fixed]\nseed=18446744073709551615",
                "hint: a seed above 9223372036854775807 is written in quotes",
            ),
            ("name='x'\n[fixed]\nseed=4.0", ":3: fixed.seed: expected a seed from 0 to"),
            ("name='x'\n[fixed]\nsteps=0", ":3: fixed.steps: expected 1 or more"),
            ("name='x'\n[fixed]\nheight=0", ":3: fixed.height: expected a number of pixels above 0, found 0"),
            ("name='x'\n[fixed]\nstrength=0", ":3: fixed.strength: expected a number above 0"),
            ("name='x'\n[fixed]\nguidance=nan", ":3: fixed.guidance: expected a finite number"),
            ("name='x'\n[fixed]\nimage='no-such.png'", ":3: fixed.image: "),
            ("name='x'\n[fixed]\nmodel='no-such'", ":3: fixed.model: "),
            ("name='x'\n[fixed]\nsampler='lmx'", ":3: fixed.sampler: "),
            ("name='x'\n[fixed]\nseed=1\n[vary]\nseed=[1,2]", ":3: fixed.seed: given twice"),
            ("name='x'\n[[exclude]]", ":2: exclude.0: an exclude without a field"),
            ("name='x'\nmeasure=['adherance']", "did you mean adherence?"),
            ("name='x'\nfigures=['gird']", "did you mean grid?"),
            ("name='x'\ncapture=['unet.** | steps']", ":2: capture.0: "),
            ("name='x'\nrating=3", ":2: rating: unknown field\nhint: there are name, about,"),
            ("name='x'\nfigure=['grid']", ":2: figure: unknown field\nhint: did you mean figures?"),
            ("name='x'\n\nsampler='lms'", ":3: sampler: a field of the cells\nhint: it stands under [fixed]"),
            ("name='x'\nfigures='grid'", ":2: figures: expected a list, found \"grid\""),
            (
                "name='x'\n[vary]\nguidance=[[1,2],[3,4]]",
                ":3: vary.guidance.0: expected a number, { weight = 8, sigma = [0.3, 5] } or { sigma = [15, 1], weight = [1, 8] }, found [1, 2]",
            ),
            ("name='x'\n[fixed]\nprompt=1979-05-27", ":3: fixed.prompt: expected a text in quotes, found 1979-05-27"),
            ("name='x'\n[fixed]\ndtype=5", ":3: fixed.dtype: expected a text in quotes, found 5"),
            (
                "name='x'\n[fixed]\nprompt='a {c}'\nc=['red']",
                ":4: fixed.c: expected a text, a number, true or false for a word, found [\"red\"]",
            ),
            ("name='x'\n[fixed]\nsteps=99999999999999999999", "is written in quotes, because TOML's numbers end there"),
            ("name='x'\ncapture=[3]", ":2: capture.0: expected a text in quotes, found 3"),
            ("name='x'\n[fixed]\nfigures='grid'", ":3: fixed.figures: a field of the experiment"),
            ("name='x'\n[fixed]\nsteps='a'", ":3: fixed.steps: expected a whole number from 0 on, found \"a\""),
            ("", ": name: is missing\nhint: name = "),
        ] {
            let error = wrong(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn what_has_nothing_to_act_on_is_an_error_with_its_line() {
        for (text, says) in [
            ("name='x'\nbudget=1000", ":2: budget: has no effect, because nothing is captured"),
            ("name='x'\nfigures=['curves']\ncolumns=3", ":3: columns: has no effect, because no grid is drawn"),
            ("name='x'\nfigures=['grid',\n'adherence']", ":3: figures.1: adherence draws what is measured"),
            ("name='x'\nmeasure=['contrast','diversity']", ":2: measure.1: diversity is a number of several pictures"),
            ("name='x'\nfigures=['schedulers']", ":2: figures.0: schedulers draws the distance to a reference"),
            (
                "name='x'\ncolumns=2\n[vary]\nseed=[1,2]\nsteps=[3,4]",
                ":2: columns: has no effect, because several fields vary",
            ),
            ("name='x'\n[reference]\nsteps=500", ":2: reference: has no effect, because nothing is compared with it"),
            ("name='x'\nmeasure=['contrast','contrast']", ":2: measure.1: contrast is given twice"),
            ("name='x'\nfigures=['grid','grid']", ":2: figures.1: grid is given twice"),
            ("name='x'\ncapture=['unet.mid_block.out','vae.**',\n'vae.**']", ":3: capture.2: vae.** is given twice"),
        ] {
            let error = wrong(text);
            assert!(error.contains(says) && error.contains("\nhint: "), "{text}: {error}");
        }
        for good in [
            "name='x'\nbudget=1000\ncapture=['unet.mid_block.out']",
            "name='x'\ncolumns=3",
            "name='x'\nfigures=['adherence']\nmeasure=['diversity']",
            "name='x'\nfigures=['schedulers']\n[reference]\nsteps=500",
        ] {
            assert!(spec(good).is_ok(), "{good}");
        }
    }
}
