//! Models of SDXL: two texts, what the UNet is told of a picture, and runs without guidance.

use latentrace_nn::tch::Tensor;
use latentrace_nn::{Branch, Moment, Pass, Probe, Rows, Tap};
use latentrace_pipeline::schedulers::Reading;
use latentrace_pipeline::{
    Checkpoint, Choice, Common, Dtype, EmptyNegative, Features, Guidance, Lineage, Lines, MicroConditions, Mode, Model,
    Named, Negative, Options, Outcome, Picture, Prepared, Request, Setting, Size, Start, TextOptions, TextShape,
    counts, evaluations, outline,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/networks").join(name)
}

fn model(name: &str) -> Model {
    Model::open(&golden(name), Options::default()).unwrap()
}

const SIZE: Size = Size { height: 32, width: 48 };

/// A short run with a negative prompt.
fn request(model: &Model) -> Request {
    let request = model.request("a red circle", 5);
    Request { negative: "blurry".into(), steps: 3, guidance: 4.0.into(), size: SIZE, ..request }
}

fn latents(model: &Model, request: &Request) -> Tensor {
    model.denoise(request, &Start::Noise, &[], &mut Pass::silent()).unwrap()
}

/// The largest difference as a share of the largest number.
fn apart(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[]) / b.abs().max().double_value(&[])
}

/// Every tensor that passes, by the name of its tap: shape, branches and calls.
#[derive(Default)]
struct Passed(BTreeMap<String, Vec<(Vec<i64>, Rows, usize)>>);

impl Probe for Passed {
    fn wants(&self, _: &Tap, _: &Moment) -> bool {
        true
    }
    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        let passage = (tensor.size(), moment.rows, moment.call);
        self.0.entry(tap.name().into()).or_default().push(passage);
        tensor
    }
}

/// The settings that change which tensors pass.
fn settings(own: &Request) -> Vec<Request> {
    let skip = TextOptions { clip_skip: 1, ..own.text };
    vec![
        own.clone(),
        Request { guidance: 1.0.into(), ..own.clone() },
        Request { negative: String::new(), empty_negative: EmptyNegative::Zeros, ..own.clone() },
        Request { negative: String::new(), empty_negative: EmptyNegative::Text, ..own.clone() },
        Request { text: skip, ..own.clone() },
        Request { text: skip, reading: Reading::Exact, ..own.clone() },
    ]
}

#[test]
fn what_passes_is_what_is_outlined() {
    for name in ["sdxl", "sdxl-turbo", "sdxl-refiner"] {
        let model = model(name);
        for request in settings(&request(&model)) {
            let prepared = model.prepare(request.clone(), Start::Noise).unwrap();
            let mut passed = Passed::default();
            model.make(&prepared, &[], &mut Pass::watched(&mut passed)).unwrap();
            let checkpoint = Checkpoint::open(&golden(name), &Choice::default()).unwrap();
            let outlined = outline(&checkpoint, Options::default(), Some(SIZE), TextShape::of(&prepared)).unwrap();
            let mut expected: BTreeMap<String, Vec<(Vec<i64>, Rows, usize)>> = BTreeMap::new();
            for one in outlined {
                let of_tap = one.calls(&prepared.plan, &Start::Noise);
                let of_tap = of_tap.into_iter().map(|call| (one.shape.clone(), one.rows, call));
                expected.entry(one.tap.name().into()).or_default().extend(of_tap);
            }
            expected.retain(|_, passages| !passages.is_empty());
            assert_eq!(passed.0, expected, "{name}, {request:?}");
        }
    }
}

