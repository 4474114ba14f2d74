use super::*;
use std::sync::atomic::AtomicUsize;

const KEY: &str = "0123456789abcdef";

fn leases(folder: &Path) -> Leases {
    Leases::of(folder, Pace::default())
}

/// The files of a folder.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Writes a lease of another machine that was renewed so many seconds ago.
fn written_elsewhere(path: &Path, seconds: u64) {
    let holder = serde_json::json!({ "host": "node7", "pid": 1, "system": "another start of it", "began": 5 });
    std::fs::write(path, serde_json::json!({ "holder": holder, "serial": 0 }).to_string()).unwrap();
    age(path, seconds);
}

fn age(path: &Path, seconds: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
}

#[test]
fn one_at_a_time_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (leases(folder.path()), leases(folder.path()));
    assert!(!one.is_held(KEY).unwrap());
    let lease = one.take(KEY).unwrap().unwrap();
    assert!(lease.holds() && other.is_held(KEY).unwrap() && other.take(KEY).unwrap().is_none());
    assert_eq!(files(folder.path()), [format!("{KEY}.1")]);
    let standing = other.standing().unwrap();
    assert_eq!((standing.len(), &standing[0].name[..], &standing[0].holder), (1, KEY, Holder::this()));
    assert!(other.take("fedcba9876543210").unwrap().is_some(), "another name");
    drop(lease);
    assert!(!other.is_held(KEY).unwrap() && files(folder.path()).is_empty());
    assert!(other.take(KEY).unwrap().is_some());
}

#[test]
fn the_lease_of_a_process_that_ended_here_is_taken_over_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let gone = serde_json::to_value(Holder::this()).unwrap();
    let with = |key: &str, value: u64| {
        let mut holder = gone.clone();
        holder[key] = value.into();
        serde_json::json!({ "holder": holder, "serial": 0 }).to_string()
    };
    for content in [with("began", 1), with("pid", u64::from(u32::MAX))] {
        std::fs::write(folder.path().join(format!("{KEY}.1")), content).unwrap();
        assert!(!leases(folder.path()).is_held(KEY).unwrap());
        let lease = leases(folder.path()).take(KEY).unwrap().unwrap();
        assert!(lease.holds());
        assert_eq!(files(folder.path()), [format!("{KEY}.2")]);
        drop(lease);
    }
}

#[test]
fn the_lease_of_another_machine_lasts_its_term() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{KEY}.4"));
    for seconds in [0, 100] {
        written_elsewhere(&path, seconds);
        assert!(leases(folder.path()).take(KEY).unwrap().is_none(), "{seconds}");
        assert_eq!(leases(folder.path()).standing().unwrap()[0].holder.to_string(), "process 1 on node7");
    }
    written_elsewhere(&path, 130);
    assert!(leases(folder.path()).standing().unwrap().is_empty());
    let lease = leases(folder.path()).take(KEY).unwrap().unwrap();
    assert!(lease.holds());
    assert_eq!(files(folder.path()), [format!("{KEY}.5")]);
}

#[test]
fn a_lease_that_is_being_written_is_one_of_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{KEY}.1"));
    std::fs::write(&path, "").unwrap();
    assert!(leases(folder.path()).take(KEY).unwrap().is_none());
    assert_eq!(leases(folder.path()).standing().unwrap()[0].holder.to_string(), "a process");
    age(&path, 130);
    assert!(leases(folder.path()).take(KEY).unwrap().is_some());
}

#[test]
fn a_holder_that_was_robbed_knows_it_and_leaves_the_new_lease() {
    let folder = tempfile::tempdir().unwrap();
    let lease = leases(folder.path()).take(KEY).unwrap().unwrap();
    written_elsewhere(&folder.path().join(format!("{KEY}.2")), 0);
    assert!(!lease.holds());
    drop(lease);
    assert_eq!(files(folder.path()), [format!("{KEY}.2")]);
    // Also where another lease has the number of its own.
    let folder = tempfile::tempdir().unwrap();
    let lease = leases(folder.path()).take(KEY).unwrap().unwrap();
    std::fs::remove_file(folder.path().join(format!("{KEY}.1"))).unwrap();
    written_elsewhere(&folder.path().join(format!("{KEY}.1")), 0);
    assert!(!lease.holds());
    drop(lease);
    assert_eq!(files(folder.path()), [format!("{KEY}.1")]);
}

#[test]
fn a_lease_is_renewed_by_the_clock_of_the_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let leases = Leases::of(folder.path(), Pace { renewed_s: 0.02, term_s: 60.0 });
    let lease = leases.take(KEY).unwrap().unwrap();
    let path = folder.path().join(format!("{KEY}.1"));
    age(&path, 1000);
    let began = Instant::now();
    let old = |path: &Path| {
        let modified = std::fs::metadata(path).unwrap().modified().unwrap();
        leases.now().unwrap().duration_since(modified).is_ok_and(|age| age > Duration::from_secs(500))
    };
    while old(&path) {
        assert!(began.elapsed() < Duration::from_secs(60), "it is not renewed");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(lease.holds());
}

#[test]
fn a_lease_that_could_not_be_renewed_for_its_term_is_not_held() {
    let folder = tempfile::tempdir().unwrap();
    let slow = Pace { renewed_s: 1000.0, term_s: 0.05 }; // the thread renews nothing meanwhile
    let lease = Leases::of(folder.path(), slow).take(KEY).unwrap().unwrap();
    std::thread::sleep(Duration::from_millis(80));
    assert!(!lease.holds() && !slow.is_sound() && Pace::default().is_sound());
}

