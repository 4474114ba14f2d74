//! Reading of a LoRA: every tensor belongs to a layer, and every layer has a whole change.

use super::alpha::{Alphas, CONFIG, WEIGHTS};
use super::key::{self, Key, Piece};
use super::other;
use super::targets::{Network, Target, Targets};
use crate::error::{Error, Result, file};
use crate::weights::{PICKLES, checked, pickle};
use latentrace_nn::tch::{Kind, Tensor};
use latentrace_nn::{self as nn, Header, LowRank, Named, Tensors};
use std::collections::BTreeMap;
use std::fs::DirEntry;
use std::path::{Path, PathBuf};

/// The change of a layer.
pub(super) struct Found {
    pub(super) network: Network,
    /// The path of the layer in the checkpoint's files.
    pub(super) layer: String,
    pub(super) change: LowRank,
}

/// The files that a folder with a LoRA may have: those of diffusers and of PEFT.
pub(crate) const IN_FOLDER: [&str; 2] = ["pytorch_lora_weights.safetensors", WEIGHTS];

/// The file of a LoRA among those of a folder: one with a usual name, or the only one of safetensors.
pub(crate) fn chosen<'a>(files: &[&'a str]) -> Option<&'a str> {
    let named = IN_FOLDER.iter().find_map(|name| files.iter().find(|file| *file == name));
    let mut others = files.iter().filter(|file| file.ends_with(".safetensors") && !file.contains('/'));
    let only = others.next().filter(|_| others.next().is_none());
    named.or(only).copied()
}

/// The file of a LoRA: the path itself, or the file in a folder.
pub(super) fn place(path: &Path) -> PathBuf {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    chosen(&names).map_or_else(|| path.to_path_buf(), |name| path.join(name))
}

/// Reads the changes of all layers. Also returns a note if a factor that PEFT keeps in another file is not there.
///
/// # Errors
/// The file is not a LoRA of a supported kind, a tensor belongs to no layer of the networks, or a change is incomplete
/// or of another shape than its layer.
pub(super) fn read(path: &Path, targets: &Targets) -> Result<(Vec<Found>, Option<String>)> {
    let path = &opened(path)?;
    let alphas = Alphas::read(path, &Header::read(path)?.about)?;
    let whole = |stored: &str| vec![Named { name: stored.to_owned(), piece: nn::Piece::Whole }];
    let tensors = Tensors::open(&[path], &whole)?;
    let mut layers: BTreeMap<(Network, &str), Pieces> = BTreeMap::new();
    let mut unmatched: Vec<&str> = Vec::new();
    for stored in tensors.names() {
        let (layer, piece) = match key::read(stored) {
            Key::Of { layer, piece } => (layer, piece),
            Key::Other(kind) => {
                return Err(file(path, format!("{stored}: {kind} is not supported\nhint: a LoRA and a LoCon are")));
            }
            Key::Unknown => return Err(unknown(path, stored, &tensors)),
        };
        match targets.find(layer) {
            Some(target) => {
                let pieces = layers.entry((target.network, &target.layer)).or_insert_with(|| Pieces::of(target));
                pieces.add(path, piece, stored)?;
            }
            None => unmatched.push(stored),
        }
    }
    if let Some(first) = unmatched.first() {
        return Err(of_no_layer(path, first, &unmatched, targets));
    }
    if layers.is_empty() {
        return Err(file(path, "a file without tensors, not a LoRA"));
    }
    let is_without_factor = !alphas.is_stated()
        && layers.values().all(|pieces| pieces.alpha.is_none())
        && tensors.names().any(|name| name.starts_with(PEFT));
    let note = is_without_factor
        .then(|| format!("{}: there is no {CONFIG} beside it, so alpha is taken to be the rank", path.display()));
    let changes = layers.into_values().map(|pieces| pieces.change(path, &tensors, &alphas));
    Ok((changes.collect::<Result<_>>()?, note))
}

/// The beginning of the names in PEFT's own files.
const PEFT: &str = "base_model.";

