//! What a tensor that passes a tap is.

use crate::Branch;
use std::fmt;
use std::str::FromStr;

/// What a tensor that passes a tap is. A tap is given its role where it is made; nothing is deduced from its name.
///
/// A role is written as two or three words with dots between them, as `sampler.output.conditional` or `unet.probs.text`
/// (see [`fmt::Display`] and [`FromStr`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A value of the sampler.
    Sampler(SamplerValue),
    /// A value of a module, in one of the networks.
    Module(Part, ModuleValue),
}

/// A value of the sampler, `[images, channels, height, width]`; a mask has one channel. Samples are in
/// `x = x0 + sigma * noise`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SamplerValue {
    /// The mask, at the size of the latents: 1 where the picture is made anew, and 0 where it is kept.
    Mask,
    /// The latents of the picture without its masked part, which an inpainting UNet takes.
    Masked,
    /// The latents of the picture that the run starts from.
    Image,
    /// The normal noise that the run starts from.
    Start,
    /// The sample that a network call is made for.
    Sample,
    /// The predicted noise.
    Epsilon(Conditioning),
    /// The network's output, in the terms that it was trained in: noise, velocity or sample.
    Output(Conditioning),
    /// The clean estimate.
    Denoised,
    /// The normal noise that a step adds.
    Noise,
    /// The final latents.
    Latents,
}

/// What a prediction of the network was conditioned on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Conditioning {
    /// The negative prompt, or none.
    Unconditional,
    /// The prompt.
    Conditional,
    /// Both: the prediction after guidance.
    Guided,
}

/// A network of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// The text encoder, `text_encoder`.
    TextEncoder,
    /// The UNet, `unet`.
    Unet,
    /// The autoencoder, `vae`.
    Vae,
    /// A network that is none of these.
    Other,
}

/// A value of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ModuleValue {
    /// The output of a module that adds to a stream: the stream continues without it, so the module can be left out.
    Residual,
    /// Queries of an attention, `[batch, heads, pixels, features]`.
    Query,
    /// Keys of an attention, `[batch, heads, tokens, features]`.
    Key,
    /// Values of an attention, `[batch, heads, tokens, features]`.
    Value,
    /// Attention scores, before the softmax, `[batch, heads, pixels, tokens]`.
    Scores(Attends),
    /// Attention probabilities, after the softmax, `[batch, heads, pixels, tokens]`.
    Probs(Attends),
    /// Any other value.
    Other,
}

/// What an attention attends to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Attends {
    /// The tensor that the queries come from (self-attention).
    #[default]
    Itself,
    /// The prompt's tokens (cross-attention).
    Text,
}

impl Role {
    /// The network that the tensor belongs to; `None` for the sampler's values.
    pub fn part(self) -> Option<Part> {
        match self {
            Role::Module(part, _) => Some(part),
            Role::Sampler(_) => None,
        }
    }

    /// What the tensor is in its module; `None` for the sampler's values.
    pub fn module(self) -> Option<ModuleValue> {
        match self {
            Role::Module(_, value) => Some(value),
            Role::Sampler(_) => None,
        }
    }

    /// Whether the tensor is a value of the sampler.
    pub fn is_of_sampler(self) -> bool {
        matches!(self, Role::Sampler(_))
    }

    /// The role of a tap by its name, for records without roles: those of earlier versions and of other programs.
    /// Nothing else deduces a role from a name.
    pub fn of_name(name: &str) -> Role {
        if let Ok(role @ Role::Sampler(_)) = name.parse() {
            return role;
        }
        let mut words = name.split('.');
        let part = Part::of_name(words.next().unwrap_or_default());
        let word = words.next_back().unwrap_or_default();
        let module = words.rfind(|word| word.parse::<usize>().is_err()).unwrap_or_default();
        let attends = if module == "attn2" { Attends::Text } else { Attends::Itself };
        let value = match word {
            "q" => ModuleValue::Query,
            "k" => ModuleValue::Key,
            "v" => ModuleValue::Value,
            "scores" => ModuleValue::Scores(attends),
            "probs" => ModuleValue::Probs(attends),
            "out" if RESIDUAL.contains(&module) => ModuleValue::Residual,
            "out" if part == Part::Unet && module == "mid_block" => ModuleValue::Residual,
            "sum" => ModuleValue::Residual, // the VAE's attention, with its residual connection
            _ => ModuleValue::Other,
        };
        Role::Module(part, value)
    }
}

