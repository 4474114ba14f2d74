//! The thread that writes a record to the disk.

use crate::entry::{End, FORMAT, Key, Line, Stored};
use crate::error::{Error, Result, changed, file};
use crate::lines::Lines;
use crate::numbers::{self, Form, Numbers};
use crate::owner::{Claim, Stamp, live, live_error};
use crate::reduction::Storage;
use crate::{Statistics, Trace};
use latentrace_nn::tch::{Device, Tensor};
use latentrace_nn::{Moment, Row, Tap};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// How a record is written.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// A shard is closed at the end of the first call after this many seconds. A kill loses no more than that.
    pub seconds: f64,
    /// How many bytes may wait for the disk before the run waits for it.
    pub queue: u64,
    /// Whether each shard and line is synced to the disk as it is written, so that a power cut leaves what was complete.
    /// If not, whoever keeps the folder has to sync it.
    pub synced: bool,
}

impl Layout {
    /// A shard for every call: nothing that was computed is lost.
    pub const EVERY_CALL: Layout = Layout { seconds: 0.0, queue: 1 << 28, synced: true };
    /// A shard every quarter of a second: a run of short calls does not wait for the disk at each.
    pub const LIVE: Layout = Layout { seconds: 0.25, queue: 1 << 28, synced: true };
    /// As few shards as possible and nothing synced, for records that are useless unless complete.
    pub const WHOLE: Layout = Layout { seconds: f64::INFINITY, queue: 1 << 28, synced: false };

    /// How many bytes of a record may be in memory: those of the recorder, of the queue, and of the open shard.
    pub fn memory(&self) -> u64 {
        AT_ONCE + self.queue + MOST
    }
}

/// The size from which on a shard is closed, in bytes.
const MOST: u64 = 64 << 20;

/// The thread is woken in the middle of a call if this many bytes wait for it.
pub(crate) const AT_ONCE: u64 = 16 << 20;

/// Writes a trace folder, in a thread.
///
/// A record can be read at any time because of the order of writing: a shard is written under a temporary name, synced
/// to the disk and renamed, and only then are the index lines written that refer to it.
///
/// A trace has one writer, which keeps a lock until it is dropped. Because some file systems have no locks, and because
/// a file can be removed by hand, it also never overwrites a shard, and it stops with [`Error::Changed`] if another
/// process has changed the index.
pub struct Writer {
    to: Option<Sender<Message>>,
    waiting: Arc<Waiting>,
    thread: Option<JoinHandle<Result<()>>>,
    failed: Arc<OnceLock<String>>,
    most: u64,
    begun: Begun,
    _claim: Claim,
}

/// What a record that is continued has already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Begun {
    /// How many calls are complete; they are not recorded again.
    pub(crate) calls: usize,
    /// How many bytes of the budget they took.
    pub(crate) spent: u64,
    /// How many of their tensors did not fit the budget.
    pub(crate) beyond_budget: u64,
}

/// Rows of a tensor to be written.
pub(crate) struct Item {
    pub(crate) tap: Tap,
    /// What is kept of it, as the rule says.
    pub(crate) kept: Arc<str>,
    pub(crate) moment: Moment,
    pub(crate) content: Content,
}

/// What is written of the rows of an [`Item`].
pub(crate) enum Content {
    /// Their numbers.
    Numbers {
        /// The first axis is that of the rows.
        tensor: Tensor,
        /// The rows to write: the index into the tensor, and what the row is.
        rows: Vec<(i64, Row)>,
        storage: Storage,
        beside: Beside,
    },
    /// Their statistics only, which are known already.
    Statistics { rows: Vec<(Row, Statistics)>, form: Form },
}

/// What is written besides the tensor of an [`Item`].
pub(crate) enum Beside {
    Nothing,
    /// The tensor is a histogram of this one, whose statistics are kept.
    HistogramOf(Tensor),
    /// The places of the tensor's numbers in the tensor that they are of, `[1, n]` in i64.
    Places(Tensor),
}

enum Message {
    Items(Vec<Item>),
    Complete { call: usize, beyond_budget: u64 },
    End(End),
}

