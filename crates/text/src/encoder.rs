//! CLIP's text encoder (`CLIPTextModel`), also with a projection (`CLIPTextModelWithProjection`).

use latentrace_nn::tch::{Kind, Tensor};
use latentrace_nn::{
    Activation, Attends, Attention, AttentionShape, Config, Embedding, LayerNorm, Linear, Pass, Result, Supported, Tap,
    Weights,
};

/// A pre-norm transformer over token and position embeddings with causal attention.
pub struct TextEncoder {
    token_embedding: Embedding,
    position_embedding: Embedding,
    layers: Vec<Layer>,
    final_layer_norm: LayerNorm,
    projection: Option<TextProjection>,
    taps: Taps,
}

struct Taps {
    embeddings: Tap,
    out: Tap,
}

/// `text_projection`, a linear layer without bias.
struct TextProjection {
    linear: Linear,
    out: Tap,
}

/// What an encoder is to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// Which of its hidden states.
    pub state: HiddenState,
    /// How many layers before that one are left out (`clip_skip`).
    pub skipped: usize,
    /// Where a text ends, for the pooled text.
    pub end: End,
}

/// A hidden state of the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HiddenState {
    /// The output of the last layer, after the final norm: Stable Diffusion 1.x and 2.x.
    Last,
    /// The output of the last layer but one, without the norm: SDXL.
    LastButOne,
}

/// Where a text ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At its largest id, as transformers finds it where the config says that `eos_token_id` is 2.
    Largest,
    /// At the first token with this id.
    Of(i64),
}

/// A text as the network gets it.
#[derive(Debug)]
pub struct Encoded {
    /// A hidden state, `[batch, tokens, hidden_size]`.
    pub features: Tensor,
    /// The token that ends the text, from the last layer, after the final norm and the projection, `[batch, width]`: of an encoder with
    /// a projection, with [`HiddenState::LastButOne`].
    pub pooled: Option<Tensor>,
}

/// The values of `text_encoder/config.json` that matter for a forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Features of a token.
    pub hidden_size: i64,
    /// Transformer layers.
    pub num_hidden_layers: i64,
    /// Attention heads of each layer.
    pub num_attention_heads: i64,
    /// Features of the hidden layer of the MLP.
    pub intermediate_size: i64,
    /// The activation of the MLP.
    pub hidden_act: Activation,
    /// The number of tokens of a prompt.
    pub max_position_embeddings: i64,
    /// The size of the vocabulary.
    pub vocab_size: i64,
    /// Epsilon of the norms.
    pub layer_norm_eps: f64,
    /// The projection of a pooled text, of `CLIPTextModelWithProjection`.
    pub projection: Option<Projection>,
}

/// The projection of the token that ends a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projection {
    /// Features of the pooled text, `projection_dim`.
    pub width: i64,
    /// `eos_token_id`: the id that ends a text, or 2, see [`End::Largest`].
    pub eos_token_id: i64,
}

impl Projection {
    /// Where a text ends, as transformers finds it.
    pub fn end(&self) -> End {
        if self.eos_token_id == 2 { End::Largest } else { End::Of(self.eos_token_id) }
    }
}

impl TextConfig {
    /// Reads the configuration, with the defaults of `CLIPTextConfig`.
    ///
    /// # Errors
    /// A value is not supported.
    pub fn read(config: &Config) -> Result<TextConfig> {
        // A whole CLIP model has the text encoder's values one level down.
        if let Some(text) = config.below("text_config") {
            return TextConfig::read(&text);
        }
        let hidden_size = config.size("hidden_size", Some(512))?;
        let heads = config.size("num_attention_heads", Some(8))?;
        if hidden_size % heads != 0 {
            return Err(config.unsupported("num_attention_heads", &format!("a divisor of hidden_size {hidden_size}")));
        }
        config.check(READ, OTHERS)?;
        Ok(TextConfig {
            hidden_size,
            num_hidden_layers: config.size("num_hidden_layers", Some(12))?,
            num_attention_heads: heads,
            intermediate_size: config.size("intermediate_size", Some(2048))?,
            hidden_act: Activation::from_config(config, "hidden_act")?,
            max_position_embeddings: config.size("max_position_embeddings", Some(77))?,
            vocab_size: config.size("vocab_size", Some(49408))?,
            layer_norm_eps: config.number("layer_norm_eps", 1e-5)?,
            projection: projection(config)?,
        })
    }
}

/// The projection, of a config that names the class with one.
fn projection(config: &Config) -> Result<Option<Projection>> {
    let classes = config.value("architectures").and_then(|list| list.as_array());
    if !classes.into_iter().flatten().any(|name| name == "CLIPTextModelWithProjection") {
        return Ok(None);
    }
    let width = config.size("projection_dim", Some(512))?;
    Ok(Some(Projection { width, eos_token_id: config.size("eos_token_id", Some(49407))? }))
}

const READ: &[&str] = &[
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "max_position_embeddings",
    "vocab_size",
    "layer_norm_eps",
    "projection_dim",
    "eos_token_id",
];

