//! What SDXL adds to the time embedding: a pooled text, and numbers such as the size of the picture.

use crate::UnetConfig;
use crate::time::Waves;
use latentrace_nn::tch::Tensor;
use latentrace_nn::{Config, Linear, Pass, Result, Tap, Weights};

/// `addition_embed_type: text_time`: a pooled text and numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedConfig {
    /// Features of the pooled text and the waves together, `projection_class_embeddings_input_dim`.
    pub input: i64,
    /// Sines and cosines of a number, `addition_time_embed_dim`.
    pub waves: i64,
}

/// What a network with [`AddedConfig`] adds to the time embedding (Podell et al. 2023, section 2.2).
#[derive(Clone, Copy, Debug)]
pub struct Added<'a> {
    /// The pooled text, `[batch, features]`.
    pub pooled: &'a Tensor,
    /// The numbers in f32, `[batch, numbers]`: for SDXL the original height and width, the top and left of the crop, and the height
    /// and width of the target, in pixels.
    pub ids: &'a Tensor,
}

impl AddedConfig {
    /// The keys of `unet/config.json` that say it.
    pub(crate) const KEYS: [&'static str; 3] =
        ["addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim"];

    pub(crate) fn read(config: &Config) -> Result<Option<AddedConfig>> {
        let [kind, waves, input] = AddedConfig::KEYS;
        match config.word(kind, "")?.as_str() {
            "" => match [waves, input].into_iter().find(|key| config.value(key).is_some()) {
                Some(key) => Err(config.unsupported(key, &format!("null where {kind} is null"))),
                None => Ok(None),
            },
            "text_time" => {
                let read = AddedConfig { input: config.size(input, None)?, waves: config.size(waves, None)? };
                if read.waves % 2 != 0 {
                    return Err(config.unsupported(waves, "an even number, for sines and cosines"));
                }
                if read.input <= read.waves {
                    return Err(config.unsupported(input, "the features of the pooled text and of the waves together"));
                }
                Ok(Some(read))
            }
            _ => Err(config.unsupported(kind, "null, \"text_time\"")),
        }
    }

    /// How many numbers there are beside a pooled text of so many features, if they fill the input.
    pub fn numbers(&self, pooled: i64) -> Option<i64> {
        let rest = self.input - pooled;
        (rest > 0 && rest % self.waves == 0).then_some(rest / self.waves)
    }
}

/// The MLP on the pooled text and the waves of the numbers (`add_time_proj` and `add_embedding`).
pub(crate) struct AddedEmbedding {
    waves: Waves,
    linear_1: Linear,
    linear_2: Linear,
    taps: Taps,
}

struct Taps {
    ids: Tap,
    pooled: Tap,
    waves: Tap,
    out: Tap,
}

impl AddedEmbedding {
    /// `weights` are those of the whole network.
    pub(crate) fn load(weights: &Weights, config: &UnetConfig, added: &AddedConfig) -> Result<AddedEmbedding> {
        let (own, width) = (weights.at("add_embedding"), 4 * config.block_out_channels[0]);
        Ok(AddedEmbedding {
            waves: Waves::new(weights, config, added.waves),
            linear_1: Linear::load(&own.at("linear_1"), added.input, width, true)?,
            linear_2: Linear::load(&own.at("linear_2"), width, width, true)?,
            taps: Taps {
                ids: weights.tap("time_ids"),
                pooled: own.tap("text"),
                waves: own.tap("waves"),
                out: own.tap("out"),
            },
        })
    }

    /// `[batch, 4 * width]`, to be added to the time embedding.
    pub(crate) fn forward(&self, pass: &mut Pass, added: Added) -> Tensor {
        let ids = pass.tap(&self.taps.ids, added.ids.shallow_clone()); // [batch, numbers]
        let waves = self.waves.of(&ids).flatten(1, 2); // [batch, numbers * waves]
        let waves = pass.tap(&self.taps.waves, waves);
        let pooled = pass.tap(&self.taps.pooled, added.pooled.shallow_clone());
        let input = Tensor::cat(&[pooled, waves], 1);
        pass.tap(&self.taps.out, self.linear_2.forward(&self.linear_1.forward(&input).silu()))
    }
}
