//! A run with NaN or infinite numbers makes no picture, and its error names the first tap with such a tensor.

use latentrace_pipeline::nn::tch::{self, Tensor};
use latentrace_pipeline::nn::{Moment, Pass, Probe, Tap};
use latentrace_pipeline::{Device, Dtype, Error, Model, Options, Outcome, Picture, Request, Result, Stage, Start};
use std::path::{Path, PathBuf};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/networks/sd1")
}

fn open(folder: &Path, dtype: Dtype) -> Model {
    tch::set_num_threads(1); // more threads than one only wait for each other on networks this small
    Model::open(folder, Options { device: Device::Cpu, dtype, ..Options::default() }).unwrap()
}

/// The tiny checkpoint, with one weight tensor of a part multiplied by a factor.
fn scaled(part: &str, tensor: &str, factor: f64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for part in ["", "unet", "vae", "text_encoder", "tokenizer", "scheduler"] {
        std::fs::create_dir_all(folder.path().join(part)).unwrap();
        for entry in std::fs::read_dir(golden().join(part)).unwrap().flatten().filter(|entry| entry.path().is_file()) {
            std::fs::copy(entry.path(), folder.path().join(part).join(entry.file_name())).unwrap();
        }
    }
    let file = if part == "text_encoder" { "model" } else { "diffusion_pytorch_model" };
    let path = folder.path().join(part).join(format!("{file}.safetensors"));
    let mut found = 0;
    let scale = |(name, value): (String, Tensor)| {
        let chosen = name == tensor;
        found += usize::from(chosen);
        (name, if chosen { value * factor } else { value })
    };
    let tensors: Vec<(String, Tensor)> = Tensor::read_safetensors(&path).unwrap().into_iter().map(scale).collect();
    assert_eq!(found, 1, "{tensor}");
    Tensor::write_safetensors(&tensors, &path).unwrap();
    folder
}

fn request(model: &Model) -> Request {
    Request { steps: 2, guidance: 3.0.into(), ..model.request("a cat", 5) }
}

/// A run from a picture, so that all three networks run, and both the encoder and the decoder of the VAE.
fn run(model: &Model, pass: &mut Pass) -> Result<Outcome> {
    let request = request(model);
    let (width, height) = (request.size.width as usize, request.size.height as usize);
    let picture = Picture { width, height, pixels: (0..3 * width * height).map(|byte| byte as u8).collect() };
    model.go_on(&request, &Start::Picture { strength: 1.0, picture: picture.into() }, &[], pass)
}

fn named(failed: Option<Error>) -> (String, Stage, String) {
    let failed = failed.expect("numbers that are not finite");
    let text = failed.to_string();
    let Error::NotFinite { tap, stage, hint, .. } = failed else { panic!("{text}") };
    assert!(text.starts_with(&tap) && text.contains("the first such tensor of the run\nhint: "), "{text}");
    (tap, stage, hint.into())
}

/// The tensor that NaN is put into, and the first tap with NaN.
const PLANTED: [(&str, &str, &str); 5] = [
    (
        "text_encoder",
        "text_model.encoder.layers.1.self_attn.q_proj.bias",
        "text_encoder.text_model.encoder.layers.1.self_attn.q",
    ),
    ("text_encoder", "text_model.final_layer_norm.weight", "text_encoder.text_model.out"),
    ("vae", "encoder.mid_block.resnets.0.conv1.bias", "vae.encoder.mid_block.resnets.0.conv1"),
    ("unet", "mid_block.resnets.1.conv1.bias", "unet.mid_block.resnets.1.conv1"),
    ("vae", "decoder.conv_norm_out.bias", "vae.decoder.conv_norm_out"),
];

