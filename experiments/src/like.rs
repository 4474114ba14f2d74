//! `latentrace generate --like`: a picture made again from what its own file says.

use crate::cell::{Cell, FIELDS};
use crate::provenance::{Provenance, What};
use crate::store::Kept;
use anyhow::{Context, Result, bail, ensure};
use latentrace_plot::{RgbImage, open_image};
use std::path::{Path, PathBuf};

/// A picture that is made again, as it was or with changes.
pub struct Like {
    path: PathBuf,
    about: Provenance,
}

impl Like {
    /// Reads what a picture says.
    ///
    /// # Errors
    /// It says nothing, or it cannot be made again from its settings alone.
    pub fn open(path: &Path) -> Result<Like> {
        let about = Provenance::read(path)?;
        if let Some(fork) = &about.fork {
            let trace = fork.trace.display();
            bail!(
                "{}: a fork, from call {} of {trace}: without that record it cannot be made again\nhint: latentrace fork {trace} --at STEP goes on from it",
                path.display(),
                fork.call
            );
        }
        ensure!(
            about.shows == What::Picture,
            "{}: previews of a run\nhint: its picture lies beside it, and says the same",
            path.display()
        );
        Ok(Like { path: path.into(), about })
    }

    /// Its settings with the files as they are now; `model` and `image` in place of its own, where they are given.
    ///
    /// # Errors
    /// One of its files is not there any more, or has another content.
    pub fn cell(&self, model: Option<&Path>, image: Option<&Path>) -> Result<Cell> {
        let home = self.path.parent().unwrap_or(Path::new(""));
        let cell = self.about.used.inputs.found(&self.about.cell, home, model, image);
        cell.with_context(|| self.path.display().to_string())
    }

    /// What was kept of its run.
    pub fn kept(&self) -> &Kept {
        &self.about.used.kept
    }

    /// Compares the picture with what was made of it, and says how they differ.
    ///
    /// # Errors
    /// Nothing that is recorded differs, and the pixels do all the same.
    pub fn compare(&self, made: &RgbImage, now: &Provenance) -> Result<()> {
        let path = self.path.display();
        let changes = self.changes(now);
        let others = self.about.differences(now);
        if !changes.is_empty() {
            println!("like {path}, but for {}", changes.join(", "));
            others.iter().for_each(|other| println!("note: {other}"));
            return Ok(());
        }
        let original = open_image(&self.path)?;
        if original == *made {
            println!("the same pixels as {path}");
            return Ok(());
        }
        let apart = original.as_raw().iter().zip(made.as_raw()).map(|(a, b)| a.abs_diff(*b));
        let (count, most) = apart.fold((0, 0), |(count, most), by| (count + usize::from(by > 0), most.max(by)));
        eprintln!("warning: {count} of {} bytes differ from {path}, by {most} at most", made.as_raw().len());
        others.iter().for_each(|other| eprintln!("note: {other}"));
        ensure!(
            !others.is_empty(),
            "{path}: the pixels differ, and nothing does that is recorded\nhint: was the file edited?"
        );
        Ok(())
    }

    /// The settings and files that are not those of the picture.
    fn changes(&self, now: &Provenance) -> Vec<String> {
        let (then, cell) = (&self.about, &now.cell);
        let files = ["model", "image", "edits"]; // these by their content, wherever they lie
        let fields =
            FIELDS.iter().filter(|field| !files.contains(field) && then.cell.value(field) != cell.value(field));
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
        if then.cell.edits.len() != cell.edits.len() {
            changes.push(format!("edits {}", cell.value("edits")));
        }
        if then.used.kept != now.used.kept {
            changes.push("what is captured".into());
        }
        changes
    }
}
