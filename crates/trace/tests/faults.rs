//! Damage of every kind: what is left can be read, what cannot be read is reported, and nothing outside the folder is
//! touched.

#[allow(dead_code)] // each file of tests uses its own part
mod common;

use common::{Run, about, key, noise, same};
use latentrace_nn::tch::{Kind, Tensor};
use latentrace_nn::{Moment, Rows};
use latentrace_trace::{Entry, Error, Layout, Trace, Writer};
use std::alloc::{GlobalAlloc, System};
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The allocator, which remembers the most that was asked for at once.
struct Measured(AtomicUsize);

#[allow(unsafe_code)] // Safety: the system's allocator does the work.
unsafe impl GlobalAlloc for Measured {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        self.0.fetch_max(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: std::alloc::Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static MEMORY: Measured = Measured(AtomicUsize::new(0));

/// Puts bytes into a file. Without cutting it off first, which would make some file systems wait for the disk.
fn put(path: &Path, bytes: impl AsRef<[u8]>) {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap();
    file.write_all(bytes.as_ref()).unwrap();
    file.set_len(bytes.as_ref().len() as u64).unwrap();
}

/// Puts one byte into a file.
fn put_byte(path: &Path, place: usize, byte: u8) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(place as u64)).unwrap();
    file.write_all(&[byte]).unwrap();
}

/// More than the largest file of these tests, and far less than the sizes that are written in them.
const SANE: usize = 64 << 20;

/// A good trace, and what is in it.
struct Good {
    folder: tempfile::TempDir,
    entries: Vec<Entry>,
    tensors: Vec<Option<Tensor>>,
    /// How many calls are whole if only the first lines of the index can be read.
    complete: Vec<usize>,
    index: Vec<u8>,
}