impl Writer {
    /// Begins a trace in a folder without one. `run` is the description of the run; the format version is added to it.
    ///
    /// # Errors
    /// There is a trace in the folder already, or the folder cannot be created or written.
    pub fn create(folder: &Path, run: &Value, layout: Layout) -> Result<Writer> {
        let description = folder.join("run.json");
        let taken = || match live(folder) {
            Some(owner) => live_error(folder, &owner),
            None => file(folder, "there is a trace here already\nhint: name another folder"),
        };
        if description.exists() {
            return Err(taken());
        }
        std::fs::create_dir_all(folder).map_err(|error| file(folder, error))?;
        let claim = Claim::take(folder)?;
        let shards = folder.join("shards");
        std::fs::create_dir_all(&shards).map_err(|error| file(&shards, error))?;
        let index = Index::open(folder)?;
        if index.stamp.length > 0 {
            return Err(file(&index.path, "there is an index here without a run.json\nhint: name another folder"));
        }
        let mut run = run.clone();
        run["format"] = FORMAT.into();
        let run = format!("{run:#}\n");
        // On a file system without locks, whoever creates this file has the folder.
        let create = if layout.synced { latentrace_files::create } else { latentrace_files::create_unsynced };
        let created = create(&description, |temporary: &Path| std::fs::write(temporary, &run));
        created.map_err(latentrace_files::Error::into_io).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => taken(),
            _ => file(&description, error),
        })?;
        let lines = Lines::new(crc32fast::hash(run.as_bytes()));
        let thread = Thread::new(folder, layout, index, lines);
        Writer::start(thread, layout, claim, Begun::default())
    }

    /// Continues a trace that was cut off. What is complete is kept, the rest is removed, and tensors that are already
    /// there are not written again.
    ///
    /// # Errors
    /// Another process is writing the trace or has changed it since it was read; its description has changed; or the
    /// folder cannot be written.
    pub fn append(trace: &Trace, layout: Layout) -> Result<Writer> {
        trace.check_run()?;
        let claim = Claim::take(trace.folder())?;
        let (next, lines) = trace.prune()?;
        let index = Index::open(trace.folder())?;
        let known = trace.entries().iter().map(|entry| entry.key().name()).collect();
        let thread = Thread { shard: next, known, ..Thread::new(trace.folder(), layout, index, lines) };
        Writer::start(thread, layout, claim, trace.begun())
    }

    fn start(mut thread: Thread, layout: Layout, claim: Claim, begun: Begun) -> Result<Writer> {
        let (to, from) = channel();
        let (waiting, failed) = (thread.waiting.clone(), thread.failed.clone());
        let run = move || thread.run(&from);
        let handle = std::thread::Builder::new()
            .name("trace".into())
            .spawn(run)
            .map_err(|error| file(Path::new("trace"), error))?;
        Ok(Writer { to: Some(to), waiting, thread: Some(handle), failed, most: layout.queue, begun, _claim: claim })
    }

    /// What a record that is continued has already.
    pub(crate) fn begun(&self) -> Begun {
        self.begun
    }

    /// Why nothing more can be written, for instance because the disk is full. [`Writer::end`] returns the same error.
    pub fn failed(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    /// Gives tensors to the thread. Waits if the queue is full.
    pub(crate) fn put(&self, items: Vec<Item>) {
        self.waiting.add(items.iter().map(Item::bytes).sum(), self.most);
        self.send(Message::Items(items));
    }

    /// Tells the thread that a call is complete, and how many tensors did not fit the budget so far.
    pub(crate) fn complete(&self, call: usize, beyond_budget: u64) {
        self.send(Message::Complete { call, beyond_budget });
    }

    /// Ends the record and waits until it is on the disk.
    ///
    /// # Errors
    /// Something could not be written, for instance because the disk is full. What was written before can be read.
    pub fn end(mut self, end: End) -> Result<()> {
        self.send(Message::End(end));
        self.join()
    }

    fn send(&self, message: Message) {
        // The thread receives until the end even after an error; `end` returns the error.
        if let Some(to) = &self.to {
            to.send(message).ok();
        }
    }

    fn join(&mut self) -> Result<()> {
        self.to = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(file(Path::new("trace"), "the thread that writes it has panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Writer {
    /// A record that is dropped without [`Writer::end`] is as after a kill: it can be read and resumed.
    fn drop(&mut self) {
        self.join().ok();
    }
}

impl Item {
    /// What identifies a row.
    fn key(&self, Row { branch, image, .. }: Row) -> Key {
        Key { call: self.moment.call, tap: self.tap.name().into(), branch, image, kept: self.kept.to_string() }
    }

    /// The bytes of the tensor that it keeps alive.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.content {
            Content::Numbers { tensor, .. } => (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64,
            Content::Statistics { .. } => 0,
        }
    }
}

/// How many bytes wait for the thread.
#[derive(Default)]
struct Waiting {
    bytes: Mutex<u64>,
    less: Condvar,
}

impl Waiting {
    fn add(&self, bytes: u64, most: u64) {
        let held = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        // One tensor may be larger than the queue: it waits until the queue is empty.
        let wait = |waiting: &mut u64| *waiting > 0 && *waiting + bytes > most;
        let mut held = self.less.wait_while(held, wait).unwrap_or_else(PoisonError::into_inner);
        *held += bytes;
    }

    fn take(&self, bytes: u64) {
        let mut held = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        *held = held.saturating_sub(bytes);
        self.less.notify_all();
    }
}

/// The file of the index, which grows at its end.
struct Index {
    path: PathBuf,
    file: File,
    /// Identity and length of the file after this process last wrote to it.
    stamp: Stamp,
}

impl Index {
    /// Opens the index of a trace, or creates it.
    fn open(folder: &Path) -> Result<Index> {
        let path = folder.join("index.jsonl");
        let fail = |error| file(&path, error);
        let opened = OpenOptions::new().append(true).create(true).open(&path).map_err(fail)?;
        let stamp = Stamp::of(&opened.metadata().map_err(fail)?);
        Ok(Index { path, file: opened, stamp })
    }

    /// Checks that no other process has written to it or replaced it.
    fn check(&self) -> Result<()> {
        if Stamp::at(&self.path) == Some(self.stamp) { Ok(()) } else { Err(changed(&self.path)) }
    }

    /// Appends lines, and syncs them to the disk unless somebody else does later.
    fn append(&mut self, lines: &[u8], synced: bool) -> Result<()> {
        self.check()?;
        let sync = || if synced { self.file.sync_data() } else { Ok(()) };
        let written = (&self.file).write_all(lines).and_then(|()| sync());
        self.stamp.length += lines.len() as u64;
        written.map_err(|error| file(&self.path, error))
    }
}

/// The state of the thread.
struct Thread {
    folder: PathBuf,
    index: Index,
    layout: Layout,
    waiting: Arc<Waiting>,
    failed: Arc<OnceLock<String>>,
    /// The number of the next shard.
    shard: usize,
    /// The names of all tensors that a continued record had already.
    known: HashSet<String>,
    /// The index lines of entries whose shard is open.
    lines: Lines,
    /// The tensors of the open shard, and their bytes.
    open: Vec<(String, Numbers)>,
    bytes: u64,
    since: Instant,
    named: HashSet<String>,
    /// The index into `open` of the numbers with a checksum.
    same: HashMap<u32, usize>,
    /// The last call that is whole, and how many tensors the budget had kept out then.
    complete: Option<(usize, u64)>,
}

impl Thread {
    fn new(folder: &Path, layout: Layout, index: Index, lines: Lines) -> Thread {
        Thread {
            folder: folder.into(),
            index,
            layout,
            waiting: Arc::default(),
            failed: Arc::default(),
            shard: 0,
            known: HashSet::new(),
            lines,
            open: Vec::new(),
            bytes: 0,
            since: Instant::now(),
            named: HashSet::new(),
            same: HashMap::new(),
            complete: None,
        }
    }

    fn run(&mut self, from: &Receiver<Message>) -> Result<()> {
        let mut failed: Option<Error> = None;
        while let Ok(message) = from.recv() {
            let bytes = match &message {
                Message::Items(items) => items.iter().map(Item::bytes).sum(),
                _ => 0,
            };
            let done = match (&failed, message) {
                (None, Message::Items(items)) => self.items(items),
                (None, Message::Complete { call, beyond_budget }) => self.complete(call, beyond_budget),
                (None, Message::End(end)) => self.end(end),
                (Some(_), _) => Ok(()),
            };
            // The run must not wait for a full disk, nor for an open shard, which is closed only later.
            self.waiting.take(bytes);
            if let Err(error) = done {
                self.failed.set(error.to_string()).ok(); // only the first is kept
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn items(&mut self, items: Vec<Item>) -> Result<()> {
        for item in items {
            self.item(item)?;
        }
        Ok(())
    }

    fn item(&mut self, item: Item) -> Result<()> {
        match &item.content {
            Content::Statistics { rows, form } => {
                for (row, statistics) in rows {
                    if !self.is_known(&item, *row) {
                        self.lines.entry(&item.moment, &item.tap, *row, &item.kept, form, statistics, [None; 2]);
                    }
                }
            }
            Content::Numbers { tensor, rows, storage, beside } => {
                // If only statistics are kept, they are computed on the tensor's device.
                let tensor = match (storage, tensor.device()) {
                    (Storage::Stats, Device::Cuda(_)) => tensor.shallow_clone(),
                    _ => tensor.to_device(Device::Cpu).contiguous(),
                };
                for (index, row) in rows {
                    self.row(&item, (&tensor, *index), *row, *storage, beside)?;
                }
                if *storage != Storage::Stats {
                    self.bytes += item.bytes();
                }
            }
        }
        if self.bytes >= MOST { self.close() } else { Ok(()) }
    }

    /// Whether a record that is continued has a row already.
    fn is_known(&self, item: &Item, row: Row) -> bool {
        !self.known.is_empty() && self.known.contains(&item.key(row).name())
    }

    fn row(
        &mut self,
        item: &Item,
        (tensor, index): (&Tensor, i64),
        row: Row,
        storage: Storage,
        beside: &Beside,
    ) -> Result<()> {
        if self.is_known(item, row) {
            return Ok(());
        }
        let name = || item.key(row).name();
        let numbers = Numbers::row(tensor, index)?;
        let own = match tensor.device() {
            Device::Cpu => numbers.statistics(),
            _ => Statistics::of(&tensor.narrow(0, index, 1)),
        };
        let whole = match beside {
            Beside::HistogramOf(whole) => Some(Statistics::of(whole)),
            _ => None,
        };
        let range = match storage {
            Storage::Q8 => Some([own.min, own.max]),
            _ => whole.as_ref().map(|whole| [whole.min, whole.max]),
        };
        let stored = match storage {
            Storage::Stats => None,
            // Two tensors of a tap in one call have the same name: the first is kept.
            _ if !self.named.insert(name()) => return Ok(()),
            _ => Some(self.store(name(), numbers.stored(storage, &own)?, range)),
        };
        let places = match beside {
            Beside::Places(places) if stored.is_some() => {
                let places = Numbers::row(&places.to_device(Device::Cpu).contiguous(), 0)?;
                Some(self.store(item.key(row).name_of_places(), places, None))
            }
            _ => None,
        };
        let statistics = whole.unwrap_or(own);
        let parts = [stored.as_ref(), places.as_ref()];
        self.lines.entry(&item.moment, &item.tap, row, &item.kept, numbers.form(), &statistics, parts);
        Ok(())
    }

    /// Adds numbers to the open shard, unless the same numbers are there already under another name.
    fn store(&mut self, name: String, numbers: Numbers, range: Option<[f64; 2]>) -> Stored {
        let crc32 = crc32fast::hash(numbers.bytes());
        let twin = self.same.get(&crc32).map(|&place| &self.open[place]).filter(|(_, twin)| *twin == numbers);
        let dtype = numbers.form().dtype_name().to_string();
        let name = match twin {
            Some((name, _)) => name.clone(),
            None => {
                self.same.insert(crc32, self.open.len());
                self.open.push((name.clone(), numbers));
                name
            }
        };
        Stored { shard: shard_name(self.shard), name, dtype, crc32: Some(crc32), range }
    }

    fn complete(&mut self, call: usize, beyond_budget: u64) -> Result<()> {
        self.complete = Some((call, beyond_budget));
        self.named.clear();
        if self.since.elapsed().as_secs_f64() >= self.layout.seconds { self.close() } else { Ok(()) }
    }

    fn end(&mut self, end: End) -> Result<()> {
        self.close()?;
        self.lines.line(&Line::End { end });
        self.index.append(&self.lines.take(), self.layout.synced)
    }

    /// Writes the open shard to the disk, then the lines that refer to it.
    fn close(&mut self) -> Result<()> {
        if !self.open.is_empty() {
            self.index.check()?;
            let path = self.folder.join("shards").join(shard_name(self.shard));
            numbers::write(&path, std::mem::take(&mut self.open), self.layout.synced)?;
            self.shard += 1;
            self.same.clear();
        }
        self.bytes = 0;
        if let Some((complete, beyond_budget)) = self.complete.take() {
            self.lines.line(&Line::Complete { complete, beyond_budget });
        }
        let lines = self.lines.take();
        self.since = Instant::now();
        if lines.is_empty() { Ok(()) } else { self.index.append(&lines, self.layout.synced) }
    }
}

/// The file of the n-th shard.
pub(crate) fn shard_name(number: usize) -> String {
    format!("{number:06}.safetensors")
}