#[test]
fn a_run_without_guidance_computes_one_row_at_a_call() {
    let model = model("sdxl-turbo");
    let own = model.request("a red circle", 5);
    assert_eq!(own.guidance, Guidance::Constant(1.0), "a distilled model runs without guidance");
    let own = Request { size: SIZE, steps: 3, ..own };
    let rows = |request: &Request| {
        let before = counts();
        let _ = latents(&model, request);
        let after = counts();
        (after.rows - before.rows, after.encoded - before.encoded)
    };
    assert_eq!(rows(&own), (3, 1), "the negative prompt is not encoded");
    assert_eq!(rows(&Request { guidance: 2.0.into(), empty_negative: EmptyNegative::Text, ..own.clone() }), (6, 2));
    assert_eq!(rows(&Request { guidance: 2.0.into(), empty_negative: EmptyNegative::Zeros, ..own.clone() }), (6, 1));
    let negative = Request { negative: "blurry".into(), ..own.clone() };
    assert!(latents(&model, &own).equal(&latents(&model, &negative)));
    // At other weights than 1 both rows are computed, and 0 is the output for the negative prompt.
    let zero = Request { guidance: 0.0.into(), negative: "a red circle".into(), ..own.clone() };
    let swapped = Request { prompt: "a dog".into(), ..zero };
    assert_eq!(rows(&swapped).0, 6);
    assert!(apart(&latents(&model, &swapped), &latents(&model, &own)) < 1e-5);
    let sd1 = Model::open(&golden("sd1"), Options::default()).unwrap();
    let guided = Request { guidance: 1.0.into(), steps: 2, ..sd1.request("a red circle", 5) };
    let before = counts().rows;
    let _ = latents(&sd1, &guided);
    assert_eq!(counts().rows - before, 6, "Stable Diffusion 1.x computes both, as its records have them");
}

/// Sets the tensors of a tap to 0.
struct Zero(&'static str);

impl Probe for Zero {
    fn wants(&self, tap: &Tap, _: &Moment) -> bool {
        self.0 == tap.name()
    }
    fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        tensor.zeros_like()
    }
}

/// SDXL makes plausible pictures without most of these, so a test of pictures would not find that one is missing.
#[test]
fn every_condition_changes_the_output() {
    let changed = [
        "text_encoder.text_model.encoder.layers.0.out",
        "text_encoder_2.text_model.encoder.layers.1.out",
        "text_encoder_2.text_projection.out",
        "unet.add_embedding.text",
        "unet.add_embedding.waves",
        "unet.add_embedding.out",
        "unet.time_ids",
    ];
    for name in ["sdxl", "sdxl-turbo", "sdxl-refiner"] {
        let model = model(name);
        let own = request(&model);
        let whole = latents(&model, &own);
        let taps = changed.iter().filter(|tap| model.taps.iter().any(|of_model| of_model.name() == **tap));
        let taps: Vec<_> = taps.collect();
        assert_eq!(taps.len(), if name == "sdxl-refiner" { 6 } else { 7 }, "{taps:?}");
        for tap in taps {
            let mut zero = Zero(tap);
            let without = model.denoise(&own, &Start::Noise, &[], &mut Pass::watched(&mut zero)).unwrap();
            assert!(apart(&without, &whole) > 1e-3, "{name}: {tap} changes {:e}", apart(&without, &whole));
        }
    }
}

#[test]
fn every_setting_changes_the_output() {
    let model = model("sdxl");
    let own = Request { reading: Reading::Exact, ..request(&model) };
    let micro = |micro: MicroConditions| Request { micro, ..own.clone() };
    let none = MicroConditions::default();
    let others = [
        Request { prompt_2: Some("a blue square".into()), ..own.clone() },
        Request { prompt_2: Some(String::new()), ..own.clone() },
        Request { negative_2: Some("sharp".into()), ..own.clone() },
        Request { negative: String::new(), empty_negative: EmptyNegative::Zeros, ..own.clone() },
        Request { negative: String::new(), empty_negative: EmptyNegative::Text, ..own.clone() },
        Request { text: TextOptions { clip_skip: 1, ..own.text }, ..own.clone() },
        micro(MicroConditions { original_size: Some([512, 512]), ..none }),
        micro(MicroConditions { crop: Some([0, 256]), ..none }),
        micro(MicroConditions { crop: Some([256, 0]), ..none }),
        micro(MicroConditions { target_size: Some([1024, 1024]), ..none }),
        micro(MicroConditions { negative_original_size: Some([512, 512]), ..none }),
        micro(MicroConditions { negative_crop: Some([256, 0]), ..none }),
        micro(MicroConditions { negative_target_size: Some([1024, 1024]), ..none }),
    ];
    let mut all: Vec<Tensor> = vec![latents(&model, &own)];
    for request in &others {
        let other = latents(&model, request);
        for known in &all {
            assert!(apart(&other, known) > 1e-4, "{request:?}");
        }
        all.push(other);
    }
}

