//! Lineages against what runs compute: calls with equal lineages have equal bits, and the planned number of evaluations is the number
//! of different ones.

use latentrace_nn::tch::Tensor;
use latentrace_nn::{Branch, Moment, Pass, Probe, Role, Rows, SamplerValue, Tap};
use latentrace_pipeline::{
    Act, At, Common, Guidance, Lineage, Lines, Mode, Model, Named, Networks, Options, Outcome, Picture, Prepared,
    Request, Setting, Start, TextOptions, Window, counts, evaluations_of, order,
};
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

fn at(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data").join(folder)
}

fn tiny() -> Model {
    Model::open(&at("golden/networks/sd1"), Options::default()).unwrap()
}

fn window(weight: f64, low: f64, outside: f64) -> Guidance {
    Guidance::Window(Window { weight, sigma: [low, 1e9], outside })
}

fn lines(prepared: &Prepared, mode: Mode) -> Lines {
    Lines::of(prepared, &Setting { mode, bytes: 1024, ..Setting::default() })
}

/// How many rows the network computes, each run made alone in the planned order or all in one batch.
fn planned(runs: &[Prepared], mode: Mode) -> usize {
    let lines: Vec<Lines> = runs.iter().map(|run| lines(run, mode)).collect();
    let order = order(&lines.iter().map(|lines| ((), lines)).collect::<Vec<_>>());
    let groups: Vec<Vec<&Lines>> = match mode {
        Mode::Alone => order.iter().map(|&index| vec![&lines[index]]).collect(),
        Mode::Batched => vec![order.iter().map(|&index| &lines[index]).collect()],
    };
    evaluations_of(&groups).into_iter().sum()
}

/// Runs each made by itself, in the order that is planned for them. Returns the results in the order of `runs`.
fn made(model: &Model, runs: &[Prepared]) -> Vec<Outcome> {
    let lines: Vec<Lines> = runs.iter().map(|run| lines(run, Mode::Alone)).collect();
    let order = order(&lines.iter().map(|lines| ((), lines)).collect::<Vec<_>>());
    let mut common = Common::of(lines.iter());
    let mut outcomes: Vec<Option<Outcome>> = runs.iter().map(|_| None).collect();
    for index in order {
        common.begin(&lines[index]);
        let run = Named { name: "a run", lines: &lines[index] };
        let (outcome, work) = model.make_with(&runs[index], run, &mut common, &mut Pass::silent()).unwrap();
        assert_eq!(work.evaluations + 2 * work.taken.values().sum::<usize>(), 2 * lines[index].calls.len());
        outcomes[index] = Some(outcome);
        common.end();
        let most = lines.iter().map(|lines| 2 * lines.calls.len()).max().unwrap();
        assert!(common.len() <= most, "{} outputs are kept", common.len());
    }
    assert!(common.is_empty(), "nothing is kept at the end");
    outcomes.into_iter().map(Option::unwrap).collect()
}

/// The bits of what each call of a run computes from, and of its outputs.
#[derive(Default)]
struct Bits {
    texts: Vec<(Branch, Vec<u8>)>,
    inputs: HashMap<usize, Vec<u8>>,
    outputs: HashMap<(usize, bool), Vec<u8>>,
}

fn bits(tensor: &Tensor) -> Vec<u8> {
    let numbers = Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap();
    numbers.into_iter().flat_map(f32::to_le_bytes).collect()
}

impl Probe for Bits {
    fn wants(&self, tap: &Tap, _: &Moment) -> bool {
        use latentrace_nn::Conditioning::{Conditional, Unconditional};
        let outputs = [Unconditional, Conditional].map(|of| Role::Sampler(SamplerValue::Output(of)));
        ["text_encoder.text_model.out", "unet.sample"].contains(&tap.name()) || outputs.contains(&tap.role())
    }

    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        match (tap.role(), moment.rows) {
            (Role::Sampler(of), _) => {
                let is_conditional = of.branch() == Some(Branch::Conditional);
                self.outputs.insert((moment.call, is_conditional), bits(&tensor));
            }
            (_, Rows::Branch(branch)) => self.texts.push((branch, bits(&tensor))),
            _ => _ = self.inputs.insert(moment.call, bits(&tensor)),
        }
        tensor
    }
}

/// A call by the bits of all that it computes from: the sample as the UNet takes it, the time, and the two texts.
type Seen = (Vec<u8>, u32, Vec<u8>, Vec<u8>);

