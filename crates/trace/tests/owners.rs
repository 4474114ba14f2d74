//! A record has one writer: another is refused, or stops with an error, and nothing is overwritten. And what was
//! removed from a record, doubled, moved or changed is named.

#[allow(dead_code)] // each file of tests uses its own part
mod common;

use common::{Run, about, holds_what_passed};
use latentrace_files::is_partial;
use latentrace_nn::{Pass, Probe};
use latentrace_trace::{Entry, Error, Layout, Trace, Writer};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

const RULES: [&str; 2] = ["unet.**", "unet.** | stats"];

/// Every file of a folder and the folders in it, except the lock and what is being written.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.path().is_dir() {
            true => found.extend(files(&entry.path())),
            false if entry.file_name() == "lock" || is_partial(&entry.file_name().to_string_lossy()) => {}
            false => _ = found.insert(entry.path(), std::fs::read(entry.path()).unwrap()),
        }
    }
    found
}

/// A record of a run's first calls, without an end.
fn begun(run: &Run, folder: &Path, calls: usize) {
    let writer = Writer::create(folder, &about(), Layout::EVERY_CALL).unwrap();
    let mut recorder = run.recorder(&RULES, None, writer).unwrap();
    feed(run, &mut recorder, 0..calls + 1);
}

/// Lets some calls of a run pass a probe.
fn feed(run: &Run, probe: &mut dyn Probe, calls: Range<usize>) {
    let mut pass = Pass::watched(probe);
    for passing in run.passing.iter().filter(|passing| calls.contains(&passing.moment.call)) {
        pass.set_moment(passing.moment);
        let _ = pass.tap(&passing.tap, passing.tensor.shallow_clone());
    }
}

/// Continues a record to its end.
fn finish(run: &Run, folder: &Path) -> latentrace_trace::Result<()> {
    let writer = Writer::append(&Trace::open(folder)?, Layout::EVERY_CALL)?;
    let mut recorder = run.recorder(&RULES, None, writer)?;
    run.play(&mut recorder);
    recorder.end(None).map(drop)
}

#[test]
fn a_record_that_is_being_written_is_live_and_has_no_second_writer() {
    let run = Run::new(6, 1);
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::create(folder.path(), &about(), Layout::EVERY_CALL).unwrap();
    let mut recorder = run.recorder(&RULES, None, writer).unwrap();
    run.play(&mut recorder);
    let trace = Trace::open(folder.path()).unwrap();
    assert_eq!(trace.live().map(|owner| owner.pid), Some(std::process::id()));
    let before = files(&folder.path().join("shards"));
    for error in [
        Writer::append(&trace, Layout::EVERY_CALL).err().unwrap(),
        Writer::create(folder.path(), &about(), Layout::EVERY_CALL).err().unwrap(),
    ] {
        assert!(matches!(error, Error::Live { .. }), "{error}");
        assert!(error.to_string().contains(&format!("a live run: process {} on ", std::process::id())), "{error}");
    }
    let after = files(&folder.path().join("shards"));
    assert!(before.iter().all(|(path, bytes)| after.get(path) == Some(bytes)), "nothing was cleared away");
    recorder.end(None).unwrap();
    let trace = Trace::open(folder.path()).unwrap();
    assert_eq!((trace.live(), trace.complete(), trace.problems()), (None, 6, &[][..]));
    assert!(!folder.path().join("lock").exists());
}

/// Two writers at once, which only a file system without locks lets happen: here the lock's file is removed by hand.
#[test]
fn without_locks_the_first_writer_finds_out_and_the_seconds_record_stands() {
    let run = Run::new(6, 1);
    for calls in 0..6 {
        for finishes_first in [false, true] {
            let what = format!("after call {calls}, the second {}", if finishes_first { "ended" } else { "going on" });
            let folder = tempfile::tempdir().unwrap();
            let writer = Writer::create(folder.path(), &about(), Layout::EVERY_CALL).unwrap();
            let mut first = run.recorder(&RULES, None, writer).unwrap();
            feed(&run, &mut first, 0..calls + 1);
            // The thread may have more to write: what it has not yet written, the second writer writes.
            std::fs::remove_file(folder.path().join("lock")).unwrap();
            let second = Trace::open(folder.path()).and_then(|trace| Writer::append(&trace, Layout::EVERY_CALL));
            let Ok(second) = second else { continue }; // the first wrote in between, and the second was the one to find out
            let mut second = run.recorder(&RULES, None, second).unwrap();
            let ended = match finishes_first {
                true => {
                    feed(&run, &mut second, 0..6);
                    let ended = second.end(None);
                    let kept = files(folder.path());
                    feed(&run, &mut first, calls + 1..6);
                    let error = first.end(None).unwrap_err().to_string();
                    assert!(error.contains("another process has changed it"), "{what}: {error}");
                    assert!(ended.is_err() || files(folder.path()) == kept, "{what}: nothing of it was touched");
                    ended
                }
                false => {
                    feed(&run, &mut first, calls + 1..6);
                    feed(&run, &mut second, 0..6);
                    let failed = first.end(None);
                    let ended = second.end(None);
                    assert!(failed.is_err() || ended.is_err(), "{what}: both cannot have written it");
                    ended
                }
            };
            let trace = Trace::open(folder.path()).unwrap();
            holds_what_passed(&trace, &run.rows());
            if ended.is_ok() {
                assert_eq!((trace.complete(), trace.problems()), (6, &[][..]), "{what}");
            }
        }
    }
}

