//! Text features against diffusers and an implementation in torch; `data/golden/text/make.py` made the numbers.

use latentrace_pipeline::nn::Pass;
use latentrace_pipeline::nn::tch::{self, Tensor};
use latentrace_pipeline::schedulers::Reading;
use latentrace_pipeline::{
    Checkpoint, Choice, Device, EncodedText, Features, Inversion, LongPrompts, Model, Options, Request, Start,
    TextOptions, TextShape, outline, tokenizers,
};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden").join(path)
}

fn load(place: &Path, choice: &Choice) -> Result<Model, String> {
    tch::set_num_threads(1);
    let options = Options { device: Device::Cpu, ..Options::default() };
    let checkpoint = Checkpoint::open(place, choice).map_err(|error| error.to_string())?;
    Model::load(checkpoint, options).map_err(|error| error.to_string())
}

fn with(embeddings: &[String]) -> Result<Model, String> {
    let embeddings = embeddings.iter().cloned().map(Inversion::from).collect();
    load(&golden("networks/sd1"), &Choice { embeddings, ..Choice::default() })
}

fn features(model: &Model, prompt: &str, options: TextOptions) -> Tensor {
    model.encode_as(prompt, options, &mut Pass::silent()).unwrap().1
}

fn options(case: &Value) -> TextOptions {
    TextOptions {
        clip_skip: case["clip_skip"].as_u64().unwrap_or(0) as usize,
        long_prompts: serde_json::from_value(case["long_prompts"].clone()).unwrap_or_default(),
        weights: case["weights"].as_bool().unwrap_or(false),
    }
}

#[test]
fn features_are_those_of_the_reference() {
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(golden("text/expected.json")).unwrap()).unwrap();
    let tensors = Tensor::read_safetensors(golden("text/expected.safetensors")).unwrap();
    let tensors: HashMap<String, Tensor> = tensors.into_iter().collect();
    let cases = cases["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 12);
    let plain = with(&[]).unwrap();
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let embeddings = case["embeddings"].as_array().into_iter().flatten();
        let embeddings: Vec<String> =
            embeddings.map(|file| golden("text").join(file.as_str().unwrap()).display().to_string()).collect();
        let extended = (!embeddings.is_empty()).then(|| with(&embeddings).unwrap());
        let ours = features(extended.as_ref().unwrap_or(&plain), case["prompt"].as_str().unwrap(), options(case));
        let theirs = &tensors[name];
        assert_eq!(ours.size(), theirs.size(), "{name}");
        // Some tens of roundings of f32, of which processors do some in another order.
        let apart = (ours - theirs).abs().max().double_value(&[]) / theirs.abs().max().double_value(&[]);
        assert!(apart < 2e-6, "{name}: {apart:e} of the largest");
    }
}

#[test]
fn options_that_change_nothing_change_no_bit() {
    let model = with(&[]).unwrap();
    let plain = features(&model, "a red circle (left)", TextOptions::default());
    let chunks = TextOptions { long_prompts: LongPrompts::Chunks, ..TextOptions::default() };
    assert!(features(&model, "a red circle (left)", chunks).equal(&plain));
    let weights = TextOptions { weights: true, ..TextOptions::default() };
    assert!(features(&model, r"a (red:1.0) circle \(left\)", weights).equal(&plain));
    let vectors = with(&[golden("text/cat.safetensors").display().to_string()]).unwrap();
    assert!(features(&vectors, "a red circle (left)", TextOptions::default()).equal(&plain));
}