/// The file of a LoRA, checked to be one that can be read.
fn opened(path: &Path) -> Result<PathBuf> {
    let place = place(path);
    let ending = place.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    if place.is_dir() {
        let hint = format!("hint: a LoRA is a .safetensors file, or a folder with {}", IN_FOLDER.join(" or "));
        let what = match std::fs::read_dir(&place).into_iter().flatten().flatten().filter(is_safetensors).count() {
            0 => "a folder without a LoRA".to_owned(),
            several => format!("a folder with {several} .safetensors files, none of a usual name"),
        };
        return Err(file(&place, format!("{what}\n{hint}")));
    }
    if place.symlink_metadata().is_err() {
        let hint = "hint: a LoRA is a .safetensors file, and its scale follows a colon: --lora style.safetensors:0.8";
        return Err(file(&place, format!("no such file\n{hint}")));
    }
    if place.exists() && !place.is_file() {
        return Err(file(&place, "not a plain file"));
    }
    if PICKLES.contains(&ending.as_str()) {
        return Err(pickle(&place));
    }
    checked(place)
}

fn is_safetensors(entry: &DirEntry) -> bool {
    entry.file_name().to_string_lossy().ends_with(".safetensors")
}

/// The stored names of a layer's tensors.
struct Pieces<'a> {
    target: &'a Target,
    down: Option<&'a str>,
    up: Option<&'a str>,
    mid: Option<&'a str>,
    alpha: Option<&'a str>,
}

impl<'a> Pieces<'a> {
    fn of(target: &'a Target) -> Pieces<'a> {
        Pieces { target, down: None, up: None, mid: None, alpha: None }
    }

    fn add(&mut self, path: &Path, piece: Piece, stored: &'a str) -> Result<()> {
        let place = match piece {
            Piece::Down => &mut self.down,
            Piece::Up => &mut self.up,
            Piece::Mid => &mut self.mid,
            Piece::Alpha => &mut self.alpha,
        };
        match place.replace(stored) {
            Some(other) => Err(file(path, format!("{stored}: {other} is of the same layer, {}", self.target.layer))),
            None => Ok(()),
        }
    }

    /// The change that the tensors are together.
    fn change(self, path: &Path, tensors: &Tensors, alphas: &Alphas) -> Result<Found> {
        let Target { network, layer, shape } = self.target;
        let (Some(down_name), Some(up_name)) = (self.down, self.up) else {
            let known = [self.down, self.up, self.mid, self.alpha].into_iter().flatten().next().unwrap_or_default();
            return Err(file(path, format!("{known}: the change of {layer} has no {}", self.missing())));
        };
        let number = |name: &str| -> Result<Tensor> { floating(path, name, tensors.get(name)?) };
        let (mut down, up) = (number(down_name)?, number(up_name)?);
        let rank = down.size().first().copied().unwrap_or_default();
        if let Some(mid) = self.mid {
            down = joined(&down, &number(mid)?).ok_or_else(|| file(path, format!("{mid}: of another rank")))?;
        }
        let misfit = || misfit(path, down_name, layer, shape, [&down.size(), &up.size()]);
        let expected: Vec<i64> = std::iter::once(rank).chain(shape.iter().skip(1).copied()).collect();
        let inputs: i64 = expected.iter().product();
        if rank == 0 || down.numel() as i64 != inputs || up.numel() as i64 != shape[0] * rank {
            return Err(misfit());
        }
        let factor = match self.alpha {
            Some(name) => {
                let alpha = tensors.get(name)?;
                let alpha = if alpha.numel() == 1 { alpha.view([1]).double_value(&[0]) } else { f64::NAN };
                if !alpha.is_finite() {
                    return Err(file(path, format!("{name}: expected one finite number")));
                }
                alpha / rank as f64
            }
            None => {
                let rooted = format!("text_model.{layer}"); // as patterns name it, whatever the checkpoint's files do
                alphas.factor(path, network.name(), &[layer.as_str(), &rooted], rank)?
            }
        };
        let change = LowRank { down: down.view(expected.as_slice()), up: up.view([shape[0], rank]), factor };
        Ok(Found { network: *network, layer: layer.clone(), change })
    }

    fn missing(&self) -> &'static str {
        match (self.down, self.up) {
            (None, None) => "lora_down (lora_A) and lora_up (lora_B)",
            (None, _) => "lora_down (lora_A)",
            _ => "lora_up (lora_B)",
        }
    }
}