impl Good {
    /// Eight taps at each call, of every format and storage, with a shard for each call.
    fn new(calls: usize) -> Good {
        let mut run = Run::empty();
        for call in 0..calls {
            let at = |rows| Moment { call, step: call, t: 980.0, sigma: 1.5, rows, ..Moment::default() };
            let draw = |place: u64, shape: &[i64]| noise(100 * call as u64 + place, shape);
            run.pass("sampler.sample", at(Rows::Images), draw(0, &[1, 2, 3]));
            run.pass("a.out", at(Rows::Branches), draw(1, &[2, 5]));
            run.pass("a.time", at(Rows::Branches), draw(2, &[1, 4]));
            run.pass("a.half", at(Rows::Images), draw(3, &[1, 3]).to_kind(Kind::Half));
            run.pass("a.brain", at(Rows::Images), draw(4, &[1, 3]).to_kind(Kind::BFloat16));
            run.pass("a.double", at(Rows::Images), draw(5, &[1, 2]).to_kind(Kind::Double));
            run.pass("a.whole", at(Rows::Images), (draw(6, &[1, 2]) * 100.0).to_kind(Kind::Int64));
            run.pass("b.out", at(Rows::Images), draw(7, &[1, 6]));
        }
        let folder = tempfile::tempdir().unwrap();
        run.record(folder.path(), &["a.*", "b.out | q8", "b.out | stats"], None, Layout::EVERY_CALL).unwrap();
        let trace = Trace::open(folder.path()).unwrap();
        assert_eq!((trace.problems().len(), trace.complete(), trace.end().is_some()), (0, calls, true));
        let entries = trace.entries().to_vec();
        assert_eq!(entries.len(), 10 * calls);
        let tensors = entries.iter().map(|entry| entry.stored.as_ref().map(|_| trace.tensor(entry).unwrap())).collect();
        let index = std::fs::read(folder.path().join("index.jsonl")).unwrap();
        let mut complete = vec![0];
        for line in std::str::from_utf8(&index).unwrap().lines() {
            complete.push(complete[complete.len() - 1] + usize::from(line.starts_with("{\"complete\"")));
        }
        Good { folder, entries, tensors, complete, index }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn index(&self) -> PathBuf {
        self.path().join("index.jsonl")
    }

    fn shard(&self, call: usize) -> PathBuf {
        self.path().join(format!("shards/{call:06}.safetensors"))
    }

    /// Checks that every entry is what was recorded or an error that names it, and that a call counts as complete only
    /// if all of it is there. Returns the entries that could not be read.
    fn holds(&self, what: &str) -> (Trace, Vec<Entry>) {
        let trace = Trace::open(self.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut damaged = Vec::new();
        let mut sound = vec![false; self.entries.len()];
        for entry in trace.entries() {
            let place = self.entries.iter().position(|known| known == entry);
            let place = place.unwrap_or_else(|| panic!("{what}: {entry:?} was never recorded"));
            sound[place] = true;
            let Some(tensor) = &self.tensors[place] else { continue };
            match trace.tensor(entry) {
                Ok(read) => assert!(same(&read, tensor), "{what}: {}", entry.key().name()),
                Err(error) => {
                    assert!(matches!(error, Error::Damaged { .. }), "{what}: {error}");
                    assert!(error.to_string().starts_with(&entry.key().name()), "{what}: {error}");
                    damaged.push(entry.clone());
                }
            }
        }
        let lacking = self.entries.iter().zip(&sound).find(|(_, sound)| !**sound).map(|(entry, _)| entry.call);
        assert!(trace.complete() <= lacking.unwrap_or(usize::MAX), "{what}: {} whole", trace.complete());
        assert!(lacking.is_none() || !trace.problems().is_empty() || trace.end().is_none(), "{what}: says nothing");
        for problem in trace.problems() {
            assert!(problem.starts_with(&*self.path().to_string_lossy()), "{what}: {problem} names its file");
        }
        (trace, damaged)
    }

    /// The entries whose numbers are not in a shard.
    fn outside(&self, shard: &Path) -> Vec<Entry> {
        let name = shard.file_name().unwrap().to_string_lossy();
        let is_in = |entry: &&Entry| entry.stored.as_ref().is_some_and(|stored| stored.shard == name);
        self.entries.iter().filter(|entry| !is_in(entry)).cloned().collect()
    }
}

#[test]
fn an_index_cut_at_any_byte_is_a_shorter_record() {
    let good = Good::new(4);
    for length in 0..good.index.len() {
        let cut = &good.index[..length];
        put(&good.index(), cut);
        let lines = cut.iter().filter(|byte| **byte == b'\n').count();
        let part = length > 0 && cut[length - 1] != b'\n';
        // Reading every tensor after every byte would take long; entries and counts are compared at each.
        let trace = match length % 11 == 0 || !part {
            true => good.holds(&format!("{length} bytes")).0,
            false => Trace::open(good.path()).unwrap(),
        };
        let completes = good.complete[lines];
        assert_eq!(trace.entries(), &good.entries[..lines - completes], "{length} bytes");
        assert_eq!((trace.complete(), trace.end()), (completes, None), "{length} bytes");
        assert_eq!(trace.problems().len(), usize::from(part), "{length} bytes");
        for problem in trace.problems() {
            assert!(problem.contains(&format!("index.jsonl, line {}: cut off", lines + 1)), "{problem}");
        }
    }
}

#[test]
fn a_cut_shard_takes_its_own_call_with_it_and_no_other() {
    let good = Good::new(4);
    for call in 0..4 {
        let whole = std::fs::read(good.shard(call)).unwrap();
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        for length in
            (0..whole.len()).filter(|length| *length <= header || length % 97 == 0 || length + 1 == whole.len())
        {
            put(&good.shard(call), &whole[..length]);
            let (trace, damaged) = good.holds(&format!("{length} bytes of shard {call}"));
            assert_eq!(trace.entries(), good.outside(&good.shard(call)));
            assert!(damaged.is_empty());
            assert_eq!((trace.complete(), trace.end()), (call, None), "call {call} and what follows is made again");
            let name = format!("shards/{call:06}.safetensors: not whole");
            assert!(trace.problems().len() == 1 && trace.problems()[0].contains(&name), "{:?}", trace.problems());
        }
        put(&good.shard(call), whole);
    }
}

#[test]
fn a_missing_file_is_named_and_the_others_are_read() {
    let good = Good::new(6);
    for call in 0..6 {
        let whole = std::fs::read(good.shard(call)).unwrap();
        std::fs::remove_file(good.shard(call)).unwrap();
        let (trace, _) = good.holds(&format!("no shard {call}"));
        assert_eq!(trace.entries(), good.outside(&good.shard(call)));
        assert_eq!((trace.complete(), trace.end()), (call, None));
        let problems = trace.problems();
        assert!(
            problems.len() == 1 && problems[0].contains(&format!("{call:06}.safetensors: no such file")),
            "{problems:?}"
        );
        put(&good.shard(call), whole);
    }
    std::fs::remove_file(good.index()).unwrap();
    let (trace, _) = good.holds("no index");
    assert_eq!((trace.entries().len(), trace.complete(), trace.end()), (0, 0, None));
    assert!(trace.problems()[0].contains("index.jsonl: no such file"), "{:?}", trace.problems());
    put(&good.index(), &good.index);
    std::fs::rename(good.path().join("shards"), good.path().join("elsewhere")).unwrap();
    let (trace, _) = good.holds("no shards");
    assert!(trace.entries().iter().all(|entry| entry.stored.is_none()) && trace.entries().len() == 6);
    std::fs::rename(good.path().join("elsewhere"), good.path().join("shards")).unwrap();
    std::fs::remove_file(good.path().join("run.json")).unwrap();
    let error = Trace::open(good.path()).err().unwrap().to_string();
    assert!(error.contains("no run.json in this folder\nhint: a run is a folder"), "{error}");
}

#[test]
fn every_changed_byte_of_an_index_is_seen_or_harmless() {
    let good = Good::new(2);
    for (place, &byte) in good.index.iter().enumerate() {
        // The unit tests flip every bit of a line; here one of each byte, and lines that fall in two.
        let flipped = byte ^ (1 << (place % 8));
        for (round, changed) in [flipped, b'\n'].into_iter().enumerate().filter(|(_, changed)| *changed != byte) {
            put_byte(&good.index(), place, changed);
            let what = format!("byte {place}, {} instead of {}", changed.escape_ascii(), byte.escape_ascii());
            // Tensors do not depend on which bit of a byte it was.
            let trace = match round == 0 && place % 5 == 0 {
                true => good.holds(&what).0,
                false => Trace::open(good.path()).unwrap(),
            };
            assert!(trace.entries().iter().all(|entry| good.entries.contains(entry)), "{what}");
            let gone = good.entries.len() - trace.entries().len();
            assert!(gone <= 2, "{what}: a newline that is gone joins two lines");
            assert!(gone == 0 || !trace.problems().is_empty() && trace.complete() < 2, "{what}");
        }
        put_byte(&good.index(), place, byte);
    }
}

#[test]
fn every_flipped_bit_of_a_shard_is_seen_or_harmless() {
    let good = Good::new(2);
    let path = good.shard(1);
    let shard = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(shard[..8].try_into().unwrap()) as usize;
    // Besides single bits: all of them, and those that make an F of an I, an I of an F, and an I of a U.
    for mask in [1u8, 2, 4, 8, 16, 32, 64, 128, 255, b'F' ^ b'I', b'I' ^ b'U', b'F' ^ b'U', b'3' ^ b'6'] {
        for (place, &byte) in shard.iter().enumerate() {
            put_byte(&path, place, byte ^ mask);
            let what = format!("byte {place} ^ {mask}");
            let (trace, damaged) = good.holds(&what);
            let gone = good.entries.len() - trace.entries().len();
            if place >= header {
                assert_eq!(gone, 0, "{what}: the numbers are not read when a trace is opened");
                let twins = damaged.len();
                assert_eq!(twins, 1, "{what}: that tensor and no other");
            } else {
                assert!(damaged.is_empty(), "{what}");
                assert!(gone == 0 || trace.problems().iter().all(|problem| problem.contains("000001.safetensors")));
            }
            put_byte(&path, place, byte);
        }
    }
}

#[test]
fn what_is_no_trace_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let says = |path: &Path, part: &str| {
        let error = Trace::open(path).err().unwrap_or_else(|| panic!("{part}: opened")).to_string();
        assert!(error.starts_with(&*folder.path().to_string_lossy()) && error.contains(part), "{part}: {error}");
    };
    says(folder.path(), "no run.json in this folder\nhint: ");
    says(&folder.path().join("nowhere"), "no such folder\nhint: ");
    let run = folder.path().join("run.json");
    std::fs::create_dir(&run).unwrap();
    says(folder.path(), "no run.json in this folder");
    std::fs::remove_dir(&run).unwrap();
    for text in ["", "{", "nothing", "\u{0}", "[[[[", &"[".repeat(100_000), "{\"a\": 1e999999}"] {
        put(&run, text);
        says(folder.path(), "run.json: ");
    }
    says(&run, "hint: a run is a folder");
    for text in ["{}", "[]", "7", "null", "{\"format\": \"1\"}", "{\"format\": -1}", "{\"format\": 1.5}"] {
        put(&run, text);
        says(folder.path(), "run.json: no format in it: this is not a trace of latentrace");
    }
    for version in [2, 77, u64::MAX] {
        put(&run, format!("{{\"format\": {version}, \"future\": true}}"));
        says(
            folder.path(),
            &format!("run.json: format version {version}, and this program reads up to 1\nhint: use a newer"),
        );
    }
    put(&run, "{\"format\": 1}");
    let trace = Trace::open(folder.path()).unwrap();
    assert_eq!((trace.entries().len(), trace.complete(), trace.problems().len()), (0, 0, 1), "run.json alone");
    let foreign = tempfile::tempdir().unwrap();
    put(&foreign.path().join("notes.txt"), "mine");
    assert!(Trace::open(foreign.path()).err().unwrap().to_string().contains("no run.json"));
    assert!(
        Writer::create(&foreign.path().join("notes.txt"), &about(), Layout::WHOLE).is_err(),
        "a file is in the way"
    );
}

/// An index line without a checksum.
fn line(shard: &str, name: &str, shape: &str) -> String {
    format!(
        "{{\"call\":0,\"step\":0,\"t\":1,\"sigma\":1,\"tap\":\"a.secret\",\"shape\":{shape},\"dtype\":\"F32\",\
         \"statistics\":{{\"mean\":0,\"rms\":0,\"min\":0,\"max\":0}},\
         \"stored\":{{\"shard\":\"{shard}\",\"name\":\"{name}\",\"dtype\":\"F32\"}}}}\n"
    )
}

/// A safetensors file with a header as given and some bytes after it.
fn shard(header: &str, bytes: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; bytes]].concat()
}

