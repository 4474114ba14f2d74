//! An experiment: what is fixed, what varies, what is measured and drawn.

mod draft;
mod expand;
mod lines;
mod values;

pub use draft::Draft;
pub use expand::{Axis, AxisField, Expanded, Point};

use crate::figures::Figure;
use crate::measure::Measure;
use crate::tables::is_column;
use anyhow::{Error, Result, anyhow, bail, ensure};
use expand::{Group, words};
use latentrace_files::{counted, read_text, slug};
use latentrace_pipeline::check_guidance;
use latentrace_pipeline::checkpoints::{Error as CheckpointError, describe};
use latentrace_runs::{Cell, FIELDS, is_id};
use latentrace_runs::{Kept, Sampler};
use latentrace_trace::{EditRule, Rule};
use lines::Lines;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// An experiment, read and checked.
pub struct Spec {
    /// The experiment's name, and that of its folder under `runs/`.
    pub name: String,
    /// One line for a reader, said when the experiment starts.
    pub about: String,
    /// What is kept of every run besides the sampler's values: `unet.**.attn2.probs | head_mean`.
    pub capture: Vec<Rule>,
    /// How many bytes of it at most, for each run.
    pub budget: Option<u64>,
    /// What is measured of every picture.
    pub measure: Vec<Measure>,
    /// What is drawn at the end.
    pub figures: Vec<Figure>,
    /// Columns of the grid, unless two fields vary: then, and without it, one for each value of the last of them.
    pub columns: Option<usize>,
    file: PathBuf,
    lines: Lines,
    /// What replaces fields of the file, each as `key=value`.
    overrides: Vec<String>,
    fixed: Table,
    groups: Vec<Group>,
    exclude: Vec<Table>,
    reference: Table,
}

/// The longest name of a folder, in bytes. File systems have a limit of 255.
const LONGEST: usize = 160;

/// An experiment as its TOML file says it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default)]
    about: String,
    /// Fields that every cell has, and words for its texts.
    #[serde(default)]
    fixed: Table,
    /// Fields and words that vary, each with its values; the last varies fastest.
    #[serde(default)]
    vary: Table,
    /// Fields that vary together.
    #[serde(default)]
    zip: Vec<Table>,
    /// Cells to leave out: those that have all these values.
    #[serde(default)]
    exclude: Vec<Table>,
    /// What a fine solution has that the cells are held against, other than they: `steps = 1000`.
    #[serde(default)]
    reference: Table,
    #[serde(default)]
    measure: Vec<String>,
    figures: Option<Vec<String>>,
    #[serde(default)]
    capture: Vec<String>,
    budget: Option<u64>,
    columns: Option<usize>,
}

impl Spec {
    /// Reads a spec, with `key=value` overrides; everything in it is checked that can be without its models.
    ///
    /// # Errors
    /// The file cannot be read, or a field of it is not known or has a wrong value: the error names the file and the line.
    pub fn open(path: &Path, overrides: &[String]) -> Result<Spec> {
        let text = read_text(path)?;
        let mut written: Written = toml::from_str(&text).map_err(|error| read_error(path, error))?;
        written.resolve(path.parent().unwrap_or(Path::new("")));
        let mut lines = Lines::of(&text);
        for assignment in overrides {
            written.set(assignment)?;
            lines = Lines::default(); // a line of the file may not say it any more
        }
        Spec::checked(written, path.into(), (lines, overrides))
    }

