//! The configurations of published architectures, and of narrow ones.

use super::{Architecture, Synthetic};
use crate::checkpoint::Ids;
use crate::index::{SLOTS, Slot};
use crate::single::{SD1, SD2, SDXL, SDXL_REFINER, as_base, as_turbo};
use serde_json::{Value, json};

impl Architecture {
    fn known(self) -> Value {
        let mut known = match self {
            Architecture::Sd1 => SD1.clone(),
            Architecture::Sd2 | Architecture::Sd2Base => SD2.clone(),
            Architecture::Sdxl | Architecture::SdxlTurbo => SDXL.clone(),
            Architecture::SdxlRefiner => SDXL_REFINER.clone(),
        };
        match self {
            Architecture::Sd2Base => as_base(&mut known),
            Architecture::SdxlTurbo => as_turbo(&mut known),
            _ => (),
        }
        known
    }

    /// Which numbers the UNet takes besides a pooled text, of those that do.
    pub(super) fn ids(self) -> Option<Ids> {
        match self {
            Architecture::Sdxl | Architecture::SdxlTurbo => Some(Ids::Target),
            Architecture::SdxlRefiner => Some(Ids::Score),
            Architecture::Sd1 | Architecture::Sd2 | Architecture::Sd2Base => None,
        }
    }
}

/// Sines and cosines of a number in a narrow network of SDXL's kind.
const WAVES: i64 = 32;

impl Synthetic {
    /// The configurations of the parts and of the scheduler, with scaled widths.
    pub(super) fn configs(&self) -> Value {
        let mut known = self.architecture.known();
        if self.width < 1.0 {
            self.narrow(&mut known);
        }
        let latents = known["vae"]["latent_channels"].as_i64().unwrap_or(4);
        known["unet"]["in_channels"] = self.input.channels(latents).into();
        known
    }

    /// A width times the share, as a multiple of a step.
    fn scaled(&self, width: i64, step: i64) -> i64 {
        (((width as f64 * self.width) / step as f64).round() as i64).max(1) * step
    }

    fn narrow(&self, known: &mut Value) {
        // Multiples of 16 for the UNet and the VAE, so that 8 groups of a norm and 8 heads fit; of 64 for the texts.
        for part in ["unet", "vae"] {
            let widths = self.scaled_levels(&known[part]["block_out_channels"]);
            known[part]["block_out_channels"] = widths;
            known[part]["norm_num_groups"] = 8.into();
        }
        // An architecture that has as many heads as its levels are wide gets few of them.
        if let Some(levels) = known["unet"]["attention_head_dim"].as_array().map(Vec::len) {
            known["unet"]["attention_head_dim"] = [1, 2, 4, 4].into_iter().take(levels).collect();
        }
        let mut narrowed = |slot: &Slot| known.get_mut(slot.encoder).and_then(|text| self.narrow_text(text));
        let texts: Vec<i64> = SLOTS.iter().filter_map(&mut narrowed).collect();
        known["unet"]["cross_attention_dim"] = texts.iter().sum::<i64>().into();
        if let (Some(ids), Some(pooled)) = (self.architecture.ids(), texts.last()) {
            let unet = &mut known["unet"];
            unet["addition_time_embed_dim"] = WAVES.into();
            unet["projection_class_embeddings_input_dim"] = (pooled + ids.count() * WAVES).into();
            // 70 layers of transformers are most of SDXL.
            let depths = &mut unet["transformer_layers_per_block"];
            *depths = if depths.is_array() { json!([1, 2, 2]) } else { 2.into() };
        }
    }

    /// The channels of each level: the first one scaled, and the others as many times as wide as before.
    fn scaled_levels(&self, channels: &Value) -> Value {
        let channels: Vec<i64> = channels.as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
        let first = channels.first().copied().unwrap_or(1);
        channels.iter().map(|level| self.scaled(first, 16) * level / first).collect()
    }

