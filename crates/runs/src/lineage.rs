//! What decides the network's outputs in a run of a cell.

use crate::cell::Cell;
use crate::description::Description;
use crate::key;
use crate::ready::Ready;
use anyhow::Result;
use latentrace_pipeline::nn::{Part, Role};
use latentrace_pipeline::{Act, At, Choice, Lines, Mode, Model, Networks, Scale, Setting};
use latentrace_trace::{EditRule, Selector};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;

impl Ready {
    /// The lineages of what the run needs of its model's networks, if it is made in a mode. A run that cannot be made in a
    /// batch is made alone.
    ///
    /// # Errors
    /// A file of the checkpoint or of a LoRA no longer exists.
    pub fn lines(&self, model: &Model, mode: Mode) -> Result<Lines> {
        let mode = if self.can_share() { mode } else { Mode::Alone };
        let [channels, height, width] = self.description.latents;
        let networks = networks(&self.description, model)?;
        let (acts, seen) = self.rules()?;
        let bytes = 4 * (channels * height * width) as usize;
        Ok(Lines::of(&self.prepared, &Setting { mode, networks, acts, seen, bytes }))
    }

    /// Where the edits change something, and where the capture rules see something.
    fn rules(&self) -> Result<(Vec<Act>, Vec<At>)> {
        let (edits, capture) = (&self.description.cell.edits, &self.description.capture);
        if edits.is_empty() && capture.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let course = self.course(0)?;
        let places = |selector: &Selector| course.selected(selector).into_iter().map(place).collect::<BTreeSet<At>>();
        let act = |edit: &EditRule| {
            let rule = self.by_content(edit);
            places(edit.selector()).into_iter().map(move |at| Act { rule: rule.clone(), at })
        };
        let seen: BTreeSet<At> = capture.iter().flat_map(|rule| places(rule.selector())).collect();
        Ok((edits.iter().flat_map(act).collect(), seen.into_iter().collect()))
    }

    /// The text of an edit, with the hash of the record that it reads in the place of its path.
    fn by_content(&self, edit: &EditRule) -> String {
        let record = edit.reads().and_then(|path| self.description.traces.iter().find(|record| record.path == path));
        match record {
            Some(record) => edit.clone().reading(Path::new(&record.blake3)).text().into(),
            None => edit.text().into(),
        }
    }
}

/// The place of what a rule selects.
fn place((role, call): (Role, usize)) -> At {
    match role {
        Role::Sampler(value) => At::Value(value, call),
        Role::Module(Part::TextEncoder, _) => At::Texts,
        Role::Module(Part::Vae, _) => At::Pictures,
        Role::Module(Part::Unet | Part::Other, _) => At::Call(call),
    }
}

/// The networks of a run. A LoRA with a constant scale is part of the weights; one whose scale depends on the noise level
/// is a change of them.
fn networks(description: &Description, model: &Model) -> Result<Networks> {
    let Description { cell: Cell { dtype, ema, ignore, loras, .. }, model: of_model, kernels, program, .. } =
        description;
    let base = match loras.as_slice() {
        [] => of_model.blake3.clone(),
        _ => key::hash(&of_model.folder, &Choice { loras: Vec::new(), ..description.cell.choice() })?,
    };
    let about = json!([base, dtype, ema, ignore, kernels, program.device, program.threads, program.libtorch]);
    let (mut of_text, mut of_unet, mut varying) = (Vec::new(), Vec::new(), Vec::new());
    for (index, lora) in loras.iter().enumerate() {
        let hash = key::hash_of_lora(lora)?;
        // One at the scale 0 is none.
        let text_scale = lora.text_scale();
        if text_scale != 0.0 && model.changed_texts.get(index).is_none_or(|changed| *changed) {
            of_text.push(json!([hash, text_scale]));
        }
        match &lora.scale {
            Scale::Constant(0.0) => {}
            Scale::Constant(scale) => of_unet.push(json!([hash, scale])),
            scale => varying.push((hash, scale.clone())),
        }
    }
    // Beside such a change, layers leave some of the kernels out, also where its scale is 0.
    let other_kernels = kernels.is_some() && !varying.is_empty();
    Ok(Networks {
        text_encoder: json!([about, of_text]).to_string(),
        unet: json!([about, of_unet, other_kernels]).to_string(),
        vae: about.to_string(),
        varying,
    })
}
