//! A single `.safetensors` file with the names of the original repositories.
//!
//! Such a file has tensors and no configuration. The architecture is recognised by shapes; the configurations of
//! Stable Diffusion 1.x and 2.x are part of this crate. What the file cannot say is told as a note.

pub(crate) mod inverse;
pub(crate) mod names;

use crate::checkpoint::{Checkpoint, Part, TextPart, agree};
use crate::choice::Choice;
use crate::error::{Error, Result, file, read};
use crate::folder::{inside, part};
use crate::input::UnetInput;
use crate::scheduler::{Origin, SchedulerFile};
use crate::weights::checked;
use latentrace_nn::{Config, Header, Named};
use names::{CLIP, EMA, OPEN_CLIP, UNET, VAE};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

/// How the tensors of one part are named in a file.
#[derive(Clone, Debug)]
pub(crate) enum Layout {
    /// The UNet below a prefix.
    Unet { prefix: &'static str, layers: usize },
    /// The moving average of the UNet: each stored name, and its name in diffusers.
    Averages(Arc<HashMap<String, String>>),
    /// The VAE below a prefix.
    Vae { prefix: &'static str, blocks: usize },
    /// CLIP's text encoder.
    Clip,
    /// OpenCLIP's text encoder.
    OpenClip { layers: usize },
    /// The names of diffusers.
    Diffusers,
}

impl Layout {
    /// The names by which modules read a stored tensor; none if it belongs to another part.
    pub(crate) fn names(&self, stored: &str) -> Vec<Named> {
        let below = |prefix: &str| stored.strip_prefix(prefix);
        match self {
            Layout::Unet { prefix, layers } => names::one(below(prefix).and_then(|name| names::unet(name, *layers))),
            Layout::Averages(known) => names::one(known.get(stored).cloned()),
            Layout::Vae { prefix, blocks } => names::one(below(prefix).and_then(|name| names::vae(name, *blocks))),
            Layout::Clip => below(CLIP).map_or_else(Vec::new, names::clip),
            Layout::OpenClip { layers } => {
                below(OPEN_CLIP).map_or_else(Vec::new, |name| names::open_clip(name, *layers))
            }
            Layout::Diffusers => latentrace_nn::diffusers_names(stored),
        }
    }
}

/// The architecture of a single file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Sd1,
    Sd2,
}

/// The configurations of Stable Diffusion 1.x.
pub(crate) static SD1: LazyLock<Value> = LazyLock::new(|| known(include_str!("sd1.json")));
/// The configurations of Stable Diffusion 2.1 for 768 pixels.
pub(crate) static SD2: LazyLock<Value> = LazyLock::new(|| known(include_str!("sd2.json")));

fn known(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_default() // a test reads both
}

/// Changes the configurations of Stable Diffusion 2.1 to those of its base model, for 512 pixels.
pub(crate) fn as_base(known: &mut Value) {
    known["unet"]["sample_size"] = 64.into();
    known["unet"]["upcast_attention"] = false.into();
    known["vae"]["sample_size"] = 512.into();
    known["scheduler"]["prediction_type"] = "epsilon".into();
}

impl Family {
    fn known(self) -> Value {
        match self {
            Family::Sd1 => SD1.clone(),
            Family::Sd2 => SD2.clone(),
        }
    }
}

/// A tensor whose last axis is the features of the text.
const TEXT_KEYS: &str = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight";

/// Opens a single file.
pub(crate) fn open(path: &Path, choice: &Choice) -> Result<Checkpoint> {
    let path = &checked(path.to_path_buf())?;
    let header = Header::read(path)?;
    let family = recognise(path, &header)?;
    let mut notes = Vec::new();
    let mut known = match &choice.config {
        Some(folder) => configs_of(folder)?,
        None => family.known(),
    };
    if choice.config.is_none() {
        assumptions(path, &header, family, &mut known, &mut notes);
    }
    let parts = Parts { path, header: &header, family, known: &known, choice };
    let tokenizer = tokenizer(path, choice)?;
    let text = TextPart {
        encoder: parts.text_encoder()?.configured(latentrace_text::TextConfig::read)?,
        tokenizer,
        padding: (family == Family::Sd2 && choice.config.is_none()).then(|| "!".to_owned()),
    };
    let mut checkpoint = Checkpoint {
        place: path.clone(),
        texts: vec![text],
        zeros: false,
        index: None,
        unet: parts.unet(&mut notes)?.configured(latentrace_unet::UnetConfig::read)?,
        vae: parts.vae()?.configured(latentrace_vae::VaeConfig::read)?,
        embeddings: choice.embeddings.clone(),
        loras: choice.loras.clone(),
        scheduler: SchedulerFile { origin: scheduler(path, choice, &known), class: None },
        notes,
    };
    agree(&checkpoint)?;
    if checkpoint.input() == UnetInput::Inpainting && choice.unet.is_none() {
        let channels = checkpoint.unet.config.in_channels;
        checkpoint
            .notes
            .push(format!("{}: an inpainting model, because its UNet takes {channels} channels", path.display()));
    }
    Ok(checkpoint)
}

/// Says which architecture a file has, or what it is instead.
fn recognise(path: &Path, header: &Header) -> Result<Family> {
    if let Some(columns) = header.tensors.get(TEXT_KEYS).and_then(|tensor| tensor.shape.last()) {
        let has = |prefix: &str| header.tensors.keys().any(|name| name.starts_with(prefix));
        return match columns {
            _ if has("conditioner.embedders.") => {
                Err(refused(path, "a Stable Diffusion XL model, with two text encoders,"))
            }
            1024 => Ok(Family::Sd2),
            _ if has(OPEN_CLIP) => Ok(Family::Sd2),
            _ => Ok(Family::Sd1),
        };
    }
    let what = what(header);
    Err(file(
        path,
        format!(
            "{what}\nhint: a single file has the UNet below {UNET}, the VAE below {VAE} and the text encoder below cond_stage_model."
        ),
    ))
}

fn refused(path: &Path, family: &'static str) -> Error {
    Error::Family { file: path.display().to_string(), class: "single file".into(), family }
}

/// Beginnings or middles of tensor names, and what a file with such names is. The first that fits is it.
const KINDS: &[(&str, &str)] = &[
    ("lora_unet_", "a LoRA: name it with --lora beside a --model"),
    ("lora_te_", "a LoRA: name it with --lora beside a --model"),
    (".lora_A.", "a LoRA: name it with --lora beside a --model"),
    (".lora_down.", "a LoRA: name it with --lora beside a --model"),
    (".lora.down.", "a LoRA: name it with --lora beside a --model"),
    (".hada_w1_a", "a LoHa, which is not supported"),
    (".lokr_w1", "a LoKr, which is not supported"),
    ("emb_params", "a textual inversion: name it with --embedding beside a --model"),
    ("string_to_param", "a textual inversion: name it with --embedding beside a --model"),
    ("control_model.", "a ControlNet, which is not supported"),
    ("controlnet_cond_embedding.", "a ControlNet, which is not supported"),
    ("conditioner.embedders.", "a Stable Diffusion XL model, which is not supported"),
    ("double_blocks.", "a FLUX model, which is not supported"),
    ("joint_blocks.", "a Stable Diffusion 3 model, which is not supported"),
    (
        "transformer_blocks.",
        "a UNet or transformer alone, with the names of diffusers: a checkpoint folder with this file in unet/ can be opened",
    ),
    ("decoder.up_blocks.", "a VAE alone, with the names of diffusers: name it with --vae beside a --model"),
    ("decoder.up.", "a VAE alone: name it with --vae beside a --model"),
    ("text_model.encoder.", "a text encoder alone: name its folder with --text-encoder beside a --model"),
    ("input_blocks.", "a UNet alone, without the VAE and the text encoder: name it with --unet beside a --model"),
    ("taesd", "a tiny autoencoder (TAESD), which is not supported"),
];

/// What a safetensors file is that is not a whole checkpoint.
fn what(header: &Header) -> String {
    let has = |part: &str| header.tensors.keys().any(|name| name.contains(part));
    match KINDS.iter().find(|(part, _)| has(part)) {
        Some((_, what)) => (*what).to_owned(),
        None => {
            let some: Vec<&str> = header.tensors.keys().take(3).map(String::as_str).collect();
            format!("not a checkpoint: {} tensors, such as {}", header.tensors.len(), some.join(", "))
        }
    }
}

/// The configuration files of a folder, as those that a family has in this crate.
fn configs_of(folder: &Path) -> Result<Value> {
    let json =
        |path: PathBuf| -> Result<Value> { serde_json::from_str(&read(&path)?).map_err(|error| file(&path, error)) };
    Ok(serde_json::json!({
        "text_encoder": json(folder.join("text_encoder/config.json"))?,
        "unet": json(folder.join("unet/config.json"))?,
        "vae": json(folder.join("vae/config.json"))?,
    }))
}

fn scheduler(path: &Path, choice: &Choice, known: &Value) -> Origin {
    match &choice.config {
        Some(folder) => Origin::File(folder.join("scheduler/scheduler_config.json")),
        None => Origin::Known { file: path.into(), json: known["scheduler"].to_string() },
    }
}

/// Applies what the file says of itself, and notes what it does not say.
fn assumptions(path: &Path, header: &Header, family: Family, known: &mut Value, notes: &mut Vec<String>) {
    let file = path.display();
    let says = header.about.get("modelspec.prediction_type").map(|kind| kind.to_lowercase());
    let stated = match says.as_deref() {
        Some("v") => Some(("v_prediction", "its metadata says so")),
        Some("epsilon") => Some(("epsilon", "its metadata says so")),
        _ if header.tensors.contains_key("v_pred") => Some(("v_prediction", "it has a tensor v_pred")),
        _ => None,
    };
    let usual = known["scheduler"]["prediction_type"].as_str().unwrap_or("epsilon").to_owned();
    let (prediction, why) = stated.unwrap_or((&usual, "assumed, because the file does not say"));
    known["scheduler"]["prediction_type"] = prediction.into();
    if header.tensors.contains_key("ztsnr") {
        known["scheduler"]["rescale_betas_zero_snr"] = true.into();
        known["scheduler"]["_class_name"] = "DDIMScheduler".into(); // PNDM has no such option
        known["scheduler"]["timestep_spacing"] = "trailing".into();
        notes.push(format!("{file}: zero terminal SNR, because it has a tensor ztsnr: DDIM with trailing times"));
    }
    // Stable Diffusion 2.1 has a base model of 512 pixels that predicts noise, and one of 768 that predicts v.
    let is_base = family == Family::Sd2 && prediction == "epsilon";
    if is_base {
        as_base(known);
    }
    let (name, side) = match (family, is_base) {
        (Family::Sd1, _) => ("1.x", 512),
        (Family::Sd2, true) => ("2.x base", 512),
        (Family::Sd2, false) => ("2.x", 768),
    };
    notes.push(format!(
        "{file}: Stable Diffusion {name}, {side}x{side}, prediction_type {prediction} ({why})\nhint: --set scheduler.prediction_type=, --height and --width replace it; --config names a folder with other configuration files"
    ));
}

/// The tokenizer's folder: the one that is named, or one beside the file.
fn tokenizer(path: &Path, choice: &Choice) -> Result<PathBuf> {
    if let Some(named) = crate::folder::tokenizer(choice) {
        return Ok(named);
    }
    let beside = path.parent().unwrap_or(Path::new(".")).join("tokenizer");
    let of_config = choice.config.as_ref().map(|folder| folder.join("tokenizer"));
    let found = of_config.into_iter().chain([beside]).find(|folder| folder.is_dir());
    found.ok_or_else(|| {
        let hint = "hint: --tokenizer openai/clip-vit-large-patch14 downloads one (1.5 MB); that of any Stable Diffusion folder will do too";
        file(path, format!("a single file has no tokenizer, and there is no folder tokenizer beside it\n{hint}"))
    })
}

/// The parts of a single file.
struct Parts<'a> {
    path: &'a Path,
    header: &'a Header,
    family: Family,
    known: &'a Value,
    choice: &'a Choice,
}

