//! The names of the original repositories (CompVis, Stability AI), and those of diffusers.
//!
//! diffusers numbers blocks and the layers in them; the original numbers all layers of the way down, and of the way up,
//! in one sequence. The mapping needs the number of layers in a block and, for the VAE, the number of blocks.

use latentrace_nn::{Named, Piece};

/// A name for a whole tensor.
fn whole(name: String) -> Vec<Named> {
    vec![Named { name, piece: Piece::Whole }]
}

/// The beginning of every UNet tensor.
pub(crate) const UNET: &str = "model.diffusion_model.";
/// The beginning of every VAE tensor in a file with other parts.
pub(crate) const VAE: &str = "first_stage_model.";
/// The beginning of every tensor of CLIP's text encoder, as in Stable Diffusion 1.x.
pub(crate) const CLIP: &str = "cond_stage_model.transformer.";
/// The beginning of every tensor of OpenCLIP's text encoder, as in Stable Diffusion 2.x.
pub(crate) const OPEN_CLIP: &str = "cond_stage_model.model.";
/// The beginning of every tensor of SDXL's first text encoder, which is CLIP's.
pub(crate) const XL_CLIP: &str = "conditioner.embedders.0.transformer.";
/// The beginning of every tensor of SDXL's second text encoder, which is OpenCLIP's.
pub(crate) const XL_OPEN_CLIP: &str = "conditioner.embedders.1.model.";
/// The beginning of every tensor of the only text encoder of SDXL's refiner, which is OpenCLIP's.
pub(crate) const REFINER_OPEN_CLIP: &str = "conditioner.embedders.0.model.";
/// The beginning of the moving averages of the UNet's tensors, whose names follow without full stops.
pub(crate) const EMA: &str = "model_ema.";

/// The name of a UNet tensor in diffusers. `name` is the original name after [`UNET`]; `layers` are those of a block.
pub(crate) fn unet(name: &str, layers: usize) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    let rest = |from: usize| parts[from..].join(".");
    Some(match parts.as_slice() {
        ["time_embed", "0", ..] => format!("time_embedding.linear_1.{}", rest(2)),
        ["time_embed", "2", ..] => format!("time_embedding.linear_2.{}", rest(2)),
        ["label_emb", "0", "0", ..] => format!("add_embedding.linear_1.{}", rest(3)),
        ["label_emb", "0", "2", ..] => format!("add_embedding.linear_2.{}", rest(3)),
        ["input_blocks", "0", "0", ..] => format!("conv_in.{}", rest(3)),
        ["out", "0", ..] => format!("conv_norm_out.{}", rest(2)),
        ["out", "2", ..] => format!("conv_out.{}", rest(2)),
        ["input_blocks", place, module, ..] => {
            let place = place.parse::<usize>().ok()?.checked_sub(1)?;
            let (block, layer) = (place / (layers + 1), place % (layers + 1));
            match (*module, parts.get(3)) {
                ("0", Some(&"op")) => format!("down_blocks.{block}.downsamplers.0.conv.{}", rest(4)),
                ("0", _) => format!("down_blocks.{block}.resnets.{layer}.{}", resnet(&rest(3))),
                ("1", _) => format!("down_blocks.{block}.attentions.{layer}.{}", rest(3)),
                _ => return None,
            }
        }
        ["middle_block", "0", ..] => format!("mid_block.resnets.0.{}", resnet(&rest(2))),
        ["middle_block", "1", ..] => format!("mid_block.attentions.0.{}", rest(2)),
        ["middle_block", "2", ..] => format!("mid_block.resnets.1.{}", resnet(&rest(2))),
        ["output_blocks", place, module, ..] => {
            let place = place.parse::<usize>().ok()?;
            let (block, layer) = (place / (layers + 1), place % (layers + 1));
            match (*module, parts.get(3)) {
                ("1" | "2", Some(&"conv")) => format!("up_blocks.{block}.upsamplers.0.conv.{}", rest(4)),
                ("0", _) => format!("up_blocks.{block}.resnets.{layer}.{}", resnet(&rest(3))),
                ("1", _) => format!("up_blocks.{block}.attentions.{layer}.{}", rest(3)),
                _ => return None,
            }
        }
        _ => return None,
    })
}

/// The name of a tensor in a residual block of the UNet.
fn resnet(name: &str) -> String {
    const NAMES: [(&str, &str); 6] = [
        ("in_layers.0.", "norm1."),
        ("in_layers.2.", "conv1."),
        ("emb_layers.1.", "time_emb_proj."),
        ("out_layers.0.", "norm2."),
        ("out_layers.3.", "conv2."),
        ("skip_connection.", "conv_shortcut."),
    ];
    replaced(name, &NAMES)
}