#[test]
fn a_line_of_another_program_is_read_and_one_that_lies_is_not() {
    let good = Good::new(1);
    let header = r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    put(&good.path().join("shards/000005.safetensors"), shard(header, 8));
    let open = |line: &str| {
        put(&good.index(), [line.as_bytes(), &good.index].concat());
        let trace = Trace::open(good.path()).unwrap();
        let rest = trace.entries().iter().filter(|entry| entry.tap != "a.secret");
        assert!(rest.eq(&good.entries), "{line}");
        trace
    };
    let trace = open(&line("000005.safetensors", "x", "[2]"));
    assert!(trace.problems().is_empty());
    assert_eq!(common::list(&trace.get("a.secret", 0, None).unwrap()), [0.0, 0.0]);
    let honest = line("000005.safetensors", "x", "[2]");
    for (lie, said) in [
        (line("000005.safetensors", "y", "[2]"), "000005.safetensors: y: no such tensor in it"),
        (line("000005.safetensors", "x", "[3]"), "000005.safetensors: x: expected shape [3], found [2]"),
        (line("000005.safetensors", "x", "[18446744073709551615,4]"), "expected shape [18446744073709551615, 4]"),
        (line("000005.safetensors", "x", "[1e30]"), "line 1: "),
        (line("000006.safetensors", "x", "[2]"), "000006.safetensors: no such file"),
        (line("5.safetensors", "x", "[2]"), "is no name of a shard"),
        (line("+00005.safetensors", "x", "[2]"), "is no name of a shard"),
        (line("18446744073709551615.safetensors", "x", "[2]"), "is no name of a shard"),
        (line("", "x", "[2]"), "is no name of a shard"),
        (honest.replace("\"call\":0", "\"call\":-1"), "line 1: "),
        (honest.replace("\"call\":0", "\"call\":0.5"), "line 1: "),
        (honest.replace("\"call\":0", "\"call\":18446744073709551616"), "line 1: "),
        (honest.replace("\"sigma\":1", "\"sigma\":null"), "line 1: "),
        (honest.replace("\"step\":0,", "\"branch\":\"both\","), "line 1: "),
        (honest.replace("\"dtype\":\"F32\"}", "\"dtype\":\"F64\"}"), "x: expected format F64, found F32"),
        (honest.replace("\"F32\"}", "\"F32\",\"range\":[0]}"), "line 1: "),
        ("\n".into(), "line 1: "),
        ("\u{0}\u{0}\n".into(), "line 1: "),
        (format!("{{\"complete\":{}}}\n", "9".repeat(400)), "line 1: "),
    ] {
        let trace = open(&lie);
        assert!(trace.find(&key("a.secret", 0, None, 0)).is_none(), "{lie}");
        assert_eq!(trace.problems().len(), 1, "{lie}: {:?}", trace.problems());
        assert!(trace.problems()[0].contains(said), "{lie}: {:?}", trace.problems());
        assert_eq!((trace.complete(), trace.end()), (0, None), "{lie}");
    }
    // It says the largest number there is: no panic, and still no tensor that is not there.
    let trace = open(&format!("{{\"complete\":{}}}\n", usize::MAX));
    assert_eq!(trace.entries(), good.entries);
    // An impossible range of levels and an impossible call are strange but can be read.
    let trace = open(&honest.replace("\"call\":0", "\"call\":18446744073709551615"));
    assert!(trace.problems().is_empty() && trace.tensor(&trace.entries()[0]).is_ok());
}

