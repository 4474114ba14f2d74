//! Hidden states and pooled texts of an encoder with a projection.

use latentrace_nn::tch::{Device, IndexOp, Kind, Tensor, no_grad};
use latentrace_nn::{Config, Moment, Pass, Probe, Tap, Weights};
use latentrace_text::{Encoded, Encoding, End, HiddenState, Projection, TextConfig, TextEncoder};
use serde_json::json;
use std::collections::BTreeMap;

const LAYERS: usize = 3;

fn encoder(class: &str, eos: i64) -> TextEncoder {
    let config = json!({
        "architectures": [class], "hidden_size": 12, "num_attention_heads": 2, "num_hidden_layers": LAYERS,
        "intermediate_size": 16, "hidden_act": "gelu", "vocab_size": 20, "projection_dim": 5, "eos_token_id": eos,
    });
    let config = TextConfig::read(&Config::parse("text_encoder_2/config.json", &config.to_string()).unwrap()).unwrap();
    TextEncoder::load(&Weights::random("text_encoder_2", 3, Kind::Double, Device::Cpu), &config).unwrap()
}

/// Keeps every tensor.
#[derive(Default)]
struct All(BTreeMap<String, Tensor>);

impl Probe for All {
    fn wants(&self, _: &Tap, _: &Moment) -> bool {
        true
    }

    fn visit(&mut self, tap: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        self.0.insert(tap.name().into(), tensor.copy());
        tensor
    }
}

fn ids() -> Tensor {
    Tensor::from_slice2(&[[18i64, 4, 7, 19, 0, 0], [18, 5, 19, 19, 19, 19]])
}

fn inner(skipped: usize, end: End) -> Encoding {
    Encoding { state: HiddenState::LastButOne, skipped, end }
}

#[test]
fn the_hidden_state_is_the_output_of_the_last_layer_but_one_and_the_pooled_text_that_of_all() {
    no_grad(|| {
        let encoder = encoder("CLIPTextModelWithProjection", 2);
        let mut all = All::default();
        let whole = encoder.encode(&mut Pass::watched(&mut all), &ids(), inner(0, End::Largest));
        let layer = |index: usize| &all.0[&format!("text_encoder_2.text_model.encoder.layers.{index}.out")];
        assert_eq!(whole.features, *layer(LAYERS - 2));
        let normed = &all.0["text_encoder_2.text_model.out"];
        assert_eq!(*normed, encoder.forward(&mut Pass::silent(), &ids()));
        assert_eq!(all.0["text_encoder_2.text_projection.out"], *whole.pooled.as_ref().unwrap());
        assert_eq!(whole.pooled.as_ref().unwrap().size(), [2, 5]);

        let skipped = encoder.encode(&mut Pass::silent(), &ids(), inner(1, End::Largest));
        assert_eq!(skipped.features, *layer(LAYERS - 3));
        assert_eq!(skipped.pooled, whole.pooled, "no layer is left out of it");
        let embeddings = encoder.encode(&mut Pass::silent(), &ids(), inner(LAYERS - 1, End::Largest)).features;
        assert_eq!(embeddings, all.0["text_encoder_2.text_model.embeddings.out"]);
    });
}

#[test]
fn the_pooled_text_is_that_of_the_token_that_ends_it() {
    no_grad(|| {
        let encoder = encoder("CLIPTextModelWithProjection", 19);
        let pooled = |ids: &Tensor, end| encoder.encode(&mut Pass::silent(), ids, inner(0, end)).pooled.unwrap();
        assert_eq!(pooled(&ids(), End::Largest), pooled(&ids(), End::Of(19)), "19 is the largest id");
        // What follows the end has no influence on it, and what is before it has.
        let (other_after, other_before) = (ids().copy(), ids().copy());
        let _ = other_after.i((.., 4..)).fill_(3);
        let _ = other_before.i((.., 1)).fill_(3);
        let apart =
            |other: &Tensor| (pooled(other, End::Of(19)) - pooled(&ids(), End::Of(19))).abs().max().double_value(&[]);
        assert!(apart(&other_after) < 1e-12 && apart(&other_before) > 1e-3);
        // A token that was added after the end has a larger id.
        let added = ids().copy();
        let _ = added.i((0, 1)).fill_(19);
        let _ = added.i((0, 3)).fill_(17);
        assert_ne!(pooled(&added, End::Of(17)), pooled(&added, End::Largest));
        assert_eq!(pooled(&ids(), End::Of(11)), pooled(&ids(), End::Of(18)), "without an end it is the first");
    });
}

#[test]
fn the_config_says_whether_there_is_a_projection_and_where_a_text_ends() {
    let read = |json: serde_json::Value| {
        TextConfig::read(&Config::parse("config.json", &json.to_string()).unwrap()).unwrap().projection
    };
    assert_eq!(read(json!({ "architectures": ["CLIPTextModel"], "projection_dim": 768, "eos_token_id": 2 })), None);
    assert_eq!(read(json!({})), None);
    let clip =
        read(json!({ "architectures": ["CLIPTextModelWithProjection"], "projection_dim": 1280, "eos_token_id": 2 }));
    assert_eq!(clip, Some(Projection { width: 1280, eos_token_id: 2 }));
    assert_eq!(clip.unwrap().end(), End::Largest);
    let own = read(json!({ "architectures": ["CLIPTextModelWithProjection"] })).unwrap();
    assert_eq!((own.width, own.end()), (512, End::Of(49407)), "the defaults of CLIPTextConfig");
}

#[test]
fn without_a_projection_no_layer_after_the_hidden_state_is_computed() {
    no_grad(|| {
        let encoder = encoder("CLIPTextModel", 2);
        let mut all = All::default();
        let Encoded { pooled, .. } = encoder.encode(&mut Pass::watched(&mut all), &ids(), inner(0, End::Largest));
        assert!(pooled.is_none());
        let layers = all.0.keys().filter(|name| name.contains(".layers.") && name.ends_with("mlp.out")).count();
        assert_eq!((layers, all.0.contains_key("text_encoder_2.text_model.out")), (LAYERS - 1, false));
        let last = Encoding { state: HiddenState::Last, ..inner(1, End::Largest) };
        let of_last = encoder.encode(&mut Pass::silent(), &ids(), last).features;
        assert_eq!(of_last, encoder.forward_without(&mut Pass::silent(), &ids(), 1));
    });
}