#[test]
fn of_many_that_go_on_with_a_record_at_once_one_does() {
    let run = Run::new(6, 1);
    for round in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        begun(&run, folder.path(), round % 5);
        let done: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| finish(&Run::new(6, 1), folder.path()))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(done.iter().any(Result::is_ok), "{:?}", done.iter().map(|done| done.is_ok()).collect::<Vec<_>>());
        for error in done.into_iter().filter_map(Result::err) {
            assert!(matches!(error, Error::Live { .. } | Error::Changed { .. }), "{error}");
        }
        let trace = Trace::open(folder.path()).unwrap();
        assert_eq!((trace.complete(), trace.problems(), trace.end().is_some()), (6, &[][..], true));
        holds_what_passed(&trace, &run.rows());
    }
}

#[test]
fn of_many_that_begin_in_one_folder_one_does() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("new/trace");
        let begin = |number: u32| {
            let run = serde_json::json!({ "number": number });
            let writer = Writer::create(&place, &run, Layout::EVERY_CALL);
            writer.map(|writer| (number, writer))
        };
        let begun: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || begin(number))).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect()
        });
        assert_eq!(begun.len(), 1, "one of eight");
        assert_eq!(Trace::open(&place).unwrap().run()["number"], begun[0].0);
    }
}

/// An ended record, and its index's lines.
fn recorded() -> (tempfile::TempDir, Run, Vec<String>) {
    let run = Run::new(3, 1);
    let folder = tempfile::tempdir().unwrap();
    run.record(folder.path(), &RULES, None, Layout::EVERY_CALL).unwrap();
    let index = std::fs::read_to_string(folder.path().join("index.jsonl")).unwrap();
    (folder, run, index.lines().map(str::to_string).collect())
}

fn put(folder: &Path, lines: &[String]) -> Trace {
    std::fs::write(folder.join("index.jsonl"), lines.join("\n") + "\n").unwrap();
    Trace::open(folder).unwrap()
}

#[test]
fn every_line_that_is_removed_doubled_or_moved_is_named() {
    let (folder, run, lines) = recorded();
    let entries = |trace: &Trace| trace.entries().len();
    let whole = entries(&put(folder.path(), &lines));
    for place in 0..lines.len() {
        let is_entry = lines[place].contains("\"tap\"");
        let call: Option<usize> = is_entry.then(|| {
            serde_json::from_str::<serde_json::Value>(&lines[place]).unwrap()["call"].as_u64().unwrap() as usize
        });
        let mut fewer = lines.clone();
        fewer.remove(place);
        let trace = put(folder.path(), &fewer);
        if place + 1 == lines.len() {
            assert!(trace.end().is_none() && trace.problems().is_empty(), "without its end it is cut off");
            continue;
        }
        let says = |trace: &Trace, text: &str| {
            assert!(trace.problems().iter().any(|problem| problem.contains(text)), "{place}: {:?}", trace.problems());
            assert!(trace.end().is_none());
        };
        says(
            &trace,
            &format!(
                "index.jsonl, line {}: it is line {} of the original, and line {} is missing",
                place + 1,
                place + 2,
                place + 1
            ),
        );
        assert_eq!(entries(&trace), whole - usize::from(is_entry));
        assert!(call.is_none_or(|call| trace.complete() <= call), "{place}: {} whole", trace.complete());
        // What is gone from the index, but not from its shard, is named.
        if let Some(stored) = serde_json::from_str::<serde_json::Value>(&lines[place]).unwrap().get("stored") {
            let name = stored["name"].as_str().unwrap();
            let is_twin = fewer.iter().any(|line| line.contains(&format!("\"name\":\"{name}\"")));
            if !is_twin {
                says(&trace, &format!("holds {name}, whose line in index.jsonl is missing"));
            }
        }
        let mut more = lines.clone();
        more.insert(place + 1, lines[place].clone());
        let trace = put(folder.path(), &more);
        says(&trace, &format!("line {}: line {} is there twice", place + 2, place + 1));
        assert_eq!(entries(&trace), whole);
        if place + 2 < lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(place, place + 1);
            let trace = put(folder.path(), &swapped);
            says(&trace, &format!("it is line {}, and stands behind line {}", place + 1, place + 2));
            holds_what_passed(&trace, &run.rows());
        }
    }
    // A record that lacks lines can be continued, and is complete then.
    let mut fewer = lines.clone();
    fewer.remove(lines.len() / 2);
    put(folder.path(), &fewer);
    finish(&run, folder.path()).unwrap();
    let trace = Trace::open(folder.path()).unwrap();
    assert_eq!((trace.problems(), trace.complete(), entries(&trace)), (&[][..], 3, whole));
}

