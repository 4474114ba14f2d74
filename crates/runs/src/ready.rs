//! A run that has been checked and can be made.

use crate::cautions;
use crate::cell::Cell;
use crate::description::Description;
use crate::inputs::Inputs;
use crate::key::{self, Computed, Kept, Mode};
use crate::located::Located;
use crate::mask;
use crate::rules::{self, Fires};
use crate::sources::{Source, Sources};
use anyhow::Result;
use latentrace_pipeline::{Mask, Model, Prepared, Request, Start, TextShape};
use latentrace_trace::{Capture, Course, EditRule, Edits};

/// A run that can be made: its request, checked, planned and tokenized; the description for its record; and how often
/// each of its rules fires. All of this is computed once.
pub struct Ready {
    pub(crate) prepared: Prepared,
    pub(crate) description: Description,
    pub(crate) fires: Fires,
    pub(crate) notes: Vec<String>,
}

impl Ready {
    /// A run of a cell from its start. `kept` is what it records besides the sampler's values.
    ///
    /// # Errors
    /// The model cannot run the cell, or cannot apply a rule.
    pub fn new(model: &Model, cell: &Cell, kept: &Kept, sources: &mut Sources) -> Result<Ready> {
        let request = cell.request(model)?;
        cell.check_mask()?;
        let (source, mask) = (sources.of(cell, request.size)?, sources.mask_of(cell, request.size)?);
        let mut notes = Vec::new();
        let (start, image, mask) = match (source, cell.picture_strength(), mask) {
            (Some(Source { picture, file, .. }), Some(strength), None) => {
                (Start::Picture { strength, picture }, Some(file), None)
            }
            (Some(source), Some(strength), Some(of_mask)) => {
                let mask = Mask::of(&of_mask.picture);
                let factor = model.checkpoint.vae.config.factor() as usize;
                let file = cell.mask.as_deref().unwrap_or(&of_mask.file.path);
                notes.extend(mask::check(&mask, factor, file, [&of_mask, &source])?);
                let start = Start::Masked { strength, picture: source.picture, mask: mask.into() };
                (start, Some(source.file), Some(of_mask.file))
            }
            _ => (Start::Noise, None, None),
        };
        let prepared = cell.prepare(model, request, start)?;
        notes.extend(cautions::of(model, &prepared));
        let description = Description::new(model, cell, &prepared, image, mask)?;
        Ok(Ready { notes, ..Ready::keeping(prepared, description, kept, 0)? })
    }

    /// A run with a description, whose calls before `from` are taken from a record.
    pub(crate) fn keeping(prepared: Prepared, mut description: Description, kept: &Kept, from: usize) -> Result<Ready> {
        description.capture.clone_from(&kept.capture);
        description.budget = kept.budget;
        let mut ready = Ready { prepared, description, fires: Fires::default(), notes: Vec::new() };
        ready.fires = Fires::of(&ready, from)?;
        Ok(ready)
    }

    /// Shares the plan of another run if it is equal. So the runs of a sweep use the memory of one plan.
    pub fn share_plan(&mut self, other: &Ready) {
        if self.prepared.plan == other.prepared.plan {
            self.prepared.plan = other.prepared.plan.clone();
        }
    }

    /// The description for its record.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Notes on its files and settings: lines about what may be unexpected.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The request to the model.
    pub fn request(&self) -> &Request {
        &self.prepared.request
    }

    /// The request with everything that is computed before the networks run.
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// How often each rule fires.
    pub fn fires(&self) -> &Fires {
        &self.fires
    }

    /// The tensors that will pass the taps from the call `from` on.
    ///
    /// # Errors
    /// The checkpoint no longer exists.
    pub fn course(&self, from: usize) -> Result<Course> {
        let Description { cell, model, .. } = &self.description;
        rules::course(&model.folder, cell, &self.prepared, self.description.words(), from)
    }

    /// Its key in a store.
    ///
    /// # Errors
    /// See [`key()`](crate::key()).
    pub fn key(&self, mode: Mode, computed: Computed) -> Result<String> {
        let Description { cell, model, image, mask, features, traces, .. } = &self.description;
        let model = Located { path: model.folder.clone(), relative: None, blake3: model.blake3.clone() };
        let (image, mask) = (image.clone(), mask.clone());
        let inputs = Inputs { model, image, mask, features: features.clone(), traces: traces.clone() };
        key::key(cell, &inputs, &self.description.kept(), mode, computed)
    }

    /// What of its computation changes rounding.
    ///
    /// # Errors
    /// See [`Description::kernels`].
    pub fn computed(&self) -> Result<Computed> {
        self.description.computed()
    }

    /// Whether it can be made in a batch with others: it has no capture rules and no edits, and its texts are of one
    /// chunk, as those of the others are.
    pub fn can_share(&self) -> bool {
        let TextShape { chunks, given, .. } = TextShape::of(&self.prepared);
        if chunks > 1 || given.is_some() {
            return false;
        }
        self.description.capture.is_empty() && self.description.cell.edits.is_empty()
    }

    /// The capture rules that select a tensor.
    pub(crate) fn capture(&self) -> Capture {
        let rules = Fires::firing(&self.description.capture, &self.fires.capture);
        Capture { rules: rules.cloned().collect(), budget: self.description.budget }
    }

    /// The edits that select a tensor.
    pub(crate) fn edits(&self, model: &Model) -> Result<Edits> {
        let firing: Vec<EditRule> = Fires::firing(&self.description.cell.edits, &self.fires.edits).cloned().collect();
        Ok(Edits::new(&firing, &model.taps, self.description.words(), self.prepared.steps())?)
    }
}
