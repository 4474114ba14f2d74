//! Images that are run in one batch, compared with the same images run alone.

use latentrace_nn::tch::{Kind, Tensor};
use latentrace_nn::{Moment, Pass, Probe, Tap};
use latentrace_pipeline::{Guidance, Model, Options, Outputs, Picture, Request, Start, Window, evaluations, replay};
use std::collections::HashMap;
use std::path::Path;

fn model() -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/models/shapes");
    Model::open(&folder, Options::default()).unwrap()
}

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[]) / b.abs().max().double_value(&[])
}

/// How many rows the network computes for images that are run in one batch.
fn count(model: &Model, images: &[(&Request, &Start)]) -> usize {
    let prepared: Vec<_> =
        images.iter().map(|(request, start)| model.prepare((*request).clone(), (*start).clone()).unwrap()).collect();
    evaluations(&prepared.iter().collect::<Vec<_>>())
}

/// A picture of the model's size, half in a shade of red.
fn photo(model: &Model, shade: u8) -> Picture {
    let side = (latents(model)[3] * model.checkpoint.vae.config.factor()) as usize;
    let pixels =
        (0..side * side).flat_map(|pixel| if pixel % side < side / 2 { [shade, 40, 40] } else { [250, 250, 250] });
    Picture { width: side, height: side, pixels: pixels.collect() }
}

/// The shape of the model's latents.
fn latents(model: &Model) -> [i64; 4] {
    let [height, width] = model.checkpoint.unet.config.sample_size;
    [1, model.checkpoint.unet.config.in_channels, height, width]
}

#[test]
fn a_batch_agrees_with_its_images_alone_and_computes_the_predicted_rows() {
    let model = model();
    let base = Request { steps: 6, ..model.request("a large red circle on the left, white background", 193) };
    let weight = |guidance: f64| Request { guidance: guidance.into(), ..base.clone() };
    let other = Request { seed: 7, negative: "a blue square".into(), ..weight(4.0) };
    let window = |low| Guidance::Window(Window { weight: 3.0, sigma: [low, 2.0], outside: 1.0 });
    for sampler in ["pndm", "ddpm", "lms"] {
        let of =
            |request: &Request| Request { scheduler: base.scheduler.with_class(sampler).unwrap(), ..request.clone() };
        let requests: Vec<Request> = [
            weight(0.0),
            weight(1.0),
            weight(4.0),
            weight(4.0),
            other.clone(),
            Request { guidance: window(0.0), ..base.clone() },
            Request { guidance: window(0.3), ..base.clone() },
        ]
        .iter()
        .map(of)
        .collect();
        let images: Vec<(&Request, &Start)> = requests.iter().map(|request| (request, &Start::Noise)).collect();
        let together = model.run_together(&images, &mut Pass::silent()).unwrap();
        assert_eq!(together.evaluations, count(&model, &images));
        for (request, outcome) in requests.iter().zip(&together.outcomes) {
            let alone = model.run(request, &mut Pass::silent()).unwrap();
            // The batch size changes the order of sums.
            let found = apart(&outcome.latents, &alone.latents);
            assert!(found < 1e-4, "{sampler}, guidance {}: {found:.1e}", request.guidance);
            assert_eq!(outcome.tokens, alone.tokens);
        }
        assert!(together.outcomes[2].latents.equal(&together.outcomes[3].latents), "twins");
    }
}

#[test]
fn rows_are_counted_exactly() {
    let model = model();
    let request = |guidance: f64, seed| Request {
        steps: 5,
        guidance: guidance.into(),
        scheduler: model.scheduler.with_class("lms").unwrap(),
        ..model.request("a cat", seed)
    };
    let count = |requests: &[Request]| {
        let images: Vec<(&Request, &Start)> = requests.iter().map(|request| (request, &Start::Noise)).collect();
        count(&model, &images)
    };
    assert_eq!(count(&[request(4.0, 1)]), 10, "two texts at five calls");
    assert_eq!(count(&[request(1.0, 1)]), 5, "a weight of 1 needs no unconditional half");
    assert_eq!(count(&[request(0.0, 1)]), 5);
    assert_eq!(count(&[request(4.0, 1), request(4.0, 1)]), 10, "twins");
    assert_eq!(count(&[request(4.0, 1), request(4.0, 2)]), 20);
    assert_eq!(count(&[request(4.0, 1), request(8.0, 1)]), 2 + 4 * 4, "the first call is shared");
    assert_eq!(count(&[request(1.0, 1), request(4.0, 1)]), 2 + 4 * 3);
    let same = Request { negative: "a cat".into(), ..request(4.0, 1) };
    assert_eq!(count(&[same]), 5, "both texts are one");
}

/// Keeps the sampler's values of every image.
#[derive(Default)]
struct Kept(HashMap<(usize, usize, String), Tensor>);

impl Probe for Kept {
    fn wants(&self, tap: &Tap, _: &Moment) -> bool {
        tap.name().starts_with("sampler.")
    }

    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        let copy = tensor.copy();
        let before = self.0.insert((moment.image, moment.call, tap.name().into()), copy);
        assert!(before.is_none(), "{} passed twice at call {} of image {}", tap.name(), moment.call, moment.image);
        tensor
    }
}

