//! The folder of one run: its files, and how a run is found.

use crate::files::RunFile;
use crate::frames::Frames;
use crate::provenance::Provenance;
use crate::record::Recorded;
use anyhow::{Context, Result, bail, ensure};
use latentrace_files::{counted, is_partial, read_text, sync_all};
use latentrace_trace::{A_RUN, Trace};
use std::path::{Path, PathBuf};

/// The folder of a run, which `generate`, `vary`, `fork` and sweeps make:
///
/// ```text
/// a-cat-193/
///   image.png      the picture, with its provenance
///   previews.png   a strip of clean estimates (optional)
///   frames.png     decoded samples and clean estimates for a report (in sweeps)
///   cell.json      the settings, what was used, the seconds, and the calls that were taken over from other cells
///   trace/         the record: run.json, index.jsonl, shards/, scalars.csv
/// ```
///
/// Two other layouts can be read: earlier versions made a record `a-cat-193.trace` with a picture `a-cat-193.png`
/// beside it, and a record may be alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    /// The folder of the files.
    folder: PathBuf,
    /// The record.
    trace: PathBuf,
    /// The picture, which may not exist.
    picture: PathBuf,
}

const TRACE: &str = "trace";
const PICTURE: &str = "image.png";
const PREVIEWS: &str = "previews.png";
const FRAMES: &str = "frames.png";
const CELL: &str = "cell.json";

impl RunFolder {
    /// The run in a folder, which may not exist yet.
    pub fn new(folder: &Path) -> RunFolder {
        RunFolder { folder: folder.into(), trace: folder.join(TRACE), picture: folder.join(PICTURE) }
    }

    /// Finds a run by its folder, its record, or its picture.
    ///
    /// # Errors
    /// There is no record.
    pub fn find(path: &Path) -> Result<RunFolder> {
        if is_record(&path.join(TRACE)) {
            return Ok(RunFolder::new(path));
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let own_name = |name: &str| path.file_name().is_some_and(|own| own == name);
        if own_name(PICTURE) && path.is_file() && is_record(&parent.join(TRACE)) {
            return Ok(RunFolder::new(parent));
        }
        if is_record(path) {
            let beside = path.with_extension("png");
            return Ok(match own_name(TRACE) && !beside.is_file() {
                true => RunFolder::new(parent),
                false => RunFolder { folder: path.into(), trace: path.into(), picture: beside },
            });
        }
        bail!("{}: {}", path.display(), what_else(path))
    }

    /// The file of a picture, which may be named by its run.
    ///
    /// # Errors
    /// The path is a folder that is no run, or a run without a picture.
    pub fn picture_at(path: &Path) -> Result<PathBuf> {
        if !path.is_dir() {
            return Ok(path.into());
        }
        let run = RunFolder::find(path)?;
        let hint = format!("hint: `latentrace resume {}` writes it", path.display());
        ensure!(run.picture.is_file(), "{}: this run has no picture\n{hint}", path.display());
        Ok(run.picture)
    }

    /// The complete runs in a folder, sorted by name.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn all_in(folder: &Path) -> Result<Vec<RunFolder>> {
        let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?.flatten();
        let mut found: Vec<RunFolder> = entries
            .filter(|entry| entry.path().is_dir())
            .filter_map(|entry| RunFolder::find(&entry.path()).ok())
            .collect();
        found.retain(|run| run.read().is_ok_and(|trace| trace.end().is_some()));
        found.sort_by(|a, b| a.folder.cmp(&b.folder));
        Ok(found)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The folder of the record.
    pub fn trace(&self) -> &Path {
        &self.trace
    }

    /// The file of the picture, which may not exist.
    pub fn picture(&self) -> &Path {
        &self.picture
    }

    /// The file of the strip of clean estimates, which may not exist.
    pub fn previews(&self) -> PathBuf {
        self.folder.join(PREVIEWS)
    }

    /// The name of the run: that of its folder.
    pub fn name(&self) -> String {
        let name = std::path::absolute(&self.folder).ok();
        let name = name.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        name.trim_end_matches(".trace").to_owned()
    }

    /// The folder that the run's folder is in.
    pub fn beside(&self) -> PathBuf {
        let parent = self.folder.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new(".")).to_path_buf()
    }

    /// Reads the record.
    ///
    /// # Errors
    /// It is missing, too damaged to read, or of a later version.
    pub fn read(&self) -> Result<Trace> {
        Ok(Trace::open(&self.trace)?)
    }

