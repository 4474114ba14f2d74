//! The names of diffusers in those of the original repositories: the other direction of `names`.

use super::names::{UNET, VAE};
use latentrace_nn::Piece;

/// The original name of a UNet tensor. `layers` are those of a block; `attends` says which up blocks attend.
pub(crate) fn unet(name: &str, layers: usize, attends: &[bool]) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    let rest = |from: usize| parts[from..].join(".");
    let number = |text: &str| text.parse::<usize>().ok();
    let original = match parts.as_slice() {
        ["time_embedding", "linear_1", ..] => format!("time_embed.0.{}", rest(2)),
        ["time_embedding", "linear_2", ..] => format!("time_embed.2.{}", rest(2)),
        ["add_embedding", "linear_1", ..] => format!("label_emb.0.0.{}", rest(2)),
        ["add_embedding", "linear_2", ..] => format!("label_emb.0.2.{}", rest(2)),
        ["conv_in", ..] => format!("input_blocks.0.0.{}", rest(1)),
        ["conv_norm_out", ..] => format!("out.0.{}", rest(1)),
        ["conv_out", ..] => format!("out.2.{}", rest(1)),
        ["down_blocks", block, kind, layer, ..] => {
            let first = 1 + number(block)? * (layers + 1);
            match *kind {
                "downsamplers" => format!("input_blocks.{}.0.op.{}", first + layers, rest(5)),
                "resnets" => format!("input_blocks.{}.0.{}", first + number(layer)?, resnet(&rest(4))),
                "attentions" => format!("input_blocks.{}.1.{}", first + number(layer)?, rest(4)),
                _ => return None,
            }
        }
        ["mid_block", "resnets", "0", ..] => format!("middle_block.0.{}", resnet(&rest(3))),
        ["mid_block", "attentions", "0", ..] => format!("middle_block.1.{}", rest(3)),
        ["mid_block", "resnets", "1", ..] => format!("middle_block.2.{}", resnet(&rest(3))),
        ["up_blocks", block, kind, layer, ..] => {
            let (block, first) = (number(block)?, number(block)? * (layers + 1));
            match *kind {
                // The upsampler follows the attention, if the block has any.
                "upsamplers" => {
                    let module = if *attends.get(block)? { 2 } else { 1 };
                    format!("output_blocks.{}.{module}.conv.{}", first + layers, rest(5))
                }
                "resnets" => format!("output_blocks.{}.0.{}", first + number(layer)?, resnet(&rest(4))),
                "attentions" => format!("output_blocks.{}.1.{}", first + number(layer)?, rest(4)),
                _ => return None,
            }
        }
        _ => return None,
    };
    Some(format!("{UNET}{original}"))
}

fn resnet(name: &str) -> String {
    const NAMES: [(&str, &str); 6] = [
        ("norm1.", "in_layers.0."),
        ("conv1.", "in_layers.2."),
        ("time_emb_proj.", "emb_layers.1."),
        ("norm2.", "out_layers.0."),
        ("conv2.", "out_layers.3."),
        ("conv_shortcut.", "skip_connection."),
    ];
    replaced(name, &NAMES)
}

/// The original name of a VAE tensor. `blocks` are those of the decoder.
pub(crate) fn vae(name: &str, blocks: usize) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    let rest = |from: usize| parts[from..].join(".");
    let original = match parts.as_slice() {
        ["quant_conv" | "post_quant_conv", ..] => name.to_owned(),
        [side, "conv_in" | "conv_out", ..] => format!("{side}.{}", rest(1)),
        [side, "conv_norm_out", ..] => format!("{side}.norm_out.{}", rest(2)),
        [side, "mid_block", "resnets", "0", ..] => format!("{side}.mid.block_1.{}", shortcut(&rest(4))),
        [side, "mid_block", "resnets", "1", ..] => format!("{side}.mid.block_2.{}", shortcut(&rest(4))),
        [side, "mid_block", "attentions", "0", ..] => format!("{side}.mid.attn_1.{}", attention(&rest(4))),
        ["encoder", "down_blocks", block, "resnets", layer, ..] => {
            format!("encoder.down.{block}.block.{layer}.{}", shortcut(&rest(5)))
        }
        ["encoder", "down_blocks", block, "downsamplers", ..] => {
            format!("encoder.down.{block}.downsample.conv.{}", rest(6))
        }
        ["decoder", "up_blocks", block, kind, layer, ..] => {
            let block = blocks.checked_sub(1 + block.parse::<usize>().ok()?)?;
            match *kind {
                "resnets" => format!("decoder.up.{block}.block.{layer}.{}", shortcut(&rest(5))),
                "upsamplers" => format!("decoder.up.{block}.upsample.conv.{}", rest(6)),
                _ => return None,
            }
        }
        _ => return None,
    };
    Some(format!("{VAE}{original}"))
}