#[test]
fn no_negative_prompt_means_what_the_checkpoint_says() {
    for (name, expected) in [("sdxl", EmptyNegative::Zeros), ("sdxl-refiner", EmptyNegative::Text)] {
        let model = model(name);
        let own = Request { negative: String::new(), ..request(&model) };
        let named = Request { empty_negative: expected, ..own.clone() };
        assert!(latents(&model, &own).equal(&latents(&model, &named)), "{name}");
    }
    // A negative prompt of the second encoder alone is one; diffusers does not look at it.
    let model = model("sdxl");
    let second = Request { negative: String::new(), negative_2: Some("blurry".into()), ..request(&model) };
    let stands = |reading| model.prepare(Request { reading, ..second.clone() }, Start::Noise).unwrap().negative;
    assert_eq!([stands(Reading::Diffusers), stands(Reading::Exact)], [Negative::Zeros, Negative::Text]);
    // In diffusers an empty second prompt is none.
    let empty = Request { prompt_2: Some(String::new()), ..request(&model) };
    assert!(latents(&model, &empty).equal(&latents(&model, &request(&model))));
}

#[test]
fn a_start_from_a_picture_is_told_of_as_diffusers_does() {
    let model = model("sdxl");
    let micro = MicroConditions {
        crop: Some([1, 2]),
        negative_original_size: Some([3, 4]),
        negative_crop: Some([5, 6]),
        ..MicroConditions::default()
    };
    let own = Request { micro, ..request(&model) };
    let picture = Arc::new(Picture { width: 48, height: 32, pixels: vec![100; 3 * 48 * 32] });
    let negative = |start: Start, reading| {
        let prepared = model.prepare(Request { reading, ..own.clone() }, start).unwrap();
        prepared.ids_of(Branch::Unconditional).unwrap().to_vec()
    };
    let level = model.prepare(own.clone(), Start::Noise).unwrap().plan.steps()[1].level;
    let latents = latents(&model, &own);
    let sample = |is_from_picture| {
        let sample = latents.shallow_clone();
        Start::Sample { level, sample, known: None, is_from_picture }
    };
    for start in [Start::Picture { strength: 0.7, picture }, sample(true)] {
        assert_eq!(negative(start.clone(), Reading::Diffusers), [3., 4., 1., 2., 32., 48.]);
        assert_eq!(negative(start, Reading::Exact), [3., 4., 5., 6., 32., 48.]);
    }
    for start in [Start::Noise, sample(false)] {
        assert_eq!(negative(start.clone(), Reading::Diffusers), [32., 48., 1., 2., 32., 48.]);
        assert_eq!(negative(start, Reading::Exact), [3., 4., 5., 6., 32., 48.]);
    }
}

/// SDXL whose second tokenizer has no merges, so that it needs more tokens for a text.
fn with_another_tokenizer(folder: &Path) -> Model {
    let own = golden("sdxl");
    for part in std::fs::read_dir(&own).unwrap().map(Result::unwrap).filter(|part| part.file_name() != "tokenizer_2") {
        std::os::unix::fs::symlink(part.path(), folder.join(part.file_name())).unwrap();
    }
    let tokenizer = folder.join("tokenizer_2");
    std::fs::create_dir(&tokenizer).unwrap();
    for file in std::fs::read_dir(own.join("tokenizer_2")).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), tokenizer.join(file.file_name())).unwrap();
    }
    std::fs::write(tokenizer.join("merges.txt"), "#version: 0.2\n").unwrap();
    Model::open(folder, Options::default()).unwrap()
}