/// Each call of a run as it is made alone, with the bits of its two outputs.
fn seen(model: &Model, run: &Prepared) -> Vec<(Seen, [Vec<u8>; 2])> {
    let mut found = Bits::default();
    model.make(run, &[], &mut Pass::watched(&mut found)).unwrap();
    let text = |of| found.texts.iter().find(|(branch, _)| *branch == of).unwrap().1.clone();
    let texts = [Branch::Unconditional, Branch::Conditional].map(text);
    let of_call = |call: usize| {
        let time = (run.plan.steps()[call].level.t as f32).to_bits();
        let [negative, prompt] = texts.clone();
        let outputs = [false, true].map(|half| found.outputs[&(call, half)].clone());
        ((found.inputs[&call].clone(), time, negative, prompt), outputs)
    };
    (0..run.plan.calls()).map(of_call).collect()
}

#[derive(Clone, Debug)]
struct Arm {
    prompt: &'static str,
    negative: &'static str,
    seed: u64,
    steps: usize,
    guidance: Guidance,
    sampler: &'static str,
    strength: Option<f64>,
}

fn arm() -> impl Strategy<Value = Arm> {
    let guidance = prop_oneof![
        Just(Guidance::Constant(0.0)),
        Just(Guidance::Constant(1.0)),
        Just(Guidance::Constant(4.0)),
        Just(window(4.0, 1.0, 1.0)),
        Just(window(4.0, 5.0, 1.0)),
        Just(window(4.0, 1.0, 6.0)),
    ];
    let sampler = prop::sample::select(vec!["ddim", "pndm", "euler", "euler_a", "dpm++2m", "heun"]);
    let texts = (prop::sample::select(vec!["a cat", "a dog"]), prop::sample::select(vec!["", "a mouse"]));
    let rest = (1u64..3, prop::sample::select(vec![2usize, 4]), guidance, sampler);
    (texts, rest, prop::option::weighted(0.2, Just(0.5))).prop_map(|((prompt, negative), rest, strength)| {
        let (seed, steps, guidance, sampler) = rest;
        Arm { prompt, negative, seed, steps, guidance, sampler, strength }
    })
}

fn prepared(model: &Model, arm: &Arm) -> Prepared {
    try_prepared(model, arm).unwrap()
}

fn try_prepared(model: &Model, arm: &Arm) -> Result<Prepared, latentrace_pipeline::Error> {
    let Arm { prompt, negative, seed, steps, guidance, sampler, strength } = arm.clone();
    let own = model.request(prompt, seed);
    let scheduler = own.scheduler.with_class(sampler).unwrap();
    let size = own.size;
    let request = Request { negative: negative.into(), steps, guidance, scheduler, ..own };
    let pixels = vec![100; (3 * size.height * size.width) as usize];
    let picture = Picture { width: size.width as usize, height: size.height as usize, pixels };
    let start = match strength {
        Some(strength) => Start::Picture { strength, picture: picture.into() },
        None => Start::Noise,
    };
    model.prepare(request, start)
}

/// The rows of the first call, whose names have those of both texts in them.
#[test]
fn texts_have_the_lineages_of_earlier_versions() {
    let model = tiny();
    let text = TextOptions { clip_skip: 1, weights: true, ..TextOptions::default() };
    let request = Request { negative: "a (mouse:0.5)".into(), text, ..model.request("a (cat:1.5)", 7) };
    let prepared = model.prepare(request, Start::Noise).unwrap();
    let networks = Networks { text_encoder: "texts".into(), unet: "unet".into(), ..Networks::default() };
    let rows = |mode: Mode, acts: &[Act]| {
        let (networks, acts) = (networks.clone(), acts.to_vec());
        let setting = Setting { mode, networks, acts, ..Setting::default() };
        Lines::of(&prepared, &setting).calls[0].rows().map(|row| format!("{row:?}")).collect::<Vec<_>>()
    };
    let edit = Act { rule: "text_encoder.** => zero".into(), at: At::Texts };
    let found = [rows(Mode::Alone, &[]), rows(Mode::Batched, &[]), rows(Mode::Alone, &[edit])];
    let expected = [
        ["eb2f1374735a84d1", "e72d489894f10ddc"],
        ["ae6cd9b444d7c35b", "f3b87e5e40316469"],
        ["6c011c3b19f9fdca", "bee707b185e0b926"],
    ];
    assert_eq!(found, expected);
}

