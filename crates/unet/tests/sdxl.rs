//! The networks of SDXL: read from the published configurations, and what the added conditioning changes.

use latentrace_nn::tch::{Device, Kind, Tensor, manual_seed, no_grad};
use latentrace_nn::{Config, Pass, Weights};
use latentrace_unet::{Added, AddedConfig, Condition, Depths, Unet, UnetConfig};
use serde_json::{Value, json};

/// The values of `stabilityai/stable-diffusion-xl-base-1.0`, with the keys that differ from the defaults.
fn base() -> Value {
    json!({
        "act_fn": "silu", "addition_embed_type": "text_time", "addition_embed_type_num_heads": 64,
        "addition_time_embed_dim": 256, "attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280],
        "center_input_sample": false, "class_embed_type": null, "conv_in_kernel": 3, "cross_attention_dim": 2048,
        "cross_attention_norm": null, "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "downsample_padding": 1, "dual_cross_attention": false, "encoder_hid_dim": null, "flip_sin_to_cos": true, "freq_shift": 0,
        "in_channels": 4, "layers_per_block": 2, "mid_block_only_cross_attention": null, "mid_block_scale_factor": 1,
        "mid_block_type": "UNetMidBlock2DCrossAttn", "norm_eps": 1e-05, "norm_num_groups": 32, "num_attention_heads": null,
        "num_class_embeds": null, "only_cross_attention": false, "out_channels": 4, "projection_class_embeddings_input_dim": 2816,
        "resnet_out_scale_factor": 1.0, "resnet_skip_time_act": false, "resnet_time_scale_shift": "default", "sample_size": 128,
        "time_cond_proj_dim": null, "time_embedding_type": "positional", "timestep_post_act": null,
        "transformer_layers_per_block": [1, 2, 10], "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "upcast_attention": null, "use_linear_projection": true
    })
}

/// Those of `stabilityai/stable-diffusion-xl-refiner-1.0` that differ from the base.
fn refiner() -> Value {
    let mut config = base();
    for (key, value) in [
        ("attention_head_dim", json!([6, 12, 24, 24])),
        ("block_out_channels", json!([384, 768, 1536, 1536])),
        ("cross_attention_dim", json!(1280)),
        ("down_block_types", json!(["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"])),
        ("projection_class_embeddings_input_dim", json!(2560)),
        ("transformer_layers_per_block", json!(4)),
        ("up_block_types", json!(["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"])),
    ] {
        config[key] = value;
    }
    config
}

fn read(config: &Value) -> latentrace_nn::Result<UnetConfig> {
    UnetConfig::read(&Config::parse("unet/config.json", &config.to_string()).unwrap())
}

/// The numbers of tensors and of parameters.
fn size(config: &Value) -> (usize, i64) {
    let (weights, asked) = Weights::asked("unet", Kind::Float);
    Unet::load(&weights, &read(config).unwrap()).unwrap();
    let tensors = asked.take();
    (tensors.len(), tensors.values().map(|(shape, _)| shape.iter().product::<i64>()).sum())
}

#[test]
fn base_and_refiner_have_the_published_tensors() {
    assert_eq!(size(&base()), (1680, 2_567_463_684));
    assert_eq!(size(&refiner()), (1220, 2_259_526_660));
    let added = read(&base()).unwrap().added.unwrap();
    assert_eq!((added.numbers(1280), added.numbers(1000)), (Some(6), None));
    assert_eq!(read(&refiner()).unwrap().added.unwrap().numbers(1280), Some(5));
}

#[test]
fn what_belongs_together_is_given_together() {
    let with = |key: &str, value: Value| {
        let mut config = base();
        config[key] = value;
        read(&config).unwrap_err().to_string()
    };
    for (key, value) in [
        ("addition_embed_type", json!("text")),
        ("addition_time_embed_dim", json!(null)),
        ("addition_time_embed_dim", json!(255)),
        ("projection_class_embeddings_input_dim", json!(256)),
        ("transformer_layers_per_block", json!([1, 2])),
    ] {
        let error = with(key, value);
        assert!(error.contains(&format!("{key}: unsupported value")), "{error}");
    }
    let alone = with("addition_embed_type", json!(null));
    assert!(alone.contains("addition_time_embed_dim: unsupported value 256"), "{alone}");
}

/// A small network of random weights, and its configuration.
fn small() -> (UnetConfig, Unet) {
    let mut config = base();
    for (key, value) in [
        ("attention_head_dim", json!([1, 2, 4])),
        ("block_out_channels", json!([8, 12, 16])),
        ("cross_attention_dim", json!(6)),
        ("norm_num_groups", json!(4)),
        ("addition_time_embed_dim", json!(8)),
        ("projection_class_embeddings_input_dim", json!(5 + 6 * 8)),
        ("transformer_layers_per_block", json!([1, 2, 3])),
    ] {
        config[key] = value;
    }
    let config = read(&config).unwrap();
    let unet = Unet::load(&Weights::random("unet", 1, Kind::Float, Device::Cpu), &config).unwrap();
    (config, unet)
}

#[test]
fn pooled_text_and_numbers_change_the_output_of_their_own_row() {
    let (config, unet) = small();
    assert_eq!(
        config.transformers,
        Depths {
            down: vec![vec![1; 2], vec![2; 2], vec![3; 2]],
            middle: 3,
            up: vec![vec![3; 3], vec![2; 3], vec![1; 3]]
        }
    );
    assert_eq!(config.added, Some(AddedConfig { input: 53, waves: 8 }));
    no_grad(|| {
        manual_seed(1);
        let of = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
        let (sample, text, pooled) = (of(&[3, 4, 8, 8]), of(&[3, 7, 6]), of(&[3, 5]));
        let ids = Tensor::from_slice(&[1024f32, 768.0, 0.0, 64.0, 1024.0, 1024.0]).repeat([3, 1]);
        let times = Tensor::from_slice(&[500f32]);
        let forward = |pooled: &Tensor, ids: &Tensor| {
            let condition = Condition { text: &text, added: Some(Added { pooled, ids }) };
            unet.forward(&mut Pass::silent(), &sample, &times, condition)
        };
        let whole = forward(&pooled, &ids);
        let away = |other: &Tensor, row: i64| (whole.get(row) - other.get(row)).abs().max().double_value(&[]);
        let changed = |tensor: &Tensor| {
            let tensor = tensor.copy();
            let _ = tensor.get(1).fill_(512.0);
            tensor
        };
        for other in [forward(&changed(&pooled), &ids), forward(&pooled, &changed(&ids))] {
            assert!(away(&other, 1) > 1e-3, "the row whose input changed");
            assert!(away(&other, 0) < 1e-6 && away(&other, 2) < 1e-6, "and no other");
        }
        let without = unet.forward(&mut Pass::silent(), &sample, &times, &text);
        assert!(away(&without, 0) > 1e-3, "without what is added, the network has the time alone");
    });
}
