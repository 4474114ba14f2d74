//! Reading a record.

use crate::Owner;
use crate::entry::{End, Entry, FORMAT, Key, Line, Read, Stored};
use crate::error::{Error, Result, file};
use crate::numbering::{Numbering, Place as Order};
use crate::numbers::{from_levels, kind, name};
use crate::owner::{Stamp, live, live_error};
use crate::writer::{Begun, shard_name};
use latentrace_files::said;
use latentrace_nn::tch::{Kind, Tensor};
use latentrace_nn::{Branch, Role, SamplerValue};
use memmap2::Mmap;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The record of a run: its description, and every tensor that was kept. Opening it reads the index; a tensor is read
/// from its memory-mapped shard when it is needed.
///
/// What is damaged or missing is not in [`Trace::entries`] but in [`Trace::problems`]; the rest can be read.
pub struct Trace {
    folder: PathBuf,
    run: Value,
    run_crc32: u32,
    /// `run_crc32` as the index has it.
    recorded_with: Option<u32>,
    live: Option<Owner>,
    /// Identity and length of the index when it was read.
    stamp: Option<Stamp>,
    entries: Vec<Entry>,
    places: HashMap<Key, usize>,
    /// The places in `entries` of the sampler's values that were kept whole.
    values: HashMap<SamplerValue, Vec<usize>>,
    complete: usize,
    /// How many tensors did not fit the budget until the end of the last complete call.
    beyond_budget: u64,
    end: Option<End>,
    problems: Vec<String>,
    /// How many more problems there are.
    untold: usize,
    shards: RefCell<HashMap<String, Shard>>,
}

/// At most this many problems are listed.
const MOST_PROBLEMS: usize = 100;

/// The most bytes of an index or a description: more than any has, and few enough to be read at once.
const LARGEST: u64 = 1 << 30;

impl Trace {
    /// Opens a trace folder, or that which is named `trace` in the folder of a run.
    ///
    /// # Errors
    /// The folder is missing, is not a trace, or has a later format version.
    pub fn open(folder: &Path) -> Result<Trace> {
        let inside = folder.join("trace");
        let folder = if inside.is_dir() && !folder.join("run.json").exists() { &inside } else { folder };
        let (run, run_crc32) = read_run(folder)?;
        let mut trace = Trace {
            folder: folder.into(),
            run,
            run_crc32,
            recorded_with: None,
            live: live(folder), // before the index: a run that ends in between is live then, not cut off
            stamp: None,
            entries: Vec::new(),
            places: HashMap::new(),
            values: HashMap::new(),
            complete: 0,
            beyond_budget: 0,
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

    /// The description of the run: `run.json`.
    pub fn run(&self) -> &Value {
        &self.run
    }

    /// Every tensor that can be read, in the order of recording.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many network calls from the first on are recorded completely.
    pub fn complete(&self) -> usize {
        self.complete
    }

    /// The process that was writing the record when it was opened, if any.
    pub fn live(&self) -> Option<&Owner> {
        self.live.as_ref()
    }

    /// Checks that no process is writing the record.
    ///
    /// # Errors
    /// A process was writing it when it was opened.
    pub fn check_idle(&self) -> Result<()> {
        self.live.as_ref().map_or(Ok(()), |owner| Err(live_error(&self.folder, owner)))
    }

    /// Whether a change of `run.json` would be detected. Older records lack its checksum.
    pub fn vouches_for_run(&self) -> bool {
        self.recorded_with.is_some()
    }

    /// Checks that `run.json` has not changed since the run was recorded, if the record has its checksum.
    ///
    /// # Errors
    /// It has changed.
    pub fn check_run(&self) -> Result<()> {
        match self.recorded_with {
            Some(crc32) if crc32 != self.run_crc32 => {
                Err(Error::RunChanged { file: self.folder.join("run.json").display().to_string() })
            }
            _ => Ok(()),
        }
    }

    /// How the record ended. `None` if the run is [live](Trace::live), or was cut off and can be resumed.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// What is damaged or missing, one line each.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The entry of a tensor.
    pub fn find(&self, key: &Key) -> Option<&Entry> {
        self.places.get(key).map(|&place| &self.entries[place])
    }

    /// The whole tensor that passed a tap at a call, of the first image and, if it belongs to one, of a branch.
    ///
    /// # Errors
    /// It was not kept, or its bytes have changed.
    pub fn get(&self, tap: &str, call: usize, branch: Option<Branch>) -> Result<Tensor> {
        let key = Key { call, tap: tap.into(), branch, image: 0, kept: String::new() };
        self.tensor(self.find(&key).ok_or_else(|| self.absent(&key, self.of_tap(tap)))?)
    }

    /// A value of the sampler at a call, of the first image.
    ///
    /// # Errors
    /// It was not kept, or its bytes have changed.
    pub fn value(&self, value: SamplerValue, call: usize) -> Result<Tensor> {
        let key = || Key { call, tap: value.name().into(), branch: None, image: 0, kept: String::new() };
        let found = self.find_value(value, call, 0);
        self.tensor(found.ok_or_else(|| self.absent(&key(), self.values(value)))?)
    }

    /// The entry of a value of the sampler at a call.
    pub(crate) fn find_value(&self, value: SamplerValue, call: usize, image: usize) -> Option<&Entry> {
        self.values(value).rfind(|entry| (entry.call, entry.image) == (call, image))
    }

    /// Whether the record has a value of the sampler at a call.
    pub fn has_value(&self, value: SamplerValue, call: usize) -> bool {
        self.values(value).any(|entry| entry.call == call)
    }

    /// The entries of a value of the sampler that were kept whole, in order.
    pub fn values(&self, value: SamplerValue) -> impl DoubleEndedIterator<Item = &Entry> {
        self.values.get(&value).into_iter().flatten().map(|&place| &self.entries[place])
    }

    /// The entries of a role, in order.
    pub fn of_role(&self, role: Role) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.role() == role)
    }