#[test]
fn calls_of_equal_lineage_are_equal_in_every_bit_and_are_made_once() {
    let model = tiny();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 12, ..ProptestConfig::default() });
    let sets = prop::collection::vec(arm(), 2..7);
    let check = |arms: Vec<Arm>| {
        let runs: Vec<Prepared> = arms.iter().map(|arm| prepared(&model, arm)).collect();
        let alone: Vec<_> = runs.iter().map(|run| seen(&model, run)).collect();
        let mut outputs: HashMap<Lineage, &Vec<u8>> = HashMap::new();
        let mut different: BTreeSet<&Seen> = BTreeSet::new();
        for (run, calls) in runs.iter().zip(&alone) {
            for (needed, (input, halves)) in lines(run, Mode::Alone).calls.iter().zip(calls) {
                different.insert(input);
                for (row, half) in needed.rows().zip(halves) {
                    prop_assert_eq!(*outputs.entry(row).or_insert(half), half, "one lineage, other bits");
                }
            }
        }
        // By the lineages as by the bits.
        let count = planned(&runs, Mode::Alone);
        prop_assert_eq!(outputs.len(), count);
        prop_assert_eq!(2 * different.len(), count);
        let before = counts().rows;
        let together = made(&model, &runs);
        prop_assert_eq!(counts().rows - before, count);
        for (run, outcome) in runs.iter().zip(&together) {
            let alone = model.make(run, &[], &mut Pass::silent()).unwrap();
            prop_assert!(bits(&alone.latents) == bits(&outcome.latents) && alone.picture == outcome.picture);
        }
        Ok(())
    };
    runner.run(&sets, check).unwrap();
}

#[test]
fn a_batch_computes_as_many_rows_as_there_are_lineages() {
    let model = tiny();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 12, ..ProptestConfig::default() });
    let sets = prop::collection::vec(arm(), 2..7);
    let check = |arms: Vec<Arm>| {
        let one_plan = |arm: &Arm| Arm { sampler: "ddim", steps: 4, strength: None, ..arm.clone() };
        let runs: Vec<Prepared> = arms.iter().map(|arm| prepared(&model, &one_plan(arm))).collect();
        let lines: Vec<Lines> = runs.iter().map(|run| lines(run, Mode::Batched)).collect();
        let different: BTreeSet<Lineage> =
            lines.iter().flat_map(|lines| lines.calls.iter().flat_map(|call| call.rows())).collect();
        let before = counts().rows;
        let together = model.make_together(&runs.iter().collect::<Vec<_>>(), &mut Pass::silent()).unwrap();
        let found = [planned(&runs, Mode::Batched), together.evaluations, counts().rows - before];
        prop_assert_eq!(found, [different.len(); 3]);
        // Two batches that know of each other compute no more than one.
        let half = runs.len() / 2;
        let mut common = Common::of(lines.iter());
        let mut count = 0;
        for (runs, lines) in [(&runs[..half], &lines[..half]), (&runs[half..], &lines[half..])] {
            lines.iter().for_each(|lines| common.begin(lines));
            let named: Vec<Named> = lines.iter().map(|lines| Named { name: "a run", lines }).collect();
            let images: Vec<&Prepared> = runs.iter().collect();
            let made = model.make_together_with(&images, &named, &mut common, &mut Pass::silent()).unwrap();
            count += made.evaluations;
            for (run, outcome) in runs.iter().zip(&made.outcomes) {
                let alone = model.make(run, &[], &mut Pass::silent()).unwrap().latents;
                let apart =
                    (&alone - &outcome.latents).abs().max().double_value(&[]) / alone.abs().max().double_value(&[]);
                prop_assert!(apart < 1e-4, "{apart}");
            }
            common.end();
        }
        prop_assert_eq!(count, different.len());
        prop_assert!(common.is_empty());
        Ok(())
    };
    runner.run(&sets, check).unwrap();
}

