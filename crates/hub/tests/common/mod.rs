//! A small server that speaks the hub's HTTP, with faults on demand. The files themselves come from a second one, as the
//! hub's do: a "CDN" at another address of this machine.

#![allow(dead_code)] // each test file uses its part

use latentrace_hub::{Error, Hub, Id, Listed, Patience, Settings, Snapshot};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub const MODEL: &str = "owner/model";
pub const COMMIT: &str = "39593d5650112b4cc580433f6b0435385882d819";
pub const TOKEN: &str = "hf_good";
pub const WEIGHTS: &str = "unet/diffusion_pytorch_model.safetensors";

/// A file on the server.
#[derive(Clone)]
pub struct Remote {
    pub name: String,
    pub bytes: Vec<u8>,
    pub is_large: bool,
}

impl Remote {
    pub fn etag(&self) -> String {
        if self.is_large {
            format!("{:x}", Sha256::digest(&self.bytes))
        } else {
            let prefix = format!("blob {}\0", self.bytes.len());
            format!("{:x}", Sha1::new_with_prefix(prefix).chain_update(&self.bytes).finalize())
        }
    }
}

/// What goes wrong with one answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// Nothing more comes after so many bytes of the body, and the connection stays.
    Stall(usize),
    /// A status with headers and a body.
    Status(u16, Vec<(&'static str, String)>, &'static str),
    /// One byte is another.
    Corrupt,
    /// The whole file, though a part was asked for.
    Whole,
    /// Other bytes, of another length.
    Length(usize),
    /// A page for people, with status 200.
    Page,
    /// The answer comes late.
    Late(Duration),
}

/// A request as it came, and how many bytes of a body it got.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: HashMap<String, String>,
    pub sent: usize,
    pub is_cdn: bool,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

#[derive(Default)]
pub struct State {
    pub files: Vec<Remote>,
    /// The part of a path, and the fault of the next request with it.
    pub faults: Vec<(String, Fault)>,
    pub log: Vec<Asked>,
    pub is_gated: bool,
    pub needs_token: bool,
    /// The list of files in place of the one that fits.
    pub listing: Option<String>,
    pub connections: usize,
}

pub struct Server {
    pub url: String,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// A server with one model, of two large files and two small ones.
    pub fn start() -> Server {
        let file = |name: &str, bytes: Vec<u8>, is_large| Remote { name: name.into(), bytes, is_large };
        let weights: Vec<u8> = (0..300_000u32).map(|place| (place * 7 % 251) as u8).collect();
        let files = vec![
            file("model_index.json", b"{\"_class_name\": \"StableDiffusionPipeline\"}\n".to_vec(), false),
            file("unet/config.json", b"{}\n".to_vec(), false),
            file(WEIGHTS, weights.clone(), true),
            file("vae/a file with spaces, # and ü.bin", weights[1000..2000].to_vec(), true),
            file("empty.txt", Vec::new(), false),
        ];
        Server::with(files)
    }

