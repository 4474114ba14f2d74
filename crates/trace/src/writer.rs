//! The thread that brings a record to the disk.

use crate::entry::{End, FORMAT, Key, Line, Stored};
use crate::error::{Result, file};
use crate::lines::Lines;
use crate::numbers::{self, Numbers};
use crate::reduction::Storage;
use crate::{Statistics, Trace};
use latentrace_nn::tch::{Device, Tensor};
use latentrace_nn::{Moment, Row, Tap};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// How a record is written.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// A shard is closed at the end of the first call after so many seconds: a kill loses no more than these.
    pub seconds: f64,
    /// How many bytes may wait for the disk before the run waits.
    pub queue: u64,
}

impl Layout {
    /// A shard for every call: nothing that was computed is lost.
    pub const EVERY_CALL: Layout = Layout { seconds: 0.0, queue: 1 << 28 };
    /// A quarter of a second may be lost: a run of short calls does not wait for the disk at each.
    pub const LIVE: Layout = Layout { seconds: 0.25, queue: 1 << 28 };
    /// As few shards as possible, for records that are worth nothing unless they are whole.
    pub const WHOLE: Layout = Layout { seconds: f64::INFINITY, queue: 1 << 28 };

    /// How many bytes of a record may be in memory: what is gathered, what waits, and the open shard.
    pub fn memory(&self) -> u64 {
        AT_ONCE + self.queue + MOST
    }
}

/// No shard becomes much larger.
const MOST: u64 = 64 << 20;

/// The thread is woken in the middle of a call where so many bytes wait for it.
pub(crate) const AT_ONCE: u64 = 16 << 20;

/// Writes a trace folder: tensors go in, and a thread brings them to the disk.
///
/// The order is what makes a record safe to read at any time: a shard is written under a temporary name, brought to the
/// disk and named, and only then do the index lines that speak of it appear.
pub struct Writer {
    to: Option<Sender<Message>>,
    waiting: Arc<Waiting>,
    thread: Option<JoinHandle<Result<()>>>,
    most: u64,
}

/// A tensor on its way to the disk.
pub(crate) struct Item {
    pub(crate) tap: Tap,
    /// What is kept of it, as the rule says.
    pub(crate) kept: Arc<str>,
    pub(crate) moment: Moment,
    /// The first axis, one by one.
    pub(crate) tensor: Tensor,
    /// Which of them are kept: an index into the tensor, and what the row is.
    pub(crate) rows: Vec<(i64, Row)>,
    pub(crate) storage: Storage,
    /// Where it is a histogram, of which tensor.
    pub(crate) histogram_of: Option<Tensor>,
}

enum Message {
    Items(Vec<Item>),
    Complete(usize),
    End(End),
}

impl Writer {
    /// Begins a trace in a new folder. `run` says what the run is; the format's version is added to it.
    ///
    /// # Errors
    /// The folder is there already, or cannot be made or written.
    pub fn create(folder: &Path, run: &Value, layout: Layout) -> Result<Writer> {
        if folder.join("run.json").exists() {
            return Err(file(folder, "there is a trace here already\nhint: name another folder"));
        }
        std::fs::create_dir_all(folder.join("shards")).map_err(|error| file(folder, error))?;
        let mut run = run.clone();
        run["format"] = FORMAT.into();
        File::create(folder.join("index.jsonl")).map_err(|error| file(folder, error))?;
        latentrace_nn::replace(&folder.join("run.json"), format!("{run:#}\n").as_bytes())?;
        Writer::start(Thread::new(folder, layout, 0, HashSet::new())?, layout)
    }

    /// Goes on with a trace that was cut off: what is whole stays, the rest is cleared away, and what is given again is
    /// not written twice.
    ///
    /// # Errors
    /// The folder holds no trace, or cannot be written.
    pub fn append(trace: &Trace, layout: Layout) -> Result<Writer> {
        let kept: HashSet<String> = trace.entries().iter().map(|entry| entry.key().name()).collect();
        let next = trace.prune()?;
        Writer::start(Thread::new(trace.folder(), layout, next, kept)?, layout)
    }

    fn start(mut thread: Thread, layout: Layout) -> Result<Writer> {
        let (to, from) = channel();
        let waiting = thread.waiting.clone();
        let run = move || thread.run(&from);
        let handle = std::thread::Builder::new()
            .name("trace".into())
            .spawn(run)
            .map_err(|error| file(Path::new("trace"), error))?;
        Ok(Writer { to: Some(to), waiting, thread: Some(handle), most: layout.queue })
    }

    /// Gives tensors to the thread; waits where too much is waiting already.
    pub(crate) fn put(&self, items: Vec<Item>) {
        self.waiting.add(items.iter().map(Item::bytes).sum(), self.most);
        self.send(Message::Items(items));
    }

    /// Says that everything of a call has been given.
    pub(crate) fn complete(&self, call: usize) {
        self.send(Message::Complete(call));
    }

    /// Ends the record, and waits until it is on the disk.
    ///
    /// # Errors
    /// Something could not be written: the disk is full, say. What was written before it can be read.
    pub fn end(mut self, end: End) -> Result<()> {
        self.send(Message::End(end));
        self.join()
    }