#[test]
fn texts_of_two_tokenizers_have_one_length() {
    let folder = tempfile::tempdir().unwrap();
    let model = with_another_tokenizer(folder.path());
    let text = TextOptions { long_prompts: latentrace_pipeline::LongPrompts::Chunks, ..TextOptions::default() };
    let long = Request { prompt: "circle ".repeat(20), text, ..request(&model) };
    let prepared = model.prepare(long.clone(), Start::Noise).unwrap();
    let alone = model.texts.iter().map(|of| {
        let form = latentrace_text::Form { chunks: true, weights: false };
        of.tokenizer.encode_as(&long.prompt, form).unwrap().ids.len()
    });
    assert_eq!(alone.collect::<Vec<_>>(), [77, 154]);
    assert!(prepared.tokens.iter().flatten().all(|tokens| tokens.ids.len() == 154));
    let _ = latents(&model, &long);
}

#[test]
fn features_that_are_written_and_read_give_the_run_of_the_texts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("features.safetensors");
    let model = model("sdxl");
    for own in [request(&model), Request { negative: String::new(), ..request(&model) }] {
        let prepared = model.prepare(own.clone(), Start::Noise).unwrap();
        model.features(&prepared, &mut Pass::silent()).unwrap().save(&path).unwrap();
        let given = Request { features: Some(Features::open(&path).unwrap()), ..own.clone() };
        assert!(latents(&model, &own).equal(&latents(&model, &given)));
    }
    let tensors = Tensor::read_safetensors(&path).unwrap();
    let narrow: Vec<_> = tensors.into_iter().filter(|(name, _)| !name.contains("pooled")).collect();
    Tensor::write_safetensors(&narrow, &path).unwrap();
    let without = Request { features: Some(Features::open(&path).unwrap()), ..request(&model) };
    let error = model.prepare(without, Start::Noise).err().unwrap().to_string();
    assert_eq!(
        error,
        "features: expected a pooled text of 20 (pooled_prompt_embeds), which the UNet takes, found none"
    );
}

#[test]
fn what_a_model_does_not_take_is_an_error() {
    let error = |model: &Model, request: Request| model.prepare(request, Start::Noise).err().unwrap().to_string();
    let (xl, refiner, sd1) = (model("sdxl"), model("sdxl-refiner"), model("sd1"));
    let second = |model: &Model| Request { prompt_2: Some("a dog".into()), ..model.request("a cat", 1) };
    assert!(error(&sd1, second(&sd1)).starts_with("prompt_2: expected none: "));
    assert!(error(&sd1, second(&sd1)).ends_with(" has one text encoder, which reads the prompt, found \"a dog\""));
    assert!(error(&refiner, second(&refiner)).contains("has one text encoder"));
    let crop = |model: &Model| {
        let micro = MicroConditions { crop: Some([0, 0]), ..MicroConditions::default() };
        Request { micro, ..model.request("a cat", 1) }
    };
    assert!(error(&sd1, crop(&sd1)).contains("the UNet takes no sizes"));
    let skip = |model: &Model, clip_skip| Request {
        text: TextOptions { clip_skip, ..TextOptions::default() },
        ..request(model)
    };
    let layers = xl.checkpoint.texts.iter().map(|text| text.encoder.config.num_hidden_layers).min().unwrap();
    let found = error(&xl, skip(&xl, layers as usize));
    let expected = format!(
        "clip_skip: expected 0 to {}, the number of layers before the last, which SDXL does not use, found {layers}",
        layers - 1
    );
    assert_eq!(found, expected);
    let _ = latents(&xl, &skip(&xl, layers as usize - 1));
}