    pub fn with(files: Vec<Remote>) -> Server {
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        let stop = Arc::new(AtomicBool::new(false));
        let hub = TcpListener::bind("127.0.0.1:0").unwrap();
        let cdn = TcpListener::bind("127.0.0.2:0").unwrap();
        let url = format!("http://{}", hub.local_addr().unwrap());
        let cdn_url = format!("http://{}", cdn.local_addr().unwrap());
        for (listener, is_cdn) in [(hub, false), (cdn, true)] {
            let (state, stop, cdn_url) = (state.clone(), stop.clone(), cdn_url.clone());
            std::thread::spawn(move || listen(&listener, &state, &stop, &cdn_url, is_cdn));
        }
        Server { url, state, stop }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The next request whose path has this part meets a fault.
    pub fn fault(&self, part: &str, fault: Fault) {
        self.state().faults.push((part.into(), fault));
    }

    pub fn file(&self, name: &str) -> Remote {
        self.state().files.iter().find(|file| file.name == name).unwrap().clone()
    }

    /// The requests for files that reached their bytes, in order: path and range.
    pub fn sent(&self) -> Vec<(String, Option<String>, usize)> {
        let state = self.state();
        let sent = state.log.iter().filter(|asked| asked.sent > 0 && !asked.path.starts_with("/api/"));
        sent.map(|asked| (asked.path.clone(), asked.header("range").map(str::to_owned), asked.sent)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn listen(listener: &TcpListener, state: &Arc<Mutex<State>>, stop: &AtomicBool, cdn: &str, is_cdn: bool) {
    for stream in listener.incoming() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let (state, cdn) = (state.clone(), cdn.to_owned());
        std::thread::spawn(move || {
            state.lock().unwrap().connections += 1;
            let _ = answer(&stream, &state, &cdn, is_cdn); // the client may hang up
        });
    }
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, headers: Vec<(&'static str, String)>, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, headers, body: body.into() }
    }
}

fn answer(stream: &TcpStream, state: &Mutex<State>, cdn: &str, is_cdn: bool) -> std::io::Result<()> {
    let asked = read(stream, is_cdn)?;
    let place = {
        let mut state = state.lock().unwrap();
        state.log.push(asked.clone());
        state.log.len() - 1
    };
    let fault = {
        let mut state = state.lock().unwrap();
        let first = state.faults.iter().position(|(part, fault)| {
            let is_body = !matches!(fault, Fault::Status(..) | Fault::Page | Fault::Late(_));
            asked.path.contains(part) && (!is_body || has_bytes(&asked))
        });
        first.map(|first| state.faults.remove(first).1)
    };
    let mut answer = match &fault {
        Some(Fault::Status(status, headers, body)) => Answer::new(*status, headers.clone(), *body),
        Some(Fault::Page) => Answer::new(200, vec![("Content-Type", "text/html".into())], "<!doctype html><p>Log in"),
        other => {
            if let Some(Fault::Late(time)) = other {
                std::thread::sleep(*time);
            }
            let range = if matches!(other, Some(Fault::Whole)) { None } else { asked.header("range") };
            route(&asked, range, &state.lock().unwrap(), cdn)
        }
    };
    let mut cut = answer.body.len();
    match fault {
        Some(Fault::Corrupt) => answer.body[0] ^= 1,
        Some(Fault::Length(length)) => answer.body = vec![7; length],
        Some(Fault::Cut(bytes) | Fault::Stall(bytes)) => cut = bytes.min(cut),
        _ => {}
    }
    write(stream, &asked, &answer, cut, &mut |sent| state.lock().unwrap().log[place].sent = sent)?;
    if matches!(fault, Some(Fault::Stall(_))) {
        std::thread::sleep(Duration::from_secs(20)); // longer than any test waits
    }
    Ok(())
}

/// Whether a request gets a file's bytes: from the CDN, or a small file directly.
fn has_bytes(asked: &Asked) -> bool {
    asked.is_cdn || !asked.path.ends_with(".safetensors") && !asked.path.ends_with(".bin")
}

fn read(stream: &TcpStream, is_cdn: bool) -> std::io::Result<Asked> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default().into(), words.next().unwrap_or_default().into());
    let mut headers = HashMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.trim().to_lowercase(), value.trim().to_owned());
    }
    Ok(Asked { method, path, headers, sent: 0, is_cdn })
}