    /// The error of a tensor that is not there. It names what there is of its tap.
    fn absent<'a>(&self, key: &Key, there: impl Iterator<Item = &'a Entry>) -> Error {
        let calls: Vec<String> = there.map(|entry| entry.key().name()).take(3).collect();
        let hint = if calls.is_empty() {
            "no tensor of this tap was kept".into()
        } else {
            format!("there are {}, ..", calls.join(", "))
        };
        Error::Absent { name: key.name(), folder: self.folder.display().to_string(), hint }
    }

    /// The entries of a tap, in order.
    pub fn of_tap<'a>(&'a self, tap: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| entry.tap == tap)
    }

    /// The tensor of an entry, in the number format in which it is stored; in f32 if it is stored in 256 levels.
    ///
    /// # Errors
    /// Only its statistics were kept, or its bytes have changed.
    pub fn tensor(&self, entry: &Entry) -> Result<Tensor> {
        let name = entry.key().name();
        let hint = "only its statistics were kept".to_string();
        let absent = || Error::Absent { name: name.clone(), folder: self.folder.display().to_string(), hint };
        self.read(&name, entry.stored.as_ref().ok_or_else(absent)?)
    }

    /// Of a `topk`, the places of its numbers in the flattened tensor, `[1, n]` in i64.
    ///
    /// # Errors
    /// The bytes have changed.
    pub fn places(&self, entry: &Entry) -> Result<Option<Tensor>> {
        entry.places.as_ref().map(|places| self.read(&entry.key().name_of_places(), places)).transpose()
    }

    /// A stored tensor, in the number format in which it is stored; in f32 if it is stored in 256 levels.
    fn read(&self, name: &str, stored: &Stored) -> Result<Tensor> {
        let absent = |hint: &str| Error::Absent {
            name: name.into(),
            folder: self.folder.display().to_string(),
            hint: hint.into(),
        };
        let path = self.folder.join("shards").join(&stored.shard);
        let shards = self.shards.borrow();
        let shard = shards.get(&stored.shard).ok_or_else(|| absent("its shard cannot be read"))?;
        let place = shard.places.get(&stored.name).ok_or_else(|| absent("its shard does not hold it"))?;
        let bytes = &shard.map[place.bytes.clone()];
        if stored.crc32.is_some_and(|crc32| crc32 != crc32fast::hash(bytes)) {
            return Err(Error::Damaged { name: name.into(), file: path.display().to_string() });
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
        self.stamp = Stamp::at(&path);
        let text = match read_whole(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.problems.push(error.to_string());
                return Ok(());
            }
        };
        let mut found = Found { numbering: Numbering::new(), complete: None, end: None, damaged: false, ended: false };
        for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let at = format!("{}, line {}", path.display(), number + 1);
            match line.strip_suffix(b"\n") {
                Some(line) => self.read_line(line, &at, &mut found),
                None if self.live.is_some() => {} // it is being written
                None => self.problem(format!("{at}: cut off, as by a kill")),
            }
        }
        (self.end, self.beyond_budget) = (found.end, found.complete.map_or(0, |(_, beyond)| beyond));
        self.complete = found.complete.map_or(0, |(call, _)| call.saturating_add(1));
        // If lines could not be read, it is known already why no line refers to some tensors.
        if found.ended && (!found.damaged || found.numbering.has_gaps()) {
            self.look_for_orphans();
        }
        if let Err(error) = self.check_run() {
            let said = error.to_string();
            self.problem(said.lines().next().unwrap_or_default().to_string());
        }
        if self.untold > 0 {
            self.problems.push(format!("{}: {} more of these", path.display(), self.untold));
        }
        Ok(())
    }

    fn read_line(&mut self, line: &[u8], at: &str, found: &mut Found) {
        let read = std::str::from_utf8(line).map_err(|error| error.to_string()).and_then(Line::read);
        let Read { line, number, run_crc32 } = match read {
            Ok(read) => read,
            Err(cause) => {
                (found.damaged, _) = (true, found.numbering.unreadable());
                return self.problem(format!("{at}: {cause}"));
            }
        };
        self.recorded_with = self.recorded_with.or(run_crc32);
        match found.numbering.read(number) {
            Order::Next => {}
            Order::Wrong(problem) => {
                found.damaged = true;
                self.problem(format!("{at}: {problem}"));
            }
            Order::Twice(problem) => {
                found.damaged = true;
                return self.problem(format!("{at}: {problem}"));
            }
        }
        match line {
            Line::Entry(entry) => found.damaged |= !self.add(*entry),
            Line::Complete { complete, beyond_budget } => {
                // A call is complete only if every line before could be read.
                if !found.damaged && found.complete.is_none_or(|(last, _)| last < complete) {
                    found.complete = Some((complete, beyond_budget));
                }
            }
            Line::End { end } => {
                found.ended = true;
                found.end = Some(end).filter(|_| !found.damaged);
            }
        }
    }

    /// Finds tensors in the shards of an ended record to which no line refers: their lines have been removed. In a run
    /// that was resumed a shard may have such tensors, but these were recorded again.
    fn look_for_orphans(&mut self) {
        let Ok(found) = std::fs::read_dir(self.folder.join("shards")) else { return };
        let mut names: Vec<String> =
            found.flatten().map(|found| found.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| shard_number(name).is_some());
        names.sort();
        let mut spoken_of: HashSet<(&str, &str)> = HashSet::new();
        for stored in self.entries.iter().flat_map(Entry::parts) {
            spoken_of.insert((&stored.shard, &stored.name));
        }
        let mut orphans: Vec<(String, String)> = Vec::new();
        for name in names {
            let path = self.folder.join("shards").join(&name);
            let mut shards = self.shards.borrow_mut();
            if !shards.contains_key(&name) {
                let Ok(shard) = Shard::open(&path) else { continue };
                shards.insert(name.clone(), shard);
            }
            let held = shards[&name].places.keys().filter(|held| !spoken_of.contains(&(&name, held)));
            orphans.extend(held.map(|held| (name.clone(), held.clone())));
        }
        if orphans.is_empty() {
            return;
        }
        let names = |key: Key| [key.name(), key.name_of_places()];
        let known: HashSet<String> = self.entries.iter().flat_map(|entry| names(entry.key())).collect();
        orphans.retain(|(_, name)| !known.contains(name));
        orphans.sort();
        for (shard, name) in orphans {
            self.end = None;
            self.complete = Key::call_of(&name).map_or(self.complete, |call| self.complete.min(call));
            let path = self.folder.join("shards").join(shard);
            self.problem(format!("{}: holds {name}, whose line in index.jsonl is missing", path.display()));
        }
    }

    /// Adds a problem, shortened if it is long; only counts it if there are many already.
    fn problem(&mut self, problem: String) {
        match self.problems.len() < MOST_PROBLEMS {
            true if problem.len() < 1000 => self.problems.push(problem),
            true => self.problems.push(problem.chars().take(500).chain(" ..".chars()).collect()),
            false => self.untold += 1,
        }
    }

    /// Adds an entry if what it refers to is there.
    fn add(&mut self, entry: Entry) -> bool {
        if let Err(problem) = self.check(&entry) {
            // One line for a shard that cannot be read, however many tensors it has.
            if self.problems.last() != Some(&problem) {
                self.problem(problem);
            }
            return false;
        }
        if let (Role::Sampler(value), true) = (entry.role(), entry.kept.is_empty()) {
            self.values.entry(value).or_default().push(self.entries.len());
        }
        self.places.insert(entry.key(), self.entries.len());
        self.entries.push(entry);
        true
    }

    fn check(&self, entry: &Entry) -> std::result::Result<(), String> {
        entry.parts().try_for_each(|stored| self.check_stored(entry, stored))
    }

    fn check_stored(&self, entry: &Entry, stored: &Stored) -> std::result::Result<(), String> {
        let path = self.folder.join("shards").join(&stored.shard);
        let problem = |cause: String| format!("{}: {cause}", path.display());
        if shard_number(&stored.shard).is_none() {
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

    /// What the record has, for a run that continues it.
    pub(crate) fn begun(&self) -> Begun {
        let counts = |entry: &&Entry| entry.call < self.complete && !entry.is_of_flight_recorder();
        let spent = self.entries.iter().filter(counts).map(Entry::bytes).fold(0, u64::saturating_add);
        Begun { calls: self.complete, spent, beyond_budget: self.beyond_budget }
    }

    /// Identity and length of the index when it was read; `None` if there was none.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// The checksum of `run.json`.
    pub(crate) fn run_crc32(&self) -> u32 {
        self.run_crc32
    }
}

/// The state while the index is read.
struct Found {
    numbering: Numbering,
    /// The last complete call, and how many tensors did not fit the budget until then.
    complete: Option<(usize, u64)>,
    end: Option<End>,
    /// Whether a line, or something that it refers to, could not be read.
    damaged: bool,
    /// Whether a line says that the record has ended, even if something before is damaged.
    ended: bool,
}

/// The number in the name of a shard; `None` for other names.
pub(crate) fn shard_number(name: &str) -> Option<u32> {
    let number = name.strip_suffix(".safetensors")?.parse().ok()?;
    (shard_name(number as usize) == name).then_some(number)
}

/// What a run is, for the hint of an error about a folder that is none.
pub const A_RUN: &str = "a run is a folder made by `latentrace generate`, `fork` or a sweep; its record, in trace/, has run.json, index.jsonl and shards/";

/// `run.json`, and the checksum of its bytes.
fn read_run(folder: &Path) -> Result<(Value, u32)> {
    let path = folder.join("run.json");
    if !path.is_file() {
        let what = if folder.is_dir() { "no run.json in this folder" } else { "no such folder" };
        return Err(file(folder, format!("{what}\nhint: {A_RUN}")));
    }
    let bytes = read_whole(&path)?;
    let run: Value = serde_json::from_slice(&bytes).map_err(|error| file(&path, error))?;
    match run.get("format").and_then(Value::as_u64) {
        Some(found) if found > FORMAT => Err(Error::Version { file: path.display().to_string(), found, known: FORMAT }),
        Some(_) => Ok((run, crc32fast::hash(&bytes))),
        None => Err(file(&path, "no format in it: this is not a trace of latentrace")),
    }
}

/// Reads a file of a trace, which must be a regular file and not too large.
fn read_whole(path: &Path) -> Result<Vec<u8>> {
    let about = plain(path).map_err(|cause| file(path, cause))?;
    if about.len() > LARGEST {
        return Err(file(path, format!("{} bytes, and at most {LARGEST} are read", about.len())));
    }
    std::fs::read(path).map_err(|error| file(path, said(&error)))
}

/// Checks that a file is a regular file and not a link, which could lead out of the folder.
pub(crate) fn plain(path: &Path) -> std::result::Result<std::fs::Metadata, String> {
    let about = std::fs::symlink_metadata(path).map_err(|error| said(&error))?;
    if about.is_file() { Ok(about) } else { Err("not a plain file".into()) }
}

/// Checks that a folder, if it is there, is not a link.
pub(crate) fn no_link(folder: &Path) -> std::result::Result<(), String> {
    match std::fs::symlink_metadata(folder) {
        Ok(about) if !about.is_dir() => Err("the folder of the shards is a link".into()),
        _ => Ok(()),
    }
}

/// A memory-mapped shard and its header.
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
