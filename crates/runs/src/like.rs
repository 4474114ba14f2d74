//! A picture made again from its file's provenance.

use crate::cell::{Cell, FIELDS};
use crate::folder::RunFolder;
use crate::inputs::Instead;
use crate::key::Kept;
use crate::provenance::{Provenance, What};
use anyhow::{Context, Result, bail, ensure};
use image::RgbImage;
use latentrace_files::png::open_image;
use latentrace_pipeline::{KernelChoice, Options, Threads};
use std::convert::Infallible;
use std::path::{Path, PathBuf};

/// The result of comparing a picture that was made again with the original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// The same pixels.
    Same,
    /// Settings or files have been changed.
    Changed {
        /// What has been changed, with its new value.
        changes: Vec<String>,
        /// Differences of the program or the machine.
        others: Vec<String>,
    },
    /// Settings and files are the same, but the pixels differ.
    Apart {
        /// How many bytes differ.
        bytes: usize,
        /// The number of bytes.
        of: usize,
        /// The largest difference of a byte.
        most: u8,
        /// Differences of the program or the machine.
        others: Vec<String>,
    },
}

/// A picture that is made again, with the same or with changed settings.
pub struct Like {
    path: PathBuf,
    about: Provenance,
}

/// A cell whose checkpoint's files are named without their folders: their content is in the checkpoint's hash.
fn by_name(cell: &Cell) -> Cell {
    let name = |path: PathBuf| Ok::<PathBuf, Infallible>(path.file_name().map_or(path.clone(), PathBuf::from));
    let choice = cell.choice().map_paths(name).unwrap_or_else(|never| match never {});
    cell.clone().with_choice(choice)
}

impl Like {
    /// Reads the provenance of a picture's file, or of the picture of a run's folder.
    ///
    /// # Errors
    /// The file has no provenance, or the picture cannot be made again from its settings alone.
    pub fn open(path: &Path) -> Result<Like> {
        let path = &RunFolder::picture_at(path)?;
        let about = Provenance::read(path)?;
        if let Some(fork) = &about.fork {
            let trace = fork.trace.display();
            bail!(
                "{}: a fork, from call {} of {trace}: without that record it cannot be made again\nhint: latentrace fork {trace} --at STEP continues from it",
                path.display(),
                fork.call
            );
        }
        ensure!(
            about.shows == What::Picture,
            "{}: previews of a run\nhint: the picture of the run is in the same folder",
            path.display()
        );
        Ok(Like { path: path.into(), about })
    }

    /// The picture's settings with the present paths of its files. Those of `instead` replace its own.
    ///
    /// # Errors
    /// One of its files no longer exists, or its content has changed.
    pub fn cell(&self, instead: Instead) -> Result<Cell> {
        let home = self.path.parent().unwrap_or(Path::new(""));
        let cell = self.about.used.inputs.found(&self.about.cell, home, instead);
        cell.with_context(|| self.path.display().to_string())
    }

    /// What its run recorded besides the sampler's values.
    pub fn kept(&self) -> &Kept {
        &self.about.used.kept
    }

    /// Compares the picture with one that was made again.
    ///
    /// # Errors
    /// The picture cannot be read, or the pixels differ although nothing in the provenance does.
    pub fn compare(&self, made: &RgbImage, now: &Provenance) -> Result<Likeness> {
        let changes = self.changes(now);
        let others = self.about.differences(now);
        if !changes.is_empty() {
            return Ok(Likeness::Changed { changes, others });
        }
        let original = open_image(&self.path)?;
        if original == *made {
            return Ok(Likeness::Same);
        }
        ensure!(
            !others.is_empty(),
            "{}: the pixels differ, and nothing does that is recorded\nhint: was the file edited?",
            self.path.display()
        );
        let apart = original.as_raw().iter().zip(made.as_raw()).map(|(a, b)| a.abs_diff(*b));
        let (bytes, most) = apart.fold((0, 0), |(count, most), by| (count + usize::from(by > 0), most.max(by)));
        Ok(Likeness::Apart { bytes, of: made.as_raw().len(), most, others })
    }

    /// The options that a cell's model is loaded with to make it again: by the kernels of its run, unless the cell names some.
    pub fn options(&self, cell: &Cell) -> Options {
        let options = cell.options();
        let recorded = KernelChoice::Recorded(self.about.kernels);
        Options { kernels: if cell.kernels.is_some() { options.kernels } else { recorded }, ..options }
    }

    /// The CPU threads that its run was made on.
    pub fn threads(&self) -> Threads {
        Threads::of_record(self.about.program.threads)
    }

    /// The picture's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The settings and files that differ from those of the picture.
    fn changes(&self, now: &Provenance) -> Vec<String> {
        let (then, cell) = (&self.about, &now.cell);
        let files = ["model", "image", "mask", "features", "edits"]; // compared by content, below
        let [before, after] = [&then.cell, cell].map(by_name);
        let fields = FIELDS.iter().filter(|field| !files.contains(field) && before.value(field) != after.value(field));
        let mut changes: Vec<String> = fields.map(|field| format!("{field} {}", cell.value(field))).collect();
        let content = |content: Option<&crate::located::Located>| content.map(|content| content.blake3.clone());
        let inputs = [&then.used.inputs, &now.used.inputs];
        let differs = |of: &dyn Fn(&crate::inputs::Inputs) -> Option<String>| of(inputs[0]) != of(inputs[1]);
        if differs(&|inputs| content(Some(&inputs.model))) {
            changes.push(format!("model {}", now.used.inputs.model.path.display()));
        }
        if differs(&|inputs| content(inputs.image.as_ref())) {
            changes.push(format!("image {}", cell.value("image")));
        }
        if differs(&|inputs| content(inputs.mask.as_ref())) {
            changes.push(format!("mask {}", cell.value("mask")));
        }
        if differs(&|inputs| content(inputs.features.as_ref())) {
            changes.push(format!("features {}", cell.value("features")));
        }
        if then.cell.edits.len() != cell.edits.len() {
            changes.push(format!("edits {}", cell.value("edits")));
        }
        if then.used.kept != now.used.kept {
            changes.push("what is captured".into());
        }
        changes
    }
}
