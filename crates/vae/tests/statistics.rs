//! Mean and standard deviation of the latents' channels.

use latentrace_nn::tch::{Device, Kind, Tensor};
use latentrace_nn::{Config, Result};
use latentrace_vae::{Statistics, VaeConfig};
use serde_json::{Value, json};

fn read(more: &[(&str, Value)]) -> Result<VaeConfig> {
    let mut config = json!({
        "block_out_channels": [32], "down_block_types": ["DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D"],
        "scaling_factor": 0.13025, "latents_mean": null, "latents_std": null, "latent_channels": 3,
    });
    more.iter().for_each(|(key, value)| config[*key] = value.clone());
    VaeConfig::read(&Config::parse("vae/config.json", &config.to_string()).unwrap())
}

/// Latents `[2, 3, 1, 2]` with different numbers.
fn latents() -> Tensor {
    (Tensor::arange(12, (Kind::Double, Device::Cpu)) * 0.7 - 3.0).view([2, 3, 1, 2])
}

#[test]
fn each_channel_has_its_own() {
    let config = read(&[("latents_mean", json!([0.5, -1.0, 2.0])), ("latents_std", json!([2.0, 0.25, 1.0]))]).unwrap();
    assert_eq!(config.statistics, Some(Statistics { mean: vec![0.5, -1.0, 2.0], deviation: vec![2.0, 0.25, 1.0] }));
    let normalised = config.normalised(&latents());
    for (index, (mean, deviation)) in [(0.5, 2.0), (-1.0, 0.25), (2.0, 1.0)].into_iter().enumerate() {
        for (image, column) in [(0, 0), (1, 1)] {
            let at = [image, index as i64, 0, column];
            let expected = (latents().double_value(&at) - mean) * 0.13025 / deviation;
            assert!((normalised.double_value(&at) - expected).abs() < 1e-12, "{at:?}");
        }
    }
    let back = config.restored(&normalised);
    assert!((back - latents()).abs().max().double_value(&[]) < 1e-12);
}

#[test]
fn without_them_there_is_the_factor_alone() {
    let config = read(&[]).unwrap();
    assert_eq!((config.statistics.as_ref(), config.force_upcast), (None, true), "the defaults of AutoencoderKL");
    let latents = latents().to_kind(Kind::Float);
    assert_eq!(config.normalised(&latents), &latents * 0.13025);
    assert_eq!(config.restored(&latents), &latents / 0.13025);
    assert!(!read(&[("force_upcast", json!(false))]).unwrap().force_upcast);
}

#[test]
fn what_does_not_fit_is_named() {
    let three = json!([1, 1, 1]);
    for (mean, deviation, key) in [
        (three.clone(), Value::Null, "latents_std"),
        (Value::Null, three.clone(), "latents_std"),
        (three.clone(), json!([1, 1]), "latents_std"),
        (three.clone(), json!([1, 0, 1]), "latents_std"),
        (json!([1, 1]), json!([1, 1]), "latents_mean"),
        (json!(1), three.clone(), "latents_mean"),
        (three, json!(["a", 1, 1]), "latents_std"),
    ] {
        let error = read(&[("latents_mean", mean), ("latents_std", deviation)]).unwrap_err().to_string();
        assert!(error.contains(&format!("vae/config.json: {key}: unsupported value")), "{error}");
    }
}
