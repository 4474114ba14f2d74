//! Whole runs of SDXL, of its distilled form and of its refiner: two texts, what the network is told of the picture, and one
//! row where there is no guidance.

use crate::fixture::{Fixture, Table, Watch, absolute, identical, list, open, picture, relative, root, threads, word};
use crate::runs::{Image, compare_samples, levels, request};
use latentrace::checkpoints::Ids;
use latentrace::nn::tch::Tensor;
use latentrace::nn::{Branch, Pass, Rows};
use latentrace::pipeline::{EmptyNegative, Mask, MicroConditions, Model, Picture, Request, Start, TextOptions};
use latentrace::schedulers::Reading;
use serde_json::Value;
use std::sync::Arc;

/// The largest difference of latents, whose own size is about 1 to 15. In f32 diffusers itself is up to 9e-6 from the same run in
/// f64 (`rounding` in the JSON), and these networks do not enlarge it (`amplification`). Any two cases whose network was told, or
/// given, something different are 4e-2 apart or more.
const TOLERANCE: f64 = 1e-4;

/// The same for what enters the sampler: a draw of up to 4 times a sigma of up to 15, or an encoded picture and noise.
const START: f64 = 2e-5;

/// The largest difference of features and of pooled texts, relative to the largest magnitude.
const TEXT: f64 = 1e-5;

const MODELS: [&str; 3] = ["sdxl", "sdxl-turbo", "sdxl-refiner"];

#[test]
fn whole_runs_of_sdxl_end_where_those_of_diffusers_end() {
    threads(1);
    for name in MODELS {
        let bench = Bench::read(name);
        let mut table =
            Table::new(format!("{name}: largest difference of latents, of bytes, and of what the UNet is given"));
        for case in list(&bench.fixture.cases, "cases") {
            match case["fault"].as_str() {
                Some(fault) => bench.is_at_fault(case, fault),
                None => bench.compare(case, &mut table),
            }
        }
        table.finish();
    }
}

/// What the UNet is given with the exact reading, and how it differs: in the numbers, in the pooled texts or in the features.
/// Nothing else differs than what docs/parity.md lists.
#[test]
fn the_exact_reading_gives_the_network_something_else_only_where_diffusers_is_at_fault() {
    threads(1);
    let mut differing = Vec::new();
    for name in MODELS {
        let bench = Bench::read(name);
        for case in list(&bench.fixture.cases, "cases").iter().filter(|case| case["fault"].is_null()) {
            let run = bench.run(case, 0, Reading::Exact);
            for given in bench.given(&run, case, 0).into_iter().filter(|given| given.error > given.tolerance) {
                differing.push(format!("{name} {}: {}", word(case, "name"), given.what));
            }
        }
    }
    let expected = [
        // "" is a text.
        "sdxl euler-8-empty-prompt-2: pooled texts",
        "sdxl euler-8-empty-prompt-2: features",
        "sdxl euler-8-empty-negative-2: pooled texts",
        "sdxl euler-8-empty-negative-2: features",
        // A negative prompt for the second encoder alone is one too.
        "sdxl euler-8-negative-2-alone: pooled texts",
        "sdxl euler-8-negative-2-alone: features",
        // Both texts skip layers.
        "sdxl euler-8-clip-skip-1: features",
        // What is given for the negative branch is used, and what is not given is that of the prompt.
        "sdxl euler-8-negative-sizes-no-crop: time ids",
        "sdxl euler-8-negative-original-size-alone: time ids",
        "sdxl euler-8-negative-crop-alone: time ids",
        "sdxl picture-euler-12-0.6-sizes: time ids",
        "sdxl mask-euler-12-0.6-sizes: time ids",
        "sdxl-refiner picture-euler-12-0.3-crop: time ids",
        "sdxl-refiner picture-euler-12-0.3-clip-skip-2: features",
    ];
    assert_eq!(differing, expected, "\n{}", differing.join("\n"));
}

/// A checkpoint, what diffusers computed with it, and what its runs start from.
struct Bench {
    model: Model,
    fixture: Fixture,
    picture: Arc<Picture>,
    mask: Arc<Mask>,
}

/// A run of one image of a case, and what passed on the way.
struct Run {
    name: String,
    seed: u64,
    request: Request,
    latents: Tensor,
    pixels: Vec<u8>,
    times: Vec<f64>,
    watch: Watch,
}

/// How far something that the UNet is given is from theirs.
struct Given {
    what: &'static str,
    error: f64,
    tolerance: f64,
}

impl Bench {
    fn read(name: &str) -> Bench {
        Bench {
            model: open(&root("data/golden/networks").join(name)),
            fixture: Fixture::read(&root("data/golden/xl").join(name)),
            picture: Arc::new(picture(&root("data/golden/pictures/sd2.png"))),
            mask: Arc::new(Mask::of(&picture(&root("data/golden/xl/mask.png")))),
        }
    }

