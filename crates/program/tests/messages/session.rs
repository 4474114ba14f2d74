//! A folder in which the program runs, and the transcript of what it printed there.

use crate::placeholders::replaced;
use latentrace::plot::{RgbImage, save_png};
use snapbox::{Assert, Data};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A transcript of one command, in a folder that holds the tiny checkpoint as `tiny`.
pub struct Session {
    folder: TempDir,
    transcript: String,
}

impl Session {
    /// An empty transcript.
    pub fn new() -> Session {
        let session = Session { folder: tempfile::tempdir().unwrap(), transcript: String::new() };
        copy(&networks().join("sd1"), &session.at("tiny"));
        session
    }

    /// A path in the folder.
    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command that succeeds and is not part of the transcript. Words are separated by spaces; a word with spaces
    /// is in single quotes.
    pub fn prepare(&self, line: &str) {
        let output = self.output(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Records three steps of "a NAME" as `runs/NAME`. It is a cell of a sweep, whose record is one shard on every
    /// machine; `generate` begins another shard each quarter of a second.
    pub fn record(&self, name: &str, capture: &[&str], edits: &[&str]) {
        let spec = format!(
            "name = \"cell\"\nfigures = []\ncapture = {capture:?}\n[fixed]\nprompt = \"a {name}\"\nmodel = \"tiny\"\n\
             steps = 3\nseed = 7\nguidance = 3\nedits = {edits:?}\n"
        );
        self.write("cell.toml", &spec);
        self.prepare("run cell.toml --output store");
        let cell = std::fs::read_dir(self.at("store/cells")).unwrap().next().unwrap().unwrap().path();
        std::fs::create_dir_all(self.at("runs")).unwrap();
        std::fs::rename(cell, self.at(&format!("runs/{name}"))).unwrap();
        self.remove("store");
    }

    /// Runs a command and adds it, its exit code, stdout and stderr to the transcript.
    pub fn run(&mut self, line: &str) {
        let Output { status, stdout, stderr } = self.output(line);
        let code = status.code().map_or("none: ended by a signal".into(), |code| code.to_string());
        self.transcript += &format!("$ latentrace {line}\nexit code: {code}\n");
        for (name, bytes) in [("stdout", stdout), ("stderr", stderr)] {
            let text = String::from_utf8(bytes).unwrap();
            assert!(!text.contains("panicked"), "latentrace {line}: {text}");
            if !text.is_empty() {
                self.transcript += &format!("--- {name}\n{}\n", replaced(&text, self.folder.path()).trim_end());
            }
        }
        self.transcript += "\n";
    }

    /// Adds the help of a command: the short one, and the one with every option.
    pub fn help(&mut self, command: &str) {
        self.run_each(command, &["--help", "--help-all"]);
    }

    /// Adds a row of a table: what a model is, and what is said of it where a picture is made with it.
    pub fn told(&mut self, what: &str, model: &str) {
        self.told_by(what, &format!("generate 'a cat' --steps 1 --output out --model {model}"));
    }

    /// Adds a row of a table: what was prepared, and what a command says of it on stderr.
    pub fn told_by(&mut self, what: &str, line: &str) {
        let Output { status, stderr, .. } = self.output(line);
        let text = replaced(&String::from_utf8(stderr).unwrap(), self.folder.path());
        assert!(!text.contains("panicked"), "{line}: {text}");
        let said = if status.success() { "ok: a picture is made" } else { "" };
        self.transcript += &format!("{what}\n");
        text.lines().chain([said]).filter(|line| !line.is_empty()).for_each(|line| {
            self.transcript += &format!("    {line}\n");
        });
    }

    /// Runs several commands.
    pub fn run_all(&mut self, lines: &[&str]) {
        lines.iter().for_each(|line| self.run(line));
    }

    /// Runs a command with the same beginning and each of several ends.
    pub fn run_each(&mut self, begin: &str, ends: &[&str]) {
        ends.iter().for_each(|end| self.run(format!("{begin} {end}").trim_end()));
    }

    /// Begins a section, whose title says what the commands below it have in common.
    pub fn section(&mut self, title: &str) {
        let space = if self.transcript.is_empty() || self.transcript.ends_with("\n\n") { "" } else { "\n" };
        self.transcript += &format!("{space}# {title}\n\n");
    }

    /// Compares the transcript with its snapshot, or writes the snapshot where `SNAPSHOTS=overwrite` is set.
    pub fn compare(self, command: &str) {
        let actual = Data::text(self.transcript.trim_end().to_string() + "\n").raw();
        Assert::new().action_env("SNAPSHOTS").eq(actual, Data::read_from(&snapshot(command), None).raw());
    }

    /// Runs a command, of which nothing is added to the transcript.
    pub fn output(&self, line: &str) -> Output {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("latentrace"));
        command.args(words(line)).current_dir(self.folder.path());
        // One thread and no CUDA device, so that numbers are the same with a device and without; and no colours.
        command
            .env("OMP_NUM_THREADS", "1")
            .env_remove("GOMP_SPINCOUNT")
            .env("HF_HUB_CACHE", "cache")
            .env("XDG_CACHE_HOME", self.folder.path().join("cache-of-user"))
            .env("HF_HUB_OFFLINE", "1")
            .env("CUDA_VISIBLE_DEVICES", "")
            .env("NO_COLOR", "1");
        command.env_remove("COLUMNS"); // as wide as where there is no terminal
        command.env_remove("CLICOLOR_FORCE").env_remove("RUST_BACKTRACE").output().unwrap()
    }
}

/// Preparation of files that the commands read.
impl Session {
    /// Replaces a text in a file that contains it.
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.at(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file}: {from}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    /// Writes a file.
    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.at(file), text).unwrap();
    }

    /// Keeps the first bytes of a file.
    pub fn truncate(&self, file: &str, bytes: impl Fn(usize) -> usize) {
        let whole = std::fs::read(self.at(file)).unwrap();
        std::fs::write(self.at(file), &whole[..bytes(whole.len())]).unwrap();
    }

    /// Removes a file or a folder.
    pub fn remove(&self, name: &str) {
        let path = self.at(name);
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
    }

    /// Copies a folder in the session's folder.
    pub fn copy(&self, from: &str, to: &str) {
        copy(&self.at(from), &self.at(to));
    }

    /// Copies the second tiny checkpoint, which has other weights.
    pub fn other_model(&self, to: &str) {
        copy(&networks().join("sd2"), &self.at(to));
    }

    /// Writes a small picture that says nothing of how it was made.
    pub fn photo(&self, name: &str) {
        let image = RgbImage::from_fn(90, 70, |x, y| [(2 * x) as u8, (3 * y) as u8, 90].into());
        save_png(&self.at(name), &image, &[]).unwrap();
    }

    /// Copies a picture with transparency.
    pub fn transparent(&self, name: &str) {
        std::fs::copy(networks().join("../images/alpha.png"), self.at(name)).unwrap();
    }

    /// Writes a mask of the same size, white where `is_white` says so.
    pub fn mask(&self, name: &str, is_white: impl Fn(u32, u32) -> bool) {
        let image = RgbImage::from_fn(90, 70, |x, y| [if is_white(x, y) { 255 } else { 0 }; 3].into());
        save_png(&self.at(name), &image, &[]).unwrap();
    }
}

/// The file of a command's snapshot.
pub fn snapshot(command: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/messages/snapshots/{command}.txt"))
}

fn networks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/networks")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => _ = std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap(),
        }
    }
}

/// The words of a line: separated by spaces, except within single quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for letter in line.chars() {
        match letter {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    assert!(!quoted, "{line}: an open quote");
    words.extend(word);
    words
}
