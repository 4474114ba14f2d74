//! `unet/config.json`.

use crate::{AddedConfig, Depths};
use latentrace_nn::{Config, Result, Supported};

/// The values of `unet/config.json` that matter for a forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct UnetConfig {
    /// Input channels: 4, or 9 of an inpainting model.
    pub in_channels: i64,
    /// Output channels.
    pub out_channels: i64,
    /// Height and width of the latents that the model was trained on.
    pub sample_size: [i64; 2],
    /// Channels at each resolution, finest first.
    pub block_out_channels: Vec<i64>,
    /// Resnets of each down block; an up block has one more.
    pub layers_per_block: Vec<i64>,
    /// Which down blocks attend to the text, finest first.
    pub down_attends: Vec<bool>,
    /// Which up blocks attend to the text, coarsest first.
    pub up_attends: Vec<bool>,
    /// Attention heads at each resolution. The key is called `attention_head_dim` but means the number of heads.
    pub heads: Vec<i64>,
    /// The transformer blocks of each layer.
    pub transformers: Depths,
    /// Features of the text.
    pub cross_attention_dim: i64,
    /// What is added to the time embedding, if anything.
    pub added: Option<AddedConfig>,
    /// Groups of the norms.
    pub norm_num_groups: i64,
    /// Epsilon of the residual blocks' norms.
    pub norm_eps: f64,
    /// Whether the transformer's input and output projections are linear layers; otherwise 1x1 convolutions.
    pub use_linear_projection: bool,
    /// Whether attention scores are computed in f32.
    pub upcast_attention: bool,
    /// Whether the cosines come first in the time embedding.
    pub flip_sin_to_cos: bool,
    /// Subtracted from the number of frequencies of the time embedding.
    pub freq_shift: f64,
}

impl UnetConfig {
    /// Reads the configuration, with the defaults of diffusers' `UNet2DConditionModel`.
    ///
    /// # Errors
    /// A value is not supported.
    pub fn read(config: &Config) -> Result<UnetConfig> {
        config.check(READ, OTHERS)?;
        if config.has("mid_block_type") && config.value("mid_block_type").is_none() {
            // diffusers then builds no middle block; without the key it builds the usual one.
            return Err(config.unsupported("mid_block_type", "\"UNetMidBlock2DCrossAttn\", or no such key"));
        }
        let block_out_channels = config.sizes("block_out_channels")?;
        let blocks = block_out_channels.len();
        let heads_key =
            if config.value("num_attention_heads").is_some() { "num_attention_heads" } else { "attention_head_dim" };
        let layers_per_block = config.per_block("layers_per_block", blocks, Some(2))?;
        let read = UnetConfig {
            in_channels: config.size("in_channels", Some(4))?,
            out_channels: config.size("out_channels", Some(4))?,
            sample_size: sample_size(config)?,
            transformers: Depths::read(config, &layers_per_block)?,
            layers_per_block,
            added: AddedConfig::read(config)?,
            down_attends: attends(config, "down_block_types", "DownBlock2D", "CrossAttnDownBlock2D", blocks)?,
            up_attends: attends(config, "up_block_types", "UpBlock2D", "CrossAttnUpBlock2D", blocks)?,
            heads: config.per_block(heads_key, blocks, Some(8))?,
            cross_attention_dim: config.size("cross_attention_dim", Some(1280))?,
            norm_num_groups: config.size("norm_num_groups", Some(32))?,
            norm_eps: config.number("norm_eps", 1e-5)?,
            use_linear_projection: config.flag("use_linear_projection", false)?,
            upcast_attention: config.flag("upcast_attention", false)?,
            flip_sin_to_cos: config.flag("flip_sin_to_cos", true)?,
            freq_shift: config.number("freq_shift", 0.0)?,
            block_out_channels,
        };
        let channels = &read.block_out_channels;
        if channels.iter().any(|channels| channels % read.norm_num_groups != 0) {
            return Err(config.unsupported("norm_num_groups", "a divisor of every number in block_out_channels"));
        }
        if channels.iter().zip(&read.heads).any(|(channels, heads)| channels % heads != 0) {
            return Err(config.unsupported(heads_key, "numbers of heads that divide block_out_channels"));
        }
        if channels[0] % 2 != 0 {
            return Err(config.unsupported("block_out_channels", "an even first number, for sines and cosines"));
        }
        Ok(read)
    }
}

/// Height and width of the latents, from one number or two.
fn sample_size(config: &Config) -> Result<[i64; 2]> {
    if !config.value("sample_size").is_some_and(|value| value.is_array()) {
        return Ok([config.size("sample_size", Some(64))?; 2]);
    }
    let pair = config.sizes("sample_size")?.try_into();
    pair.map_err(|_| config.unsupported("sample_size", "a number, or a list of height and width"))
}

/// Which blocks attend to the text, by their class names.
fn attends(config: &Config, key: &str, without: &str, with: &str, blocks: usize) -> Result<Vec<bool>> {
    let names = config.words(key)?;
    let known = names.len() == blocks && names.iter().all(|name| name == without || name == with);
    if !known {
        let each = format!("{blocks} of {without}, {with}, one for each of block_out_channels");
        return Err(config.unsupported(key, &each));
    }
    Ok(names.iter().map(|name| name == with).collect())
}

const READ: &[&str] = &[
    "in_channels",
    "out_channels",
    "sample_size",
    "block_out_channels",
    "layers_per_block",
    "down_block_types",
    "up_block_types",
    "attention_head_dim",
    "num_attention_heads",
    "cross_attention_dim",
    "norm_num_groups",
    "norm_eps",
    "use_linear_projection",
    "upcast_attention",
    "flip_sin_to_cos",
    "freq_shift",
    "transformer_layers_per_block",
    "reverse_transformer_layers_per_block",
    "addition_embed_type",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
];

/// Keys that have no effect on a forward pass, and keys of which only some values are implemented.
const OTHERS: &[Supported] = &[
    ("act_fn", &["\"silu\"", "\"swish\""]),
    ("attention_type", &["\"default\""]),
    ("center_input_sample", &["false"]),
    ("class_embed_type", &["null"]),
    ("class_embeddings_concat", &["false"]),
    ("addition_embed_type_num_heads", &[]),
    // What diffusers' EMAModel adds when it saves.
    ("decay", &[]),
    ("inv_gamma", &[]),
    ("min_decay", &[]),
    ("optimization_step", &[]),
    ("power", &[]),
    ("update_after_step", &[]),
    ("use_ema_warmup", &[]),
    ("conv_in_kernel", &["3"]),
    ("conv_out_kernel", &["3"]),
    ("cross_attention_norm", &["null"]),
    ("downsample_padding", &["1"]),
    ("dropout", &[]),
    ("dual_cross_attention", &["false"]),
    ("encoder_hid_dim", &["null"]),
    ("encoder_hid_dim_type", &["null"]),
    ("mid_block_only_cross_attention", &["null", "false"]),
    ("mid_block_scale_factor", &["1", "1.0"]),
    ("mid_block_type", &["\"UNetMidBlock2DCrossAttn\""]),
    ("num_class_embeds", &["null"]),
    ("only_cross_attention", &["false"]),
    ("resnet_out_scale_factor", &["1", "1.0"]),
    ("resnet_skip_time_act", &["false"]),
    ("resnet_time_scale_shift", &["\"default\""]),
    ("time_cond_proj_dim", &["null"]),
    ("time_embedding_act_fn", &["null"]),
    ("time_embedding_dim", &["null"]),
    ("time_embedding_type", &["\"positional\""]),
    ("timestep_post_act", &["null"]),
];