    fn send(&self, message: Message) {
        // The thread hears to the end, whatever fails; the error comes with `end`.
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
    /// A record that nobody ends is left as a killed one would be: readable, and to be resumed.
    fn drop(&mut self) {
        self.join().ok();
    }
}

impl Item {
    pub(crate) fn bytes(&self) -> u64 {
        (self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()) as u64
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
        // One tensor may be more than the queue is allowed: it waits until it is alone.
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

/// What the thread holds.
struct Thread {
    folder: PathBuf,
    index: File,
    layout: Layout,
    waiting: Arc<Waiting>,
    /// The number of the next shard.
    shard: usize,
    /// The names of everything that was in the index when a record that was cut off is gone on with.
    known: HashSet<String>,
    /// The index lines of entries whose shard is open.
    lines: Lines,
    /// The tensors of the open shard, and their bytes.
    open: Vec<(String, Numbers)>,
    bytes: u64,
    since: Instant,
    named: HashSet<String>,
    /// Where the numbers with some checksum are in the open shard.
    same: HashMap<u32, usize>,
    complete: Option<usize>,
}

impl Thread {
    fn new(folder: &Path, layout: Layout, shard: usize, known: HashSet<String>) -> Result<Thread> {
        let path = folder.join("index.jsonl");
        let index = OpenOptions::new().append(true).open(&path).map_err(|error| file(&path, error))?;
        Ok(Thread {
            folder: folder.into(),
            index,
            layout,
            waiting: Arc::default(),
            shard,
            known,
            lines: Lines::default(),
            open: Vec::new(),
            bytes: 0,
            since: Instant::now(),
            named: HashSet::new(),
            same: HashMap::new(),
            complete: None,
        })
    }

    fn run(&mut self, from: &Receiver<Message>) -> Result<()> {
        let mut failed = None;
        while let Ok(message) = from.recv() {
            let bytes = match &message {
                Message::Items(items) => items.iter().map(Item::bytes).sum(),
                _ => 0,
            };
            let done = match (&failed, message) {
                (None, Message::Items(items)) => self.items(items),
                (None, Message::Complete(call)) => self.complete(call),
                (None, Message::End(end)) => self.end(end),
                (Some(_), _) => Ok(()),
            };
            // Nobody may wait for a disk that is full, nor for an open shard, which waits for what is still to come.
            self.waiting.take(bytes);
            if let Err(error) = done {
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
        let tensor = item.tensor.to_device(Device::Cpu).contiguous();
        for (index, row) in &item.rows {
            self.row(&item, &tensor, *index, *row)?;
        }
        if item.storage != Storage::Stats {
            self.bytes += item.bytes();
        }
        if self.bytes >= MOST { self.close() } else { Ok(()) }
    }

    fn row(&mut self, item: &Item, tensor: &Tensor, index: i64, row: Row) -> Result<()> {
        let Item { tap, kept, moment, storage, histogram_of, .. } = item;
        let name = || {
            let Row { branch, image, .. } = row;
            Key { call: moment.call, tap: tap.name().into(), branch, image, kept: kept.to_string() }.name()
        };
        if !self.known.is_empty() && self.known.contains(&name()) {
            return Ok(());
        }
        let numbers = Numbers::row(tensor, index)?;
        let own = numbers.statistics();
        let whole = histogram_of.as_ref().map(|whole| Statistics::of(&whole.to_device(Device::Cpu)));
        let range = match storage {
            Storage::Q8 => Some([own.min, own.max]),
            _ => whole.as_ref().map(|whole| [whole.min, whole.max]),
        };
        let stored = match storage {
            Storage::Stats => None,
            // A tap that passes twice in a call has only one name: what passed first is kept.
            _ if !self.named.insert(name()) => return Ok(()),
            _ => Some(self.store(name(), numbers.stored(*storage, &own)?, range)),
        };
        self.lines.entry(moment, tap, row, kept, &numbers, &whole.unwrap_or(own), stored.as_ref());
        Ok(())
    }

    /// Puts numbers into the open shard, unless the same are there already under another name.
    fn store(&mut self, name: String, numbers: Numbers, range: Option<[f64; 2]>) -> Stored {
        let crc32 = crc32fast::hash(numbers.bytes());
        let twin = self.same.get(&crc32).map(|&place| &self.open[place]).filter(|(_, twin)| *twin == numbers);
        let dtype = numbers.dtype_name().to_string();
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

    fn complete(&mut self, call: usize) -> Result<()> {
        self.complete = Some(call);
        self.named.clear();
        if self.since.elapsed().as_secs_f64() >= self.layout.seconds { self.close() } else { Ok(()) }
    }

    fn end(&mut self, end: End) -> Result<()> {
        self.close()?;
        self.lines.line(&Line::End { end });
        let line = self.lines.take();
        self.append(&line)
    }

    /// Brings the open shard to the disk, then the lines that speak of it.
    fn close(&mut self) -> Result<()> {
        if !self.open.is_empty() {
            let shards = self.folder.join("shards");
            numbers::write(&shards, &shard_name(self.shard), std::mem::take(&mut self.open))?;
            self.shard += 1;
            self.same.clear();
        }
        self.bytes = 0;
        if let Some(complete) = self.complete.take() {
            self.lines.line(&Line::Complete { complete });
        }
        let lines = self.lines.take();
        self.since = Instant::now();
        if lines.is_empty() { Ok(()) } else { self.append(&lines) }
    }

    fn append(&mut self, lines: &[u8]) -> Result<()> {
        let write = |index: &mut File| {
            index.write_all(lines)?;
            index.sync_data()
        };
        write(&mut self.index).map_err(|error| file(&self.folder.join("index.jsonl"), error))
    }
}

/// The file of the n-th shard.
pub(crate) fn shard_name(number: usize) -> String {
    format!("{number:06}.safetensors")
}
