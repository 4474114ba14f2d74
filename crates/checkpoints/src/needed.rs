//! Which files of a published model are needed.

use crate::choice::Choice;
use crate::error::{Error, Result};
use crate::index::{FIRST, INDEX, Index, SLOTS, Slot};
use crate::lora;
use crate::weights::PICKLES;
use std::path::Path;

/// What a published model is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The whole checkpoint, but for the parts that a [`Choice`] replaces.
    Whole,
    /// Its text encoder.
    TextEncoder,
    /// Its second text encoder.
    TextEncoder2,
    /// Its UNet.
    Unet,
    /// Its VAE.
    Vae,
    /// Its tokenizer.
    Tokenizer,
    /// The tokenizer of its second text encoder.
    Tokenizer2,
    /// Its configuration files.
    Configs,
    /// A LoRA.
    Lora,
}

/// The names of the files that are needed, of all files of a model. `model` is named in errors.
///
/// # Errors
/// The model has no file that a use needs; the error says what it has instead.
pub fn needed(model: &str, files: &[&str], of: Use, choice: &Choice) -> Result<Vec<String>> {
    let all = Files { model, files, variant: choice.variant.as_deref() };
    let is_folder = all.has(INDEX);
    // A part of a whole checkpoint, which is known by its index, or a model that is this part alone.
    let with_index = |mut names: Vec<String>| {
        names.extend(is_folder.then(|| INDEX.to_owned()));
        names
    };
    let part = |name: &str, stem: &str| {
        let names = if is_folder { all.part(&format!("{name}/"), stem) } else { all.part("", stem) };
        names.map(with_index)
    };
    let tokenizer = |name: &str| with_index(all.tokenizer(&if is_folder { format!("{name}/") } else { String::new() }));
    match of {
        Use::TextEncoder => part("text_encoder", TEXT),
        Use::TextEncoder2 => part("text_encoder_2", TEXT),
        Use::Unet => part("unet", NETWORK),
        Use::Vae => part("vae", NETWORK),
        Use::Tokenizer => Ok(tokenizer("tokenizer")),
        Use::Tokenizer2 => Ok(tokenizer("tokenizer_2")),
        Use::Configs => Ok(all.configs()),
        Use::Lora => all.lora(),
        Use::Whole if !is_folder => Err(all.not_whole()),
        Use::Whole => all.whole(choice),
    }
}

/// The names of the weight files of a text encoder, and of UNet and VAE, without their endings.
const TEXT: &str = "model";
const NETWORK: &str = "diffusion_pytorch_model";

/// Whether a folder that may have a part of a model's files lacks a text encoder that its index names and no choice replaces. The names
/// of the files alone do not say so: a model has one text encoder or two.
pub fn lacks_text(folder: &Path, choice: &Choice) -> bool {
    let Ok(index) = Index::read(folder) else { return false };
    let is_own = |slot: &Slot| choice.of_slot(*slot)[0].is_none();
    index
        .texts()
        .iter()
        .filter(|slot| is_own(slot))
        .any(|slot| !folder.join(slot.encoder).join("config.json").is_file())
}

struct Files<'a> {
    model: &'a str,
    files: &'a [&'a str],
    variant: Option<&'a str>,
}