/// Keys that have no effect on a forward pass, and keys of which only some values are implemented.
const OTHERS: &[Supported] = &[
    ("model_type", &["\"clip_text_model\""]),
    ("architectures", &[]),
    ("attention_dropout", &[]),
    ("dropout", &[]),
    ("bos_token_id", &[]),
    ("pad_token_id", &[]),
    ("initializer_factor", &[]),
    ("initializer_range", &[]),
    ("torch_dtype", &[]),
    ("dtype", &[]),
    ("transformers_version", &[]),
    ("output_hidden_states", &[]),
    ("output_attentions", &[]),
    ("return_dict", &[]),
    ("gradient_checkpointing", &[]),
    ("chunk_size_feed_forward", &[]),
    ("id2label", &[]),
    ("label2id", &[]),
    ("problem_type", &[]),
    ("use_cache", &[]),
    // Every transformers config had these up to version 4, and of each its default.
    ("is_encoder_decoder", &["false"]),
    ("is_decoder", &["false"]),
    ("add_cross_attention", &["false"]),
    ("tie_encoder_decoder", &["false"]),
    ("pruned_heads", &["{}"]),
    ("tie_word_embeddings", &[]),
    ("torchscript", &[]),
    ("use_bfloat16", &["false"]),
    ("tf_legacy_loss", &[]),
    ("finetuning_task", &[]),
    ("task_specific_params", &[]),
    ("tokenizer_class", &[]),
    ("prefix", &[]),
    ("sep_token_id", &[]),
    ("decoder_start_token_id", &[]),
    ("cross_attention_hidden_size", &[]),
    // Values for the generation of text.
    ("bad_words_ids", &[]),
    ("begin_suppress_tokens", &[]),
    ("diversity_penalty", &[]),
    ("do_sample", &[]),
    ("early_stopping", &[]),
    ("encoder_no_repeat_ngram_size", &[]),
    ("exponential_decay_length_penalty", &[]),
    ("forced_bos_token_id", &[]),
    ("forced_eos_token_id", &[]),
    ("length_penalty", &[]),
    ("max_length", &[]),
    ("min_length", &[]),
    ("no_repeat_ngram_size", &[]),
    ("num_beam_groups", &[]),
    ("num_beams", &[]),
    ("num_return_sequences", &[]),
    ("output_scores", &[]),
    ("remove_invalid_values", &[]),
    ("repetition_penalty", &[]),
    ("return_dict_in_generate", &[]),
    ("suppress_tokens", &[]),
    ("temperature", &[]),
    ("top_k", &[]),
    ("top_p", &[]),
    ("typical_p", &[]),
];

impl TextEncoder {
    /// Reads the encoder from weights named as `CLIPTextModel` names them.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(weights: &Weights, config: &TextConfig) -> Result<TextEncoder> {
        // CLIPTextModel saves its weights below `text_model`, CLIPTextTransformer does not.
        let embedding = "embeddings.token_embedding.weight";
        let root = match weights.at("text_model") {
            below if below.has(embedding) || !weights.has(embedding) => below,
            _ => weights.clone(),
        };
        let (width, embeddings) = (config.hidden_size, root.at("embeddings"));
        let table = |name: &str, rows| Embedding::load(&embeddings.at(name), rows, width);
        let layers = root.at("encoder.layers");
        Ok(TextEncoder {
            token_embedding: table("token_embedding", config.vocab_size)?,
            position_embedding: table("position_embedding", config.max_position_embeddings)?,
            layers: (0..config.num_hidden_layers)
                .map(|index| Layer::load(&layers.at(index), config))
                .collect::<Result<_>>()?,
            final_layer_norm: LayerNorm::load(&root.at("final_layer_norm"), width, config.layer_norm_eps)?,
            projection: config
                .projection
                .as_ref()
                .map(|projection| TextProjection::load(&weights.at("text_projection"), width, projection.width))
                .transpose()?,
            taps: Taps { embeddings: embeddings.tap("out"), out: root.tap("out") },
        })
    }

    /// Token ids `[batch, tokens]` to `[batch, tokens, hidden_size]`.
    pub fn forward(&self, pass: &mut Pass, ids: &Tensor) -> Tensor {
        self.forward_without(pass, ids, 0)
    }

    /// [`TextEncoder::forward`] without the last `skipped` layers. The final norm is applied all the same; the taps of
    /// the layers left out do not pass.
    pub fn forward_without(&self, pass: &mut Pass, ids: &Tensor, skipped: usize) -> Tensor {
        let x = self.embed(pass, ids);
        let x = run(pass, &self.layers[..self.layers.len().saturating_sub(skipped)], x);
        pass.tap(&self.taps.out, self.final_layer_norm.forward(&x))
    }

    /// Token ids `[batch, tokens]` to the hidden state that is asked for, and to the pooled text where the encoder has a projection.
    /// The pooled text is always that of all layers.
    pub fn encode(&self, pass: &mut Pass, ids: &Tensor, encoding: Encoding) -> Encoded {
        let Encoding { state, skipped, end } = encoding;
        if state == HiddenState::Last {
            return Encoded { features: self.forward_without(pass, ids, skipped), pooled: None };
        }
        let (before, after) = self.layers.split_at(self.layers.len().saturating_sub(1 + skipped));
        let x = self.embed(pass, ids);
        let features = run(pass, before, x);
        let pooled = self.projection.as_ref().map(|projection| {
            let x = run(pass, after, features.shallow_clone());
            let normed = pass.tap(&self.taps.out, self.final_layer_norm.forward(&x));
            pass.tap(&projection.out, projection.linear.forward(&at_end(&normed, ids, end)))
        });
        Encoded { features, pooled }
    }

    /// Token ids `[batch, tokens]` to the input of the first layer, `[batch, tokens, hidden_size]`.
    fn embed(&self, pass: &mut Pass, ids: &Tensor) -> Tensor {
        let length = ids.size()[1];
        let embedded = self.token_embedding.forward(ids) + self.position_embedding.first(length);
        pass.tap(&self.taps.embeddings, embedded)
    }

    /// Adds the embeddings of tokens, `[tokens, hidden_size]`. Their ids begin with `first`, which follows the ids of
    /// the tokenizer; rows that the table has from there on belong to no token and are replaced.
    pub fn add(&mut self, first: i64, embeddings: &Tensor) {
        self.token_embedding.replace_from(first, embeddings);
    }

    /// The device that the encoder is on.
    pub fn device(&self) -> latentrace_nn::tch::Device {
        self.token_embedding.table().device()
    }

    /// The number format that the encoder runs in.
    pub fn kind(&self) -> Kind {
        self.token_embedding.table().kind()
    }
}