    /// Runs the image of this index alone.
    fn run(&self, case: &Value, index: usize, reading: Reading) -> Run {
        let seeds = list(case, "seeds");
        let seed = seeds[index].as_u64().unwrap();
        let name = match seeds.len() {
            1 => word(case, "name").to_string(),
            _ => format!("{} seed {seed}", word(case, "name")),
        };
        let start = self.start(case);
        let request = self.without_ignored(asked(&self.model, case, seed, reading), &start, &name);
        let taps = &self.model.sampler;
        let sampler = [&taps.sample, &taps.start, &taps.noise].map(|tap| tap.name().to_string());
        let unet = [TIME_IDS, POOLED].map(String::from);
        let branches = [Branch::Unconditional, Branch::Conditional];
        let texts = branches.into_iter().flat_map(|branch| self.features_of(&request, branch));
        let mut watch = Watch::new(sampler.into_iter().chain(unet).chain(texts));
        let outcome = self
            .model
            .go_on(&request, &start, &[], &mut Pass::watched(&mut watch))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let times = outcome.plan.steps().iter().map(|step| step.level.t).collect();
        Run { name, seed, request, latents: outcome.latents, pixels: outcome.picture.pixels, times, watch }
    }

    fn start(&self, case: &Value) -> Start {
        let strength = || case["strength"].as_f64().unwrap();
        match word(case, "start") {
            "noise" => Start::Noise,
            "picture" => Start::Picture { strength: strength(), picture: self.picture.clone() },
            "mask" => Start::Masked { strength: strength(), picture: self.picture.clone(), mask: self.mask.clone() },
            other => panic!("{other}: no such start"),
        }
    }

    /// Leaves out what diffusers takes and ignores, which is an error here.
    fn without_ignored(&self, request: Request, start: &Start, name: &str) -> Request {
        let mut left = request.clone();
        if self.model.texts.len() == 1 {
            left.prompt_2 = None;
            left.negative_2 = None;
        }
        if self.model.checkpoint.ids() == Some(Ids::Score) {
            left.micro.target_size = None;
            left.micro.negative_target_size = None;
        }
        let kept = |request: &Request| (request.prompt_2.clone(), request.negative_2.clone(), request.micro);
        if kept(&left) != kept(&request) {
            let outcome = self.model.go_on(&request, start, &[], &mut Pass::silent());
            assert!(outcome.is_err(), "{name}: what has no effect is an error");
        }
        left
    }

    /// Compares each image of a case, made alone: the times, the draws, what the UNet is given, the latents at every step, the
    /// last latents, the pixels.
    fn compare(&self, case: &Value, table: &mut Table) {
        for index in 0..list(case, "seeds").len() {
            let run = self.run(case, index, Reading::Diffusers);
            let name = &run.name;
            let theirs: Vec<f64> = list(case, "timesteps").iter().map(|time| time.as_f64().unwrap()).collect();
            assert_eq!(run.times, theirs, "{name}: times");
            self.same_draws(&run, case);
            for Given { what, error, tolerance } in self.given(&run, case, index) {
                table.add(what, name, error, tolerance);
            }

            let place = index as i64;
            let samples = &run.watch.seen[self.model.sampler.sample.name()];
            let image = Image { fixture: &self.fixture, case, index: place, name, start: START, rest: TOLERANCE };
            compare_samples(&run.request, samples, &image, table);
            table.add(name, "final", absolute(&run.latents, &self.last(case, place)), TOLERANCE);
            let pixels = self.fixture.of(case, "image").narrow(0, place, 1); // [1, height, width, 3]
            table.add("bytes of the images", name, levels(&run.pixels, &pixels), 1.0);
        }
    }

    /// Checks that a fault of diffusers shows in its numbers, and not in ours.
    fn is_at_fault(&self, case: &Value, fault: &str) {
        for index in 0..list(case, "seeds").len() {
            let run = self.run(case, index, Reading::Diffusers);
            let away = absolute(&run.latents, &self.last(case, index as i64));
            assert!(away > 100.0 * TOLERANCE, "{}: {away:.1e} from a run with the fault: {fault}", run.name);
        }
    }

    /// Their last latents of an image, `[1, 4, height, width]`.
    fn last(&self, case: &Value, index: i64) -> Tensor {
        self.fixture.of(case, "after_each_step").get(-1).narrow(0, index, 1)
    }

    /// Checks that the run starts from the draw of its seed that theirs starts from, and adds the draws after it.
    fn same_draws(&self, run: &Run, case: &Value) {
        let drawn = self.fixture.tensor(&format!("draws/{}", run.seed)); // [draws, 1, 4, height, width]
        let taps = &self.model.sampler;
        // The encoder of a picture drew before.
        let first = i64::from(word(case, "start") != "noise");
        assert!(identical(run.watch.only(taps.start.name()), &drawn.get(first)), "{}: draws other noise", run.name);
        for (number, (_, noise)) in (first + 1..).zip(run.watch.seen.get(taps.noise.name()).into_iter().flatten()) {
            assert!(number < case["draws"].as_i64().unwrap(), "{}: draws more often", run.name);
            assert!(identical(noise, &drawn.get(number)), "{}: draw {number} is other noise", run.name);
        }
    }