impl Parts<'_> {
    fn config(&self, part: &str) -> Result<Config> {
        let file = match &self.choice.config {
            Some(folder) => folder.join(part).join("config.json").display().to_string(),
            None => format!("{} (as Stable Diffusion {}.x)", self.path.display(), self.family as u8 + 1),
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

    fn text_encoder(&self) -> Result<Part<Config>> {
        if let Some(other) = &self.choice.text_encoder {
            return part(&inside(other, "text_encoder"), "text_encoder", self.choice);
        }
        let config = self.config("text_encoder")?;
        let layout = match self.has(OPEN_CLIP) {
            true => Layout::OpenClip { layers: config.size("num_hidden_layers", Some(12))? as usize },
            false if self.has(CLIP) => Layout::Clip,
            false => {
                let hint = "hint: name a text encoder with --text-encoder";
                return Err(file(self.path, format!("no text encoder in this file\n{hint}")));
            }
        };
        Ok(self.single("text_encoder", config, layout))
    }

    fn vae(&self) -> Result<Part<Config>> {
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
    fn unet(&self, notes: &mut Vec<String>) -> Result<Part<Config>> {
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

/// The name of the UNet's first convolution, below a prefix.
const FIRST: &str = "input_blocks.0.0.weight";

/// The configuration of a UNet that takes as many channels as its first convolution: an inpainting model takes nine.
fn taking(config: Config, header: &Header, first: &str) -> Config {
    match header.tensors.get(first).map(|tensor| tensor.shape.as_slice()) {
        Some([_, channels, _, _]) => config.with("in_channels", (*channels).into()),
        _ => config,
    }
}

/// A VAE that is named by itself: a folder, or a single file of either naming with the configuration of the checkpoint.
pub(crate) fn other_vae(
    other: &Path,
    config: impl FnOnce() -> Result<Config>,
    choice: &Choice,
) -> Result<Part<Config>> {
    if !other.is_file() {
        return part(&inside(other, "vae"), "vae", choice);
    }
    let path = checked(other.to_path_buf())?;
    let (header, config) = (Header::read(&path)?, config()?);
    let blocks = config.sizes("block_out_channels")?.len();
    let has = |prefix: &str| header.tensors.keys().any(|name| name.starts_with(prefix));
    let layout = match () {
        () if has("first_stage_model.decoder.up.") => Layout::Vae { prefix: VAE, blocks },
        () if has("decoder.up.") => Layout::Vae { prefix: "", blocks },
        () if has("decoder.up_blocks.") => Layout::Diffusers,
        () => return Err(file(&path, format!("not a VAE, but {}", what(&header)))),
    };
    Ok(Part::single("vae", config, &path, layout))
}

/// A UNet that is named by itself: a folder, or a single file of either naming with the configuration of the checkpoint.
pub(crate) fn other_unet(
    other: &Path,
    config: impl FnOnce() -> Result<Config>,
    choice: &Choice,
) -> Result<Part<Config>> {
    if !other.is_file() {
        return part(&inside(other, "unet"), "unet", choice);
    }
    let path = checked(other.to_path_buf())?;
    let (header, config) = (Header::read(&path)?, config()?);
    let layers = config.size("layers_per_block", Some(2))? as usize;
    let has = |prefix: &str| header.tensors.keys().any(|name| name.starts_with(prefix));
    let (layout, first) = match () {
        () if has(UNET) => (Layout::Unet { prefix: UNET, layers }, format!("{UNET}{FIRST}")),
        () if has("input_blocks.") => (Layout::Unet { prefix: "", layers }, FIRST.to_owned()),
        () if has("down_blocks.") => (Layout::Diffusers, "conv_in.weight".to_owned()),
        () => return Err(file(&path, format!("not a UNet, but {}", what(&header)))),
    };
    Ok(Part::single("unet", taking(config, &header, &first), &path, layout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configurations_in_this_crate_are_supported() {
        for family in [Family::Sd1, Family::Sd2] {
            let known = family.known();
            let config = |part: &str| Config::parse(part, &known[part].to_string()).unwrap();
            let text = latentrace_text::TextConfig::read(&config("text_encoder")).unwrap();
            let unet = latentrace_unet::UnetConfig::read(&config("unet")).unwrap();
            assert_eq!(text.hidden_size, unet.cross_attention_dim);
            assert_eq!(latentrace_vae::VaeConfig::read(&config("vae")).unwrap().factor(), 8);
            latentrace_schedulers::Config::from_json(&known["scheduler"].to_string()).unwrap();
        }
    }
}