#[test]
fn each_image_passes_its_own_taps_and_only_what_was_computed() {
    let model = model();
    let of = |guidance: f64| Request { steps: 4, guidance: guidance.into(), ..model.request("a red circle", 3) };
    let requests = [of(1.0), of(4.0), of(0.0)];
    let images: Vec<(&Request, &Start)> = requests.iter().map(|request| (request, &Start::Noise)).collect();
    let mut kept = Kept::default();
    let together = model.run_together(&images, &mut Pass::watched(&mut kept)).unwrap();
    let has = |image, tap: &str| kept.0.contains_key(&(image, 2, tap.to_string()));
    let halves = |image| (has(image, "sampler.output.unconditional"), has(image, "sampler.output.conditional"));
    assert_eq!([halves(0), halves(1), halves(2)], [(false, true), (true, true), (true, false)]);
    for (image, outcome) in together.outcomes.iter().enumerate() {
        let last = outcome.plan.calls() - 1;
        assert!(kept.0[&(image, last, "sampler.latents".to_string())].equal(&outcome.latents));
        assert_eq!(kept.0[&(image, 1, "sampler.sample".to_string())].size(), latents(&model));
    }
}

#[test]
fn an_edit_of_one_image_of_a_batch_leaves_the_others_alone() {
    struct Zero;
    impl Probe for Zero {
        fn wants(&self, tap: &Tap, moment: &Moment) -> bool {
            tap.name() == "sampler.sample" && moment.call == 2 && moment.image == 1
        }
        fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
            tensor.zeros_like()
        }
    }
    let model = model();
    let of = |seed| Request { steps: 4, ..model.request("a red circle", seed) };
    let requests = [of(1), of(2)];
    let images: Vec<(&Request, &Start)> = requests.iter().map(|request| (request, &Start::Noise)).collect();
    let plain = model.run_together(&images, &mut Pass::silent()).unwrap().outcomes;
    let edited = model.run_together(&images, &mut Pass::watched(&mut Zero)).unwrap().outcomes;
    assert!(edited[0].latents.equal(&plain[0].latents));
    assert!(apart(&edited[1].latents, &plain[1].latents) > 1e-2);
}

#[test]
fn a_smaller_strength_keeps_more_of_the_picture_and_a_run_is_replayed_from_its_latents() {
    let model = model();
    let request = Request { steps: 20, guidance: 1.0.into(), ..model.request("", 5) };
    let from = |strength| Start::Picture { strength, picture: photo(&model, 200).into() };
    let run = |strength: f64| model.go_on(&request, &from(strength), &[], &mut Pass::silent()).unwrap();
    let original = photo(&model, 200);
    let distance = |picture: &Picture| -> f64 {
        let pairs = picture.pixels.iter().zip(&original.pixels).map(|(a, b)| f64::from(a.abs_diff(*b)));
        pairs.sum::<f64>() / picture.pixels.len() as f64
    };
    let (little, much) = (distance(&run(0.1).picture), distance(&run(0.9).picture));
    assert!(1.5 * little < much, "{little} and {much} levels from the picture");
    assert!(model.go_on(&request, &from(0.0), &[], &mut Pass::silent()).is_err(), "a strength of 0 leaves no step");
    let small = Start::Picture { strength: 0.5, picture: Picture { width: 8, height: 8, pixels: vec![0; 192] }.into() };
    let error = model.go_on(&request, &small, &[], &mut Pass::silent()).err().unwrap().to_string();
    let side = original.width;
    assert_eq!(error, format!("picture: expected {side}x{side} pixels, found 8x8"));

    let mut kept = Kept::default();
    let whole = model.go_on(&request, &from(0.5), &[], &mut Pass::watched(&mut kept)).unwrap();
    assert_eq!(whole.plan.calls(), 10, "ten of twenty steps");
    let of = |call, tap: &str| kept.0[&(0, call, tap.to_string())].shallow_clone();
    let start = Start::Latents { strength: 0.5, latents: of(0, "sampler.image") };
    let outputs: Vec<Outputs> = (0..whole.plan.calls())
        .map(|call| Outputs::Both {
            unconditional: of(call, "sampler.output.unconditional"),
            conditional: of(call, "sampler.output.conditional"),
        })
        .collect();
    let again =
        replay(&request, &start, &whole.plan, &outputs, latents(&model), &model.sampler, &mut Pass::silent()).unwrap();
    assert!(again.unwrap().equal(&whole.latents));
}

#[test]
fn pictures_of_a_batch_are_encoded_as_alone() {
    let model = model();
    let request = |seed| Request { steps: 10, ..model.request("a red circle", seed) };
    let requests = [request(1), request(2), request(1)];
    let starts = [200, 200, 90].map(|shade| Start::Picture { strength: 0.6, picture: photo(&model, shade).into() });
    let images: Vec<(&Request, &Start)> = requests.iter().zip(&starts).collect();
    let together = model.run_together(&images, &mut Pass::silent()).unwrap();
    let calls = together.outcomes[0].plan.calls();
    assert_eq!(calls, 6, "six of ten steps");
    assert_eq!(together.evaluations, 6 * calls, "no two begin alike, so each call has six rows");
    for ((request, start), outcome) in images.iter().zip(&together.outcomes) {
        let alone = model.go_on(request, start, &[], &mut Pass::silent()).unwrap();
        assert!(apart(&outcome.latents, &alone.latents) < 1e-4);
    }
    assert_eq!(together.outcomes[0].latents.kind(), Kind::Float);
}