#[test]
fn nan_in_the_weights_of_any_network_is_named_by_the_first_tap() {
    for (part, tensor, tap) in PLANTED {
        let folder = scaled(part, tensor, f64::NAN);
        let model = open(folder.path(), Dtype::F32);
        let (found, stage, _) = named(run(&model, &mut Pass::silent()).err());
        assert_eq!(found, tap, "{tensor}");
        let right = match tap.split('.').nth(1) {
            Some("text_model") => stage == Stage::Text,
            Some("encoder") => stage == Stage::Encoding,
            Some("decoder") => stage == Stage::Decoding,
            _ => matches!(stage, Stage::Call { call: 0, .. }),
        };
        assert!(right, "{tensor}: {stage:?}");
        // In a batch nothing passes the networks' taps, but the search does.
        if !tensor.starts_with("encoder.mid") {
            let request = request(&model);
            let images = [(&request, &Start::Noise), (&request, &Start::Noise)];
            let (found, ..) = named(model.run_together(&images, &mut Pass::silent()).err());
            assert_eq!(found, tap, "{tensor}, together");
        }
    }
}

#[test]
fn an_overflow_in_f16_has_a_hint() {
    let sites = [
        ("vae", "decoder.conv_in.weight", "vae.decoder."),
        ("vae", "encoder.conv_in.weight", "vae.encoder."),
        ("unet", "conv_in.weight", "unet."),
    ];
    for (part, tensor, begin) in sites {
        let folder = scaled(part, tensor, 1e6);
        run(&open(folder.path(), Dtype::F32), &mut Pass::silent()).unwrap();
        let model = open(folder.path(), Dtype::F16);
        let (tap, _, hint) = named(run(&model, &mut Pass::silent()).err());
        assert!(tap.starts_with(begin) && hint.contains("f16 holds nothing above 65504"), "{tensor}: {tap}, {hint}");
    }
}

#[test]
fn in_a_batch_only_frames_that_are_not_finite_are_errors() {
    let model = open(&golden(), Dtype::F32);
    let latents = run(&model, &mut Pass::silent()).unwrap().latents;
    let all = Tensor::cat(&[&latents, &(&latents * f64::NAN), &latents], 0);
    let mut frames = model.decode_all(&all);
    let (tap, stage, _) = named(frames.remove(1).err());
    assert_eq!((tap.as_str(), stage), ("vae.decoder.latents", Stage::Decoding));
    assert!(frames.into_iter().all(|frame| frame.is_ok()));
}

/// Multiplies what passes one tap at one call.
struct Scale(&'static str, usize, f64);

impl Probe for Scale {
    fn wants(&self, tap: &Tap, moment: &Moment) -> bool {
        tap.name() == self.0 && moment.call == self.1
    }
    fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        tensor * self.2
    }
}

#[test]
fn an_edit_of_the_sampler_is_named_by_its_own_tap() {
    let model = open(&golden(), Dtype::F32);
    let last = Start::Noise.plan(&request(&model)).unwrap().calls() - 1;
    for (tap, call) in [
        ("sampler.image", 0),
        ("sampler.start", 0),
        ("sampler.sample", 0),
        ("sampler.sample", 1),
        ("sampler.epsilon.conditional", 1),
        ("sampler.epsilon.guided", 1),
        ("sampler.output.unconditional", 0),
        ("sampler.latents", last),
        ("unet.conv_in", 1),
    ] {
        let mut probe = Scale(tap, call, f64::INFINITY);
        let failed = run(&model, &mut Pass::watched(&mut probe)).err();
        assert_eq!(named(failed).0, tap, "call {call}");
    }
}

#[test]
fn a_network_is_named_even_if_an_edit_hides_its_nan() {
    let folder = scaled("unet", "conv_out.bias", f64::NAN);
    let model = open(folder.path(), Dtype::F32);
    struct Zeros;
    impl Probe for Zeros {
        fn wants(&self, tap: &Tap, _: &Moment) -> bool {
            tap.name().starts_with("sampler.output.")
        }
        fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
            tensor.zeros_like()
        }
    }
    let failed = model.run(&request(&model), &mut Pass::watched(&mut Zeros)).err();
    assert_eq!(named(failed).0, "unet.out");
}