/// A line as it was written before lines had numbers.
fn of_before(line: &str) -> String {
    let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
    let fields = value.as_object_mut().unwrap();
    for name in ["line", "check", "run_crc32"] {
        fields.remove(name);
    }
    let text = value.to_string();
    let body = text.strip_suffix('}').unwrap();
    format!("{body},\"check\":\"{:08x}\"}}", crc32fast::hash(body.as_bytes()))
}

#[test]
fn a_record_of_before_is_read_and_what_its_shards_hold_is_not_lost_in_silence() {
    let (folder, run, lines) = recorded();
    let old: Vec<String> = lines.iter().map(|line| of_before(line)).collect();
    let trace = put(folder.path(), &old);
    assert_eq!((trace.problems(), trace.complete(), trace.vouches_for_run()), (&[][..], 3, false));
    let rows = run.rows();
    let count = holds_what_passed(&trace, &rows);
    for (place, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("\"stored\"")) {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = value["stored"]["name"].as_str().unwrap();
        let is_twin = lines.iter().filter(|line| line.contains(&format!("\"name\":\"{name}\""))).count() > 1;
        let mut fewer = old.clone();
        fewer.remove(place);
        let trace = put(folder.path(), &fewer);
        assert_eq!(holds_what_passed(&trace, &rows), count - 1);
        if !is_twin {
            assert_eq!(trace.problems().len(), 1, "{:?}", trace.problems());
            assert!(trace.problems()[0].contains(&format!("holds {name}, whose line")), "{:?}", trace.problems());
            assert!(trace.end().is_none() && trace.complete() <= value["call"].as_u64().unwrap() as usize);
        }
    }
    // A whole shard to which no line refers is found as well.
    let shard = "000001.safetensors";
    let fewer: Vec<String> = old.iter().filter(|line| !line.contains(shard)).cloned().collect();
    let trace = put(folder.path(), &fewer);
    assert!(!trace.problems().is_empty() && trace.problems().iter().all(|problem| problem.contains(shard)));
}

#[test]
fn a_changed_description_is_seen_and_not_gone_on_with() {
    let run = Run::new(4, 1);
    let folder = tempfile::tempdir().unwrap();
    begun(&run, folder.path(), 2);
    let path = folder.path().join("run.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("a red cat", "a red dog")).unwrap();
    // With any beginning of the index: its first line has the checksum of run.json.
    let index = folder.path().join("index.jsonl");
    let lines = std::fs::read_to_string(&index).unwrap();
    std::fs::write(&index, lines.lines().next().unwrap().to_string() + "\n").unwrap();
    assert!(Trace::open(folder.path()).unwrap().check_run().is_err());
    std::fs::write(&index, lines).unwrap();
    let trace = Trace::open(folder.path()).unwrap();
    assert!(trace.vouches_for_run());
    assert_eq!(trace.problems(), [format!("{}: has changed since the run was recorded", path.display())]);
    let before = files(folder.path());
    let error = Writer::append(&trace, Layout::EVERY_CALL).err().unwrap();
    assert!(matches!(error, Error::RunChanged { .. }), "{error}");
    assert!(files(folder.path()) == before);
    std::fs::write(&path, text).unwrap();
    finish(&run, folder.path()).unwrap();
    assert_eq!(Trace::open(folder.path()).unwrap().problems(), [""; 0]);
}

#[test]
fn a_record_that_is_gone_on_with_goes_on_with_its_budget() {
    let run = Run::new(5, 2);
    let rules = ["unet.mid_block.out", "unet.half.out", "text_encoder.out", "unet.** | stats"];
    let kept = |folder: &Path| {
        let trace = Trace::open(folder).unwrap();
        let mut keys: Vec<_> = trace.entries().iter().map(Entry::key).collect();
        keys.sort();
        (keys, trace.end().map(|end| end.beyond_budget))
    };
    let total: u64 = {
        let folder = tempfile::tempdir().unwrap();
        run.record(folder.path(), &rules, None, Layout::EVERY_CALL).unwrap();
        let trace = Trace::open(folder.path()).unwrap();
        trace.entries().iter().filter(|entry| !entry.is_of_flight_recorder()).map(Entry::bytes).sum()
    };
    for budget in [0, 100, total / 4, total / 2, total - 1, total] {
        let whole = tempfile::tempdir().unwrap();
        run.record(whole.path(), &rules, Some(budget), Layout::EVERY_CALL).unwrap();
        let index = std::fs::read(whole.path().join("index.jsonl")).unwrap();
        for part in 0..=8 {
            let folder = tempfile::tempdir().unwrap();
            run.record(folder.path(), &rules, Some(budget), Layout::EVERY_CALL).unwrap();
            std::fs::write(folder.path().join("index.jsonl"), &index[..index.len() * part / 8]).unwrap();
            let writer = Writer::append(&Trace::open(folder.path()).unwrap(), Layout::EVERY_CALL).unwrap();
            let mut recorder = run.recorder(&rules, Some(budget), writer).unwrap();
            run.play(&mut recorder);
            recorder.end(None).unwrap();
            assert_eq!(kept(folder.path()), kept(whole.path()), "{budget} of {total} bytes, cut at {part} eighths");
        }
    }
}