    /// Begins a spec in Rust.
    ///
    /// ```
    /// # use latentrace_experiments::Spec;
    /// let spec = Spec::draft("scales")
    ///     .fix("prompt", "a large red circle on the left, white background")
    ///     .fix("steps", 4)
    ///     .vary("guidance", [1.0, 4.0, 9.0])
    ///     .check()?;
    /// assert_eq!(spec.count(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn draft(name: &str) -> Draft {
        Draft::new(name)
    }

    /// A spec as it was written, checked; `file` is what errors name.
    fn checked(written: Written, file: PathBuf, (lines, overrides): (Lines, &[String])) -> Result<Spec> {
        let mut spec = Spec {
            name: written.name,
            about: written.about,
            capture: Vec::new(),
            budget: written.budget,
            measure: Vec::new(),
            figures: vec![Figure::Grid, Figure::Curves],
            columns: written.columns,
            file,
            lines,
            overrides: overrides.to_vec(),
            fixed: written.fixed,
            groups: Vec::new(),
            exclude: written.exclude,
            reference: written.reference,
        };
        spec.groups = spec.grouped(&written.vary, &written.zip)?;
        spec.capture = spec.rules(&written.capture)?;
        spec.read_names(&written.measure, written.figures.as_deref())?;
        spec.check()?;
        Ok(spec)
    }

    /// The name of its folder under `runs/`: its own, and what replaces fields of the file: `scales@prompt=a-cat,seed=7`. So a run with
    /// other settings does not replace the tables and figures of the experiment.
    pub fn folder(&self) -> String {
        let set: Vec<(&str, &str)> = self.overrides.iter().filter_map(|set| set.split_once('=')).collect();
        let is_last = |index: usize, key: &str| set[index + 1..].iter().all(|(other, _)| other.trim() != key);
        let part = |(index, (key, value)): (usize, &(&str, &str))| {
            let (key, value) = (key.trim(), slug(value));
            is_last(index, key).then(|| format!("{key}={}", value.trim_end_matches('-')))
        };
        let parts: Vec<String> = set.iter().enumerate().filter_map(part).collect();
        let at = if parts.is_empty() { "" } else { "@" };
        let mut name = format!("{}{at}{}", self.name, parts.join(","));
        while name.len() > LONGEST {
            name.pop();
        }
        name
    }

    /// What is kept of every run besides the sampler's values, and how much of it at most.
    pub fn kept(&self) -> Kept {
        Kept { capture: self.capture.clone(), budget: self.budget }
    }

    /// The prompt as the spec has it, words not yet put in, where it is not itself what varies.
    pub fn prompt(&self) -> Option<&str> {
        self.fixed.get("prompt").and_then(Value::as_str)
    }

    /// An error with its place: the override that gives the field, or the line of the file.
    fn at(&self, path: &str, error: Error) -> Error {
        if let Some(assignment) = self.assignment(path) {
            return error.context(format!("--set {assignment}"));
        }
        let file = self.file.display();
        match self.lines.line(path) {
            Some(line) => error.context(format!("{file}:{line}: {path}")),
            None => error.context(format!("{file}: {path}")),
        }
    }

    /// The override that gives a field. The last one counts.
    fn assignment(&self, path: &str) -> Option<&String> {
        let field = path.strip_prefix("fixed.").or_else(|| path.strip_prefix("vary."))?;
        let gives = |key: &str| field.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.overrides.iter().rev().find(|text| text.split_once('=').is_some_and(|(key, _)| gives(key.trim())))
    }

    fn grouped(&self, vary: &Table, zips: &[Table]) -> Result<Vec<Group>> {
        let mut groups = Vec::new();
        let of = |path: &str, key: &str, value: &Value| {
            values::values(value).map_err(|error| self.at(&format!("{path}.{key}"), error))
        };
        for (key, value) in vary {
            let values = of("vary", key, value)?;
            if let Some(twice) = values::twice(&values) {
                let hint = "hint: a value that varies is given once; a seed that varies makes several pictures of it";
                return Err(self.at(&format!("vary.{key}"), anyhow!("{twice} is given twice\n{hint}")));
            }
            groups.push(Group { fields: vec![(key.clone(), values)], path: "vary".into() });
        }
        for (index, zip) in zips.iter().enumerate() {
            let path = format!("zip.{index}");
            let fields: Vec<(String, Vec<Value>)> =
                zip.iter().map(|(key, value)| Ok((key.clone(), of(&path, key, value)?))).collect::<Result<_>>()?;
            let Some((first, values)) = fields.first() else {
                return Err(self.at(&path, anyhow!("no field varies")));
            };
            if let Some((other, found)) = fields.iter().find(|(_, found)| found.len() != values.len()) {
                let error = anyhow!("{}, and {first} has {}", counted(found.len(), "value"), values.len());
                return Err(self.at(&format!("{path}.{other}"), error));
            }
            groups.push(Group { fields, path });
        }
        Ok(groups)
    }

    /// The rules of what is kept.
    fn rules(&self, written: &[String]) -> Result<Vec<Rule>> {
        let read = |(index, text): (usize, &String)| {
            Rule::parse(text).map_err(|error| self.at(&format!("capture.{index}"), error.into()))
        };
        written.iter().enumerate().map(read).collect()
    }

    fn read_names(&mut self, measures: &[String], figures: Option<&[String]>) -> Result<()> {
        let read = |path: String, error: Error| self.at(&path, error);
        let measure = measures
            .iter()
            .enumerate()
            .map(|(index, name)| name.parse().map_err(|error| read(format!("measure.{index}"), error)))
            .collect::<Result<_>>()?;
        let figures = figures.map(|names| {
            let parsed = names.iter().enumerate();
            parsed
                .map(|(index, name)| name.parse().map_err(|error| read(format!("figures.{index}"), error)))
                .collect::<Result<_>>()
        });
        (self.measure, self.figures) = (measure, figures.unwrap_or(Ok(vec![Figure::Grid, Figure::Curves]))?);
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        if self.name.is_empty() || !self.name.chars().all(plain) {
            return Err(self.at("name", anyhow!("letters, digits and - only, found {:?}", self.name)));
        }
        if self.columns == Some(0) {
            return Err(self.at("columns", anyhow!("expected 1 or more, found 0")));
        }
        let texts = self.texts();
        let asked: Vec<&str> = texts.iter().flat_map(|text| words(text)).collect();
        let mut seen: Vec<&str> = Vec::new();
        for (path, key, values) in self.entries() {
            let here = |error: Error| self.at(&format!("{path}.{key}"), error);
            known(key, &asked).map_err(here)?;
            if seen.contains(&key) && path != "reference" && !path.starts_with("exclude") {
                return Err(here(anyhow!("given twice: a field is fixed, or varies, or varies together with others")));
            }
            seen.push(key);
            if FIELDS.contains(&key) {
                let is_list = path == "vary" || path.starts_with("zip");
                for (index, value) in values.iter().enumerate() {
                    let place = if is_list { format!("{path}.{key}.{index}") } else { format!("{path}.{key}") };
                    check(key, value).map_err(|error| self.at(&place, error))?;
                }
            }
        }
        Ok(())
    }

    /// Every field that is given anywhere: where, its name, its values.
    fn entries(&self) -> Vec<(String, &str, Vec<&Value>)> {
        let mut entries = Vec::new();
        let tables = [("fixed".to_string(), &self.fixed)].into_iter();
        let excluded = self.exclude.iter().enumerate().map(|(index, table)| (format!("exclude.{index}"), table));
        let groups = self.groups.iter().flat_map(|group| {
            group.fields.iter().map(|(key, values)| (group.path.clone(), key.as_str(), values.iter().collect()))
        });
        entries.extend(groups);
        for (path, table) in tables.chain(excluded).chain([("reference".to_string(), &self.reference)]) {
            entries.extend(table.iter().map(|(key, value)| (path.clone(), key.as_str(), vec![value])));
        }
        entries
    }

    /// Every text that words are put into, before that.
    fn texts(&self) -> Vec<String> {
        let with_words = self.entries().into_iter().filter(|(_, key, _)| expand::WITH_WORDS.contains(key));
        let values = with_words.flat_map(|(_, _, values)| values).cloned();
        values
            .flat_map(|mut value| expand::texts(&mut value).into_iter().map(std::mem::take).collect::<Vec<_>>())
            .collect()
    }
}

