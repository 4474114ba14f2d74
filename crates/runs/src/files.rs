//! The files of a run beside its record: which are missing, and writing one of them.

use crate::folder::RunFolder;
use crate::provenance::{Provenance, What};
use crate::record::{Recorded, pixels};
use crate::scalars::Scalars;
use anyhow::{Result, bail};
use latentrace_files::png::{open_image, save_png};
use latentrace_files::replace_unsynced;
use serde_json::json;
use std::path::PathBuf;

/// A file of a run that can be made again from its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunFile {
    /// The numbers of each call.
    Scalars,
    /// The strip of clean estimates. It is drawn, so not by this crate.
    Previews,
    /// The settings.
    Settings,
    /// The picture.
    Picture,
}

impl RunFolder {
    /// The path of a file.
    pub fn file(&self, file: RunFile) -> PathBuf {
        match file {
            RunFile::Scalars => self.trace().join("scalars.csv"),
            RunFile::Previews => self.previews(),
            RunFile::Settings => self.path().join("cell.json"),
            RunFile::Picture => self.picture().to_path_buf(),
        }
    }

    /// The files that are missing or cannot be read, in the order in which they are written.
    ///
    /// # Errors
    /// A folder is in the place of one of them.
    pub fn missing(&self) -> Result<Vec<RunFile>> {
        let all = [RunFile::Scalars, RunFile::Previews, RunFile::Settings, RunFile::Picture];
        let is_of_earlier_version = self.path() == self.trace(); // it has the other two nowhere
        let of_record = |file: &RunFile| [RunFile::Scalars, RunFile::Picture].contains(file);
        let mut missing = Vec::new();
        for file in all.into_iter().filter(|file| !is_of_earlier_version || of_record(file)) {
            let path = self.file(file);
            if path.is_dir() {
                bail!("{}: a folder, where a file of the run should be\nhint: move it away", path.display());
            }
            if !self.can_be_read(file) {
                missing.push(file);
            }
        }
        Ok(missing)
    }

    fn can_be_read(&self, file: RunFile) -> bool {
        match file {
            RunFile::Scalars => Scalars::read(self.trace()).is_ok_and(|table| !table.columns.is_empty()),
            RunFile::Settings => self.settings().is_ok(),
            RunFile::Previews | RunFile::Picture => open_image(&self.file(file)).is_ok(),
        }
    }

    /// Writes a file, other than the previews.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, file: RunFile, recorded: &Recorded, about: &Provenance) -> Result<()> {
        let path = self.file(file);
        match file {
            RunFile::Scalars => {
                Scalars::of(&recorded.trace, &recorded.description)?.write(self.trace())?;
            }
            RunFile::Settings => {
                let mut settings = serde_json::to_value(about)?;
                // None of these is the same each time.
                settings["seconds"] = json!(recorded.elapsed.as_secs_f64());
                settings["evaluations"] = json!(recorded.work.evaluations);
                let taken = &recorded.work.taken;
                if !taken.is_empty() {
                    settings["taken_over"] = json!(taken);
                }
                replace_unsynced(&path, format!("{settings:#}\n").as_bytes())?;
            }
            RunFile::Picture => save_png(&path, &pixels(&recorded.outcome.picture), &about.chunks(What::Picture))?,
            RunFile::Previews => {}
        }
        Ok(())
    }

    /// Whether the run was made in a batch with others, as one of its files says.
    pub fn was_made_together(&self) -> bool {
        let of_settings = self.settings().is_ok_and(|about| about["used"]["together"] == true);
        let of_picture = |path: PathBuf| Provenance::read(&path).is_ok_and(|about| about.used.together);
        of_settings || of_picture(self.previews()) || of_picture(self.picture().into())
    }
}
