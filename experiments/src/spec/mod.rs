//! An experiment: what is fixed, what varies, what is measured and drawn.
//!
//! [`Spec::open`] reads a file (`written`, `paths`), makes groups of what varies (`groups`, `values`) and checks it
//! (`check`, `needs`); [`Spec::expand`] makes its cells (`expand`, `axis`, `exclude`). `docs/specs.md` describes the format.

mod axis;
mod check;
mod draft;
mod exclude;
mod expand;
mod groups;
mod lines;
mod needs;
mod paths;
mod values;
mod words;
mod written;

pub use axis::{Axis, AxisField};
pub use draft::Draft;
pub use expand::{Expanded, Point};

use crate::figures::Figure;
use crate::measure::Measure;
use anyhow::{Error, Result};
use groups::Group;
use latentrace_files::{read_text, slug};
use latentrace_runs::Kept;
use latentrace_trace::Rule;
use lines::Lines;
use std::path::{Path, PathBuf};
use toml::{Table, Value};
use written::{Written, is_text};

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

impl Spec {
    /// Reads a spec, with `key=value` overrides; everything in it is checked that can be without its models.
    ///
    /// # Errors
    /// The file cannot be read, or a field of it is not known, has a wrong value or has no effect: the error names the
    /// file and the line.
    pub fn open(path: &Path, overrides: &[String]) -> Result<Spec> {
        let text = read_text(path)?;
        let mut written = Written::read(&text, path)?;
        let zips = written.zip.len();
        for assignment in overrides {
            written.set(assignment)?;
        }
        // Where all fields of a zip are replaced, those after it have another number than in the file.
        let lines = if written.zip.len() == zips { Lines::of(&text) } else { Lines::default() };
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

    /// The name of its folder under `runs/`: its own, and what replaces fields of the file:
    /// `scales@prompt=a-cat,seed=7`. So a run with other settings does not replace the tables and figures of the
    /// experiment. Where a text has more than such a name can hold, four digits of a hash follow.
    pub fn folder(&self) -> String {
        let set: Vec<(&str, &str)> = self.overrides.iter().filter_map(|set| set.split_once('=')).collect();
        let is_last = |index: usize, key: &str| set[index + 1..].iter().all(|(other, _)| other.trim() != key);
        let mut is_whole = true;
        let mut parts: Vec<String> = Vec::new();
        for (index, (key, value)) in set.iter().enumerate() {
            let (key, value) = (key.trim(), value.trim());
            if is_last(index, key) {
                let name = slug(value);
                let name = name.trim_end_matches('-');
                is_whole &= !is_text(key) || name == value.to_lowercase().replace(' ', "-");
                parts.push(format!("{key}={name}"));
            }
        }
        let at = if parts.is_empty() { "" } else { "@" };
        let mut name = format!("{}{at}{}", self.name, parts.join(","));
        if !is_whole || name.len() > LONGEST {
            let hash = format!("-{}", &blake3::hash(self.overrides.join("\n").as_bytes()).to_hex()[..4]);
            while name.len() + hash.len() > LONGEST {
                name.pop();
            }
            name += &hash;
        }
        name
    }

    /// Whether the spec says a field of its cells.
    pub(crate) fn says(&self, field: &str) -> bool {
        let varies = self.groups.iter().flat_map(|group| &group.fields).any(|(varied, _)| varied == field);
        varies || self.fixed.contains_key(field) || self.reference.contains_key(field)
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
        match self.assignment(path) {
            Some(assignment) => error.context(format!("--set {assignment}")),
            None => error.context(format!("{}: {path}", self.place(path))),
        }
    }

    /// Where a field stands: the file, with the line where it has one.
    fn place(&self, path: &str) -> String {
        let file = self.file.display();
        self.lines.line(path).map_or_else(|| file.to_string(), |line| format!("{file}:{line}"))
    }

    /// The error of a cell that cannot be made, with the place of the field that it begins with: `height: ..`, or
    /// `scheduler: solver_order: ..`.
    pub(crate) fn of_cell(&self, error: Error, label: &str) -> Error {
        let said = format!("{error:#}");
        let mut parts = said.split(": ");
        let (field, option) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let names = [format!("{field}.{option}"), field.to_string()];
        let entry = names.iter().find_map(|name| self.entries().into_iter().find(|entry| entry.key == name));
        let error = error.context(label.to_owned());
        let Some(path) = entry.map(|entry| entry.path()) else {
            return error.context(self.file.display().to_string());
        };
        match self.assignment(&path) {
            Some(assignment) => error.context(format!("--set {assignment}")),
            None => error.context(self.place(&path)),
        }
    }

    /// The override that gives the field of a path. The last one counts.
    fn assignment(&self, path: &str) -> Option<&String> {
        self.replaced(path.strip_prefix("fixed.").or_else(|| path.strip_prefix("vary."))?)
    }

    /// The override that gives a field or a word. The last one counts.
    fn replaced(&self, field: &str) -> Option<&String> {
        let gives = |key: &str| field.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.overrides.iter().rev().find(|text| text.split_once('=').is_some_and(|(key, _)| gives(key.trim())))
    }

    /// The rules of what is kept.
    fn rules(&self, written: &[String]) -> Result<Vec<Rule>> {
        let read = |(index, text): (usize, &String)| {
            Rule::parse(text).map_err(|error| self.at(&format!("capture.{index}"), error.into()))
        };
        written.iter().enumerate().map(read).collect()
    }

    /// Reads the names of measures and figures.
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_runs::{Cell, Sampler};

    pub(super) fn spec(text: &str) -> Result<Spec> {
        spec_with(text, &[])
    }

    pub(super) fn spec_with(text: &str, overrides: &[&str]) -> Result<Spec> {
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

    pub(super) const SMALL: &str = "name='x'\n[fixed]\nprompt='a'\n[vary]\nseed=[1,2]\nguidance=[0.5,4]";

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
        assert_eq!(folder(&["prompt=a blue square", "guidance = [1, 7.5]"]), "x@prompt=a-blue-square,guidance=1-7.5");
        let [one, other] = ["prompt=a red, blue square", "prompt=a red blue, square"].map(|set| folder(&[set]));
        assert!(one != other && one.starts_with("x@prompt=a-red-blue-square-"), "{one} {other}");
        assert_eq!(folder(&["seed=1", "seed=22"]), "x@seed=22", "the last one counts");
        let long = folder(&[&format!("prompt={}", "红".repeat(300))]);
        assert!(long.len() <= LONGEST && long.starts_with("x@prompt=红红") && !long.ends_with('红'), "{long}");
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
        assert!(whole.contains(":3: fixed.scheduler: expected a table, found \"lms\""), "{whole}");
    }

    #[test]
    fn fields_vary_together_words_are_put_in_and_cells_left_out() {
        let text = "name='x'\nfigures=['schedulers']\n[fixed]\nprompt='a {size} {colour} circle {{sic}}'\nsize='large'\n[vary]\ncolour=['red','blue']\n[[zip]]\nsteps=[5,10]\nsampler=['lms','pndm']\n[[exclude]]\ncolour='red'\nsteps=10\n[reference]\nsteps=100\nsampler='lms'";
        let sweep = spec(text).unwrap().expand().unwrap();
        let cells: Vec<_> = sweep.points.iter().map(|point| (point.cell.prompt.as_str(), point.cell.steps)).collect();
        let (red, blue) = ("a large red circle {sic}", "a large blue circle {sic}");
        assert_eq!(cells, [(red, 5), (blue, 5), (blue, 10)]);
        assert_eq!(sweep.points[2].cell.sampler, Some(Sampler::Named("pndm".into())));
        assert_eq!(sweep.references.len(), 2, "one for each prompt");
        assert_eq!((sweep.references[0].steps, sweep.references[1].prompt.as_str()), (100, blue));
        assert_eq!(sweep.axes.iter().map(|axis| axis.name.as_str()).collect::<Vec<_>>(), ["colour", "steps, sampler"]);
    }

    #[test]
    fn what_a_cell_cannot_have_is_named_with_its_line() {
        let small = "name='x'\n[fixed]\nprompt='a'\nheight=100\nscheduler.rho=5\n[vary]\nseed=[1,2]";
        let said = |spec: Spec, error: &str| format!("{:#}", spec.of_cell(anyhow::anyhow!(error.to_owned()), "seed 1"));
        let of = |error: &str| said(spec(small).unwrap(), error);
        assert!(of("height: 100 pixels cannot be made").ends_with(":4: seed 1: height: 100 pixels cannot be made"));
        assert!(of("scheduler: rho: no such option").ends_with(":5: seed 1: scheduler: rho: no such option"));
        let unplaced = of("the model: is too large");
        assert!(unplaced.ends_with(": seed 1: the model: is too large") && !unplaced.contains(":4:"), "{unplaced}");
        let set = spec_with(small, &["height=96"]).unwrap();
        assert_eq!(said(set, "height: 96 pixels"), "--set height=96: seed 1: height: 96 pixels");
    }

    #[test]
    fn a_text_with_a_lone_brace_is_no_cell() {
        let lone = spec("name='x'\n[fixed]\nprompt='a {colour'").unwrap().expand().err().unwrap();
        assert!(format!("{lone:#}").contains("a lone {"));
    }

    #[test]
    fn an_error_names_the_line_also_where_other_fields_are_replaced() {
        let text = "name='x'\n[fixed]\nstpes=3\n[[zip]]\nseed=[1,2]\nguidance=[1,4]";
        let error = |overrides: &[&str]| format!("{:#}", spec_with(text, overrides).err().unwrap());
        assert!(error(&["seed=7"]).contains(":3: fixed.stpes: unknown field"), "{}", error(&["seed=7"]));
        let error = error(&["seed=7", "guidance=2"]);
        assert!(error.contains(": fixed.stpes: unknown field") && !error.contains(":3:"), "{error}");
    }
}