#[test]
fn a_header_that_lies_is_not_believed() {
    let good = Good::new(1);
    let path = good.path().join("shards/000005.safetensors");
    for (name, shape, dtype, offsets, bytes) in [
        ("huge", "[4611686018427387904,4]", "F32", "[0,0]", 0),
        ("huge", "[18446744073709551615]", "U8", "[0,8]", 8),
        ("negative once it is signed", "[9223372036854775808,0]", "F32", "[0,0]", 0),
        ("more than there is", "[1000000]", "F32", "[0,4000000]", 8),
        ("from the end", "[2]", "F32", "[8,0]", 8),
        ("bytes without a name", "[1]", "F32", "[0,4]", 8),
        ("a format that is not read", "[2]", "I32", "[0,8]", 8),
        ("a format that is none", "[2]", "F31", "[0,8]", 8),
    ] {
        let header = format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#);
        put(&path, shard(&header, bytes));
        let line = line("000005.safetensors", "x", shape).replace("F32", dtype);
        put(&good.index(), [line.as_bytes(), &good.index].concat());
        let trace = Trace::open(good.path()).unwrap();
        let rest = trace.entries().iter().filter(|entry| entry.tap != "a.secret");
        assert!(rest.eq(&good.entries), "{name}");
        for entry in trace.of_tap("a.secret") {
            let error = trace.tensor(entry).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("000005.safetensors"), "{name}: {error}");
        }
    }
    let with_length = |length: u64| [&length.to_le_bytes()[..], b"{}      "].concat();
    for length in [u64::MAX, 1 << 40, 9, 100_000_001, i64::MAX as u64] {
        put(&path, with_length(length));
        put(&good.index(), [line("000005.safetensors", "x", "[2]").as_bytes(), &good.index].concat());
        let trace = Trace::open(good.path()).unwrap();
        assert!(trace.entries() == good.entries && trace.problems()[0].contains("000005.safetensors: not whole"));
    }
    assert!(MEMORY.0.load(Ordering::Relaxed) < SANE, "{}", MEMORY.0.load(Ordering::Relaxed));
}