fn write(
    mut stream: &TcpStream,
    asked: &Asked,
    answer: &Answer,
    cut: usize,
    sent: &mut dyn FnMut(usize),
) -> std::io::Result<()> {
    let Answer { status, headers, body } = answer;
    let length = if headers.iter().any(|(name, _)| *name == "Content-Length") {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(stream, "HTTP/1.1 {status} X\r\n{length}{more}Connection: close\r\n\r\n")?;
    if asked.method != "HEAD" {
        sent(if matches!(status, 200 | 206) { cut } else { 0 });
        stream.write_all(&body[..cut])?;
    }
    stream.flush()
}

fn route(asked: &Asked, range: Option<&str>, state: &State, cdn: &str) -> Answer {
    let authorization = asked.header("authorization");
    let error = |status, code: &str, said: &str| {
        let headers = vec![("X-Error-Code", code.to_owned()), ("X-Error-Message", said.to_owned())];
        Answer::new(status, headers, format!("{{\"error\": {said:?}}}"))
    };
    if asked.is_cdn {
        let name = unescaped(asked.path.split('?').next().unwrap().trim_start_matches("/cdn/"));
        let file = state.files.iter().find(|file| file.name == name).unwrap();
        return bytes(file, range, vec![("Content-Type", "application/octet-stream".into())]);
    }
    if authorization.is_some_and(|header| header != format!("Bearer {TOKEN}")) {
        return error(401, "", "Invalid credentials in Authorization header");
    }
    let is_known = asked.path.contains(&format!("/{MODEL}/"));
    if !is_known || state.needs_token && authorization.is_none() {
        return match authorization {
            None => error(401, "", "Invalid username or password."),
            Some(_) => error(404, "RepoNotFound", "Repository not found"),
        };
    }
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    if let Some(revision) = path.strip_prefix(&format!("/api/models/{MODEL}/revision/")) {
        return match revision {
            _ if revision != "main" && revision != "refs%2Fpr%2F1" && revision != COMMIT => {
                error(404, "RevisionNotFound", "Invalid rev id")
            }
            _ => Answer::new(200, vec![("Content-Type", "application/json".into())], listing(state, query)),
        };
    }
    let Some(name) = path.strip_prefix(&format!("/{MODEL}/resolve/{COMMIT}/")) else {
        return resolve_by_name(path);
    };
    if state.is_gated {
        return error(403, "GatedRepo", "Access to model owner/model is restricted.");
    }
    let name = unescaped(name);
    match state.files.iter().find(|file| file.name == name) {
        None => error(404, "EntryNotFound", "Entry not found"),
        Some(file) => resolve(file, range, cdn),
    }
}

/// A file at `main`, which Python asks for: the same at the commit, by a relative redirect.
fn resolve_by_name(path: &str) -> Answer {
    let to = path.replace("/resolve/main/", &format!("/resolve/{COMMIT}/"));
    if to == path { Answer::new(404, vec![], "") } else { Answer::new(307, vec![("Location", to)], "") }
}

fn resolve(file: &Remote, range: Option<&str>, cdn: &str) -> Answer {
    let mut headers = vec![("X-Repo-Commit", COMMIT.to_owned()), ("Accept-Ranges", "bytes".to_owned())];
    if file.is_large {
        headers.push(("X-Linked-Etag", format!("\"{}\"", file.etag())));
        headers.push(("X-Linked-Size", file.bytes.len().to_string()));
        headers.push(("Location", format!("{cdn}/cdn/{}?Signature=secret", escaped(&file.name))));
        return Answer::new(302, headers, "Found. Redirecting");
    }
    headers.push(("ETag", format!("\"{}\"", file.etag())));
    bytes(file, range, headers)
}

fn bytes(file: &Remote, range: Option<&str>, mut headers: Vec<(&'static str, String)>) -> Answer {
    let total = file.bytes.len();
    let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match from {
        None => Answer::new(200, headers, file.bytes.clone()),
        Some(from) if from >= total => {
            headers.push(("Content-Range", format!("bytes */{total}")));
            Answer::new(416, headers, "")
        }
        Some(from) => {
            headers.push(("Content-Range", format!("bytes {from}-{}/{total}", total - 1)));
            Answer::new(206, headers, &file.bytes[from..])
        }
    }
}

fn listing(state: &State, query: &str) -> String {
    if let Some(listing) = &state.listing {
        return listing.clone();
    }
    assert_eq!(query, "blobs=true");
    let siblings: Vec<String> = state.files.iter().map(sibling).collect();
    format!("{{\"id\": \"{MODEL}\", \"sha\": \"{COMMIT}\", \"siblings\": [{}]}}", siblings.join(", "))
}

fn sibling(file: &Remote) -> String {
    let (name, size, etag) = (&file.name, file.bytes.len(), file.etag());
    if file.is_large {
        let pointer = "0".repeat(40);
        let large = format!("{{\"sha256\": \"{etag}\", \"size\": {size}, \"pointerSize\": 134}}");
        format!("{{\"rfilename\": \"{name}\", \"size\": {size}, \"blobId\": \"{pointer}\", \"lfs\": {large}}}")
    } else {
        format!("{{\"rfilename\": \"{name}\", \"size\": {size}, \"blobId\": \"{etag}\"}}")
    }
}

fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn unescaped(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first == b'%' {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&rest[..2]).unwrap(), 16).unwrap());
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// A cache in a folder of its own, and a hub that asks the server.
pub struct Client {
    pub folder: tempfile::TempDir,
    pub settings: Settings,
}

impl Client {
    pub fn new(server: &Server) -> Client {
        Client::of(server.url.clone())
    }

    pub fn of(endpoint: String) -> Client {
        let folder = tempfile::tempdir().unwrap();
        let milliseconds = Duration::from_millis;
        let settings = Settings {
            endpoint,
            patience: Patience {
                tries: 3,
                pause: milliseconds(1),
                longest: milliseconds(4),
                asked: Duration::from_secs(2),
                connect: Duration::from_secs(5),
                stall: Duration::from_secs(5),
            },
            ..Settings::new(folder.path().join("hub"))
        };
        Client { folder, settings }
    }

    pub fn hub(&self) -> Hub {
        Hub::new(&self.settings).unwrap()
    }

    pub fn cache(&self) -> &Path {
        &self.settings.cache
    }

    /// The folder of the model in the cache.
    pub fn repo(&self) -> PathBuf {
        self.cache().join("models--owner--model")
    }

    pub fn all(&self) -> Result<Snapshot, Error> {
        self.some("main", |_| true)
    }

    pub fn weights(&self) -> Result<Snapshot, Error> {
        self.some("main", |name| name == WEIGHTS)
    }

    pub fn some(&self, revision: &str, is_needed: fn(&str) -> bool) -> Result<Snapshot, Error> {
        self.watched(revision, is_needed, &mut ())
    }

    pub fn watched(
        &self,
        revision: &str,
        is_needed: fn(&str) -> bool,
        progress: &mut dyn latentrace_hub::Progress,
    ) -> Result<Snapshot, Error> {
        let mut choose = |files: &[Listed]| -> Result<Vec<String>, Error> {
            Ok(files.iter().map(|file| file.name.clone()).filter(|name| is_needed(name)).collect())
        };
        self.hub().fetch(&id(), revision, &mut choose, progress)
    }
}

pub fn id() -> Id {
    Id::parse(MODEL).unwrap()
}

/// Everything below a folder that is not a folder: its path, and its bytes or where it links to.
pub fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    collect(folder, folder, &mut found);
    found
}

fn collect(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        match std::fs::read_link(&path) {
            Ok(target) => {
                found.insert(name, format!("-> {}", target.display()).into_bytes());
            }
            Err(_) if path.is_dir() => collect(root, &path, found),
            Err(_) => {
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
}
