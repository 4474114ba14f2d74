//! The parts of a single file.

use super::layout::Layout;
use super::names::{self, EMA, UNET, VAE};
use super::original::Original;
use super::other::{FIRST, other_unet, other_vae, taking};
use crate::checkpoint::Part;
use crate::choice::Choice;
use crate::error::{Result, file};
use crate::folder::{inside, part};
use crate::index::{SLOTS, Slot};
use latentrace_nn::{Config, Header};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// The parts of a single file.
pub(super) struct Parts<'a> {
    pub(super) path: &'a Path,
    pub(super) header: &'a Header,
    pub(super) original: Original,
    pub(super) known: &'a Value,
    pub(super) choice: &'a Choice,
}

impl Parts<'_> {
    fn config(&self, part: &str) -> Result<Config> {
        let file = match &self.choice.config {
            Some(folder) => folder.join(part).join("config.json").display().to_string(),
            None => format!("{} (as Stable Diffusion {})", self.path.display(), self.original.name()),
        };
        Ok(Config::parse(&file, &self.known[part].to_string())?.ignoring(&self.choice.ignore))
    }

    fn single(&self, part: &'static str, config: Config, layout: Layout) -> Part<Config> {
        let config_file = self.choice.config.as_ref().map(|folder| folder.join(part).join("config.json"));
        Part { config_file, ..Part::single(part, config, self.path, layout) }
    }

    fn has(&self, prefix: &str) -> bool {
        self.header.tensors.keys().any(|name| name.starts_with(prefix))
    }

    /// A text encoder: another one that is named, or that of the file.
    pub(super) fn text_encoder(&self, slot: Slot) -> Result<Part<Config>> {
        let name = slot.encoder;
        if let [Some(other), _] = self.choice.of_slot(slot) {
            return part(&inside(other, name), name, self.choice);
        }
        let config = self.config(name)?;
        let names = self.original.text_names(slot).iter().copied().find(|names| self.has(names.prefix()));
        let names = names.ok_or_else(|| {
            let (what, option) = match (self.original.is_xl(), slot == SLOTS[0]) {
                (false, _) => ("text encoder", "--text-encoder"),
                (true, true) => ("first text encoder", "--text-encoder"),
                (true, false) => ("second text encoder", "--text-encoder-2"),
            };
            file(self.path, format!("no {what} in this file\nhint: name a text encoder with {option}"))
        })?;
        let layers = config.size("num_hidden_layers", Some(12))? as usize;
        Ok(self.single(name, config, Layout::Text { names, layers, projects: slot == SLOTS[1] }))
    }

    pub(super) fn vae(&self) -> Result<Part<Config>> {
        if let Some(other) = &self.choice.vae {
            return other_vae(other, || self.config("vae"), self.choice);
        }
        if !self.has(VAE) {
            return Err(file(self.path, "no VAE in this file\nhint: name a VAE with --vae"));
        }
        let config = self.config("vae")?;
        let blocks = config.sizes("block_out_channels")?.len();
        Ok(self.single("vae", config, Layout::Vae { prefix: VAE, blocks }))
    }

    /// The UNet: its weights, or their moving average.
    pub(super) fn unet(&self, notes: &mut Vec<String>) -> Result<Part<Config>> {
        if let Some(other) = &self.choice.unet {
            return other_unet(other, || self.config("unet"), self.choice);
        }
        let mut config = self.config("unet")?;
        if self.choice.config.is_none() {
            config = taking(config, self.header, &format!("{UNET}{FIRST}"));
        }
        let layers = config.size("layers_per_block", Some(2))? as usize;
        let averages = self.averages(layers);
        if self.choice.ema && averages.is_empty() {
            return Err(file(self.path, "no moving average (EMA) of the weights in this file\nhint: leave out --ema"));
        }
        if self.choice.ema {
            return Ok(self.single("unet", config, Layout::Averages(Arc::new(averages))));
        }
        if !averages.is_empty() {
            notes.push(format!(
                "{}: has the weights of the UNet and their moving average (EMA); the weights are used, as in diffusers\nhint: --ema uses the moving average",
                self.path.display()
            ));
        }
        Ok(self.single("unet", config, Layout::Unet { prefix: UNET, layers }))
    }

    /// The stored names of the moving averages. They are the names of the weights without full stops, so only these say
    /// which is which.
    fn averages(&self, layers: usize) -> HashMap<String, String> {
        let average = |name: &String| {
            let stored = format!("{EMA}{}", name.strip_prefix("model.")?.replace('.', ""));
            let ours = names::unet(name.strip_prefix(UNET)?, layers)?;
            self.header.tensors.contains_key(&stored).then_some((stored, ours))
        };
        self.header.tensors.keys().filter_map(average).collect()
    }
}