#[cfg(unix)]
#[test]
fn nothing_outside_the_folder_is_read_or_cleared_away() {
    use std::os::unix::fs::symlink;
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("000005.safetensors");
    let header = r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    put(&secret, shard(header, 8));
    let good = Good::new(2);
    put(&good.path().join("000005.safetensors"), shard(header, 8));
    let claim = |shard: &str| {
        put(&good.index(), [line(shard, "x", "[2]").as_bytes(), &good.index].concat());
        let trace = Trace::open(good.path()).unwrap();
        assert!(trace.of_tap("a.secret").next().is_none(), "{shard}");
        assert!(!trace.problems().is_empty(), "{shard}");
        trace
    };
    let up = format!("../../{}/000005.safetensors", outside.path().file_name().unwrap().to_string_lossy());
    assert!(good.path().join("shards").join(&up).is_file(), "it would be found");
    for name in
        [&up, "../000005.safetensors", "./000005.safetensors", "/etc/passwd", &secret.to_string_lossy(), "..", "."]
    {
        let trace = claim(name);
        assert_eq!(trace.entries(), good.entries);
        assert!(trace.problems()[0].contains("is no name of a shard"), "{name}: {:?}", trace.problems());
    }
    // A link in the place of a shard, a pipe on which reading would wait for ever, and a folder.
    let shard = good.path().join("shards/000005.safetensors");
    symlink(&secret, &shard).unwrap();
    assert!(claim("000005.safetensors").problems()[0].contains("000005.safetensors: not a plain file"));
    std::fs::remove_file(&shard).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&shard).status().unwrap().success());
    assert!(claim("000005.safetensors").problems()[0].contains("not a plain file"));
    std::fs::remove_file(&shard).unwrap();
    std::fs::create_dir(&shard).unwrap();
    assert!(claim("000005.safetensors").problems()[0].contains("not a plain file"));
    std::fs::remove_dir(&shard).unwrap();
    // A link in the place of all shards.
    let shards = good.path().join("shards");
    std::fs::rename(&shards, outside.path().join("shards")).unwrap();
    put(&outside.path().join("shards/precious.txt"), "mine");
    symlink(outside.path().join("shards"), &shards).unwrap();
    let trace = claim("000005.safetensors");
    assert!(trace.entries().iter().all(|entry| entry.stored.is_none()), "{:?}", trace.entries());
    let before = std::fs::read_dir(outside.path().join("shards")).unwrap().count();
    let error = Writer::append(&trace, Layout::EVERY_CALL).err().map(|error| error.to_string());
    assert_eq!(
        std::fs::read_dir(outside.path().join("shards")).unwrap().count(),
        before,
        "going on clears nothing away there"
    );
    assert!(error.is_some_and(|error| error.contains("shards: the folder of the shards is a link")));
    // A link in the place of the index, and of the description.
    let index = good.index();
    put(&outside.path().join("index.jsonl"), &good.index);
    std::fs::remove_file(&index).unwrap();
    symlink(outside.path().join("index.jsonl"), &index).unwrap();
    let trace = Trace::open(good.path()).unwrap();
    assert!(trace.entries().is_empty() && trace.problems()[0].contains("index.jsonl: not a plain file"));
    let run = good.path().join("run.json");
    std::fs::rename(&run, outside.path().join("run.json")).unwrap();
    symlink(outside.path().join("run.json"), &run).unwrap();
    let error = Trace::open(good.path()).err().unwrap().to_string();
    assert!(error.contains("run.json: not a plain file"), "{error}");
}