/// The modules whose `out` adds to a stream, in every network.
const RESIDUAL: [&str; 9] =
    ["resnets", "attentions", "transformer_blocks", "attn1", "attn2", "ff", "layers", "self_attn", "mlp"];

impl SamplerValue {
    /// The branch of guidance that a prediction belongs to; `None` for guided predictions and for all other values.
    pub fn branch(self) -> Option<Branch> {
        match self {
            SamplerValue::Epsilon(of) | SamplerValue::Output(of) => match of {
                Conditioning::Unconditional => Some(Branch::Unconditional),
                Conditioning::Conditional => Some(Branch::Conditional),
                Conditioning::Guided => None,
            },
            _ => None,
        }
    }

    /// Every value, in the order in which a call passes them.
    pub const ALL: [SamplerValue; 14] = [
        SamplerValue::Mask,
        SamplerValue::Masked,
        SamplerValue::Image,
        SamplerValue::Start,
        SamplerValue::Sample,
        SamplerValue::Epsilon(Conditioning::Unconditional),
        SamplerValue::Output(Conditioning::Unconditional),
        SamplerValue::Epsilon(Conditioning::Conditional),
        SamplerValue::Output(Conditioning::Conditional),
        SamplerValue::Epsilon(Conditioning::Guided),
        SamplerValue::Output(Conditioning::Guided),
        SamplerValue::Denoised,
        SamplerValue::Noise,
        SamplerValue::Latents,
    ];

    /// The name of the value's tap, which is also how its role is written.
    pub fn name(self) -> &'static str {
        match self {
            SamplerValue::Mask => "sampler.mask",
            SamplerValue::Masked => "sampler.masked",
            SamplerValue::Image => "sampler.image",
            SamplerValue::Start => "sampler.start",
            SamplerValue::Sample => "sampler.sample",
            SamplerValue::Epsilon(Conditioning::Unconditional) => "sampler.epsilon.unconditional",
            SamplerValue::Epsilon(Conditioning::Conditional) => "sampler.epsilon.conditional",
            SamplerValue::Epsilon(Conditioning::Guided) => "sampler.epsilon.guided",
            SamplerValue::Output(Conditioning::Unconditional) => "sampler.output.unconditional",
            SamplerValue::Output(Conditioning::Conditional) => "sampler.output.conditional",
            SamplerValue::Output(Conditioning::Guided) => "sampler.output.guided",
            SamplerValue::Denoised => "sampler.denoised",
            SamplerValue::Noise => "sampler.noise",
            SamplerValue::Latents => "sampler.latents",
        }
    }
}

impl From<Branch> for Conditioning {
    fn from(branch: Branch) -> Conditioning {
        match branch {
            Branch::Unconditional => Conditioning::Unconditional,
            Branch::Conditional => Conditioning::Conditional,
        }
    }
}

impl Part {
    /// The part of a model by the name of its folder in a checkpoint.
    pub fn of_name(name: &str) -> Part {
        match name {
            "text_encoder" | "text_encoder_2" => Part::TextEncoder,
            "unet" => Part::Unet,
            "vae" => Part::Vae,
            _ => Part::Other,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Part::TextEncoder => "text_encoder",
            Part::Unet => "unet",
            Part::Vae => "vae",
            Part::Other => "network",
        }
    }
}

impl ModuleValue {
    /// Whether the second axis is the heads of an attention.
    pub fn has_heads(self) -> bool {
        use ModuleValue::{Key, Probs, Query, Scores, Value};
        matches!(self, Query | Key | Value | Scores(_) | Probs(_))
    }

    /// Whether the tensor is an attention's scores or probabilities, which the fused kernel does not make.
    pub fn is_scores_or_probs(self) -> bool {
        matches!(self, ModuleValue::Scores(_) | ModuleValue::Probs(_))
    }

    /// Whether the last axis is the prompt's tokens: scores and probabilities of attention to the text.
    pub fn attends_to_text(self) -> bool {
        matches!(self, ModuleValue::Scores(Attends::Text) | ModuleValue::Probs(Attends::Text))
    }