/// A tensor, if its numbers are fractions.
fn floating(path: &Path, name: &str, tensor: Tensor) -> Result<Tensor> {
    match tensor.kind() {
        Kind::Int64 => Err(file(path, format!("{name}: unsupported number format I64"))),
        _ => Ok(tensor),
    }
}

/// The kernel `[rank, inputs, height, width]` of a convolution to few features and one between them. `None` if the
/// shapes do not fit.
fn joined(down: &Tensor, mid: &Tensor) -> Option<Tensor> {
    let (first, second) = (down.size(), mid.size());
    let ([rank, inputs, 1, 1], [outputs, middle, height, width]) = (first.as_slice(), second.as_slice()) else {
        return None;
    };
    if outputs != rank || middle != rank {
        return None;
    }
    let wide = |tensor: &Tensor| tensor.to_kind(Kind::Float);
    let kernel = wide(mid).permute([2, 3, 0, 1]).matmul(&wide(down).view([*rank, *inputs])); // [height, width, rank, inputs]
    Some(kernel.permute([2, 3, 0, 1]).contiguous().view([*rank, *inputs, *height, *width]))
}

/// The error of a tensor that is not of a LoRA.
fn unknown(path: &Path, stored: &str, tensors: &Tensors) -> Error {
    let kind = match stored {
        name if name.starts_with("model.diffusion_model.") || name.starts_with("first_stage_model.") => {
            "this is a whole checkpoint: name it with --model"
        }
        name if tensors.names().count() <= 2 || name.contains("emb_params") => {
            "this may be a textual inversion: name it with --embedding"
        }
        _ => "the names in a LoRA end with .lora_down.weight, .lora_A.weight or .lora.down.weight",
    };
    file(path, format!("{stored}: not a tensor of a LoRA\nhint: {kind}"))
}

/// The error of tensors of layers that the networks do not have. `first` is the first of them.
fn of_no_layer(path: &Path, first: &str, unmatched: &[&str], targets: &Targets) -> Error {
    let hint = match (other::model(unmatched, targets.base), key::read(first)) {
        (Some(hint), _) => format!("hint: {hint}"),
        (None, Key::Of { layer, .. }) if targets.is_ambiguous(layer) => {
            "hint: it is of a text encoder, but does not say of which: text_encoder. or text_encoder_2. before it does"
                .into()
        }
        (None, Key::Of { layer, .. }) => match targets.near(layer) {
            Some(near) => format!("hint: the nearest layer is {near}"),
            None => "hint: this LoRA is for another model".into(),
        },
        _ => String::new(),
    };
    let more = match unmatched.len() {
        1 => String::new(),
        count => format!(" (and {} more tensors)", count - 1),
    };
    file(path, format!("{first}: the model has no such layer{more}\n{hint}"))
}

/// The error of a change that is of another shape than its layer.
fn misfit(path: &Path, stored: &str, layer: &str, shape: &[i64], [down, up]: [&[i64]; 2]) -> Error {
    let hint = match down.get(1) {
        Some(768) if layer.contains("attn2") => "\nhint: 768 text features are those of Stable Diffusion 1.x",
        Some(1024) if layer.contains("attn2") => "\nhint: 1024 text features are those of Stable Diffusion 2.x",
        Some(1280) if layer.contains("attn2") => "\nhint: 1280 text features are those of SDXL's refiner",
        Some(2048) if layer.contains("attn2") => "\nhint: 2048 text features are those of SDXL",
        _ => "",
    };
    file(path, format!("{stored}: {down:?} and {up:?} do not fit {layer}, whose weight is {shape:?}{hint}"))
}