impl TextProjection {
    fn load(weights: &Weights, width: i64, projected: i64) -> Result<TextProjection> {
        Ok(TextProjection { linear: Linear::load(weights, width, projected, false)?, out: weights.tap("out") })
    }
}

/// `x` through some layers, one after the other.
fn run(pass: &mut Pass, layers: &[Layer], x: Tensor) -> Tensor {
    layers.iter().fold(x, |x, layer| layer.forward(pass, x))
}

/// Of `[batch, tokens, features]` the token that ends each text, `[batch, features]`. Without such a token it is the first, as in
/// transformers.
fn at_end(x: &Tensor, ids: &Tensor, end: End) -> Tensor {
    let place = match end {
        End::Largest => ids.argmax(1, true),
        End::Of(id) => ids.eq(id).to_kind(Kind::Int64).argmax(1, true), // the first of equal ones
    };
    let size = x.size();
    x.gather(1, &place.unsqueeze(-1).expand([size[0], 1, size[2]], false), false).squeeze_dim(1)
}

struct Layer {
    layer_norm1: LayerNorm,
    self_attn: Attention,
    layer_norm2: LayerNorm,
    fc1: Linear,
    activation: Activation,
    fc2: Linear,
    taps: LayerTaps,
}

struct LayerTaps {
    layer_norm1: Tap,
    layer_norm2: Tap,
    fc1: Tap,
    mlp: Tap,
    out: Tap,
}

impl Layer {
    fn load(weights: &Weights, config: &TextConfig) -> Result<Layer> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let shape = AttentionShape {
            width,
            context: width,
            attends: Attends::Itself,
            heads: config.num_attention_heads,
            bias: true,
            causal: true,
            upcast: false,
            names: AttentionShape::CLIP,
        };
        Ok(Layer {
            layer_norm1: LayerNorm::load(&weights.at("layer_norm1"), width, config.layer_norm_eps)?,
            self_attn: Attention::load(&weights.at("self_attn"), shape)?,
            layer_norm2: LayerNorm::load(&weights.at("layer_norm2"), width, config.layer_norm_eps)?,
            fc1: Linear::load(&weights.at("mlp.fc1"), width, inner, true)?,
            activation: config.hidden_act,
            fc2: Linear::load(&weights.at("mlp.fc2"), inner, width, true)?,
            taps: LayerTaps {
                layer_norm1: weights.tap("layer_norm1"),
                layer_norm2: weights.tap("layer_norm2"),
                fc1: weights.tap("mlp.fc1"),
                mlp: weights.residual_tap("mlp.out"),
                out: weights.residual_tap("out"),
            },
        })
    }

    fn forward(&self, pass: &mut Pass, x: Tensor) -> Tensor {
        let h = pass.tap(&self.taps.layer_norm1, self.layer_norm1.forward(&x));
        let y = &x + self.self_attn.forward(pass, &h, &h);
        let h = pass.tap(&self.taps.layer_norm2, self.layer_norm2.forward(&y));
        let h = pass.tap(&self.taps.fc1, self.fc1.forward(&h)); // [batch, tokens, intermediate_size]
        let added = self.fc2.forward(&self.activation.forward(&h));
        let y = &y + pass.tap_residual(&self.taps.mlp, added, || y.zeros_like());
        pass.tap_residual(&self.taps.out, y, || x.shallow_clone())
    }
}