    fn word(self) -> &'static str {
        match self {
            ModuleValue::Residual => "residual",
            ModuleValue::Query => "query",
            ModuleValue::Key => "key",
            ModuleValue::Value => "value",
            ModuleValue::Scores(Attends::Itself) => "scores",
            ModuleValue::Scores(Attends::Text) => "scores.text",
            ModuleValue::Probs(Attends::Itself) => "probs",
            ModuleValue::Probs(Attends::Text) => "probs.text",
            ModuleValue::Other => "other",
        }
    }

    const ALL: [ModuleValue; 9] = [
        ModuleValue::Residual,
        ModuleValue::Query,
        ModuleValue::Key,
        ModuleValue::Value,
        ModuleValue::Scores(Attends::Itself),
        ModuleValue::Scores(Attends::Text),
        ModuleValue::Probs(Attends::Itself),
        ModuleValue::Probs(Attends::Text),
        ModuleValue::Other,
    ];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Sampler(value) => f.write_str(value.name()),
            Role::Module(part, value) => write!(f, "{}.{}", part.word(), value.word()),
        }
    }
}

impl fmt::Display for SamplerValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that is not a [`Role`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("role {0}: expected a value of the sampler such as sampler.sample, or of a network such as unet.residual")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Role, UnknownRole> {
        if let Some(value) = SamplerValue::ALL.into_iter().find(|value| value.name() == text) {
            return Ok(Role::Sampler(value));
        }
        let parts = [Part::TextEncoder, Part::Unet, Part::Vae, Part::Other];
        let found = text.split_once('.').and_then(|(part, value)| {
            let part = parts.into_iter().find(|known| known.word() == part)?;
            Some(Role::Module(part, ModuleValue::ALL.into_iter().find(|known| known.word() == value)?))
        });
        found.ok_or_else(|| UnknownRole(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_is_read_as_it_is_written() {
        let parts = [Part::TextEncoder, Part::Unet, Part::Vae, Part::Other];
        let modules = parts.into_iter().flat_map(|part| ModuleValue::ALL.map(|value| Role::Module(part, value)));
        let all: Vec<Role> = SamplerValue::ALL.map(Role::Sampler).into_iter().chain(modules).collect();
        let written: std::collections::BTreeSet<String> = all.iter().map(Role::to_string).collect();
        assert_eq!((all.len(), written.len()), (14 + 4 * 9, all.len()), "no two roles are written alike");
        for role in all {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        for bad in ["", "sampler", "sampler.x", "unet", "unet.probs.pixels", "unet.residual ", "vae."] {
            assert!(bad.parse::<Role>().unwrap_err().to_string().starts_with(&format!("role {bad}: expected")));
        }
    }

    #[test]
    fn a_name_says_a_role() {
        for (name, role) in [
            ("sampler.output.guided", "sampler.output.guided"),
            ("sampler.unknown", "network.other"),
            ("unet.mid_block.out", "unet.residual"),
            ("vae.decoder.mid_block.out", "vae.other"),
            ("unet.down_blocks.0.out", "unet.other"),
            ("unet.down_blocks.0.resnets.1.out", "unet.residual"),
            ("unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.probs", "unet.probs.text"),
            ("unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.probs", "unet.probs"),
            ("unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.k", "unet.key"),
            ("unet.up_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.out", "unet.other"),
            ("unet.up_blocks.1.attentions.0.transformer_blocks.0.ff.out", "unet.residual"),
            ("text_encoder.text_model.encoder.layers.3.mlp.out", "text_encoder.residual"),
            ("text_encoder.text_model.encoder.layers.3.self_attn.scores", "text_encoder.scores"),
            ("text_encoder.text_model.embeddings.out", "text_encoder.other"),
            ("text_encoder_2.text_model.encoder.layers.3.self_attn.scores", "text_encoder.scores"),
            ("vae.encoder.mid_block.attentions.0.sum", "vae.residual"),
            ("a.secret", "network.other"),
            ("", "network.other"),
        ] {
            assert_eq!(Role::of_name(name).to_string(), role, "{name}");
        }
    }

    #[test]
    fn a_prediction_belongs_to_a_branch() {
        let branch = |name: &str| match name.parse() {
            Ok(Role::Sampler(value)) => value.branch(),
            _ => panic!("{name}"),
        };
        assert_eq!(branch("sampler.output.conditional"), Some(Branch::Conditional));
        assert_eq!(branch("sampler.epsilon.unconditional"), Some(Branch::Unconditional));
        assert_eq!((branch("sampler.output.guided"), branch("sampler.sample")), (None, None));
    }
}
