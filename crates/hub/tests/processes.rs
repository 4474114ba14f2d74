//! Several processes with one cache, of which one is killed. A process is this test's own program, called again.

mod common;

use common::{COMMIT, Client, Fault, Server, WEIGHTS};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The variables that tell the child where the server and the cache are.
const URL: &str = "LATENTRACE_TEST_HUB_URL";
const CACHE: &str = "LATENTRACE_TEST_HUB_CACHE";

/// What a child does. In an ordinary run of the tests there is nothing to do.
#[test]
fn child() {
    let (Ok(url), Some(cache)) = (std::env::var(URL), std::env::var_os(CACHE)) else { return };
    let mut client = Client::of(url);
    client.settings.cache = cache.into();
    client.settings.patience.stall = Duration::from_secs(60);
    client.weights().unwrap();
}

fn start(server: &Server, client: &Client) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(URL, &server.url)
        .env(CACHE, client.cache())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let before = Instant::now();
    while !is_so() {
        assert!(before.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_process_waits_for_another_and_continues_what_that_one_had_when_it_was_killed() {
    let server = Server::start();
    let client = Client::new(&server);
    let weights = server.file(WEIGHTS);
    let partial = client.repo().join("blobs").join(format!("{}.incomplete", weights.etag()));
    server.fault("/cdn/", Fault::Stall(77_777));
    let mut first = start(&server, &client);
    wait_until("the first has its part", || partial.metadata().is_ok_and(|about| about.len() == 77_777));
    let mut second = start(&server, &client);
    let lists = || server.state().log.iter().filter(|asked| asked.path.starts_with("/api/")).count();
    wait_until("the second knows what to download", || lists() == 2);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(second.try_wait().unwrap(), None, "it waits");
    assert_eq!(server.sent().len(), 1, "and asks for nothing");
    first.kill().unwrap(); // SIGKILL: it can tidy nothing up
    first.wait().unwrap();
    assert!(second.wait().unwrap().success());
    let sent = server.sent();
    assert_eq!((sent.len(), sent[1].1.as_deref(), sent[1].2), (2, Some("bytes=77777-"), 300_000 - 77_777));
    let file = client.repo().join("snapshots").join(COMMIT).join(WEIGHTS);
    assert_eq!(fs::read(file).unwrap(), weights.bytes);
    assert!(!partial.exists());
}