#[test]
fn numbers_that_the_number_format_does_not_hold_are_an_error() {
    let halves = Options { dtype: Dtype::F16, ..Options::default() };
    let model = Model::open(&golden("sdxl"), halves).unwrap();
    let micro = MicroConditions { original_size: Some([65536, 8]), ..MicroConditions::default() };
    let asked = Request { micro, ..request(&model) };
    let error = model.prepare(asked.clone(), Start::Noise).err().unwrap().to_string();
    assert!(error.starts_with("time_ids: expected sizes, crops and scores that Half holds"), "{error}");
    // In the exact reading they are in f32.
    let exact = Request { reading: Reading::Exact, scheduler: model.scheduler.clone(), ..asked };
    assert_eq!(model.prepare(exact, Start::Noise).unwrap().ids_of(Branch::Conditional).unwrap()[0], 65536.0);
}

#[test]
fn another_padding_than_that_of_the_training_is_told() {
    let notes = |first: &str, second: &str| {
        let choice = Choice {
            tokenizer: Some(golden("sdxl").join(first)),
            tokenizer_2: Some(golden("sdxl").join(second)),
            ..Choice::default()
        };
        let model = Model::load(Checkpoint::open(&golden("sdxl"), &choice).unwrap(), Options::default()).unwrap();
        model.checkpoint.notes.clone()
    };
    let own = notes("tokenizer", "tokenizer_2");
    assert!(!own.iter().any(|note| note.contains("padded")), "{own:?}");
    let [first] = &notes("tokenizer_2", "tokenizer_2")[..] else { panic!("one note") };
    assert!(
        first.contains("padded with !, the id 0, but text encoders of Stable Diffusion 1.x and the first"),
        "{first}"
    );
    let [second] = &notes("tokenizer", "tokenizer")[..] else { panic!("one note") };
    assert!(second.contains("but the second text encoder of SDXL was trained with the id 0"), "{second}");
}

/// Some settings of a run.
#[derive(Clone, Debug)]
struct Arm {
    prompt_2: Option<&'static str>,
    negative: &'static str,
    negative_2: Option<&'static str>,
    empty_negative: EmptyNegative,
    guidance: f64,
    micro: MicroConditions,
    reading: Reading,
    clip_skip: usize,
}

fn arm() -> impl Strategy<Value = Arm> {
    use prop::sample::select;
    let texts =
        (select(vec![None, Some(""), Some("a dog")]), select(vec!["", "a mouse"]), select(vec![None, Some("b")]));
    let crop = select(vec![None, Some([0, 0]), Some([8, 0])]);
    let micro = (crop.clone(), crop, select(vec![None, Some([32, 48]), Some([9, 9])]));
    let micro = micro.prop_map(|(crop, negative_crop, size)| MicroConditions {
        crop,
        negative_crop,
        negative_original_size: size,
        negative_target_size: size,
        ..MicroConditions::default()
    });
    let empty = select(vec![EmptyNegative::Model, EmptyNegative::Zeros, EmptyNegative::Text]);
    let rest = (select(vec![1.0, 4.0, 7.0]), select(vec![Reading::Diffusers, Reading::Exact]), 0..2usize);
    (texts, micro, empty, rest).prop_map(|((prompt_2, negative, negative_2), micro, empty_negative, rest)| {
        let (guidance, reading, clip_skip) = rest;
        Arm { prompt_2, negative, negative_2, empty_negative, guidance, micro, reading, clip_skip }
    })
}

fn prepared(model: &Model, arm: &Arm) -> Prepared {
    let scheduler = match arm.reading {
        Reading::Diffusers => model.scheduler_in_pipeline.clone(),
        Reading::Exact => model.scheduler.clone(),
    };
    let request = Request {
        prompt_2: arm.prompt_2.map(String::from),
        negative: arm.negative.into(),
        negative_2: arm.negative_2.map(String::from),
        empty_negative: arm.empty_negative,
        guidance: arm.guidance.into(),
        micro: arm.micro,
        reading: arm.reading,
        text: TextOptions { clip_skip: arm.clip_skip, ..TextOptions::default() },
        scheduler: scheduler.with_class("ddim").unwrap(),
        steps: 2,
        ..request(model)
    };
    model.prepare(request, Start::Noise).unwrap()
}

