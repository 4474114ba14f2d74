//! Which files of a published model are needed.

use crate::choice::Choice;
use crate::error::{Error, Result};
use crate::index::INDEX;
use crate::lora;
use crate::weights::PICKLES;

/// What a published model is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The whole checkpoint, but for the parts that a [`Choice`] replaces.
    Whole,
    /// Its text encoder.
    TextEncoder,
    /// Its UNet.
    Unet,
    /// Its VAE.
    Vae,
    /// Its tokenizer.
    Tokenizer,
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
    let (model, network) = ("model", "diffusion_pytorch_model");
    match of {
        Use::TextEncoder => part("text_encoder", model),
        Use::Unet => part("unet", network),
        Use::Vae => part("vae", network),
        Use::Tokenizer => Ok(with_index(all.tokenizer(if is_folder { "tokenizer/" } else { "" }))),
        Use::Configs => Ok(all.configs()),
        Use::Lora => all.lora(),
        Use::Whole if !is_folder => Err(all.not_whole()),
        Use::Whole => {
            let mut names = vec![INDEX.to_owned(), "scheduler/scheduler_config.json".to_owned()];
            for (name, stem, other) in [
                ("text_encoder", model, &choice.text_encoder),
                ("unet", network, &choice.unet),
                ("vae", network, &choice.vae),
            ] {
                // The configuration of a part is needed where a single file replaces its weights.
                match other {
                    Some(_) => names.push(format!("{name}/config.json")),
                    None => names.extend(all.part(&format!("{name}/"), stem)?),
                }
            }
            if choice.tokenizer.is_none() {
                names.extend(all.tokenizer("tokenizer/"));
            }
            names.retain(|name| all.has(name));
            Ok(names)
        }
    }
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

    fn error(&self, name: &str, cause: &str) -> Error {
        Error::File { file: format!("{}: {name}", self.model), cause: cause.to_owned() }
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
        let names =
            ["text_encoder/config.json", "unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"];
        let names = names.into_iter().map(str::to_owned).filter(|name| self.has(name));
        names.chain(self.tokenizer("tokenizer/")).collect()
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