#[test]
fn a_monstrous_index_is_read_in_sane_time_and_memory() {
    let good = Good::new(1);
    let ten_megabytes = 10 << 20;
    let deep = |open: &str| format!("{}\n", open.repeat(100_000));
    let wide = line("000000.safetensors", "a.out/000/cond", &format!("[{}1]", "1,".repeat(1 << 19)));
    for (what, lines) in [
        ("one long line", format!("{}\n", "x".repeat(ten_megabytes))),
        ("a long tap", line("000009.safetensors", "x", "[2]").replace("a.secret", &"t".repeat(ten_megabytes))),
        ("a shape of many axes", wide),
        ("deep arrays", deep("[")),
        ("deep objects", deep("{\"a\":")),
        ("a deep field", format!("{{\"call\":0,\"more\":{}\n", "[".repeat(100_000))),
        ("empty lines", "\n".repeat(1 << 20)),
        ("no line at all", "y".repeat(ten_megabytes)),
    ] {
        put(&good.index(), [lines.as_bytes(), &good.index].concat());
        let trace = Trace::open(good.path()).unwrap();
        let known = trace.entries().iter().filter(|entry| good.entries.contains(entry)).count();
        let expected = good.entries.len() - usize::from(what == "no line at all"); // it takes the first line with it
        assert_eq!(known, expected, "{what}");
        assert!((1..=101).contains(&trace.problems().len()), "{what}: {}", trace.problems().len());
        assert!(trace.problems().iter().all(|problem| problem.len() < 1000), "{what}: problems are lines to be read");
        assert_eq!((trace.complete(), trace.end()), (0, None), "{what}");
    }
    assert!(MEMORY.0.load(Ordering::Relaxed) < SANE, "{}", MEMORY.0.load(Ordering::Relaxed));
}