fn lines(prepared: &Prepared, mode: Mode) -> Lines {
    Lines::of(prepared, &Setting { mode, bytes: 1024, ..Setting::default() })
}

/// Runs each made alone after the other, with what they have in common.
fn made(model: &Model, runs: &[Prepared]) -> Vec<Outcome> {
    let lines: Vec<Lines> = runs.iter().map(|run| lines(run, Mode::Alone)).collect();
    let mut common = Common::of(lines.iter());
    let outcomes = runs.iter().zip(&lines).map(|(run, lines)| {
        common.begin(lines);
        let (outcome, _) =
            model.make_with(run, Named { name: "a run", lines }, &mut common, &mut Pass::silent()).unwrap();
        common.end();
        outcome
    });
    outcomes.collect()
}

/// Keeps the outputs of the network.
#[derive(Default)]
struct Outputs(HashMap<(usize, Branch), Tensor>);

impl Probe for Outputs {
    fn wants(&self, tap: &Tap, _: &Moment) -> bool {
        tap.name().starts_with("sampler.output")
    }
    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        let branch = match tap.role() {
            latentrace_nn::Role::Sampler(value) => value.branch(),
            _ => None,
        };
        if let Some(branch) = branch {
            self.0.insert((moment.call, branch), tensor.copy());
        }
        tensor
    }
}

#[test]
fn equal_lineages_are_equal_in_every_bit() {
    let model = model("sdxl");
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 16, ..ProptestConfig::default() });
    let check = |arms: Vec<Arm>| {
        let runs: Vec<Prepared> = arms.iter().map(|arm| prepared(&model, arm)).collect();
        let mut known: HashMap<Lineage, Tensor> = HashMap::new();
        let mut alone = Vec::new();
        for run in &runs {
            let mut outputs = Outputs::default();
            alone.push(model.make(run, &[], &mut Pass::watched(&mut outputs)).unwrap());
            for (call, needed) in lines(run, Mode::Alone).calls.iter().enumerate() {
                let rows = [(needed.unconditional, Branch::Unconditional), (needed.conditional, Branch::Conditional)];
                for (row, branch) in rows {
                    prop_assert_eq!(row.is_some(), outputs.0.contains_key(&(call, branch)));
                    let Some(row) = row else { continue };
                    let output = outputs.0.remove(&(call, branch)).unwrap();
                    let same = known.entry(row).or_insert_with(|| output.shallow_clone());
                    prop_assert!(same.equal(&output), "one lineage, other bits");
                }
            }
        }
        let before = counts().rows;
        let shared = made(&model, &runs);
        prop_assert_eq!(counts().rows - before, known.len());
        for (alone, shared) in alone.iter().zip(&shared) {
            prop_assert!(alone.latents.equal(&shared.latents) && alone.picture == shared.picture);
        }
        // Images of one batch have one plan, and so one reading.
        let is_alike = |run: &Prepared| run.request.reading == runs[0].request.reading;
        let images: Vec<&Prepared> = runs.iter().filter(|run| is_alike(run)).collect();
        let expected = evaluations(&images);
        let batched = model.make_together(&images, &mut Pass::silent()).unwrap();
        prop_assert_eq!(batched.evaluations, expected);
        let alone = runs.iter().zip(&alone).filter(|(run, _)| is_alike(run)).map(|(_, alone)| alone);
        for (alone, batched) in alone.zip(&batched.outcomes) {
            // A batch changes the order of sums.
            let found = apart(&batched.latents, &alone.latents);
            prop_assert!(found < 1e-4, "{found:e}");
        }
        Ok(())
    };
    runner.run(&prop::collection::vec(arm(), 2..5), check).unwrap();
}
