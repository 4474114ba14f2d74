//! The names of diffusers in those of the original repositories: the other direction of `names`.

use super::names::{CLIP, OPEN_CLIP, UNET, VAE};

/// The original name of a UNet tensor. `layers` are those of a block; `attends` says which up blocks attend.
pub(crate) fn unet(name: &str, layers: usize, attends: &[bool]) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    let rest = |from: usize| parts[from..].join(".");
    let number = |text: &str| text.parse::<usize>().ok();
    let original = match parts.as_slice() {
        ["time_embedding", "linear_1", ..] => format!("time_embed.0.{}", rest(2)),
        ["time_embedding", "linear_2", ..] => format!("time_embed.2.{}", rest(2)),
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

/// The original name of a tensor of CLIP's text encoder. The name below `text_model.` is that of the original.
pub(crate) fn clip(name: &str) -> String {
    let below = name.strip_prefix("text_model.").unwrap_or(name);
    format!("{CLIP}text_model.{below}")
}

/// The original name of a tensor of OpenCLIP's text encoder, and which of three parts of it this is, if it was stored
/// fused: queries, keys and values.
pub(crate) fn open_clip(name: &str) -> Option<(String, Option<usize>)> {
    let below = name.strip_prefix("text_model.").unwrap_or(name);
    let parts: Vec<&str> = below.split('.').collect();
    let (original, third) = match parts.as_slice() {
        ["embeddings", "token_embedding", "weight"] => ("token_embedding.weight".into(), None),
        ["embeddings", "position_embedding", "weight"] => ("positional_embedding".into(), None),
        ["final_layer_norm", kind] => (format!("ln_final.{kind}"), None),
        ["encoder", "layers", layer, module @ ..] => {
            let (module, third) = match module {
                ["layer_norm1", kind] => (format!("ln_1.{kind}"), None),
                ["layer_norm2", kind] => (format!("ln_2.{kind}"), None),
                ["mlp", "fc1", kind] => (format!("mlp.c_fc.{kind}"), None),
                ["mlp", "fc2", kind] => (format!("mlp.c_proj.{kind}"), None),
                ["self_attn", "out_proj", kind] => (format!("attn.out_proj.{kind}"), None),
                ["self_attn", projection, kind] => {
                    let third = ["q_proj", "k_proj", "v_proj"].iter().position(|name| name == projection)?;
                    (format!("attn.in_proj_{kind}"), Some(third))
                }
                _ => return None,
            };
            (format!("transformer.resblocks.{layer}.{module}"), third)
        }
        _ => return None,
    };
    Some((format!("{OPEN_CLIP}{original}"), third))
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;
    use latentrace_nn::tch::Kind;
    use latentrace_nn::{Config, Weights};

    /// The names of a family's tensors, and the number of parameters of each network.
    fn names_of(json: &str) -> ([Vec<String>; 3], [i64; 3]) {
        let known: serde_json::Value = serde_json::from_str(json).unwrap();
        let config = |part: &str| Config::parse(part, &known[part].to_string()).unwrap();
        let of = |part: &str, load: &dyn Fn(&Weights)| {
            let (weights, asked) = Weights::asked(part, Kind::Float);
            load(&weights);
            let asked = asked.take();
            let parameters = asked.values().map(|(shape, _)| shape.iter().product::<i64>()).sum::<i64>();
            (asked.into_keys().collect::<Vec<String>>(), parameters)
        };
        let text = latentrace_text::TextConfig::read(&config("text_encoder")).unwrap();
        let unet = latentrace_unet::UnetConfig::read(&config("unet")).unwrap();
        let vae = latentrace_vae::VaeConfig::read(&config("vae")).unwrap();
        let parts = [
            of("text_encoder", &|weights| drop(latentrace_text::TextEncoder::load(weights, &text).unwrap())),
            of("unet", &|weights| drop(latentrace_unet::Unet::load(weights, &unet).unwrap())),
            of("vae", &|weights| drop(latentrace_vae::Vae::load(weights, &vae).unwrap())),
        ];
        let parameters = parts.each_ref().map(|(_, count)| *count);
        (parts.map(|(names, _)| names), parameters)
    }

    #[test]
    fn every_tensor_of_both_families_has_an_original_name_that_leads_back() {
        // The parameters are those that diffusers and transformers count in the published checkpoints.
        let sd1 = (include_str!("sd1.json"), [196, 686, 248], [123_060_480, 859_520_964, 83_653_863]);
        let sd2 = (include_str!("sd2.json"), [372, 686, 248], [340_387_840, 865_910_724, 83_653_863]);
        for (json, tensors, parameters) in [sd1, sd2] {
            let ([text, unet_names, vae_names], counted) = names_of(json);
            assert_eq!([text.len(), unet_names.len(), vae_names.len()], tensors);
            assert_eq!(counted, parameters);
            for name in &unet_names {
                let original = unet(name, 2, &[false, true, true, true]).unwrap_or_else(|| panic!("{name}"));
                assert_eq!(names::unet(original.strip_prefix(UNET).unwrap(), 2).as_ref(), Some(name));
            }
            for name in &vae_names {
                let original = vae(name, 4).unwrap_or_else(|| panic!("{name}"));
                assert_eq!(names::vae(original.strip_prefix(VAE).unwrap(), 4).as_ref(), Some(name));
            }
            for name in &text {
                let (original, third) = open_clip(name).unwrap_or_else(|| panic!("{name}"));
                let back = names::open_clip(original.strip_prefix(OPEN_CLIP).unwrap(), 23);
                assert_eq!(&back[third.unwrap_or(0)].name, name);
                assert_eq!(&names::clip(clip(name).strip_prefix(CLIP).unwrap())[0].name, name);
            }
        }
    }
}
