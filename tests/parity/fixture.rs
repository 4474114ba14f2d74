//! What diffusers computed, and how ours compares to it.

use latentrace::nn::tch::{self, Kind, Tensor};
use latentrace::nn::{Moment, Probe, Tap};
use latentrace::pipeline::{Device, Model, Options, Picture};
use latentrace::plot::open_image;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A JSON file of cases, and the tensors that they name.
pub struct Fixture {
    pub cases: Value,
    tensors: BTreeMap<String, Tensor>,
}

impl Fixture {
    /// Reads `stem.json` and `stem.safetensors`.
    pub fn read(stem: &Path) -> Fixture {
        let json = stem.with_extension("json");
        let text = std::fs::read_to_string(&json).unwrap_or_else(|error| panic!("{}: {error}", json.display()));
        let cases = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", json.display()));
        Fixture { cases, tensors: Fixture::tensors(&stem.with_extension("safetensors")) }
    }

    /// Every tensor of a file.
    pub fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
        let tensors = Tensor::read_safetensors(path).unwrap_or_else(|error| panic!("{error}"));
        tensors.into_iter().collect()
    }

    pub fn find(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    pub fn tensor(&self, name: &str) -> &Tensor {
        self.find(name).unwrap_or_else(|| panic!("{name}: no such tensor in the fixture"))
    }

    /// The tensor that a case names under `key`.
    pub fn of(&self, case: &Value, key: &str) -> &Tensor {
        self.tensor(word(case, key))
    }
}

pub fn word<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_else(|| panic!("{key}: no such word in {case}"))
}

pub fn list<'a>(case: &'a Value, key: &str) -> &'a [Value] {
    case[key].as_array().unwrap_or_else(|| panic!("{key}: no such list in {case}"))
}

/// A path in this repository.
pub fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Gives each operation this many threads. For tiny networks one is best: more only wait for each other, above all where
/// other tests run beside this one.
pub fn threads(count: usize) {
    tch::set_num_threads(count as i32);
}

/// A model on the CPU in f32, as the fixtures were made.
pub fn open(folder: &Path) -> Model {
    let options = Options { device: Device::Cpu, ..Options::default() };
    Model::open(folder, options).unwrap_or_else(|error| panic!("{error}"))
}

/// The picture of a file.
pub fn picture(path: &Path) -> Picture {
    let image = open_image(path).unwrap();
    let (width, height) = (image.width() as usize, image.height() as usize);
    Picture { width, height, pixels: image.into_raw() }
}

/// The largest difference, relative to the largest magnitude of `theirs`: a network's numbers are sums of products of
/// that order, so a small one among them is no more exact than a large one.
pub fn relative(ours: &Tensor, theirs: &Tensor) -> f64 {
    absolute(ours, theirs) / theirs.abs().max().double_value(&[])
}

/// The largest difference.
pub fn absolute(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.size(), theirs.size());
    (ours.to_kind(Kind::Double) - theirs.to_kind(Kind::Double)).abs().max().double_value(&[])
}

/// Whether two tensors are the same in every bit.
pub fn identical(ours: &Tensor, theirs: &Tensor) -> bool {
    ours.kind() == theirs.kind() && ours.size() == theirs.size() && ours.equal(theirs)
}

/// Keeps what goes through the taps of these names, in order of time.
pub struct Watch {
    names: BTreeSet<String>,
    pub seen: BTreeMap<String, Vec<(Moment, Tensor)>>,
}

impl Watch {
    pub fn new(names: impl IntoIterator<Item = String>) -> Watch {
        Watch { names: names.into_iter().collect(), seen: BTreeMap::new() }
    }

    /// The one tensor that a tap saw.
    pub fn only(&self, name: &str) -> &Tensor {
        match self.seen.get(name).map(Vec::as_slice) {
            Some([(_, tensor)]) => tensor,
            other => panic!("{name}: expected one tensor, found {}", other.map_or(0, <[_]>::len)),
        }
    }
}

impl Probe for Watch {
    fn wants(&self, tap: &Tap, _: &Moment) -> bool {
        self.names.contains(tap.name())
    }

    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        self.seen.entry(tap.name().into()).or_default().push((moment, tensor.copy()));
        tensor
    }
}

/// Errors to print as a table and to hold all at once.
pub struct Table {
    title: String,
    rows: Vec<Row>,
}

struct Row {
    group: String,
    what: String,
    error: f64,
    tolerance: f64,
}

impl Table {
    pub fn new(title: impl Into<String>) -> Table {
        Table { title: title.into(), rows: Vec::new() }
    }

    /// Notes an error of one tensor; those of a group are printed as one row, with the worst.
    pub fn add(&mut self, group: &str, what: &str, error: f64, tolerance: f64) {
        self.rows.push(Row { group: group.into(), what: what.into(), error, tolerance });
    }

    /// Prints the worst of each group, and fails if any is beyond its tolerance.
    #[allow(clippy::print_stdout)] // the table is what `--nocapture` is for
    pub fn finish(self) {
        assert!(!self.rows.is_empty(), "{}: nothing was compared", self.title);
        let mut groups: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !groups.contains(&row.group.as_str()) {
                groups.push(&row.group);
            }
        }
        let longest = groups.iter().map(|group| group.len()).max().unwrap_or_default();
        let mut text =
            format!("\n{}\n{:<longest$} {:>7} {:>10} {:>10}\n", self.title, "", "tensors", "worst", "allowed");
        for group in groups {
            let rows = || self.rows.iter().filter(|row| row.group == group);
            let worst = rows().max_by(|a, b| (a.error / a.tolerance).total_cmp(&(b.error / b.tolerance))).unwrap();
            let Row { what, error, tolerance, .. } = worst;
            text += &format!("{group:<longest$} {:>7} {error:>10.1e} {tolerance:>10.1e}  {what}\n", rows().count());
        }
        println!("{text}");
        // Not `>`: what is not a number is beyond every tolerance.
        let within = |row: &&Row| row.error <= row.tolerance;
        let beyond: Vec<String> = (self.rows.iter().filter(|row| !within(row)))
            .map(|row| format!("{}, {}: {:.3e}, allowed {:.1e}", row.group, row.what, row.error, row.tolerance))
            .collect();
        assert!(beyond.is_empty(), "{}:\n{}", self.title, beyond.join("\n"));
    }
}