impl Written {
    /// Takes paths from a folder, and options of the scheduler as fields by themselves.
    fn resolve(&mut self, beside: &Path) {
        let tables = [&mut self.fixed, &mut self.vary, &mut self.reference];
        tables.into_iter().chain(&mut self.zip).chain(&mut self.exclude).for_each(|table| {
            resolve(table, beside);
            flatten(table);
        });
    }

    /// Takes one `key=value`: a fixed field, or with a list or `{ range = .. }` a varied one.
    fn set(&mut self, assignment: &str) -> Result<()> {
        let Some((key, value)) = assignment.split_once('=') else {
            bail!("--set {assignment}: expected key=value");
        };
        let key = key.trim();
        let value = parse(key, value.trim());
        for zip in &mut self.zip {
            zip.remove(key);
        }
        self.zip.retain(|zip| !zip.is_empty());
        let varies = values::values(&value).is_ok() && key != "edits" && !is_list(key, &value);
        let (to, from) = if varies { (&mut self.vary, &mut self.fixed) } else { (&mut self.fixed, &mut self.vary) };
        from.remove(key);
        to.insert(key.into(), value);
        Ok(())
    }
}

/// Holds that a field is one of a cell's, or a word that a text asks for.
fn known(key: &str, asked: &[&str]) -> Result<()> {
    if FIELDS.contains(&key) {
        return Ok(());
    }
    if asked.contains(&key) {
        ensure!(!is_column(key), "a column of the tables has this name\nhint: give the word another one");
        return Ok(());
    }
    if let Some(option) = key.strip_prefix(latentrace_runs::PREFIX) {
        return latentrace_runs::is_known(option);
    }
    let hint = match latentrace_files::near(key, FIELDS) {
        Some(field) => format!("did you mean {field}?"),
        None => format!("the fields are {}; a word of a prompt stands in it as {{{key}}}", FIELDS.join(", ")),
    };
    bail!("unknown field\nhint: {hint}")
}

