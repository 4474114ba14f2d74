//! Writing a checkpoint in another form: a folder in the diffusers layout, or a single file.

use crate::checkpoint::{Checkpoint, Part, TextPart};
use crate::error::{Result, file};
use crate::index::{INDEX, of_checkpoint};
use crate::single::names::{CLIP, OPEN_CLIP, REFINER_OPEN_CLIP, XL_CLIP, XL_OPEN_CLIP};
use crate::single::{TextNames, inverse};
use crate::whole;
use latentrace_nn::tch::{Kind, Tensor};
use latentrace_nn::{Activation, Lazy, Piece, Tensors, create_safetensors, replace};
use latentrace_schedulers::Prediction;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The form that a checkpoint is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A folder in the diffusers layout.
    Folder,
    /// A single file with the names of the original repositories.
    Single,
}

/// The tensors of a file, by their names.
type Named = Vec<(String, Lazy<'static>)>;

/// Tensors that belong to no network: whole numbers that old text encoders hold, and the rest of a whole CLIP model.
const LEFT_OUT: &[&str] = &["text_model.embeddings.position_ids", "vision_model.", "visual_projection.", "logit_scale"];

/// The projection of a whole CLIP model, or that of a text encoder with one.
const PROJECTION: &str = "text_projection.";

impl Checkpoint {
    /// Writes the checkpoint in a form, with the numbers of its weights in the format `kind`, or as they are. `to` must
    /// not exist. It appears whole or not at all. Needs little more memory than the largest tensor.
    ///
    /// # Errors
    /// A file of the checkpoint cannot be read, `to` exists or cannot be written, or a tensor has no name in this form.
    pub fn convert(&self, form: Form, to: &Path, kind: Option<Kind>) -> Result<()> {
        match form {
            Form::Folder => self.write_folder(to, kind),
            Form::Single => self.write_single(to, kind),
        }
    }

    fn write_folder(&self, to: &Path, kind: Option<Kind>) -> Result<()> {
        let of_texts = self.texts.iter().flat_map(|text| [text.encoder.name(), text.tokenizer_name()]);
        let parts: Vec<&str> = of_texts.chain(["unet", "vae", "scheduler"]).collect();
        whole::folder(to, &parts, |at| {
            let scheduler = self.scheduler.text()?;
            let texts = self.texts.iter().map(|text| &text.encoder);
            let configs = texts.clone().map(|encoder| (encoder.name(), &encoder.json));
            for (part, json) in configs.chain([("unet", &self.unet.json), ("vae", &self.vae.json)]) {
                replace(&at.join(part).join("config.json"), format!("{json:#}\n").as_bytes())?;
            }
            replace(&at.join("scheduler/scheduler_config.json"), scheduler.as_bytes())?;
            let index = of_checkpoint(self)?;
            replace(&at.join(INDEX), format!("{index:#}\n").as_bytes())?;
            self.texts.iter().try_for_each(|text| text.write_tokenizer(&at.join(text.tokenizer_name())))?;
            let mut weights: Vec<(String, Named)> = Vec::new();
            for encoder in texts {
                let tensors = stored(encoder, kind, encoder.config.projection.is_some())?;
                weights.push((format!("{}/model.safetensors", encoder.name()), tensors));
            }
            weights.push(("unet/diffusion_pytorch_model.safetensors".into(), stored(&self.unet, kind, false)?));
            weights.push(("vae/diffusion_pytorch_model.safetensors".into(), stored(&self.vae, kind, false)?));
            for (name, tensors) in weights {
                create_safetensors(&at.join(name), tensors, about())?;
            }
            Ok(())
        })
    }

    fn write_single(&self, to: &Path, kind: Option<Kind>) -> Result<()> {
        let missing = |part: &str, name: &str| file(to, format!("{part}: {name}: has no name in a single file"));
        let (unet, vae) = (&self.unet.config, &self.vae.config);
        let layers = usize::try_from(unet.layers_per_block[0]).unwrap_or_default();
        if unet.layers_per_block.iter().any(|other| *other != unet.layers_per_block[0]) {
            return Err(file(
                to,
                format!("layers_per_block: {:?} has no form in a single file", unet.layers_per_block),
            ));
        }
        let mut all = Vec::new();
        for (name, tensor) in stored(&self.unet, kind, false)? {
            let original = inverse::unet(&name, layers, &unet.up_attends).ok_or_else(|| missing("unet", &name))?;
            all.push((original, tensor));
        }
        for (name, tensor) in stored(&self.vae, kind, false)? {
            let original = inverse::vae(&name, vae.block_out_channels.len()).ok_or_else(|| missing("vae", &name))?;
            let is_projection = original.contains(".attn_1.") && tensor.shape.len() == 2;
            all.push((original, if is_projection { as_convolution(tensor) } else { tensor }));
        }
        for text in &self.texts {
            let original = self.original_text(text, kind)?;
            all.extend(original.ok_or_else(|| missing(text.encoder.name(), "a projection"))?);
        }
        let prediction = match self.scheduler.read_for_another()?.prediction() {
            Prediction::Velocity => "v",
            Prediction::Epsilon => "epsilon",
            Prediction::Sample => "sample",
        };
        let mut about = about();
        about.insert("modelspec.prediction_type".into(), prediction.into());
        Ok(create_safetensors(to, all, about)?)
    }

    /// The tensors of a text encoder as a single file has them. `None` if one of them has no name there.
    fn original_text(&self, text: &TextPart, kind: Option<Kind>) -> Result<Option<Named>> {
        let (names, encoder) = (self.text_names(text), &text.encoder);
        let projects = encoder.config.projection.is_some() && self.unet.config.added.is_some();
        let tensors = stored(encoder, kind, projects)?;
        let original = match names {
            TextNames::OpenClip(_) => as_open_clip(tensors),
            TextNames::Clip(_) => {
                Some(tensors.into_iter().map(|(name, tensor)| (inverse::clip(&name), tensor)).collect())
            }
        };
        let below = |(name, tensor)| (format!("{}{name}", names.prefix()), tensor);
        Ok(original.map(|all| all.into_iter().map(below).collect()))
    }

    /// Whose names the tensors of a text encoder have in a single file. SDXL's second is OpenCLIP's, and the only one of
    /// its refiner is the second; of Stable Diffusion 1.x and 2.x the activation says which it is.
    fn text_names(&self, text: &TextPart) -> TextNames {
        match (self.unet.config.added.is_some(), text.encoder.name()) {
            (false, _) if text.encoder.config.hidden_act == Activation::Gelu => TextNames::OpenClip(OPEN_CLIP),
            (false, _) => TextNames::Clip(CLIP),
            (true, "text_encoder_2") if self.texts.len() == 1 => TextNames::OpenClip(REFINER_OPEN_CLIP),
            (true, "text_encoder_2") => TextNames::OpenClip(XL_OPEN_CLIP),
            (true, _) => TextNames::Clip(XL_CLIP),
        }
    }
}

impl TextPart {
    /// Writes the tokenizer's files, with the padding token of this checkpoint.
    fn write_tokenizer(&self, to: &Path) -> Result<()> {
        for name in latentrace_text::FILES {
            let from = self.tokenizer.join(name);
            if !from.is_file() {
                continue;
            }
            let bytes = std::fs::read(&from).map_err(|error| file(&from, latentrace_files::said(&error)))?;
            let mut text = bytes.clone();
            if let (Some(token), true) = (&self.padding, *name == "special_tokens_map.json") {
                let mut map: Value = serde_json::from_slice(&bytes).map_err(|error| file(&from, error))?;
                map["pad_token"] = token.as_str().into();
                text = format!("{map:#}\n").into_bytes();
            }
            replace(&to.join(name), &text)?;
        }
        Ok(())
    }
}

fn about() -> HashMap<String, String> {
    HashMap::from([("format".into(), "pt".into())])
}

/// The tensors of a part under the names of diffusers, with the projection of a text encoder if the part has one.
fn stored<C>(part: &Part<C>, kind: Option<Kind>, projects: bool) -> Result<Named> {
    let tensors = part.tensors()?;
    let is_left_out = |name: &str| {
        LEFT_OUT.iter().any(|left_out| name.starts_with(left_out)) || !projects && name.starts_with(PROJECTION)
    };
    let names = tensors.names().filter(|name| !is_left_out(name));
    names.map(|name| Ok((name.to_owned(), tensors.lazy(name, kind)?))).collect()
}

/// A linear layer as a 1x1 convolution, as the original VAE stores its attention.
fn as_convolution(Lazy { kind, shape, make }: Lazy<'static>) -> Lazy<'static> {
    let shape = [shape, vec![1, 1]].concat();
    let wide = shape.clone();
    Lazy { kind, shape, make: Box::new(move || make().view(wide.as_slice())) }
}

/// A matrix with its rows as columns.
fn transposed(Lazy { kind, shape, make }: Lazy<'static>) -> Lazy<'static> {
    let shape = shape.into_iter().rev().collect();
    Lazy { kind, shape, make: Box::new(move || make().transpose(0, 1)) }
}

/// The tensors of a text encoder as OpenCLIP stores them: queries, keys and values as one tensor, and the projection
/// transposed. `None` if one of the three is missing, the projection is no matrix, or a tensor has no name there.
fn as_open_clip(tensors: Named) -> Option<Named> {
    let mut whole = Vec::new();
    let mut thirds: BTreeMap<String, [Option<Lazy>; 3]> = BTreeMap::new();
    for (name, tensor) in tensors {
        let (original, piece) = inverse::open_clip(&name)?;
        match piece {
            Piece::Whole => whole.push((original, tensor)),
            Piece::Rows { index, .. } => thirds.entry(original).or_default()[index] = Some(tensor),
            Piece::Transposed if tensor.shape.len() == 2 => whole.push((original, transposed(tensor))),
            Piece::Transposed => return None,
        }
    }
    for (name, [q, k, v]) in thirds {
        let parts = [q?, k?, v?];
        let (kind, mut shape) = (parts[0].kind, parts[0].shape.clone());
        shape[0] *= 3;
        let make = move || Tensor::cat(&parts.each_ref().map(|part| (part.make)()), 0);
        whole.push((name, Lazy { kind, shape, make: Box::new(make) }));
    }
    Some(whole)
}

impl<C> Part<C> {
    /// The tensors of the part, under the names that modules read them by.
    ///
    /// # Errors
    /// A file is missing, cannot be opened or is incomplete.
    pub fn tensors(&self) -> Result<Tensors> {
        self.with_naming(|files, naming| Ok(Tensors::open(files, naming)?))
    }
}
