//! A recorded run, read.

use crate::entry::{End, Entry, FORMAT, Key, Line};
use crate::error::{Error, Result, file};
use crate::numbers::{from_levels, kind, name};
use crate::writer::shard_name;
use latentrace_nn::Branch;
use latentrace_nn::tch::{Kind, Tensor};
use memmap2::Mmap;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A recorded run: what it was, and every tensor that was kept of it. Opening reads the index; a tensor is read from its
/// memory-mapped shard when it is asked for.
///
/// What is damaged or missing is left out of [`Trace::entries`] and said in [`Trace::problems`]; the rest can be read.
pub struct Trace {
    folder: PathBuf,
    run: Value,
    entries: Vec<Entry>,
    places: HashMap<Key, usize>,
    complete: usize,
    end: Option<End>,
    problems: Vec<String>,
    /// How many more problems there are.
    untold: usize,
    shards: RefCell<HashMap<String, Shard>>,
}

/// So many problems are told one by one.
const MOST_PROBLEMS: usize = 100;

/// More than any index or description is, and little enough to be read at once.
const LARGEST: u64 = 1 << 30;

impl Trace {
    /// Opens a trace folder.
    ///
    /// # Errors
    /// The folder is missing, is no trace, or is one of a later version.
    pub fn open(folder: &Path) -> Result<Trace> {
        let run = read_run(folder)?;
        let mut trace = Trace {
            folder: folder.into(),
            run,
            entries: Vec::new(),
            places: HashMap::new(),
            complete: 0,
            end: None,
            problems: Vec::new(),
            untold: 0,
            shards: RefCell::default(),
        };
        trace.read_index()?;
        Ok(trace)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the run was: `run.json`.
    pub fn run(&self) -> &Value {
        &self.run
    }

    /// Every tensor that can be read, in the order in which they passed.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many network calls are recorded whole, counted from the first.
    pub fn complete(&self) -> usize {
        self.complete
    }

    /// How the record ended; without, the run was cut off and can be resumed.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// What is damaged or missing, a line each.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The entry of a tensor.
    pub fn find(&self, key: &Key) -> Option<&Entry> {
        self.places.get(key).map(|&place| &self.entries[place])
    }

    /// The whole tensor that passed a tap at a call: of the only image, and of a branch where there are two.
    ///
    /// # Errors
    /// It was not kept, or its bytes have changed.
    pub fn get(&self, tap: &str, call: usize, branch: Option<Branch>) -> Result<Tensor> {
        let key = Key { call, tap: tap.into(), branch, image: 0, kept: String::new() };
        let absent = || {
            let calls: Vec<String> = self.of_tap(tap).map(|entry| entry.key().name()).take(3).collect();
            let hint = if calls.is_empty() {
                "no tensor of this tap was kept".into()
            } else {
                format!("there are {}, ..", calls.join(", "))
            };
            Error::Absent { name: key.name(), folder: self.folder.display().to_string(), hint }
        };
        self.tensor(self.find(&key).ok_or_else(absent)?)
    }

    /// The entries of a tap, in order.
    pub fn of_tap<'a>(&'a self, tap: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| entry.tap == tap)
    }

    /// The tensor of an entry: in f32 where it was stored in 256 levels, else as it was stored.
    ///
    /// # Errors
    /// Only its statistics were kept, or its bytes have changed.
    pub fn tensor(&self, entry: &Entry) -> Result<Tensor> {
        let name = entry.key().name();
        let absent = |hint: &str| Error::Absent {
            name: name.clone(),
            folder: self.folder.display().to_string(),
            hint: hint.into(),
        };
        let stored = entry.stored.as_ref().ok_or_else(|| absent("only its statistics were kept"))?;
        let path = self.folder.join("shards").join(&stored.shard);
        let shards = self.shards.borrow();
        let shard = shards.get(&stored.shard).ok_or_else(|| absent("its shard cannot be read"))?;
        let place = shard.places.get(&stored.name).ok_or_else(|| absent("its shard does not hold it"))?;
        let bytes = &shard.map[place.bytes.clone()];
        if stored.crc32.is_some_and(|crc32| crc32 != crc32fast::hash(bytes)) {
            return Err(Error::Damaged { name, file: path.display().to_string() });
        }
        let unsupported = || file(&path, format!("{name}: unsupported number format {:?}", place.dtype));
        let kind = kind(place.dtype).ok_or_else(unsupported)?;
        let shape: Vec<i64> = place.shape.iter().map(|&size| size as i64).collect();
        let tensor = Tensor::f_from_data_size(bytes, &shape, kind).map_err(|error| file(&path, error))?;
        Ok(match (stored.range, kind) {
            (Some(range), Kind::Uint8) => from_levels(&tensor, range),
            _ => tensor,
        })
    }

    fn read_index(&mut self) -> Result<()> {
        let path = self.folder.join("index.jsonl");
        let text = match read_whole(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.problems.push(error.to_string());
                return Ok(());
            }
        };
        let mut complete = Vec::new();
        let mut damaged = false;
        let lines = text.split_inclusive(|byte| *byte == b'\n').enumerate();
        for (number, line) in lines {
            let at = || format!("{}, line {}", path.display(), number + 1);
            let Some(line) = line.strip_suffix(b"\n") else {
                self.problem(format!("{}: cut off, as a kill leaves it", at()));
                continue;
            };
            match std::str::from_utf8(line).map_err(|error| error.to_string()).and_then(Line::read) {
                Ok(Line::Entry(entry)) => damaged |= !self.add(*entry),
                Ok(Line::Complete { complete: call }) => {
                    // A call is whole only if everything that was said before it could be read.
                    if !damaged {
                        complete.push(call);
                    }
                }
                Ok(Line::End { end }) => self.end = Some(end).filter(|_| !damaged),
                Err(cause) => {
                    damaged = true;
                    self.problem(format!("{}: {cause}", at()));
                }
            }
        }
        if self.untold > 0 {
            self.problems.push(format!("{}: {} more of these", path.display(), self.untold));
        }
        self.complete = complete.into_iter().max().map_or(0, |call: usize| call.saturating_add(1));
        Ok(())
    }

    /// Tells a problem in a line of sane length, or counts it where there are many.
    fn problem(&mut self, problem: String) {
        match self.problems.len() < MOST_PROBLEMS {
            true if problem.len() < 1000 => self.problems.push(problem),
            true => self.problems.push(problem.chars().take(500).chain(" ..".chars()).collect()),
            false => self.untold += 1,
        }
    }

    /// Takes up an entry if what it speaks of is there.
    fn add(&mut self, entry: Entry) -> bool {
        if let Err(problem) = self.check(&entry) {
            // One line for a shard that cannot be read, however many tensors it held.
            if self.problems.last() != Some(&problem) {
                self.problem(problem);
            }
            return false;
        }
        self.places.insert(entry.key(), self.entries.len());
        self.entries.push(entry);
        true
    }

    fn check(&self, entry: &Entry) -> std::result::Result<(), String> {
        let Some(stored) = &entry.stored else { return Ok(()) };
        let path = self.folder.join("shards").join(&stored.shard);
        let problem = |cause: String| format!("{}: {cause}", path.display());
        let number = stored.shard.strip_suffix(".safetensors").and_then(|number| number.parse::<u32>().ok());
        if number.map(|number| shard_name(number as usize)).as_ref() != Some(&stored.shard) {
            return Err(format!(
                "{}: {:?} is no name of a shard",
                self.folder.join("index.jsonl").display(),
                stored.shard
            ));
        }
        let mut shards = self.shards.borrow_mut();
        if !shards.contains_key(&stored.shard) {
            let shard = Shard::open(&path).map_err(problem)?;
            shards.insert(stored.shard.clone(), shard);
        }
        match shards[&stored.shard].places.get(&stored.name) {
            None => Err(problem(format!("{}: no such tensor in it", stored.name))),
            Some(place) if place.shape != entry.shape => {
                Err(problem(format!("{}: expected shape {:?}, found {:?}", stored.name, entry.shape, place.shape)))
            }
            Some(place) if kind(place.dtype).and_then(name) != Some(&stored.dtype) => {
                Err(problem(format!("{}: expected format {}, found {}", stored.name, stored.dtype, place.dtype)))
            }
            Some(_) => Ok(()),
        }
    }

    /// Clears away what is not whole, and gives the number of the next shard.
    pub(crate) fn prune(&self) -> Result<usize> {
        let path = self.folder.join("index.jsonl");
        let folder = self.folder.join("shards");
        no_link(&folder).map_err(|cause| file(&folder, cause))?; // nothing outside may be cleared away
        let mut lines = String::new();
        self.entries.iter().for_each(|entry| Line::Entry(Box::new(entry.clone())).write(&mut lines));
        if let Some(last) = self.complete.checked_sub(1) {
            Line::Complete { complete: last }.write(&mut lines);
        }
        latentrace_nn::replace(&path, lines.as_bytes())?;
        let used = |name: &str| self.entries.iter().flat_map(|entry| &entry.stored).any(|stored| stored.shard == name);
        let mut next = 0;
        for found in std::fs::read_dir(&folder).map_err(|error| file(&folder, error))?.flatten() {
            let name = found.file_name().to_string_lossy().into_owned();
            if !used(&name) {
                std::fs::remove_file(found.path()).map_err(|error| file(&found.path(), error))?;
            }
        }
        for stored in self.entries.iter().flat_map(|entry| &entry.stored) {
            let number: usize = stored.shard.trim_end_matches(".safetensors").parse().unwrap_or(0);
            next = next.max(number + 1);
        }
        Ok(next)
    }
}