#[test]
fn nine_guidance_scales_and_nine_forks_have_the_numbers_of_the_arithmetic() {
    let model = Model::open(&at("models/shapes"), Options::default()).unwrap();
    let arms = |sampler: &str, guidance: &dyn Fn(f64) -> Guidance, weights: [f64; 9]| -> Vec<Prepared> {
        let own = model.request("a red circle", 1);
        let scheduler = own.scheduler.with_class(sampler).unwrap();
        let of = |weight: f64| Request { guidance: guidance(weight), scheduler: scheduler.clone(), ..own.clone() };
        weights.into_iter().map(|weight| model.prepare(of(weight), Start::Noise).unwrap()).collect()
    };
    let nine = [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0];
    let with_one = [1.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0];
    for (sampler, calls, shared, without) in [("ddim", 50, 884, 835), ("pndm", 51, 902, 852)] {
        let (plain, one) = (arms(sampler, &Guidance::Constant, nine), arms(sampler, &Guidance::Constant, with_one));
        assert_eq!(plain[0].plan.calls(), calls);
        assert_eq!([Mode::Alone, Mode::Batched].map(|mode| planned(&plain, mode)), [shared; 2]);
        assert_eq!(shared, 2 + (calls - 1) * 18);
        // A weight of 1 needs no unconditional row. A run by itself computes and records it all the same.
        assert_eq!([Mode::Alone, Mode::Batched].map(|mode| planned(&one, mode)), [shared, without]);
    }
    // The weight is the same at the calls 0 to 24, so the samples are at the calls 0 to 25.
    let level = |call: usize| arms("ddim", &Guidance::Constant, nine)[0].plan.steps()[call].level.sigma;
    let low = f64::midpoint(level(24), level(25));
    let forks = arms("ddim", &|weight| window(7.5, low, weight), nine);
    let later = |first: usize| 2 * (first + 9 * (50 - first));
    assert_eq!([Mode::Alone, Mode::Batched].map(|mode| planned(&forks, mode)), [later(26); 2]);
    assert_eq!([later(26), later(25)], [484, 500]);
}

#[test]
fn runs_that_share_calls_are_made_one_after_the_other() {
    let model = tiny();
    let of = |seed, guidance: f64| {
        let arm = Arm {
            prompt: "a cat",
            negative: "",
            seed,
            steps: 4,
            guidance: guidance.into(),
            sampler: "ddim",
            strength: None,
        };
        lines(&prepared(&model, &arm), Mode::Alone)
    };
    let runs: Vec<Lines> =
        [(1, 2.0), (2, 2.0), (3, 2.0), (2, 4.0), (1, 4.0), (1, 8.0)].map(|(seed, weight)| of(seed, weight)).into();
    let of_one_model: Vec<_> = runs.iter().map(|lines| ("a", lines)).collect();
    assert_eq!(order(&of_one_model), [0, 4, 5, 1, 3, 2]);
    let of_two: Vec<_> = ["a", "b", "a", "b", "a", "b"].into_iter().zip(&runs).collect();
    assert_eq!(order(&of_two), [0, 4, 2, 1, 3, 5], "a model is opened once");
    // What several need is kept from the first of them to the last.
    let groups = |order: &[usize]| order.iter().map(|&index| vec![&runs[index]]).collect::<Vec<_>>();
    assert_eq!(evaluations_of(&groups(&[0, 4, 5, 1, 3, 2])), [8, 6, 6, 8, 6, 8]);
    assert_eq!(evaluations_of(&groups(&[0, 1, 2, 3, 4, 5])), [8, 8, 8, 6, 6, 6]);
}

#[test]
fn samplers_that_begin_alike_share_their_first_calls() {
    let model = tiny();
    let names: Vec<&str> = latentrace_pipeline::schedulers::Class::names().collect();
    for strength in [None, Some(0.5)] {
        let arm = |sampler| {
            let guidance = Guidance::Constant(4.0);
            Arm { prompt: "a cat", negative: "", seed: 1, steps: 5, guidance, sampler, strength }
        };
        // The inverse of DDIM starts from no noise. Some are refused, as those that diffusers reads as made for velocities.
        let runs: Vec<Prepared> = names
            .iter()
            .filter(|name| **name != "ddim_inverse")
            .filter_map(|name| try_prepared(&model, &arm(name)).ok())
            .collect();
        let (mut known, mut first) = (HashMap::new(), [BTreeSet::new(), BTreeSet::new()]);
        for run in &runs {
            for (call, (needed, (input, halves))) in
                lines(run, Mode::Alone).calls.iter().zip(seen(&model, run)).enumerate()
            {
                let lineage = needed.conditional.unwrap();
                if call == 0 {
                    first[0].insert(format!("{lineage:?}"));
                    first[1].insert(format!("{:?}", input.0));
                }
                let same = known.entry(lineage).or_insert_with(|| (input.clone(), halves.clone()));
                assert_eq!(*same, (input, halves), "one lineage, other bits");
            }
        }
        // At the first call the lineages find all that is equal.
        assert_eq!(first[0].len(), first[1].len());
        assert!(
            runs.len() > 25 && first[0].len() < runs.len() / 2,
            "{} first calls of {} samplers",
            first[0].len(),
            runs.len()
        );
    }
}