/// Holds that a field's value is of its kind and, as far as can be said without the model, in its range.
fn check(key: &str, value: &Value) -> Result<()> {
    let table = Table::from_iter([(key.to_string(), value.clone())]);
    let cell = Cell::deserialize(table).map_err(|error| anyhow!("{}", error.message()))?;
    check_guidance(&cell.guidance).map_err(|error| anyhow!("{}", error.to_string().replace("guidance: ", "")))?;
    ensure!(cell.steps > 0, "expected 1 or more, found 0");
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

/// An error of a spec's text, with what to do where a whole number is beyond TOML's.
fn read_error(path: &Path, error: toml::de::Error) -> Error {
    let hint = match error.message().contains("too large") {
        true => format!("hint: a seed above {} is written in quotes, because TOML's numbers end there", i64::MAX),
        false => String::new(),
    };
    anyhow!("{}: {error}{hint}", path.display())
}

/// The options of a scheduler as fields by themselves, in their place: TOML reads `scheduler.rho = 5` as a table in a table.
fn flatten(table: &mut Table) {
    let apart = |(key, value): (String, Value)| match value {
        Value::Table(options) if key == "scheduler" => {
            options.into_iter().map(|(option, value)| (format!("{}{option}", latentrace_runs::PREFIX), value)).collect()
        }
        value => vec![(key, value)],
    };
    *table = std::mem::take(table).into_iter().flat_map(apart).collect();
}

/// Whether a list is one value: embeddings, LoRAs and some options of schedulers are lists, and vary as a list of lists.
fn is_list(key: &str, value: &Value) -> bool {
    let lists = ["timesteps", "sigmas", "trained_betas", "disable_corrector"];
    let is_flat = |value: &Value| value.as_array().is_some_and(|list| !list.iter().any(Value::is_array));
    let is_option = key.strip_prefix(latentrace_runs::PREFIX).is_some_and(|option| lists.contains(&option));
    (is_option || key == "embeddings" || key == "loras") && is_flat(value)
}

/// Paths in a file are meant from its own folder.
fn resolve(table: &mut Table, beside: &Path) {
    fn join(value: &mut Value, beside: &Path, is_path: &dyn Fn(&str) -> bool) {
        match value {
            Value::String(path) if is_path(path) => *path = beside.join(&path).display().to_string(),
            Value::Array(list) => list.iter_mut().for_each(|value| join(value, beside, is_path)),
            // A LoRA with a scale that depends on the noise level.
            Value::Table(table) => table.get_mut("file").into_iter().for_each(|file| join(file, beside, is_path)),
            _ => (),
        }
    }
    for key in ["image", "mask", "features", "embeddings"] {
        if let Some(path) = table.get_mut(key) {
            join(path, beside, &|_| true);
        }
    }
    // The id of a model on the hub looks like a path; a path that exists wins.
    let is_path = |text: &str| beside.join(text).exists() || !is_id(Path::new(text));
    for key in ["model", "text_encoder", "unet", "vae", "tokenizer", "config"] {
        if let Some(value) = table.get_mut(key) {
            join(value, beside, &is_path);
        }
    }
    if let Some(loras) = table.get_mut("loras") {
        join(loras, beside, &|text| is_path(without_scale(text)));
    }
    if let Some(value) = table.get_mut("edits") {
        read_beside(value, beside);
    }
    if let Some(value) = table.get_mut("sampler") {
        join(value, beside, &|text| !text.starts_with('{') && (text.contains('/') || text.ends_with(".json"))); // else it is a name, or a config
    }
}

/// A LoRA of a spec without its scale, which may be a word in braces.
fn without_scale(text: &str) -> &str {
    let is_scale = |scale: &str| scale.trim().parse::<f64>().is_ok() || scale.trim().starts_with('{');
    text.rsplit_once(':').filter(|(_, scale)| is_scale(scale)).map_or(text, |(file, _)| file)
}

/// The records that edits read are meant from the spec's folder. A rule that cannot be read is left as it is, and refused
/// where it is used.
fn read_beside(edits: &mut Value, beside: &Path) {
    match edits {
        Value::String(rule) => {
            if let Ok(read) = EditRule::parse(rule)
                && let Some(path) = read.reads().map(|path| beside.join(path))
            {
                *rule = read.reading(&path).to_string();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| read_beside(value, beside)),
        _ => (),
    }
}

/// The fields whose values are text.
const TEXTS: &[&str] = &[
    "prompt",
    "negative",
    "long_prompts",
    "sampler",
    "spacing",
    "reading",
    "model",
    "revision",
    "variant",
    "text_encoder",
    "unet",
    "vae",
    "tokenizer",
    "config",
    "image",
    "mask",
    "features",
    "fit",
    "dtype",
    "device",
    "kernels",
];

/// A value of the command line: text fields as they stand, anything else as TOML.
fn parse(key: &str, text: &str) -> Value {
    let literal =
        || toml::from_str::<Table>(&format!("value = {text}")).ok().and_then(|mut table| table.remove("value"));
    let is_text = TEXTS.contains(&key);
    match literal() {
        Some(value) if !is_text || value.is_array() || value.is_str() => value,
        _ => Value::String(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Result<Spec> {
        spec_with(text, &[])
    }

    fn spec_with(text: &str, overrides: &[&str]) -> Result<Spec> {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&path, text).unwrap();
        Spec::open(path.path(), &overrides.iter().map(|set| set.to_string()).collect::<Vec<_>>())
    }

    fn said(text: &str, overrides: &[&str]) -> Vec<String> {
        let sweep = spec_with(text, overrides).unwrap().expand().unwrap();
        sweep.points.iter().map(|point| point.label(&sweep.axes)).collect()
    }

    #[test]
    fn seeds_are_whole_numbers_of_64_bits_from_end_to_end() {
        let seeds = |vary: &str| {
            let sweep = spec(&format!("name='x'\n[vary]\nseed={vary}")).unwrap().expand().unwrap();
            let of = |point: &Point| (point.cell.seed, point.label(&sweep.axes));
            sweep.points.iter().map(of).collect::<Vec<_>>()
        };
        let expected = |list: &[u64]| list.iter().map(|seed| (*seed, format!("seed {seed}"))).collect::<Vec<_>>();
        let (middle, last) = (9_007_199_254_740_993, u64::MAX);
        let three = [middle, middle + 1, middle + 2];
        assert_eq!(seeds("{ range = [9007199254740993, 9007199254740995] }"), expected(&three));
        assert_eq!(seeds("[9007199254740993, 9007199254740994, 9007199254740995]"), expected(&three));
        assert_eq!(seeds("{ linspace = [9007199254740993, 9007199254740995, 3] }"), expected(&three));
        assert_eq!(seeds("['18446744073709551615', 3]"), expected(&[last, 3]));
        let across = "{ range = ['9223372036854775806', '9223372036854775809'] }";
        assert_eq!(seeds(across), expected(&[0, 1, 2, 3].map(|more| (1 << 63) - 2 + more)));
        assert_eq!(
            seeds("{ range = ['18446744073709551615', '18446744073709551611', -2] }"),
            expected(&[last, last - 2, last - 4])
        );
        let without = spec("name='x'\n[vary]\nseed={ range = [9007199254740993, 9007199254740995] }\n[[exclude]]\nseed=9007199254740994").unwrap();
        let left: Vec<u64> = without.expand().unwrap().points.iter().map(|point| point.cell.seed).collect();
        assert_eq!(left, [middle, middle + 2], "one is excluded, and not its neighbours that are the same float");
        let set = spec_with(SMALL, &["seed=18446744073709551615"]).unwrap().expand().unwrap();
        assert!(set.points.iter().all(|point| point.cell.seed == last));
    }

    const SMALL: &str = "name='x'\n[fixed]\nprompt='a'\n[vary]\nseed=[1,2]\nguidance=[0.5,4]";

    #[test]
    fn expands_with_the_last_field_fastest_and_takes_overrides() {
        assert_eq!(
            said(SMALL, &[]),
            ["seed 1, guidance 0.5", "seed 1, guidance 4", "seed 2, guidance 0.5", "seed 2, guidance 4"]
        );
        assert_eq!(said(SMALL, &["seed=7"]), ["guidance 0.5", "guidance 4"]);
        assert_eq!(said(SMALL, &["seed={ range = [3, 5] }", "guidance=2"]), ["seed 3", "seed 4", "seed 5"]);
        let cells = spec_with(SMALL, &["prompt=a red circle"]).unwrap().expand().unwrap().points;
        assert_eq!((cells[0].cell.prompt.as_str(), cells[3].cell.seed), ("a red circle", 2));
        assert_eq!(cells[1].place, [0, 1]);
    }

    #[test]
    fn what_is_set_has_a_folder_of_its_own() {
        let folder = |set: &[&str]| spec_with(SMALL, set).unwrap().folder();
        assert_eq!(folder(&[]), "x");
        assert_eq!(folder(&["prompt=A blue square!", "guidance = [1, 7.5]"]), "x@prompt=a-blue-square,guidance=1-7.5");
        assert_eq!(folder(&["seed=1", "seed=22"]), "x@seed=22", "the last one counts");
        let long = folder(&[&format!("prompt={}", "红".repeat(300))]);
        assert!(long.len() <= LONGEST && long.starts_with("x@prompt=红红"), "{long}");
    }

    #[test]
    fn options_of_the_scheduler_are_fixed_vary_and_are_set() {
        let text = "name='x'\n[fixed]\nprompt='a'\nscheduler.rho=5\n[vary]\nscheduler.use_karras_sigmas=[true,false]\nseed=[1,2]";
        let sweep = spec(text).unwrap().expand().unwrap();
        assert_eq!(sweep.points[2].label(&sweep.axes), "scheduler.use_karras_sigmas false, seed 1");
        let options = |cell: &Cell| serde_json::to_string(&cell.scheduler).unwrap();
        assert_eq!(options(&sweep.points[0].cell), r#"{"rho":5,"use_karras_sigmas":true}"#);
        let set = spec_with(text, &["scheduler.use_karras_sigmas=true", "scheduler.sigmas=[9.0, 1.0, 0.0]"]).unwrap();
        let points = set.expand().unwrap().points;
        assert_eq!(
            (points.len(), options(&points[0].cell).as_str()),
            (2, r#"{"rho":5,"sigmas":[9.0,1.0,0.0],"use_karras_sigmas":true}"#)
        );
        let error = format!("{:#}", spec("name='x'\n[fixed]\nscheduler.use_karas_sigmas=true").err().unwrap());
        assert!(
            error.contains(":3: fixed.scheduler.use_karas_sigmas") && error.contains("did you mean use_karras_sigmas?"),
            "{error}"
        );
        let whole = format!("{:#}", spec("name='x'\n[fixed]\nscheduler='lms'").err().unwrap());
        assert!(whole.contains(":3: fixed.scheduler: invalid type"), "{whole}");
    }

    #[test]
    fn fields_vary_together_words_are_put_in_and_cells_left_out() {
        let text = "name='x'\n[fixed]\nprompt='a {size} {colour} circle {{sic}}'\nsize='large'\n[vary]\ncolour=['red','blue']\n[[zip]]\nsteps=[5,10]\nsampler=['lms','pndm']\n[[exclude]]\ncolour='red'\nsteps=10\n[reference]\nsteps=100\nsampler='lms'";
        let sweep = spec(text).unwrap().expand().unwrap();
        let cells: Vec<_> = sweep.points.iter().map(|point| (point.cell.prompt.as_str(), point.cell.steps)).collect();
        let (red, blue) = ("a large red circle {sic}", "a large blue circle {sic}");
        assert_eq!(cells, [(red, 5), (blue, 5), (blue, 10)]);
        assert_eq!(sweep.points[2].cell.sampler, Some(Sampler::Named("pndm".into())));
        assert_eq!(sweep.references.len(), 2, "one for each prompt");
        assert_eq!((sweep.references[0].steps, sweep.references[1].prompt.as_str()), (100, blue));
        assert_eq!(sweep.axes.iter().map(|axis| axis.name.as_str()).collect::<Vec<_>>(), ["colour", "steps"]);
    }

    #[test]
    fn records_that_edits_read_are_meant_from_the_specs_folder() {
        let text = "name='x'\n[vary]\nedits=[['a => replace(b.trace)', 'a => zero'], ['a => add(../c, 0.5)', 'a => replace(/d)']]";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spec.toml");
        std::fs::write(&path, text).unwrap();
        let points = Spec::open(&path, &[]).unwrap().expand().unwrap().points;
        let at = |name: &str| folder.path().join(name).display().to_string();
        let edits = |index: usize| points[index].cell.edits.iter().map(EditRule::to_string).collect::<Vec<_>>();
        assert_eq!(edits(0), [format!("a => replace({})", at("b.trace")), "a => zero".into()]);
        assert_eq!(edits(1), [format!("a => add({}, 0.5)", at("../c")), "a => replace(/d)".into()]);
    }

    #[test]
    fn a_typo_is_an_error_with_the_near_name_the_file_and_the_line() {
        let wrong = |text: &str| format!("{:#}", spec(text).err().expect(text));
        let error = wrong("name='x'\n[fixed]\nstpes=3");
        assert!(error.contains(":3: fixed.stpes: unknown field") && error.contains("did you mean steps?"), "{error}");
        let set = |text: &str| format!("{:#}", spec_with(SMALL, &["steps=4", text]).err().expect(text));
        assert!(
            set("sede=3").starts_with("--set sede=3: unknown field\nhint: did you mean seed?"),
            "{}",
            set("sede=3")
        );
        assert!(set("seed=[1, -2]").starts_with("--set seed=[1, -2]: invalid value"), "{}", set("seed=[1, -2]"));
        for (text, says) in [
            ("name='../x'", ":1: name"),
            ("name='x'\n[vary]\nseed=[]", ":3: vary.seed: an empty list"),
            ("name='x'\n[vary]\nseed=3", ":3: vary.seed: expected a list"),
            ("name='x'\n[vary]\nseed=[1,\n'two']", ":4: vary.seed.1: invalid value: string \"two\""),
            (
                "name='x'\n[vary]\nseed=[1, -2]",
                ":3: vary.seed.1: invalid value: integer `-2`, expected a seed from 0 to",
            ),
            ("name='x'\n[fixed]\nseed='18446744073709551616'", ":3: fixed.seed: invalid value"),
            (
                "name='x'\n[fixed]\nseed=18446744073709551615",
                "hint: a seed above 9223372036854775807 is written in quotes",
            ),
            ("name='x'\n[fixed]\nseed=4.0", ":3: fixed.seed: invalid type: floating point"),
            ("name='x'\n[fixed]\nsteps=0", ":3: fixed.steps: expected 1 or more"),
            ("name='x'\n[fixed]\nstrength=0", ":3: fixed.strength"),
            ("name='x'\n[fixed]\nguidance=nan", ":3: fixed.guidance: expected a finite number"),
            ("name='x'\n[fixed]\nimage='no-such.png'", ":3: fixed.image: "),
            ("name='x'\n[fixed]\nmodel='no-such'", ":3: fixed.model: "),
            ("name='x'\n[fixed]\nsampler='lmx'", ":3: fixed.sampler: "),
            ("name='x'\n[fixed]\nseed=1\n[vary]\nseed=[1,2]", "given twice"),
            ("name='x'\n[[zip]]\nseed=[1,2]\nsteps=[1,2,3]", ":4: zip.0.steps: 3 values, and seed has 2"),
            ("name='x'\nmeasure=['adherance']", "did you mean adherence?"),
            ("name='x'\nfigures=['gird']", "did you mean grid?"),
            ("name='x'\ncapture=['unet.** | steps']", ":2: capture.0: "),
            ("name='x'\ncolour=3", "unknown field `colour`"),
            ("", "missing field `name`"),
        ] {
            let error = wrong(text);
            assert!(error.contains(says), "{text}: {error}");
        }
        let lone = spec("name='x'\n[fixed]\nprompt='a {colour'").unwrap().expand().err().unwrap();
        assert!(format!("{lone:#}").contains("a lone {"));
        let idle = spec("name='x'\n[vary]\nseed=[1,2]\n[[exclude]]\nseed=3").unwrap().expand().err().unwrap();
        assert!(format!("{idle:#}").contains(":4: exclude.0: no cell is like this"), "{idle:#}");
    }
}