fn read_run(folder: &Path) -> Result<Value> {
    let path = folder.join("run.json");
    if !path.is_file() {
        let what = if folder.is_dir() { "no run.json in this folder" } else { "no such folder" };
        return Err(file(folder, format!("{what}\nhint: a trace is a folder with run.json, index.jsonl and shards")));
    }
    let run: Value = serde_json::from_slice(&read_whole(&path)?).map_err(|error| file(&path, error))?;
    match run.get("format").and_then(Value::as_u64) {
        Some(found) if found > FORMAT => Err(Error::Version { file: path.display().to_string(), found, known: FORMAT }),
        Some(_) => Ok(run),
        None => Err(file(&path, "no format in it: this is not a trace of latentrace")),
    }
}

/// A file of a trace, if it is a plain file of a sane size.
fn read_whole(path: &Path) -> Result<Vec<u8>> {
    let about = plain(path).map_err(|cause| file(path, cause))?;
    if about.len() > LARGEST {
        return Err(file(path, format!("{} bytes are more than an index has", about.len())));
    }
    std::fs::read(path).map_err(|error| file(path, error))
}

/// A plain file: no link, that might lead out of the folder.
fn plain(path: &Path) -> std::result::Result<std::fs::Metadata, String> {
    let about = std::fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    if about.is_file() { Ok(about) } else { Err("not a plain file".into()) }
}

/// Holds that a folder, if it is there, is one itself and no link to one.
fn no_link(folder: &Path) -> std::result::Result<(), String> {
    match std::fs::symlink_metadata(folder) {
        Ok(about) if !about.is_dir() => Err("the folder of the shards is a link".into()),
        _ => Ok(()),
    }
}

/// A shard in memory, its header read.
struct Shard {
    map: Mmap,
    places: HashMap<String, Place>,
}

/// Where a tensor is in its shard.
struct Place {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

impl Shard {
    fn open(path: &Path) -> std::result::Result<Shard, String> {
        no_link(path.parent().unwrap_or(path))?;
        plain(path)?;
        let file = File::open(path).map_err(|error| error.to_string())?;
        #[allow(unsafe_code)] // Safety: shards are never changed once they are named; what is read of them is copied.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| error.to_string())?;
        let header = SafeTensors::deserialize(&map).map_err(|error| format!("not whole ({error})"))?;
        let place = |view: &TensorView| {
            let start = view.data().as_ptr() as usize - map.as_ptr() as usize;
            Place { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: start..start + view.data().len() }
        };
        let places = header.iter().map(|(name, view)| (name.to_string(), place(&view))).collect();
        Ok(Shard { map, places })
    }
}