#[test]
fn what_is_not_ours_in_the_folder_of_the_shards_stays_and_stops_nothing() {
    let good = Good::new(3);
    // Without its end the record can be continued; its last shard is of no line.
    let lines: Vec<&[u8]> = good.index.split_inclusive(|byte| *byte == b'\n').collect();
    put(&good.index(), lines[..lines.len() / 2].concat());
    let shards = good.path().join("shards");
    put(&shards.join("notes.txt"), "mine");
    std::fs::create_dir(shards.join("old")).unwrap();
    std::fs::create_dir(shards.join("000007.safetensors")).unwrap();
    let trace = Trace::open(good.path()).unwrap();
    let (kept, last) = (trace.entries().len(), shards.join("000002.safetensors"));
    assert!(kept > 0 && last.is_file());
    drop(Writer::append(&trace, Layout::EVERY_CALL).unwrap());
    assert!(!last.exists(), "a shard that no line refers to is removed");
    assert_eq!(std::fs::read_to_string(shards.join("notes.txt")).unwrap(), "mine");
    assert!(shards.join("old").is_dir() && shards.join("000007.safetensors").is_dir());
    assert_eq!(Trace::open(good.path()).unwrap().entries().len(), kept);
}

/// Set where this test runs as another user than the super-user, whom no permission stops.
#[cfg(target_os = "linux")]
const AS_ANYBODY: &str = "LATENTRACE_TEST_AS_ANYBODY";

#[cfg(target_os = "linux")]
#[test]
#[allow(clippy::print_stderr)] // a test that did not run should say so
fn what_cannot_be_read_is_not_removed_and_nothing_else_is() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let good = Good::new(3);
    let mode = |name: &str, mode: u32| set_permissions(good.path().join(name), Permissions::from_mode(mode)).unwrap();
    mode("shards/000001.safetensors", 0);
    if std::fs::File::open(good.path().join("shards/000001.safetensors")).is_ok() {
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let name = "what_cannot_be_read_is_not_removed_and_nothing_else_is";
        again.args(["--exact", name]).env(AS_ANYBODY, "1").uid(65534).gid(65534);
        assert!(std::env::var_os(AS_ANYBODY).is_none(), "no permission stops this user");
        match again.status() {
            Ok(status) => assert!(status.success(), "failed as another user"),
            Err(error) => eprintln!("skipped: cannot run as another user: {error}"),
        }
        return;
    }
    for (unreadable, then) in [("shards/000001.safetensors", 0o644), ("shards", 0o755), ("index.jsonl", 0o644)] {
        mode(unreadable, 0);
        let trace = Trace::open(good.path()).unwrap();
        let error = Writer::append(&trace, Layout::EVERY_CALL).err().expect(unreadable).to_string();
        assert!(error.contains(&format!("{unreadable}: cannot be read: ")), "{error}");
        assert!(error.contains("hint: nothing was changed"), "{error}");
        mode(unreadable, then);
        let trace = Trace::open(good.path()).unwrap();
        assert!(trace.entries() == good.entries && trace.problems().is_empty(), "{unreadable}: nothing was lost");
    }
}