/// The name of a VAE tensor in diffusers. `name` is the original name after [`VAE`]; `blocks` are those of the decoder.
pub(crate) fn vae(name: &str, blocks: usize) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    let rest = |from: usize| parts[from..].join(".");
    Some(match parts.as_slice() {
        ["quant_conv" | "post_quant_conv", ..] => name.to_owned(),
        [side @ ("encoder" | "decoder"), "conv_in" | "conv_out", ..] => format!("{side}.{}", rest(1)),
        [side @ ("encoder" | "decoder"), "norm_out", ..] => format!("{side}.conv_norm_out.{}", rest(2)),
        [side @ ("encoder" | "decoder"), "mid", module, ..] => match *module {
            "block_1" => format!("{side}.mid_block.resnets.0.{}", shortcut(&rest(3))),
            "block_2" => format!("{side}.mid_block.resnets.1.{}", shortcut(&rest(3))),
            "attn_1" => format!("{side}.mid_block.attentions.0.{}", attention(&rest(3))),
            _ => return None,
        },
        ["encoder", "down", block, "block", layer, ..] => {
            format!("encoder.down_blocks.{block}.resnets.{layer}.{}", shortcut(&rest(5)))
        }
        ["encoder", "down", block, "downsample", "conv", ..] => {
            format!("encoder.down_blocks.{block}.downsamplers.0.conv.{}", rest(5))
        }
        ["decoder", "up", block, module, ..] => {
            // The original counts the decoder's blocks from the finest, diffusers from the coarsest.
            let block = blocks.checked_sub(1 + block.parse::<usize>().ok()?)?;
            match (*module, parts.get(4)) {
                ("block", Some(layer)) => format!("decoder.up_blocks.{block}.resnets.{layer}.{}", shortcut(&rest(5))),
                ("upsample", Some(&"conv")) => format!("decoder.up_blocks.{block}.upsamplers.0.conv.{}", rest(5)),
                _ => return None,
            }
        }
        _ => return None,
    })
}

fn shortcut(name: &str) -> String {
    replaced(name, &[("nin_shortcut.", "conv_shortcut.")])
}

/// The name of a tensor in the VAE's attention. Its 1x1 convolutions are read as linear layers.
fn attention(name: &str) -> String {
    const NAMES: [(&str, &str); 5] =
        [("norm.", "group_norm."), ("q.", "to_q."), ("k.", "to_k."), ("v.", "to_v."), ("proj_out.", "to_out.0.")];
    replaced(name, &NAMES)
}

/// A name with its beginning replaced, by the first entry that fits.
fn replaced(name: &str, names: &[(&str, &str)]) -> String {
    let replace = |(original, new): &(&str, &str)| Some(format!("{new}{}", name.strip_prefix(original)?));
    names.iter().find_map(replace).unwrap_or_else(|| name.to_owned())
}