#[test]
fn an_embedding_that_does_not_fit_is_an_error_that_says_why() {
    let file = |name: &str| golden("text").join(name).display().to_string();
    for (given, parts) in [
        (vec![file("wide.safetensors")], ["has 40 features, but the text encoder has 24", "wide.safetensors"]),
        (vec![file("cat.safetensors"), file("cat.safetensors")], ["<cat>", "has this token already"]),
        (vec![file("cat.safetensors=a</w>")], ["a</w>", "has this token already"]),
        (vec![file("expected.safetensors")], ["12 tensors", "emb_params or clip_l"]),
        (vec![file("none.safetensors")], ["none.safetensors: no such file", ".safetensors file"]),
    ] {
        let error = with(&given).err().expect("an error");
        assert!(parts.iter().all(|part| error.contains(part)) && error.contains("\nhint: "), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let pickled = folder.path().join("cat.pt");
    std::fs::write(&pickled, b"PK\x03\x04").unwrap();
    let error = with(&[format!("{}=<cat>", pickled.display())]).err().unwrap();
    assert!(error.contains("cat.pt: a pickled file, which is never read\nhint: "), "{error}");
}

/// The tiny model of SDXL with textual inversions of the fixtures.
fn sdxl(embeddings: &[&str]) -> Result<Model, String> {
    let files = embeddings.iter().map(|file| Inversion::from(golden("text").join(file).display().to_string()));
    load(&golden("networks/sdxl"), &Choice { embeddings: files.collect(), ..Choice::default() })
}

/// What the text encoders of a model return for a prompt.
fn encoded(model: &Model, prompt: &str, reading: Reading) -> EncodedText {
    let request = Request { reading, ..model.request(prompt, 1) };
    let prepared = model.prepare(request, Start::Noise).unwrap();
    model.features(&prepared, &mut Pass::silent()).unwrap().prompt
}

/// `data/golden/changes/make.py` made the numbers.
#[test]
fn vectors_for_both_text_encoders_of_sdxl_give_what_diffusers_gives() {
    let cases = std::fs::read_to_string(golden("changes/expected.json")).unwrap();
    let cases: Value = serde_json::from_str(&cases).unwrap();
    let known = Tensor::read_safetensors(golden("changes/expected.safetensors")).unwrap();
    let known: HashMap<String, Tensor> = known.into_iter().collect();
    let cases =
        cases["cases"].as_array().unwrap().iter().filter_map(|case| Some((case, case["embeddings"].as_array()?)));
    let cases: Vec<_> = cases.collect();
    assert_eq!(cases.len(), 3);
    let plain = sdxl(&[]).unwrap();
    for (case, embeddings) in cases {
        let (name, prompt) = (case["name"].as_str().unwrap(), case["prompt"].as_str().unwrap());
        let embeddings: Vec<&str> = embeddings.iter().map(|file| file.as_str().unwrap()).collect();
        let model = sdxl(&embeddings).unwrap();
        let apart = |ours: &EncodedText, what: &str| {
            let (ours, theirs) = (
                if what == "features" { &ours.features } else { ours.pooled.as_ref().unwrap() },
                &known[&format!("{name}/{what}")],
            );
            assert_eq!(ours.size(), theirs.size(), "{name}");
            (ours - theirs).abs().max().double_value(&[]) / theirs.abs().max().double_value(&[])
        };
        let (ours, without) = [&model, &plain].map(|model| encoded(model, prompt, Reading::Diffusers)).into();
        for what in ["features", "pooled"] {
            // Some tens of roundings of f32, of which processors do some in another order.
            let found = apart(&ours, what);
            assert!(found < 2e-6, "{name}, {what}: {found:e} of the largest");
            assert!(apart(&without, what) > 0.05, "{name}, {what}: without the vectors");
        }
        // The largest id, at which diffusers takes the pooled text of this model, is that of an added token, and not of the end.
        assert!(apart(&encoded(&model, prompt, Reading::Exact), "pooled") > 0.05, "{name}");
    }
}

#[test]
fn a_token_is_added_to_the_text_encoders_that_have_vectors_for_it() {
    let knows = |model: &Model, token: &str| -> Vec<bool> {
        model.texts.iter().map(|text| text.tokenizer.id(token).is_some()).collect()
    };
    let model = sdxl(&["both.safetensors", "cat.safetensors", "wide.safetensors"]).unwrap();
    for (token, expected) in [("both", [true, true]), ("<cat>", [true, false]), ("wide", [false, true])] {
        assert_eq!(knows(&model, token), expected, "{token}");
    }
    let ids = tokenizers(&model.checkpoint).unwrap().iter().map(|own| own.id("wide")).collect::<Vec<_>>();
    assert_eq!(ids, model.texts.iter().map(|text| text.tokenizer.id("wide")).collect::<Vec<_>>());
    let notes = model.checkpoint.notes.join("\n");
    assert_eq!(
        notes,
        "<cat> is a token of text_encoder alone: text_encoder_2 reads its letters\nwide is a token of text_encoder_2 alone: text_encoder reads its letters"
    );
    let refiner = Choice {
        embeddings: vec![Inversion::from(golden("text/both.safetensors").display().to_string())],
        ..Choice::default()
    };
    let refiner = load(&golden("networks/sdxl-refiner"), &refiner).unwrap();
    assert_eq!((knows(&refiner, "both"), refiner.checkpoint.notes.len()), (vec![true], 0), "clip_g alone");
}

#[test]
fn vectors_that_do_not_say_for_which_text_encoder_they_are_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let written = |named: &[(&str, i64)]| {
        let path = folder.path().join("new.safetensors");
        let ones = |width: &i64| Tensor::ones([2, *width], (tch::Kind::Float, tch::Device::Cpu));
        let tensors: Vec<(&str, Tensor)> = named.iter().map(|(name, width)| (*name, ones(width))).collect();
        Tensor::write_safetensors(&tensors, &path).unwrap();
        vec![Inversion::from(path.display().to_string())]
    };
    let of_sdxl =
        |embeddings| Checkpoint::open(&golden("networks/sdxl"), &Choice { embeddings, ..Choice::default() }).unwrap();
    let error = |checkpoint: &Checkpoint| checkpoint.vectors().expect_err("an error").to_string();
    let neither = error(&of_sdxl(written(&[("emb_params", 32)])));
    assert!(
        neither.contains("emb_params has 32 features, but the text encoders have 24 and 40 (hidden_size)\nhint: "),
        "{neither}"
    );
    let swapped = error(&of_sdxl(written(&[("clip_l", 40), ("clip_g", 24)])));
    assert!(swapped.contains("clip_l has 40 features, but text_encoder has 24 (hidden_size)\nhint: "), "{swapped}");
    let alone = of_sdxl(written(&[("clip_g", 40)])).vectors().unwrap();
    assert_eq!(alone.iter().map(|of| (of.token.as_str(), of.part)).collect::<Vec<_>>(), [("new", "text_encoder_2")]);
    let mut equal = of_sdxl(written(&[("emb_params", 24)]));
    equal.texts[1].encoder.config.hidden_size = 24;
    let equal = error(&equal);
    assert!(
        equal.contains(
            "emb_params has 24 features, which are those of text_encoder and of text_encoder_2 (hidden_size)\nhint: "
        ),
        "{equal}"
    );
}

#[test]
fn the_text_encoder_of_stable_diffusion_2_is_padded_with_the_id_0_or_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    copy(&golden("networks/sd2"), folder.path());
    let notes = |choice: &Choice| load(folder.path(), choice).unwrap().checkpoint.notes;
    assert!(notes(&Choice::default()).is_empty());
    let choice = Choice { tokenizer: Some(golden("networks/sd1/tokenizer")), ..Choice::default() };
    let [note] = &notes(&choice)[..] else { panic!("one note") };
    assert!(note.contains("padded with <|endoftext|>, the id 663") && note.contains("\nhint: "), "{note}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// A request whose negative prompt is shorter than its prompt.
fn long(model: &Model) -> Request {
    let text = TextOptions { clip_skip: 1, long_prompts: LongPrompts::Chunks, weights: true };
    let prompt = format!("{}(red:1.3) circle", "a ".repeat(80));
    Request { steps: 2, text, negative: "a [blue] square".into(), ..model.request(&prompt, 3) }
}

#[test]
fn a_run_in_chunks_passes_the_tensors_of_its_outline() {
    use latentrace_pipeline::nn::{Moment, Probe, Tap};
    use std::collections::BTreeSet;

    #[derive(Default)]
    struct Seen(BTreeSet<(String, Vec<i64>)>);

    impl Probe for Seen {
        fn wants(&self, _: &Tap, _: &Moment) -> bool {
            true
        }
        fn visit(&mut self, tap: &Tap, _: Moment, tensor: Tensor) -> Tensor {
            self.0.insert((tap.name().into(), tensor.size()));
            tensor
        }
    }

    let model = with(&[]).unwrap();
    let prepared = model.prepare(long(&model), Start::Noise).unwrap();
    assert_eq!(prepared.first_tokens().map(|tokens| tokens.ids.len()), [154, 154]);
    let shape = TextShape::of(&prepared);
    assert_eq!(shape, TextShape { skipped: [1, 1], chunks: 2, ..TextShape::default() });
    let mut seen = Seen::default();
    let watched = model.make(&prepared, &[], &mut Pass::watched(&mut seen)).unwrap();
    let options = Options { device: Device::Cpu, ..Options::default() };
    let outlined = outline(&model.checkpoint, options, None, shape).unwrap();
    let expected = outlined.iter().filter(|one| !one.calls(&prepared.plan, &Start::Noise).is_empty());
    assert_eq!(seen.0, expected.map(|one| (one.tap.name().to_string(), one.shape.clone())).collect());
    assert!(seen.0.iter().any(|(name, _)| name.contains("layers.0.")), "of two layers the first is run");
    assert!(!seen.0.iter().any(|(name, _)| name.contains("encoder.layers.1.")), "and the last is not");
    let silent = model.make(&prepared, &[], &mut Pass::silent()).unwrap();
    assert!(silent.latents.equal(&watched.latents), "watching changes no bit");
    let together = model.make_together(&[&prepared], &mut Pass::silent()).unwrap();
    let apart = (&together.outcomes[0].latents - &silent.latents).abs().max().double_value(&[]);
    assert!(apart < 1e-5, "{apart:e}");
}

#[test]
fn the_features_of_several_text_encoders_stand_side_by_side() {
    let one = with(&[]).unwrap();
    let mut checkpoint = one.checkpoint.clone();
    checkpoint.texts.push(checkpoint.text().clone());
    let two = Model::load(checkpoint, Options { device: Device::Cpu, ..Options::default() }).unwrap();
    let [of_one, of_two] = [&one, &two].map(|model| model.prepare(long(model), Start::Noise).unwrap());
    assert_eq!(of_two.tokens, of_one.first_tokens().map(|tokens| vec![tokens.clone(); 2]));
    let [narrow, wide] =
        [(&one, of_one), (&two, of_two)].map(|(model, run)| model.features(&run, &mut Pass::silent()).unwrap());
    for (narrow, wide) in [(narrow.prompt, wide.prompt), (narrow.negative, wide.negative)] {
        let narrow = &narrow.features;
        assert!(Tensor::cat(&[narrow, narrow], 2).equal(&wide.features));
    }
}

#[test]
fn texts_of_different_lengths_and_options_are_not_mixed_in_a_batch() {
    let model = with(&[]).unwrap();
    let own = Request { steps: 2, ..model.request("a (red:2) circle", 3) };
    let skipped =
        Request { text: TextOptions { clip_skip: 2, weights: true, ..TextOptions::default() }, ..own.clone() };
    let images = [(&own, &Start::Noise), (&skipped, &Start::Noise)];
    let together = model.run_together(&images, &mut Pass::silent()).unwrap();
    for (request, outcome) in [&own, &skipped].into_iter().zip(&together.outcomes) {
        let alone = model.run(request, &mut Pass::silent()).unwrap();
        // Products of another batch size round otherwise; texts that were mixed would differ by the latents' size.
        let apart = (&alone.latents - &outcome.latents).abs().max().double_value(&[]);
        let apart = apart / alone.latents.abs().max().double_value(&[]);
        assert!(apart < 1e-5, "{apart:e} of the largest");
    }
    let [first, second] = [&together.outcomes[0], &together.outcomes[1]];
    assert!(!first.latents.equal(&second.latents));
    let error = model.run_together(&[(&own, &Start::Noise), (&long(&model), &Start::Noise)], &mut Pass::silent());
    assert!(error.err().unwrap().to_string().contains("texts of one length"));
}

#[test]
fn what_cannot_be_encoded_is_an_error() {
    let model = with(&[]).unwrap();
    let error = |text| {
        let request = Request { text, ..model.request("a (red", 3) };
        model.prepare(request, Start::Noise).err().unwrap().to_string()
    };
    let skip = error(TextOptions { clip_skip: 3, ..TextOptions::default() });
    assert_eq!(skip, "clip_skip: expected 0 to 2, the number of the text encoder's layers, found 3");
    let open = error(TextOptions { weights: true, ..TextOptions::default() });
    assert!(open.starts_with("prompt: ( is not closed, at place 3, near \"a (red\"\nhint: "), "{open}");
    let weights = TextOptions { weights: true, ..TextOptions::default() };
    let huge = model.encode_as(&format!("(a:1{})", "0".repeat(40)), weights, &mut Pass::silent());
    assert!(huge.err().unwrap().to_string().contains("while the text was encoded"), "it is infinite in f32");
}

#[test]
fn features_that_are_written_and_read_give_the_run_of_the_texts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("features.safetensors");
    let model = with(&[]).unwrap();
    let own = long(&model);
    let prepared = model.prepare(own.clone(), Start::Noise).unwrap();
    model.features(&prepared, &mut Pass::silent()).unwrap().save(&path).unwrap();
    let names: Vec<String> = Tensor::read_safetensors(&path).unwrap().into_iter().map(|(name, _)| name).collect();
    assert!(["prompt_embeds", "negative_prompt_embeds"].iter().all(|name| names.iter().any(|there| there == name)));
    let features = Features::open(&path).unwrap();
    assert_eq!(features.tokens(), 154);
    let given = Request { prompt: "another".into(), features: Some(features), ..own.clone() };
    let ready = model.prepare(given.clone(), Start::Noise).unwrap();
    assert_eq!((TextShape::of(&ready).given, ready.first_tokens()[0].ids.len()), (Some(154), 0));
    let [of_texts, of_features] =
        [&own, &given].map(|request| model.run(request, &mut Pass::silent()).unwrap().latents);
    assert!(of_texts.equal(&of_features));
    let mixed = model.run_together(&[(&own, &Start::Noise), (&given, &Start::Noise)], &mut Pass::silent());
    assert!(mixed.err().unwrap().to_string().contains("encoded here"));
}

#[test]
fn features_that_no_text_encoder_returns_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.safetensors");
    let ones = |shape: &[i64]| Tensor::ones(shape, (tch::Kind::Float, tch::Device::Cpu));
    let error = |named: &[(&str, Tensor)]| {
        Tensor::write_safetensors(named, &path).unwrap();
        Features::open(&path).map(drop).expect_err("an error").to_string()
    };
    let [prompt, negative] = ["prompt_embeds", "negative_prompt_embeds"];
    let alone = error(&[(prompt, ones(&[1, 77, 24]))]);
    assert!(alone.contains("f.safetensors: no negative_prompt_embeds, but prompt_embeds\nhint: "), "{alone}");
    let flat = error(&[(prompt, ones(&[77, 24])), (negative, ones(&[1, 77, 24]))]);
    assert!(flat.contains("prompt_embeds: expected a shape of [1, tokens, features], found [77, 24]"), "{flat}");
    let uneven = error(&[(prompt, ones(&[1, 154, 24])), (negative, ones(&[1, 77, 24]))]);
    assert!(uneven.contains("[1, 154, 24], but negative_prompt_embeds has [1, 77, 24]"), "{uneven}");
    let infinite = error(&[(prompt, ones(&[1, 77, 24]) / 0.0), (negative, ones(&[1, 77, 24]))]);
    assert!(infinite.contains("prompt_embeds: ") && infinite.contains("infinite"), "{infinite}");
    Tensor::write_safetensors(&[(prompt, ones(&[1, 77, 40])), (negative, ones(&[1, 77, 40]))], &path).unwrap();
    let model = with(&[]).unwrap();
    let wide = Request { features: Some(Features::open(&path).unwrap()), ..model.request("", 3) };
    let wide = model.prepare(wide, Start::Noise).err().unwrap().to_string();
    assert_eq!(wide, "features: expected 24 for each token, which the UNet takes (cross_attention_dim), found 40");
}