#[test]
fn of_many_threads_one_has_it_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let (inside, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let leases = leases(folder.path());
                for _ in 0..50 {
                    let Some(lease) = leases.take(KEY).unwrap() else { continue };
                    if !lease.holds() {
                        continue; // two made one at the same time, and both may have drawn back
                    }
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "alone");
                    taken.fetch_add(1, Ordering::SeqCst);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert!(taken.into_inner() > 0 && files(folder.path()).is_empty());
}

#[test]
fn without_hard_links_a_lease_is_created_exclusively() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    assert!(create(&path, "first").unwrap() && !create(&path, "second").unwrap());
    assert_eq!(read(&path).unwrap(), "first");
    assert!(publish(folder.path(), &folder.path().join("b"), "first").unwrap());
    assert!(!publish(folder.path(), &folder.path().join("b"), "second").unwrap());
    assert_eq!(
        (read(&folder.path().join("b")).unwrap(), files(folder.path())),
        ("first".into(), vec!["a".into(), "b".into()])
    );
}

#[test]
fn what_is_no_lease_is_said_and_no_link_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, precious) = (folder.path().join(format!("{KEY}.1")), folder.path().join("precious"));
    std::fs::write(&precious, "mine").unwrap();
    std::os::unix::fs::symlink(&precious, &path).unwrap();
    let error = format!("{:#}", leases(folder.path()).take(KEY).map(drop).unwrap_err());
    assert!(error.contains("cannot be the claim of a cell: not a plain file\nhint: "), "{error}");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let error = format!("{:#}", leases(folder.path()).take(KEY).map(drop).unwrap_err());
    assert!(error.contains("a folder, not a file"), "{error}");
    assert_eq!(std::fs::read_to_string(precious).unwrap(), "mine");
}

#[test]
fn only_names_that_are_written_back_alike_are_leases() {
    assert_eq!(parsed(&format!("{KEY}.7")), Some((KEY.to_string(), 7)));
    assert_eq!(parsed("a.b.18446744073709551615"), Some(("a.b".to_string(), u64::MAX)));
    for other in ["x.01", "x.0", "x.+1", "x.-1", "x.", ".1", "x", "x.18446744073709551616", "x.1 "] {
        assert_eq!(parsed(other), None, "{other}");
    }
}

#[test]
fn a_name_that_is_like_one_of_a_lease_blocks_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |number: &str| folder.path().join(format!("{KEY}.{number}"));
    std::fs::write(at("01"), "").unwrap();
    written_elsewhere(&at("4294967295"), 130);
    let lease = leases(folder.path()).take(KEY).unwrap().unwrap();
    assert!(lease.holds());
    assert_eq!(files(folder.path()), [format!("{KEY}.01"), format!("{KEY}.4294967296")]);
    drop(lease);
    // Nobody can take over the last number: that is said, and not waited for.
    written_elsewhere(&at("18446744073709551615"), 130);
    let error = format!("{:#}", leases(folder.path()).take(KEY).map(drop).unwrap_err());
    assert!(error.contains("no lease can have a higher number\nhint: "), "{error}");
}

#[test]
fn leases_that_are_over_are_listed_and_what_is_no_file_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    written_elsewhere(&at("old.1"), 130);
    written_elsewhere(&at("taken.1"), 130);
    written_elsewhere(&at("taken.2"), 0);
    std::fs::create_dir(at("folder.1")).unwrap();
    std::os::unix::fs::symlink(at("old.1"), at("link.1")).unwrap();
    let leases = leases(folder.path());
    assert_eq!(leases.ended().unwrap(), ["old"]);
    let standing: Vec<String> = leases.standing().unwrap().into_iter().map(|lease| lease.name).collect();
    assert_eq!(standing, ["taken"]);
    let gone = Leases::of(&at("gone"), Pace::default());
    let error = format!("{:#}", gone.standing().unwrap_err());
    assert!(error.contains("gone: no such file\nhint: "), "{error}");
}

#[test]
fn a_lease_that_cannot_be_read_for_a_moment_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let slow = Pace { renewed_s: 1000.0, term_s: 5000.0 }; // the thread renews nothing meanwhile
    let lease = Leases::of(folder.path(), slow).take(KEY).unwrap().unwrap();
    let path = folder.path().join(format!("{KEY}.1"));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    lease.held.renew();
    assert!(!lease.held.is_lost.load(Ordering::Relaxed));
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, &lease.held.content).unwrap();
    assert!(lease.holds());
    std::fs::write(&path, "of another one").unwrap();
    lease.held.renew();
    assert!(lease.held.is_lost.load(Ordering::Relaxed) && !lease.holds());
}

#[test]
fn what_a_killed_process_left_of_a_lease_is_cleared_away() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: String| folder.path().join(name);
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let ended = Holder::this().distinct().replacen(&std::process::id().to_string(), &child.id().to_string(), 1);
    child.wait().unwrap();
    let (ours, theirs) = (at(format!("{BEGUN}{}", distinct())), at(format!("{BEGUN}{ended}-1")));
    let (young, old) = (at(format!("{CLOCK}1-2-0-0-1")), at(format!("{CLOCK}1-2-0-0-2"))); // of another machine
    for file in [&ours, &theirs, &young, &old] {
        std::fs::write(file, "").unwrap();
    }
    age(&old, 130);
    leases(folder.path()).clear().unwrap();
    assert_eq!([&ours, &theirs, &young, &old].map(|file| file.exists()), [true, false, true, false]);
}