fn shortcut(name: &str) -> String {
    replaced(name, &[("conv_shortcut.", "nin_shortcut.")])
}

fn attention(name: &str) -> String {
    const NAMES: [(&str, &str); 5] =
        [("group_norm.", "norm."), ("to_q.", "q."), ("to_k.", "k."), ("to_v.", "v."), ("to_out.0.", "proj_out.")];
    replaced(name, &NAMES)
}

fn replaced(name: &str, names: &[(&str, &str)]) -> String {
    let replace = |(ours, original): &(&str, &str)| Some(format!("{original}{}", name.strip_prefix(ours)?));
    names.iter().find_map(replace).unwrap_or_else(|| name.to_owned())
}

/// The original name of a tensor of CLIP's text encoder, after its prefix. The name below `text_model.` is that of the
/// original.
pub(crate) fn clip(name: &str) -> String {
    let below = name.strip_prefix("text_model.").unwrap_or(name);
    format!("text_model.{below}")
}

/// The original name of a tensor of OpenCLIP's text encoder, after its prefix, and which piece of the original it is:
/// queries, keys and values are stored as one, and the projection is stored transposed.
pub(crate) fn open_clip(name: &str) -> Option<(String, Piece)> {
    let below = name.strip_prefix("text_model.").unwrap_or(name);
    let parts: Vec<&str> = below.split('.').collect();
    Some(match parts.as_slice() {
        ["embeddings", "token_embedding", "weight"] => ("token_embedding.weight".into(), Piece::Whole),
        ["embeddings", "position_embedding", "weight"] => ("positional_embedding".into(), Piece::Whole),
        ["final_layer_norm", kind] => (format!("ln_final.{kind}"), Piece::Whole),
        ["text_projection", "weight"] => ("text_projection".into(), Piece::Transposed),
        ["encoder", "layers", layer, module @ ..] => {
            let (module, piece) = match module {
                ["layer_norm1", kind] => (format!("ln_1.{kind}"), Piece::Whole),
                ["layer_norm2", kind] => (format!("ln_2.{kind}"), Piece::Whole),
                ["mlp", "fc1", kind] => (format!("mlp.c_fc.{kind}"), Piece::Whole),
                ["mlp", "fc2", kind] => (format!("mlp.c_proj.{kind}"), Piece::Whole),
                ["self_attn", "out_proj", kind] => (format!("attn.out_proj.{kind}"), Piece::Whole),
                ["self_attn", projection, kind] => {
                    let index = ["q_proj", "k_proj", "v_proj"].iter().position(|name| name == projection)?;
                    (format!("attn.in_proj_{kind}"), Piece::Rows { index, of: 3 })
                }
                _ => return None,
            };
            (format!("transformer.resblocks.{layer}.{module}"), piece)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;
    use latentrace_nn::tch::Kind;
    use latentrace_nn::{Config, Named, Weights};
    use latentrace_text::{TextConfig, TextEncoder};
    use latentrace_unet::{Unet, UnetConfig};
    use latentrace_vae::{Vae, VaeConfig};

    /// The names of the tensors that the networks of an original model ask for, by the names of the parts, and the
    /// number of parameters of each.
    fn asked(json: &str) -> Vec<(String, Vec<String>, i64)> {
        let known: serde_json::Value = serde_json::from_str(json).unwrap();
        let networks = known.as_object().unwrap().iter().filter(|(part, _)| *part != "scheduler");
        let of = |(part, json): (&String, &serde_json::Value)| {
            let config = Config::parse(part, &json.to_string()).unwrap();
            let (weights, asked) = Weights::asked(part, Kind::Float);
            match part.as_str() {
                "unet" => drop(Unet::load(&weights, &UnetConfig::read(&config).unwrap()).unwrap()),
                "vae" => drop(Vae::load(&weights, &VaeConfig::read(&config).unwrap()).unwrap()),
                _ => drop(TextEncoder::load(&weights, &TextConfig::read(&config).unwrap()).unwrap()),
            }
            let asked = asked.take();
            let parameters = asked.values().map(|(shape, _)| shape.iter().product::<i64>()).sum();
            (part.clone(), asked.into_keys().collect(), parameters)
        };
        networks.map(of).collect()
    }

    /// The name that the original of a name leads back to.
    fn there_and_back(part: &str, name: &str, attends: &[bool]) -> Vec<Named> {
        match part {
            "unet" => names::one(names::unet(unet(name, 2, attends).unwrap().strip_prefix(UNET).unwrap(), 2)),
            "vae" => names::one(names::vae(vae(name, 4).unwrap().strip_prefix(VAE).unwrap(), 4)),
            _ => names::open_clip(&open_clip(name).unwrap().0, 32, part == "text_encoder_2"),
        }
    }

    /// The tensors and the parameters of each part, as diffusers and transformers count them in the published
    /// checkpoints.
    type Counted = &'static [(&'static str, usize, i64)];

    const SD1: Counted = &[("text_encoder", 196, 123_060_480), ("unet", 686, 859_520_964), ("vae", 248, 83_653_863)];
    const SD2: Counted = &[("text_encoder", 372, 340_387_840), ("unet", 686, 865_910_724), ("vae", 248, 83_653_863)];
    const SDXL: Counted = &[
        ("text_encoder", 196, 123_060_480),
        ("text_encoder_2", 517, 694_659_840),
        ("unet", 1680, 2_567_463_684),
        ("vae", 248, 83_653_863),
    ];
    const REFINER: Counted =
        &[("text_encoder_2", 517, 694_659_840), ("unet", 1220, 2_259_526_660), ("vae", 248, 83_653_863)];

    #[test]
    fn every_tensor_of_the_published_models_has_an_original_name_that_leads_back() {
        let four = [false, true, true, true];
        for (json, counted, attends) in [
            (include_str!("sd1.json"), SD1, &four[..]),
            (include_str!("sd2.json"), SD2, &four),
            (include_str!("sdxl.json"), SDXL, &[true, true, false]),
            (include_str!("sdxl-refiner.json"), REFINER, &[false, true, true, false]),
        ] {
            let asked = asked(json);
            let found: Vec<_> = asked.iter().map(|(part, names, sum)| (part.as_str(), names.len(), *sum)).collect();
            assert_eq!(found, counted);
            for (part, names, _) in &asked {
                for name in names {
                    let back = there_and_back(part, name, attends);
                    assert_eq!(back.iter().filter(|named| named.name == *name).count(), 1, "{part}: {name}: {back:?}");
                    if part == "text_encoder" {
                        assert_eq!(names::clip(&clip(name))[0].name, *name);
                    }
                }
            }
        }
    }

    #[test]
    fn no_two_tensors_have_the_same_original_name() {
        for (json, attends) in [
            (include_str!("sdxl.json"), &[true, true, false][..]),
            (include_str!("sdxl-refiner.json"), &[false, true, true, false]),
        ] {
            for (part, all, _) in asked(json) {
                let original = |name: &String| match part.as_str() {
                    "unet" => (unet(name, 2, attends).unwrap(), Piece::Whole),
                    "vae" => (vae(name, 4).unwrap(), Piece::Whole),
                    _ => open_clip(name).unwrap(),
                };
                let mut originals: Vec<String> = all.iter().map(|name| format!("{:?}", original(name))).collect();
                originals.sort();
                originals.dedup();
                assert_eq!(originals.len(), all.len(), "{part}");
            }
        }
    }
}