    /// The frames that were kept; `None` if there are none.
    ///
    /// # Errors
    /// Their file is damaged.
    pub fn frames(&self) -> Result<Option<Frames>> {
        let path = self.folder.join(FRAMES);
        if path.is_file() { Frames::open(&path).map(Some) } else { Ok(None) }
    }

    /// The content of `cell.json`.
    ///
    /// # Errors
    /// The file is missing or damaged.
    pub fn settings(&self) -> Result<serde_json::Value> {
        let path = self.folder.join(CELL);
        serde_json::from_str(&read_text(&path)?).with_context(|| path.display().to_string())
    }

    /// Checks that a new run can be made in this folder.
    ///
    /// # Errors
    /// The folder exists and is not empty.
    pub fn check_free(&self) -> Result<()> {
        let folder = self.folder.display();
        if has_only_begun(&self.folder) {
            return Ok(());
        }
        if self.trace.exists() || is_record(&self.folder) {
            bail!("{folder}: there is a run here already\nhint: name another folder");
        }
        if self.folder.is_file() {
            bail!("{folder}: a file, not a folder\nhint: name a new folder for the run");
        }
        let is_empty = std::fs::read_dir(&self.folder).map_or(!self.folder.exists(), |mut all| all.next().is_none());
        if !is_empty {
            bail!("{folder}: this folder holds other files\nhint: name a new folder for the run");
        }
        Ok(())
    }

    /// Writes the other files of a run that was recorded here: its table of numbers, its settings, its frames if any,
    /// and last its picture. So a run that has its picture is complete. All of it is on the disk when this returns.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn keep(&self, recorded: &Recorded, about: &Provenance, frames: Option<&Frames>) -> Result<()> {
        self.write(RunFile::Scalars, recorded, about)?;
        if let Some(frames) = frames {
            frames.save(&self.folder.join(FRAMES))?;
        }
        if self.folder != self.trace {
            self.write(RunFile::Settings, recorded, about)?;
        }
        self.write(RunFile::Picture, recorded, about)?;
        Ok(sync_all(&self.folder)?)
    }
}

/// The names in a folder; none if it is no folder.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Whether a folder has only what a run leaves there that was killed before its record was begun.
fn has_only_begun(folder: &Path) -> bool {
    let trace = folder.join(TRACE);
    let is_empty = |path: PathBuf| std::fs::metadata(path).is_ok_and(|about| about.len() == 0);
    let left = |name: &String| match name.as_str() {
        "lock" => true,
        "index.jsonl" => is_empty(trace.join(name)),
        "shards" => names_in(&trace.join(name)).is_empty(),
        name => is_partial(name),
    };
    names_in(folder) == [TRACE] && names_in(&trace).iter().all(left)
}

/// What a path is that is no run, and what would work.
fn what_else(path: &Path) -> String {
    if !path.exists() {
        return format!("no such folder\nhint: {A_RUN}");
    }
    if path.is_file() {
        let above = || path.ancestors().skip(1).take(3);
        let of_run = above().find(|folder| is_record(&folder.join(TRACE))).or_else(|| above().find(|at| is_record(at)));
        return match of_run {
            Some(run) => format!("a file of a run, whose folder is expected\nhint: {}", run.display()),
            None => format!("a file, and the folder of a run is expected\nhint: {A_RUN}"),
        };
    }
    if has_only_begun(path) {
        return "this run was stopped before anything was recorded, so nothing continues it\nhint: remove the folder, or make the run again".into();
    }
    let inside = if path.join("cells").is_dir() { path.join("cells") } else { path.to_path_buf() };
    let mut runs = names_in(&inside);
    runs.retain(|name| is_record(&inside.join(name).join(TRACE)) || is_record(&inside.join(name)));
    runs.sort();
    if runs.is_empty() {
        return format!("no record of a run in it\nhint: {A_RUN}");
    }
    let named: Vec<String> = runs.iter().take(5).map(|name| inside.join(name).display().to_string()).collect();
    let more = if runs.len() > named.len() { ", .." } else { "" };
    format!(
        "a folder of {}, and one run is expected\nhint: name one: {}{more}",
        counted(runs.len(), "run"),
        named.join(", ")
    )
}

fn is_record(folder: &Path) -> bool {
    folder.join("run.json").is_file()
}
