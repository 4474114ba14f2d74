//! `latentrace model inspect`: what a checkpoint has, read from its headers.

use crate::arguments::ChoiceArguments;
use crate::bytes::human;
use crate::printer::line;
use anyhow::{Result, bail};
use latentrace::checkpoints::{Inspected, UnetInput};
use latentrace::files::counted;
use latentrace::pipeline::{Checkpoint, Ids, Size};
use std::path::PathBuf;

/// Say what a checkpoint has, and what is missing or extra
///
/// Configurations, and the parameters and formats of each part.
#[derive(clap::Args)]
pub struct Inspect {
    /// The checkpoint: a folder in the diffusers layout, a single .safetensors file, or a hub id
    model: PathBuf,
    #[command(flatten)]
    choice: ChoiceArguments,
}

impl Inspect {
    /// Prints the parts; fails if one of them cannot be loaded.
    pub fn run(self) -> Result<()> {
        let checkpoint = self.choice.open(&self.model)?;
        line!("model         {}", checkpoint.place().display());
        about(&checkpoint);
        let parts = checkpoint.inspect()?;
        line!("");
        let width = parts.iter().map(|part| part.part.len()).fold(13, usize::max);
        line!("{:<width$} {:>8} {:>14} {:>10}  formats", "part", "tensors", "parameters", "bytes");
        parts.iter().for_each(|part| row(part, width));
        let problems: Vec<String> = parts.iter().flat_map(problems).collect();
        problems.iter().for_each(|problem| line!("{problem}"));
        match parts.iter().filter(|part| !part.is_whole()).map(|part| part.part).collect::<Vec<_>>().as_slice() {
            [] => Ok(()),
            broken => bail!(
                "{}: {} cannot be loaded: tensors are missing or have another shape",
                checkpoint.place().display(),
                broken.join(", ")
            ),
        }
    }
}

/// The values that decide what the model is.
fn about(checkpoint: &Checkpoint) {
    let (unet, vae) = (&checkpoint.unet.config, &checkpoint.vae.config);
    let size = Size::of(checkpoint);
    for part in checkpoint.texts.iter().map(|text| &text.encoder) {
        let text = &part.config;
        let of_second =
            text.projection.as_ref().map(|projection| format!(", pooled to {} ({})", projection.width, part.name()));
        line!(
            "text encoder  {} layers of {}, {} tokens of a vocabulary of {}{}",
            text.num_hidden_layers,
            text.hidden_size,
            text.max_position_embeddings,
            text.vocab_size,
            of_second.unwrap_or_default()
        );
    }
    line!(
        "unet          {} channels in{}, widths {:?}, {} x {} pixels, text of {}",
        unet.in_channels,
        match checkpoint.input() {
            UnetInput::Sample => "",
            UnetInput::Inpainting => " (inpainting: latents, mask, latents of the masked picture)",
        },
        unet.block_out_channels,
        size.height,
        size.width,
        unet.cross_attention_dim
    );
    if let (Some(pooled), Some(ids)) = (checkpoint.pooled(), checkpoint.ids()) {
        let numbers = match ids {
            Ids::Target => "6 numbers: original size, crop, target size",
            Ids::Score => "5 numbers: original size, crop, aesthetic score",
        };
        line!("              and a pooled text of {pooled}, and {numbers}");
        if checkpoint.is_distilled() {
            line!("              distilled: runs without guidance (a weight of 1) in few steps");
        }
    }
    line!(
        "vae           {} channels, factor {}, scaling factor {}",
        vae.latent_channels,
        vae.factor(),
        vae.scaling_factor
    );
    match checkpoint.scheduler.read() {
        Ok(config) => line!("scheduler     {}, prediction_type {}", config.class(), config.prediction()),
        Err(error) => line!("scheduler     {}", error.to_string().lines().next().unwrap_or_default()),
    }
    checkpoint.texts.iter().for_each(|text| line!("tokenizer     {}", text.tokenizer.display()));
}

fn row(part: &Inspected, width: usize) {
    let formats: Vec<String> = match part.formats.len() {
        1 => part.formats.keys().cloned().collect(),
        _ => part.formats.iter().map(|(name, count)| format!("{name} {count}")).collect(),
    };
    line!(
        "{:<width$} {:>8} {:>14} {:>10}  {}",
        part.part,
        part.tensors,
        part.parameters,
        human(part.bytes),
        formats.join(", ")
    );
}

/// What is wrong with a part, a line for each kind.
fn problems(part: &Inspected) -> Vec<String> {
    let some = |names: &[String]| {
        let more = names.len().saturating_sub(3);
        let shown = names[..names.len() - more].join(", ");
        if more > 0 { format!("{shown} and {more} more") } else { shown }
    };
    let list = |names: &[String], what: &str| match names {
        [] => None,
        names => Some(format!("{}: {} {what}: {}", part.part, counted(names.len(), "tensor"), some(names))),
    };
    let shapes: Vec<String> = part
        .misshapen
        .iter()
        .map(|(name, needed, there)| format!("{name} (expected {needed:?}, found {there:?})"))
        .collect();
    [list(&part.missing, "missing"), list(&shapes, "of another shape"), list(&part.extra, "that no network reads")]
        .into_iter()
        .flatten()
        .collect()
}
