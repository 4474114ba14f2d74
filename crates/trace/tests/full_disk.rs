//! A disk that fills up during a run: the run continues, its end is an error, and what the record says is there.
#![cfg(target_os = "linux")]

#[allow(dead_code)] // each file of tests uses its own part
mod common;

use common::{Run, about, holds_what_passed};
use latentrace_trace::{Entry, Layout, Trace, Writer};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A disk of a few pages, removed when this is dropped, whatever is still open on it.
struct SmallDisk(PathBuf);

const PAGE: usize = 4096;

impl SmallDisk {
    fn mount(at: &Path, size: usize) -> Option<SmallDisk> {
        let size = format!("size={size}");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        done.is_ok_and(|done| done.status.success()).then(|| SmallDisk(at.into()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

/// Whether this process has a name space of its own, in which it may mount.
const INSIDE: &str = "LATENTRACE_TEST_MAY_MOUNT";

/// Runs `work` on a small disk: here, or in a name space of its own, or not at all.
#[allow(clippy::print_stderr)] // a test that did not run should say so
fn on_a_small_disk(test: &str, size: usize, work: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    if let Some(disk) = SmallDisk::mount(folder.path(), size) {
        work(&disk.0);
        return;
    }
    let own = std::env::current_exe().unwrap();
    let again = || Command::new("unshare").arg("-Urm").arg(own).args(["--exact", test]).env(INSIDE, "1").status();
    let status = if std::env::var_os(INSIDE).is_none() { again().ok() } else { None };
    match status.and_then(|status| status.code()) {
        Some(0) => {}
        Some(101) => panic!("failed in a name space of its own"),
        _ => eprintln!("skipped: cannot mount a small tmpfs here"),
    }
}

/// Leaves so little room. The pages of a file that was just removed may be free a moment later.
fn fill(disk: &Path, bytes: usize) {
    let write = || std::fs::write(disk.join("filler"), vec![1; bytes]);
    for _ in 0..100 {
        match write() {
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            other => return other.unwrap(),
        }
    }
    write().unwrap();
}

#[test]
fn a_disk_that_fills_up_at_any_page_leaves_a_readable_record_that_can_go_on() {
    let size = 75 * PAGE;
    on_a_small_disk("a_disk_that_fills_up_at_any_page_leaves_a_readable_record_that_can_go_on", size, |disk| {
        let run = Run::new(6, 2);
        let rules = ["unet.**", "unet.** | stats"];
        let (mut full, mut whole, mut between) = (0, 0, 0);
        for pages in 2..70 {
            let layout = Layout { queue: 1, ..[Layout::EVERY_CALL, Layout::WHOLE][pages % 2] };
            fill(disk, size - pages * PAGE);
            let folder = disk.join("trace");
            let Ok(writer) = Writer::create(&folder, &about(), layout) else {
                assert!(pages < 8, "{pages} pages are enough to begin");
                std::fs::remove_dir_all(&folder).unwrap();
                continue;
            };
            let mut recorder = run.recorder(&rules, None, writer).unwrap();
            for (out, passing) in run.play(&mut recorder).iter().zip(&run.passing) {
                assert_eq!(out.data_ptr(), passing.tensor.data_ptr(), "the run is not disturbed");
            }
            let ended = recorder.end(None);
            let trace = Trace::open(&folder).unwrap();
            let read = holds_what_passed(&trace, &run.rows());
            let claimed: Vec<&str> =
                trace.entries().iter().flat_map(|entry| &entry.stored).map(|stored| stored.shard.as_str()).collect();
            assert!(
                claimed.iter().all(|name| !name.contains("unfinished") && folder.join("shards").join(name).is_file())
            );
            match ended {
                Ok(_) => {
                    whole += 1;
                    assert_eq!((read, trace.complete()), (run.rows().len() - 2, 6), "all but the texts");
                }
                Err(error) => {
                    full += 1;
                    between += usize::from(read > 0);
                    let error = error.to_string();
                    assert!(error.contains("No space left"), "{error}");
                    assert!(error.starts_with(&*folder.to_string_lossy()), "{error} names its file");
                    assert!(trace.complete() < 6 || trace.end().is_none());
                    for key in run.rows().keys().filter(|key| key.call < trace.complete()) {
                        assert!(trace.find(key).is_some() || key.tap.starts_with("text"), "{}", key.name());
                    }
                    // There is room again, and the record is continued.
                    std::fs::remove_file(disk.join("filler")).unwrap();
                    let writer = Writer::append(&trace, layout).unwrap();
                    let mut recorder = run.recorder(&rules, None, writer).unwrap();
                    run.play(&mut recorder);
                    recorder.end(None).unwrap();
                    let trace = Trace::open(&folder).unwrap();
                    assert_eq!(trace.problems(), [""; 0]);
                    assert_eq!(holds_what_passed(&trace, &run.rows()), run.rows().len() - 2);
                    let mut keys: Vec<_> = trace.entries().iter().map(Entry::key).collect();
                    keys.sort();
                    keys.dedup();
                    assert_eq!(keys.len(), trace.entries().len(), "each once");
                }
            }
            std::fs::remove_dir_all(&folder).unwrap();
        }
        assert!(full > 5 && whole > 5 && between > 2, "{full} full, {between} of them with something, {whole} whole");
    });
}

#[test]
fn an_index_that_finds_no_room_is_cut_off_and_not_wrong() {
    let size = 40 * PAGE;
    on_a_small_disk("an_index_that_finds_no_room_is_cut_off_and_not_wrong", size, |disk| {
        let run = Run::new(8, 2);
        let mut partial = 0;
        for pages in 6..22 {
            fill(disk, size - pages * PAGE);
            let folder = disk.join("trace");
            // Every tap's statistics: many lines, and almost nothing in shards.
            let rules = ["unet.** | stats"];
            if run.record(&folder, &rules, None, Layout::EVERY_CALL).is_err() && folder.join("run.json").exists() {
                let trace = Trace::open(&folder).unwrap();
                partial += trace.problems().iter().filter(|problem| problem.contains("cut off")).count();
                assert!(trace.problems().len() <= 1, "{:?}", trace.problems());
                assert!(trace.end().is_none());
                holds_what_passed(&trace, &run.rows());
            }
            std::fs::remove_dir_all(&folder).unwrap();
        }
        assert!(partial > 0, "a line was cut");
    });
}