    /// How far the numbers, the pooled texts and the features of an image are from theirs.
    fn given(&self, run: &Run, case: &Value, index: usize) -> [Given; 3] {
        let first = |tap: &str| &run.watch.seen[tap][0].1; // they are the same in every call
        let ids = absolute(first(TIME_IDS), &time_ids(case, index));
        let pooled: Vec<&Tensor> = names(case, "pooled").map(|name| self.fixture.tensor(name)).collect();
        let pooled = relative(first(POOLED), &Tensor::stack(&pooled, 0));
        let rows: Vec<&Tensor> = names(case, "embeds").map(|name| self.fixture.tensor(name)).collect();
        // Without guidance there is no negative row.
        let branches = [Branch::Unconditional, Branch::Conditional].into_iter().skip(2 - rows.len());
        let features =
            branches.zip(rows).map(|(branch, theirs)| self.features_apart(run, branch, theirs)).fold(0.0, f64::max);
        [
            Given { what: "time ids", error: ids, tolerance: f64::EPSILON },
            Given { what: "pooled texts", error: pooled, tolerance: TEXT },
            Given { what: "features", error: features, tolerance: TEXT },
        ]
    }

    /// How far the features of a branch are from theirs. Where those are zeros, no text is encoded.
    fn features_apart(&self, run: &Run, branch: Branch, theirs: &Tensor) -> f64 {
        let is_of_branch = |rows: Rows| rows == Rows::Branch(branch);
        let of_encoder = |tap: String| {
            let mut seen = run.watch.seen.get(&tap).into_iter().flatten();
            seen.find(|(moment, _)| is_of_branch(moment.rows)).map(|(_, features)| features.shallow_clone())
        };
        let ours: Option<Vec<Tensor>> = self.features_of(&run.request, branch).into_iter().map(of_encoder).collect();
        let are_zeros = theirs.abs().max().double_value(&[]) == 0.0;
        match ours {
            Some(ours) if !are_zeros => relative(&Tensor::cat(&ours, -1).squeeze_dim(0), theirs),
            None if are_zeros => 0.0,
            _ => f64::INFINITY,
        }
    }

    /// The tap of each text encoder that the features of a branch pass: those of its last layer but one, or of one before. What
    /// comes before the first layer are the embeddings.
    fn features_of(&self, request: &Request, branch: Branch) -> Vec<String> {
        let skipped = match (branch, request.reading) {
            (Branch::Unconditional, Reading::Diffusers) => 0,
            _ => request.text.clip_skip as i64,
        };
        let texts = self.model.texts.iter().zip(&self.model.checkpoint.texts);
        let tap = |layers: i64| match layers - 2 - skipped {
            -1 => "text_model.embeddings.out".to_string(),
            layer => format!("text_model.encoder.layers.{layer}.out"),
        };
        texts.map(|(text, part)| format!("{}.{}", text.name, tap(part.encoder.config.num_hidden_layers))).collect()
    }
}

/// The tap of the numbers that the UNet is told, `[rows, numbers]`.
const TIME_IDS: &str = "unet.time_ids";

/// The tap of the pooled texts, `[rows, features]`.
const POOLED: &str = "unet.add_embedding.text";

/// The request of a case. With diffusers, 0 is no guidance as well as 1; here only 1 is.
fn asked(model: &Model, case: &Value, seed: u64, reading: Reading) -> Request {
    let request = request(model, case, seed);
    let text = |key: &str| case[key].as_str().map(String::from);
    let size = |key: &str| case.get(key).map(|size| serde_json::from_value::<[i64; 2]>(size.clone()).unwrap());
    Request {
        prompt_2: text("prompt_2"),
        negative_2: text("negative_prompt_2"),
        // Theirs tells an empty negative prompt from none.
        empty_negative: if case["negative_prompt"] == "" { EmptyNegative::Text } else { EmptyNegative::Model },
        micro: MicroConditions {
            original_size: size("original_size"),
            crop: size("crops_coords_top_left"),
            target_size: size("target_size"),
            negative_original_size: size("negative_original_size"),
            negative_crop: size("negative_crops_coords_top_left"),
            negative_target_size: size("negative_target_size"),
            aesthetic_score: case["aesthetic_score"].as_f64(),
            negative_aesthetic_score: case["negative_aesthetic_score"].as_f64(),
        },
        guidance: case["guidance"].as_f64().unwrap().max(1.0).into(),
        reading,
        text: TextOptions { clip_skip: case["clip_skip"].as_u64().unwrap_or(0) as usize, ..request.text },
        ..request
    }
}

/// The numbers of an image's rows, `[rows, numbers]`. Theirs are of the negative row of every image, then of the other.
fn time_ids(case: &Value, index: usize) -> Tensor {
    let rows = list(case, "time_ids").iter().skip(index).step_by(list(case, "seeds").len());
    let rows: Vec<Tensor> =
        rows.map(|row| Tensor::from_slice(&serde_json::from_value::<Vec<f64>>(row.clone()).unwrap())).collect();
    Tensor::stack(&rows, 0)
}

/// The names that a case lists under `key`.
fn names<'a>(case: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    list(case, key).iter().map(|name| name.as_str().unwrap())
}