/// The names of a tensor of OpenCLIP in `CLIPTextModel`. `name` is the original name after its prefix. OpenCLIP stores
/// queries, keys and values as one tensor, and its projection transposed. Layers from `layers` on are not used, nor is
/// the projection of an encoder that does not project: Stable Diffusion 2.x takes the output of the last layer but one.
pub(crate) fn open_clip(name: &str, layers: usize, projects: bool) -> Vec<Named> {
    let parts: Vec<&str> = name.split('.').collect();
    let root = "text_model";
    match parts.as_slice() {
        ["token_embedding", "weight"] => whole(format!("{root}.embeddings.token_embedding.weight")),
        ["positional_embedding"] => whole(format!("{root}.embeddings.position_embedding.weight")),
        ["ln_final", kind] => whole(format!("{root}.final_layer_norm.{kind}")),
        ["text_projection"] if projects => {
            vec![Named { name: "text_projection.weight".into(), piece: Piece::Transposed }]
        }
        ["transformer", "resblocks", layer, module @ ..] if layer.parse().is_ok_and(|layer: usize| layer < layers) => {
            let at = format!("{root}.encoder.layers.{layer}");
            match module {
                ["ln_1", kind] => whole(format!("{at}.layer_norm1.{kind}")),
                ["ln_2", kind] => whole(format!("{at}.layer_norm2.{kind}")),
                ["mlp", "c_fc", kind] => whole(format!("{at}.mlp.fc1.{kind}")),
                ["mlp", "c_proj", kind] => whole(format!("{at}.mlp.fc2.{kind}")),
                ["attn", "out_proj", kind] => whole(format!("{at}.self_attn.out_proj.{kind}")),
                ["attn", fused @ ("in_proj_weight" | "in_proj_bias")] => {
                    let kind = fused.trim_start_matches("in_proj_");
                    let piece = |(index, projection): (usize, &&str)| Named {
                        name: format!("{at}.self_attn.{projection}_proj.{kind}"),
                        piece: Piece::Rows { index, of: 3 },
                    };
                    ["q", "k", "v"].iter().enumerate().map(piece).collect()
                }
                _ => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

/// The name of a tensor of CLIP's text encoder. `name` is the original name after its prefix.
pub(crate) fn clip(name: &str) -> Vec<Named> {
    whole(if name.starts_with("text_model.") { name.to_owned() } else { format!("text_model.{name}") })
}

pub(crate) fn one(name: Option<String>) -> Vec<Named> {
    name.map_or_else(Vec::new, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corners_of_the_unet() {
        for (original, expected) in [
            ("time_embed.2.bias", "time_embedding.linear_2.bias"),
            ("label_emb.0.0.weight", "add_embedding.linear_1.weight"),
            ("label_emb.0.2.bias", "add_embedding.linear_2.bias"),
            (
                "input_blocks.8.1.transformer_blocks.9.attn1.to_q.weight",
                "down_blocks.2.attentions.1.transformer_blocks.9.attn1.to_q.weight",
            ),
            ("input_blocks.0.0.weight", "conv_in.weight"),
            ("input_blocks.1.0.in_layers.0.weight", "down_blocks.0.resnets.0.norm1.weight"),
            ("input_blocks.3.0.op.weight", "down_blocks.0.downsamplers.0.conv.weight"),
            ("input_blocks.4.0.skip_connection.bias", "down_blocks.1.resnets.0.conv_shortcut.bias"),
            (
                "input_blocks.8.1.transformer_blocks.0.attn2.to_k.weight",
                "down_blocks.2.attentions.1.transformer_blocks.0.attn2.to_k.weight",
            ),
            ("input_blocks.11.0.out_layers.3.weight", "down_blocks.3.resnets.1.conv2.weight"),
            ("middle_block.1.proj_in.weight", "mid_block.attentions.0.proj_in.weight"),
            ("output_blocks.2.1.conv.weight", "up_blocks.0.upsamplers.0.conv.weight"),
            ("output_blocks.5.2.conv.bias", "up_blocks.1.upsamplers.0.conv.bias"),
            ("output_blocks.11.1.norm.weight", "up_blocks.3.attentions.2.norm.weight"),
            ("out.2.bias", "conv_out.bias"),
        ] {
            assert_eq!(unet(original, 2).unwrap(), expected);
        }
        assert_eq!(unet("label_emb.0.1.weight", 2), None);
        assert_eq!(unet("input_blocks.x.0.op.weight", 2), None);
    }

    #[test]
    fn the_corners_of_the_vae() {
        for (original, expected) in [
            ("encoder.down.1.block.0.nin_shortcut.weight", "encoder.down_blocks.1.resnets.0.conv_shortcut.weight"),
            ("encoder.down.2.downsample.conv.bias", "encoder.down_blocks.2.downsamplers.0.conv.bias"),
            ("decoder.up.0.block.2.conv1.weight", "decoder.up_blocks.3.resnets.2.conv1.weight"),
            ("decoder.up.3.upsample.conv.weight", "decoder.up_blocks.0.upsamplers.0.conv.weight"),
            ("decoder.mid.attn_1.proj_out.weight", "decoder.mid_block.attentions.0.to_out.0.weight"),
            ("decoder.norm_out.weight", "decoder.conv_norm_out.weight"),
            ("post_quant_conv.bias", "post_quant_conv.bias"),
        ] {
            assert_eq!(vae(original, 4).unwrap(), expected);
        }
        assert_eq!(vae("decoder.up.9.block.0.conv1.weight", 4), None);
        assert_eq!(vae("loss.logvar", 4), None);
    }

    #[test]
    fn the_fused_projection_has_three_names_and_the_last_layer_none() {
        let names = open_clip("transformer.resblocks.3.attn.in_proj_bias", 23, false);
        assert_eq!(names[2].name, "text_model.encoder.layers.3.self_attn.v_proj.bias");
        assert_eq!(names[2].piece, Piece::Rows { index: 2, of: 3 });
        assert!(open_clip("transformer.resblocks.23.ln_1.weight", 23, false).is_empty());
    }

    #[test]
    fn the_projection_of_a_text_is_read_transposed_by_an_encoder_that_projects() {
        let whole = Named { name: "text_projection.weight".into(), piece: Piece::Transposed };
        assert_eq!(open_clip("text_projection", 32, true), [whole]);
        assert!(open_clip("text_projection", 23, false).is_empty());
        assert!(open_clip("logit_scale", 32, true).is_empty());
    }
}