impl Files<'_> {
    fn has(&self, name: &str) -> bool {
        self.files.contains(&name)
    }

    fn has_folder(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.strip_prefix(name).is_some_and(|below| below.starts_with('/')))
    }

    fn error(&self, name: &str, cause: &str) -> Error {
        Error::File { file: format!("{}: {name}", self.model), cause: cause.to_owned() }
    }

    /// The files of a whole checkpoint, but for the parts that a choice replaces: with one text encoder or two, those that it has.
    fn whole(&self, choice: &Choice) -> Result<Vec<String>> {
        let mut texts: Vec<Slot> = SLOTS.into_iter().filter(|slot| self.has_folder(slot.encoder)).collect();
        if texts.is_empty() {
            texts.push(FIRST);
        }
        let of_texts = texts.iter().map(|slot| (slot.encoder, TEXT, choice.of_slot(*slot)[0].is_some()));
        let networks = [("unet", NETWORK, choice.unet.is_some()), ("vae", NETWORK, choice.vae.is_some())];
        let mut names = vec![INDEX.to_owned(), "scheduler/scheduler_config.json".to_owned()];
        for (name, stem, is_replaced) in of_texts.chain(networks) {
            // The configuration of a part is needed where a single file replaces its weights.
            match is_replaced {
                true => names.push(format!("{name}/config.json")),
                false => names.extend(self.part(&format!("{name}/"), stem)?),
            }
        }
        for slot in SLOTS.into_iter().filter(|slot| choice.of_slot(*slot)[1].is_none()) {
            names.extend(self.tokenizer(&format!("{}/", slot.tokenizer)));
        }
        names.retain(|name| self.has(name));
        Ok(names)
    }

    /// The configuration and the weight files of a part in a folder.
    fn part(&self, folder: &str, stem: &str) -> Result<Vec<String>> {
        let config = format!("{folder}config.json");
        if !self.has(&config) {
            return Err(self.error(&config, "this model has no such file"));
        }
        let variants: Vec<String> = match self.variant {
            Some(variant) => vec![format!(".{variant}")],
            None => vec![String::new(), ".fp16".into()],
        };
        for variant in &variants {
            let whole = format!("{folder}{stem}{variant}.safetensors");
            if self.has(&whole) {
                return Ok(vec![config, whole]);
            }
            let index = format!("{folder}{stem}.safetensors.index{variant}.json");
            if self.has(&index) {
                let beginning = format!("{folder}{stem}{variant}-");
                let is_shard = |name: &&&str| name.starts_with(&beginning) && name.ends_with(".safetensors");
                let shards = self.files.iter().filter(is_shard).map(|name| (*name).to_owned());
                return Ok([config, index].into_iter().chain(shards).collect());
            }
        }
        Err(self.no_weights(folder, stem))
    }

    /// The error for a part without the weights that are wanted.
    fn no_weights(&self, folder: &str, stem: &str) -> Error {
        let name = match self.variant {
            Some(variant) => format!("{folder}{stem}.{variant}.safetensors"),
            None => format!("{folder}{stem}.safetensors"),
        };
        let of_variant = |name: &&str| {
            let rest = name.strip_prefix(folder)?.strip_prefix(stem)?.strip_suffix(".safetensors")?;
            rest.strip_prefix('.').map(str::to_owned).or(rest.is_empty().then(|| "(none)".to_owned()))
        };
        let variants: Vec<String> = self.files.iter().filter_map(of_variant).collect();
        let is_pickle = |name: &&&str| {
            name.starts_with(folder) && PICKLES.iter().any(|ending| name.ends_with(&format!(".{ending}")))
        };
        let hint = match (variants.is_empty(), self.files.iter().find(is_pickle)) {
            (false, _) => format!("\nhint: it has the variants {}", variants.join(", ")),
            (true, Some(pickle)) => format!(
                "\nhint: it has {pickle}, a pickled file, which is never read; another revision may have safetensors files"
            ),
            (true, None) => String::new(),
        };
        self.error(&name, &format!("this model has no such file{hint}"))
    }

    fn tokenizer(&self, folder: &str) -> Vec<String> {
        let names = latentrace_text::FILES.iter().map(|name| format!("{folder}{name}"));
        names.filter(|name| self.has(name)).collect()
    }

    fn configs(&self) -> Vec<String> {
        let parts = ["text_encoder", "text_encoder_2", "unet", "vae"].map(|part| format!("{part}/config.json"));
        let configs = parts.into_iter().chain(["scheduler/scheduler_config.json".to_owned()]);
        let tokenizers = SLOTS.iter().flat_map(|slot| self.tokenizer(&format!("{}/", slot.tokenizer)));
        configs.filter(|name| self.has(name)).chain(tokenizers).collect()
    }

    /// The file of a LoRA, with PEFT's configuration.
    fn lora(&self) -> Result<Vec<String>> {
        let Some(name) = lora::chosen(self.files) else {
            let hint = "hint: download the file that is meant, and name its path";
            let cause = format!("this model has no such file, and not one other .safetensors file alone\n{hint}");
            return Err(self.error(lora::IN_FOLDER[0], &cause));
        };
        let config = lora::CONFIG.to_owned();
        let config = (name == lora::WEIGHTS && self.has(lora::CONFIG)).then_some(config);
        Ok(std::iter::once(name.to_owned()).chain(config).collect())
    }

    /// The error for a model without `model_index.json`.
    fn not_whole(&self) -> Error {
        let is = |name: &str| self.files.iter().any(|file| file.ends_with(name));
        let single = self.files.iter().find(|name| name.ends_with(".safetensors") && !name.contains('/'));
        let hint = match single {
            _ if is("lora_weights.safetensors") || is("adapter_config.json") => {
                "this is a LoRA, which changes a checkpoint: name a checkpoint with --model, and this with --lora"
                    .to_owned()
            }
            _ if self.has("config.json") => {
                "this may be a part of a checkpoint: --text-encoder, --unet or --vae take its id".to_owned()
            }
            Some(single) => format!("it has {single}: download that file and name its path"),
            None => "a checkpoint in the diffusers layout is needed".to_owned(),
        };
        self.error(INDEX, &format!("this model has no such file\nhint: {hint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of the repository of Stable Diffusion 1.4, with what lies beside the weights.
    const SD14: &[&str] = &[
        "model_index.json",
        "scheduler/scheduler_config.json",
        "scheduler/.ipynb_checkpoints/scheduler_config-checkpoint.json",
        "safety_checker/model.safetensors",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "text_encoder/model.fp16.safetensors",
        "text_encoder/pytorch_model.bin",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "tokenizer/tokenizer_config.json",
        "tokenizer/special_tokens_map.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    ];

    fn of(files: &[&str], of: Use, choice: &Choice) -> Result<Vec<String>> {
        needed("a/b", files, of, choice)
    }

    #[test]
    fn only_the_files_of_one_variant_are_needed() {
        let names = of(SD14, Use::Whole, &Choice::default()).unwrap();
        assert_eq!(names.len(), 12, "{names:?}");
        assert!(names.iter().all(|name| !name.contains("fp16") && !name.contains("safety") && !name.ends_with("bin")));
        let half = Choice { variant: Some("fp16".into()), ..Choice::default() };
        let names = of(SD14, Use::Whole, &half).unwrap();
        assert_eq!(names.iter().filter(|name| name.ends_with(".fp16.safetensors")).count(), 3);
        assert_eq!(names.iter().filter(|name| name.ends_with(".safetensors")).count(), 3);
        let other = Choice { vae: Some("x/y".into()), ..Choice::default() };
        let names = of(SD14, Use::Whole, &other).unwrap();
        assert!(
            names.contains(&"vae/config.json".to_owned()) && !names.iter().any(|name| name.starts_with("vae/diff"))
        );
        assert_eq!(of(SD14, Use::Tokenizer, &half).unwrap().len(), 5);
        assert_eq!(
            of(SD14, Use::Vae, &half).unwrap(),
            ["vae/config.json", "vae/diffusion_pytorch_model.fp16.safetensors", INDEX]
        );
        let clip = ["config.json", "model.safetensors", "pytorch_model.bin", "vocab.json", "merges.txt"];
        assert_eq!(of(&clip, Use::TextEncoder, &half).unwrap_err().to_string().lines().count(), 2);
        assert_eq!(of(&clip, Use::TextEncoder, &Choice::default()).unwrap(), ["config.json", "model.safetensors"]);
        assert_eq!(of(&clip, Use::Tokenizer, &Choice::default()).unwrap(), ["vocab.json", "merges.txt"]);
    }

    /// The files of the repository of SDXL, with some of what lies beside the weights.
    const SDXL: &[&str] = &[
        "model_index.json",
        "sd_xl_base_1.0.safetensors",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "text_encoder/model.fp16.safetensors",
        "text_encoder/model.onnx",
        "text_encoder_2/config.json",
        "text_encoder_2/model.safetensors",
        "text_encoder_2/model.fp16.safetensors",
        "text_encoder_2/model.onnx_data",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "tokenizer_2/vocab.json",
        "tokenizer_2/merges.txt",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "vae_1_0/diffusion_pytorch_model.safetensors",
    ];

    #[test]
    fn all_text_encoders_and_tokenizers_of_a_model_are_needed() {
        let names = of(SDXL, Use::Whole, &Choice::default()).unwrap();
        assert_eq!(names.len(), 14, "{names:?}");
        assert_eq!(names.iter().filter(|name| name.contains("_2/")).count(), 4, "{names:?}");
        let half = Choice { variant: Some("fp16".into()), ..Choice::default() };
        let names = of(SDXL, Use::Whole, &half).unwrap();
        assert_eq!(names.iter().filter(|name| name.ends_with(".fp16.safetensors")).count(), 4, "{names:?}");
        let of_text = ["text_encoder_2/config.json", "text_encoder_2/model.fp16.safetensors", INDEX];
        assert_eq!(of(SDXL, Use::TextEncoder2, &half).unwrap(), of_text);
        let tokenizer = ["tokenizer_2/vocab.json", "tokenizer_2/merges.txt", INDEX];
        assert_eq!(of(SDXL, Use::Tokenizer2, &half).unwrap(), tokenizer);
        assert_eq!(of(SDXL, Use::Configs, &half).unwrap().len(), 9);
        // The refiner has the second ones alone.
        let refiner: Vec<&str> = SDXL
            .iter()
            .copied()
            .filter(|name| !name.starts_with("text_encoder/") && !name.starts_with("tokenizer/"))
            .collect();
        let names = of(&refiner, Use::Whole, &Choice::default()).unwrap();
        assert_eq!(
            (names.len(), names.contains(&"text_encoder_2/model.safetensors".to_owned())),
            (10, true),
            "{names:?}"
        );
        // A model of one part, as CLIP itself, is the part that it is named for.
        let clip = ["config.json", "model.safetensors", "vocab.json"];
        assert_eq!(of(&clip, Use::TextEncoder2, &Choice::default()).unwrap(), ["config.json", "model.safetensors"]);
        assert_eq!(of(&clip, Use::Tokenizer2, &Choice::default()).unwrap(), ["vocab.json"]);
    }

    #[test]
    fn of_a_second_text_encoder_that_is_replaced_only_the_configuration_is_needed() {
        let other = |text: bool, tokenizer: bool| Choice {
            text_encoder_2: text.then(|| "x/y".into()),
            tokenizer_2: tokenizer.then(|| "x/y".into()),
            ..Choice::default()
        };
        let names = |choice: &Choice| of(SDXL, Use::Whole, choice).unwrap();
        let [all, text, tokenizer] =
            [other(false, false), other(true, false), other(false, true)].map(|choice| names(&choice));
        let without =
            |dropped: &[&str]| all.iter().filter(|name| !dropped.contains(&name.as_str())).cloned().collect::<Vec<_>>();
        assert_eq!(text, without(&["text_encoder_2/model.safetensors"]));
        assert_eq!(tokenizer, without(&["tokenizer_2/vocab.json", "tokenizer_2/merges.txt"]));
        // Shards, and what is not there.
        let mut files = SDXL.to_vec();
        files.retain(|name| !name.starts_with("text_encoder_2/model"));
        let error = of(&files, Use::Whole, &Choice::default()).unwrap_err().to_string();
        assert!(error.starts_with("a/b: text_encoder_2/model.safetensors: this model has no such file"), "{error}");
        files
            .extend(["text_encoder_2/model.safetensors.index.json", "text_encoder_2/model-00001-of-00001.safetensors"]);
        assert_eq!(of(&files, Use::Whole, &Choice::default()).unwrap().len(), all.len() + 1);
    }

    #[test]
    fn a_folder_that_has_one_of_two_text_encoders_lacks_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let index = |json: serde_json::Value| std::fs::write(folder.path().join(INDEX), json.to_string()).unwrap();
        let text = |name: &str| {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join("config.json"), "{}").unwrap();
        };
        let lacks = |choice: &Choice| lacks_text(folder.path(), choice);
        let class = serde_json::json!(["transformers", "CLIPTextModel"]);
        index(serde_json::json!({ "text_encoder": class }));
        assert!(lacks(&Choice::default()));
        text("text_encoder");
        assert!(!lacks(&Choice::default()));
        index(serde_json::json!({ "text_encoder": class, "text_encoder_2": class }));
        assert!(lacks(&Choice::default()));
        assert!(!lacks(&Choice { text_encoder_2: Some("x".into()), ..Choice::default() }));
        text("text_encoder_2");
        assert!(!lacks(&Choice::default()));
    }

    #[test]
    fn shards_are_needed_with_their_index() {
        let mut files = SD14.to_vec();
        files.retain(|name| !name.starts_with("unet/diffusion"));
        files.extend([
            "unet/diffusion_pytorch_model.safetensors.index.json",
            "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
            "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
        ]);
        let names = of(&files, Use::Unet, &Choice::default()).unwrap();
        assert_eq!(names.len(), 5, "{names:?}");
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        let bf16 = Choice { variant: Some("bf16".into()), ..Choice::default() };
        let error = of(SD14, Use::Unet, &bf16).unwrap_err().to_string();
        let expected = "a/b: unet/diffusion_pytorch_model.bf16.safetensors: this model has no such file\nhint: it has the variants (none), fp16, non_ema";
        assert_eq!(error, expected);
        let pickled = ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.bin"];
        let error = of(&pickled, Use::Unet, &Choice::default()).unwrap_err().to_string();
        assert!(error.contains("unet/diffusion_pytorch_model.bin, a pickled file"), "{error}");
        let lora = of(&["pytorch_lora_weights.safetensors"], Use::Whole, &Choice::default()).unwrap_err().to_string();
        assert!(lora.contains("a LoRA"), "{lora}");
    }

    #[test]
    fn of_a_lora_one_file_is_needed() {
        let of = |files: &[&str]| needed("a/lora", files, Use::Lora, &Choice::default());
        let named = "pytorch_lora_weights.safetensors";
        assert_eq!(of(&["README.md", "other.safetensors", named]).unwrap(), [named]);
        let peft = ["adapter_config.json", "adapter_model.safetensors"];
        assert_eq!(of(&peft).unwrap(), [peft[1], peft[0]]);
        assert_eq!(of(&["README.md", "pixels.safetensors", "adapter_config.json"]).unwrap(), ["pixels.safetensors"]);
        for files in [&["a.safetensors", "b.safetensors"][..], &["unet/a.safetensors"], &[]] {
            let error = of(files).unwrap_err().to_string();
            assert!(error.starts_with(&format!("a/lora: {named}: ")) && error.contains("not one other"), "{error}");
        }
    }
}