    /// Narrows a text encoder, and returns its width; none if it has none. Those of SDXL get two layers.
    fn narrow_text(&self, text: &mut Value) -> Option<i64> {
        let width = self.scaled(text["hidden_size"].as_i64()?, 64);
        text["hidden_size"] = width.into();
        text["intermediate_size"] = (4 * width).into();
        text["num_attention_heads"] = (width / 64).into();
        if self.architecture.ids().is_some() {
            text["num_hidden_layers"] = 2.into();
            text["projection_dim"] = width.into();
        }
        Some(width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::UnetInput;
    use latentrace_nn::tch::Kind;
    use latentrace_nn::{Config, Weights};
    use latentrace_text::{TextConfig, TextEncoder};
    use latentrace_unet::{Unet, UnetConfig};
    use latentrace_vae::{Vae, VaeConfig};

    /// The configurations of an architecture at a share of its width.
    fn configs(architecture: Architecture, width: f64) -> Value {
        Synthetic { architecture, input: UnetInput::Sample, width, kind: Kind::Float, seed: 0 }.configs()
    }

    /// The numbers of tensors and of parameters that a part asks for. None is made.
    fn size(known: &Value, part: &str) -> (usize, i64) {
        let config = Config::parse(part, &known[part].to_string()).unwrap();
        let (weights, asked) = Weights::asked(part, Kind::Float);
        match part {
            "unet" => drop(Unet::load(&weights, &UnetConfig::read(&config).unwrap()).unwrap()),
            "vae" => drop(Vae::load(&weights, &VaeConfig::read(&config).unwrap()).unwrap()),
            _ => drop(TextEncoder::load(&weights, &TextConfig::read(&config).unwrap()).unwrap()),
        }
        let tensors = asked.take();
        (tensors.len(), tensors.values().map(|(shape, _)| shape.iter().product::<i64>()).sum())
    }

    #[test]
    fn the_full_architectures_of_sdxl_have_the_published_parameters() {
        for architecture in [Architecture::Sdxl, Architecture::SdxlTurbo] {
            let known = configs(architecture, 1.0);
            assert_eq!(size(&known, "unet"), (1680, 2_567_463_684), "{architecture:?}");
            assert_eq!(size(&known, "text_encoder"), (196, 123_060_480), "{architecture:?}");
            assert_eq!(size(&known, "text_encoder_2"), (517, 694_659_840), "{architecture:?}");
            assert_eq!(size(&known, "vae"), (248, 83_653_863), "{architecture:?}");
        }
        let refiner = configs(Architecture::SdxlRefiner, 1.0);
        assert_eq!(size(&refiner, "unet"), (1220, 2_259_526_660));
        assert_eq!(size(&refiner, "text_encoder_2"), (517, 694_659_840));
        assert_eq!(size(&refiner, "vae"), (248, 83_653_863));
        assert_eq!(refiner.get("text_encoder"), None);
    }

    #[test]
    fn every_scheduler_is_supported_and_that_of_turbo_is_ancestral_with_trailing_times() {
        for architecture in [Architecture::Sdxl, Architecture::SdxlTurbo, Architecture::SdxlRefiner] {
            let scheduler = configs(architecture, 1.0)["scheduler"].to_string();
            let config = latentrace_schedulers::Config::from_json(&scheduler).unwrap();
            let is_turbo = architecture == Architecture::SdxlTurbo;
            assert_eq!(config.class().to_string() == "EulerAncestralDiscreteScheduler", is_turbo, "{architecture:?}");
            assert_eq!(scheduler.contains("trailing"), is_turbo, "{architecture:?}");
        }
    }

    #[test]
    fn narrow_configurations_have_the_widths_that_their_parts_agree_on() {
        let unet = |architecture: Architecture, key: &str| configs(architecture, 0.05)["unet"][key].clone();
        for (architecture, channels, heads, features, added) in [
            (Architecture::Sd1, json!([16, 32, 64, 64]), json!(8), 64, Value::Null),
            (Architecture::Sd2, json!([16, 32, 64, 64]), json!([1, 2, 4, 4]), 64, Value::Null),
            (Architecture::Sdxl, json!([16, 32, 64]), json!([1, 2, 4]), 128, json!(64 + 6 * 32)),
            (Architecture::SdxlRefiner, json!([16, 32, 64, 64]), json!([1, 2, 4, 4]), 64, json!(64 + 5 * 32)),
        ] {
            let found = ["block_out_channels", "attention_head_dim"].map(|key| unet(architecture, key));
            assert_eq!(found, [channels, heads], "{architecture:?}");
            assert_eq!(unet(architecture, "cross_attention_dim"), features, "{architecture:?}");
            assert_eq!(unet(architecture, "projection_class_embeddings_input_dim"), added, "{architecture:?}");
        }
        let half = configs(Architecture::Sdxl, 0.5);
        assert_eq!(half["unet"]["cross_attention_dim"], 384 + 640);
        assert_eq!(half["unet"]["block_out_channels"], json!([160, 320, 640]));
    }
}
