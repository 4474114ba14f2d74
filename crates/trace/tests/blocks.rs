//! Scores and probabilities that come in blocks are kept as if they had come whole, and are as in f64.

#[allow(dead_code)] // each file of tests uses its own part
mod common;

use common::{about, bits, list, noise, words};
use latentrace_nn::tch::{Device, Kind, Tensor};
use latentrace_nn::{Attends, Attention, AttentionShape, Both, Branch, Moment, Pass, Place, Probe, Rows, Tap, Weights};
use latentrace_trace::{Capture, EditRule, Edits, Entry, Layout, Recorder, Rule, Statistics, Trace, Writer};
use tempfile::TempDir;

/// The pixels of the picture. Their scores are more than a block has.
const GRID: [i64; 2] = [24, 32];
const HEADS: i64 = 3;
const MOMENT: Moment = Moment {
    call: 0,
    step: 0,
    evaluation: 0,
    t: 0.0,
    sigma: 1.0,
    image: 0,
    rows: Rows::Branches,
    grid: Some(GRID),
    again: false,
};

/// An attention, and what it is given for two rows.
struct Layer {
    attention: Attention,
    taps: Vec<Tap>,
    x: Tensor,
    context: Tensor,
}

/// Attention to the pixels themselves, or to a text of five tokens, in heads of eight features.
fn layer(attends: Attends, kind: Kind, heads: i64) -> Layer {
    let weights = Weights::random("unet", 3, kind, Device::Cpu);
    let pixels = GRID[0] * GRID[1];
    let (name, tokens) = if attends == Attends::Text { ("attn2", 5) } else { ("attn1", pixels) };
    let names = AttentionShape::DIFFUSERS;
    let (width, context) = (8 * heads, 6);
    let shape = AttentionShape { width, context, attends, heads, bias: true, causal: false, upcast: false, names };
    let attention = Attention::load(&weights.at(name), shape).unwrap();
    let draw = |seed, shape: [i64; 3]| noise(seed, &shape).to_kind(kind);
    let (x, context) = (draw(1, [2, pixels, width]) * 3.0, draw(2, [2, tokens, context]) * 3.0);
    Layer { attention, taps: weights.taps(), x, context }
}

impl Layer {
    fn forward(&self, probe: &mut dyn Probe) -> Tensor {
        let mut pass = Pass::watched(probe);
        pass.set_moment(MOMENT);
        self.attention.forward(&mut pass, &self.x, &self.context)
    }

    /// A record of a call, made through a probe around the recorder.
    fn record(&self, rules: &[&str], watch: impl FnOnce(&Layer, &mut Recorder) -> Tensor) -> (TempDir, Trace, Tensor) {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::create(folder.path(), &about(), Layout::WHOLE).unwrap();
        let rules = rules.iter().map(|rule| Rule::parse(rule).unwrap()).collect();
        let capture = Capture { rules, budget: None };
        let mut recorder = Recorder::new(&capture, &self.taps, words(), 1, writer).unwrap();
        let out = watch(self, &mut recorder);
        recorder.end(None).unwrap();
        let trace = Trace::open(folder.path()).unwrap();
        assert_eq!(trace.problems(), [""; 0]);
        (folder, trace, out)
    }
}

/// Hands its probe whole tensors, or blocks; counts what came.
struct Counted<'a> {
    probe: &'a mut Recorder,
    blocks: usize,
    whole: usize,
    takes_blocks: bool,
}

impl<'a> Counted<'a> {
    fn new(probe: &'a mut Recorder, takes_blocks: bool) -> Counted<'a> {
        Counted { probe, blocks: 0, whole: 0, takes_blocks }
    }
}

impl Probe for Counted<'_> {
    fn wants(&self, tap: &Tap, moment: &Moment) -> bool {
        self.probe.wants(tap, moment)
    }
    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        self.whole += 1;
        self.probe.visit(tap, moment, tensor)
    }
    fn takes_blocks(&self, tap: &Tap, moment: &Moment) -> bool {
        self.takes_blocks && self.probe.takes_blocks(tap, moment)
    }
    fn visit_block(&mut self, tap: &Tap, moment: Moment, block: &latentrace_nn::Block) {
        let Place { queries, .. } = block.place;
        assert_eq!(block.tensor.size(), [1, 1, queries, block.whole[3]]);
        self.blocks += 1;
        self.probe.visit_block(tap, moment, block);
    }
}

fn in_blocks(layer: &Layer, recorder: &mut Recorder) -> Tensor {
    let mut counted = Counted::new(recorder, true);
    let out = layer.forward(&mut counted);
    assert!(counted.blocks > 1 && counted.whole == 0, "{} blocks", counted.blocks);
    out
}

fn whole(layer: &Layer, recorder: &mut Recorder) -> Tensor {
    let mut counted = Counted::new(recorder, false);
    let out = layer.forward(&mut counted);
    assert_eq!(counted.blocks, 0);
    out
}

/// Rules that keep less than the whole tensors of self-attention.
const OF_PIXELS: [&str; 8] = [
    "unet.attn1.{scores,probs} | head_mean",
    "unet.attn1.{scores,probs} @branch{cond} | head_mean | q8",
    "unet.attn1.probs | down(7)",
    "unet.attn1.probs @branch{uncond} | head_mean | down(7)",
    "unet.attn1.probs | topk(5)",
    "unet.attn1.probs | head_mean | histogram(9)",
    "unet.attn1.{scores,probs} | stats",
    "unet.attn1.probs | head_mean | stats",
];

/// What a record has of a tensor.
fn parts(trace: &Trace, entry: &Entry) -> Vec<Vec<u8>> {
    let stored = entry.stored.as_ref().map(|_| bits(&trace.tensor(entry).unwrap()));
    let places = entry.places.as_ref().map(|_| bits(&trace.places(entry).unwrap().unwrap()));
    stored.into_iter().chain(places).collect()
}

/// The mean and the root mean square are sums of f32 in another order: 64 numbers in a lane, each rounded to 2^-24.
fn assert_near(a: &Statistics, b: &Statistics, name: &str) {
    let most = 4e-6 * a.absmax();
    assert!((a.mean - b.mean).abs() <= most && (a.rms - b.rms).abs() <= most, "{name}: {a:?} {b:?}");
    assert_eq!((a.min, a.max, a.nan, a.inf), (b.min, b.max, b.nan, b.inf), "{name}");
}

#[test]
fn a_record_made_in_blocks_is_the_record_of_the_whole_tensors() {
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half, Kind::Double] {
        for heads in [HEADS, 20] {
            let layer = layer(Attends::Itself, kind, heads);
            if heads == 20 && kind != Kind::Float {
                continue; // the means over heads are the same operation in every format
            }
            let silent = layer.attention.forward(&mut Pass::silent(), &layer.x, &layer.context);
            let (_folder, blocks, out) = layer.record(&OF_PIXELS, in_blocks);
            assert!(out.equal(&silent), "{kind:?}: watching changes no bit");
            let (_folder_2, plain, out) = layer.record(&OF_PIXELS, whole);
            assert!(out.equal(&silent), "{kind:?}");
            let keys = |trace: &Trace| trace.entries().iter().map(|entry| entry.key().name()).collect::<Vec<_>>();
            assert_eq!(keys(&blocks), keys(&plain), "{kind:?}: in the same order");
            for (a, b) in blocks.entries().iter().zip(plain.entries()) {
                let name = format!("{kind:?}, {heads} heads, {}", a.key().name());
                assert_eq!((&a.shape, &a.grid, &a.dtype), (&b.shape, &b.grid, &b.dtype), "{name}");
                assert!(parts(&blocks, a) == parts(&plain, b), "{name}: every bit");
                assert_near(&a.statistics, &b.statistics, &name);
            }
            assert_eq!(blocks.entries().len(), 2 * 2 + 2 + 2 + 1 + 2 + 2 + 2 * 2 + 2);
        }
    }
}

/// Keeps q and k.
struct QueriesAndKeys([Option<Tensor>; 2]);

impl Probe for QueriesAndKeys {
    fn wants(&self, tap: &Tap, _: &Moment) -> bool {
        tap.name().ends_with(".q") || tap.name().ends_with(".k")
    }
    fn visit(&mut self, tap: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        self.0[usize::from(tap.name().ends_with(".k"))] = Some(tensor.to_kind(Kind::Double));
        tensor
    }
}

#[test]
fn what_is_kept_of_blocks_is_as_in_f64() {
    let layer = layer(Attends::Itself, Kind::Float, HEADS);
    let mut seen = QueriesAndKeys([None, None]);
    let _ = layer.forward(&mut seen);
    let [q, k] = seen.0.map(Option::unwrap);
    let scores = q.matmul(&k.transpose(2, 3)) / 8f64.sqrt();
    let probs = scores.softmax(-1, Kind::Double);
    let (_folder, trace, _) = layer.record(&OF_PIXELS, in_blocks);
    let most = scores.abs().max().double_value(&[]);
    assert!(most > 1.0, "the scores are not all the same: {most}");
    for (row, branch) in [(0, Branch::Unconditional), (1, Branch::Conditional)] {
        for (name, exact) in [("scores", &scores), ("probs", &probs)] {
            let of = |kept: &str| {
                let of_tap = trace.of_tap(if name == "scores" { "unet.attn1.scores" } else { "unet.attn1.probs" });
                of_tap.into_iter().find(|entry| entry.kept == kept && entry.branch == Some(branch)).unwrap()
            };
            let exact = exact.get(row).unsqueeze(0);
            // A sum of 8 products in f32, divided by a root: 10 roundings of 2^-24 of the greatest, at most. The error of a
            // probability is that of its score, times itself, and a few roundings more.
            let most = 10.0 * 2f64.powi(-24) * (most + 1.0);
            let mean = exact.mean_dim(1, true, None::<Kind>);
            let apart = (trace.tensor(of("head_mean")).unwrap().to_kind(Kind::Double) - &mean).abs();
            assert!(apart.max().double_value(&[]) < most, "{name}: {:e}", apart.max().double_value(&[]));
            let found = of("stats").statistics;
            let exactly =
                [exact.mean(None::<Kind>), exact.square().mean(None::<Kind>).sqrt(), exact.min(), exact.max()];
            let found = [found.mean, found.rms, found.min, found.max];
            for (found, exact) in found.into_iter().zip(exactly) {
                let exact = exact.double_value(&[]);
                assert!((found - exact).abs() < most + 4e-6 * exact.abs(), "{name}: {found} {exact}");
            }
        }
    }
}

#[test]
fn words_are_kept_of_blocks_too() {
    // So many pixels that five tokens for each are more than a block. The negative prompt has no cat.
    let mut layer = layer(Attends::Text, Kind::Float, HEADS);
    layer.x = layer.x.repeat([1, 64, 1]);
    let rules = ["unet.attn2.probs | head_mean | tokens(cat)", "unet.attn2.probs | tokens(cat, dog) | stats"];
    let (_folder, blocks, _) = layer.record(&rules, in_blocks);
    let (_folder_2, plain, _) = layer.record(&rules, whole);
    assert_eq!(blocks.entries().len(), 3);
    for (a, b) in blocks.entries().iter().zip(plain.entries()) {
        assert_eq!((a.key(), &a.shape, a.grid), (b.key(), &b.shape, b.grid));
        assert!(parts(&blocks, a) == parts(&plain, b), "{}", a.key().name());
        assert_near(&a.statistics, &b.statistics, &a.key().name());
    }
}

#[test]
fn whoever_keeps_or_changes_the_whole_tensor_gets_it() {
    let layer = layer(Attends::Itself, Kind::Float, HEADS);
    // A rule for the whole tensor, for either tap; the other rules are then given it too.
    for rule in ["unet.attn1.probs", "unet.attn1.scores | f16"] {
        let (_folder, trace, _) = layer.record(&[rule, "unet.attn1.probs | head_mean"], |layer, recorder| {
            let mut counted = Counted::new(recorder, true);
            let out = layer.forward(&mut counted);
            assert_eq!(counted.blocks, 0, "{rule}");
            out
        });
        let size = [1, HEADS, 768, 768];
        let kept = trace.entries().iter().filter(|entry| entry.shape == size.map(|n| n as usize));
        assert_eq!(kept.count(), 2, "{rule}");
    }
    // An edit of the probabilities: the record has what the run continued with.
    let rule = EditRule::parse("unet.attn1.probs @branch{cond} => scale(0.5)").unwrap();
    let (_folder, trace, _) = layer.record(&["unet.attn1.probs | head_mean"], |layer, recorder| {
        let mut edits = Edits::new(std::slice::from_ref(&rule), &layer.taps, words(), 1).unwrap();
        layer.forward(&mut Both(&mut edits, Counted::new(recorder, true)))
    });
    for (branch, sum) in [(Branch::Unconditional, 1.0), (Branch::Conditional, 0.5)] {
        let mean = trace.entries().iter().find(|entry| entry.branch == Some(branch)).unwrap();
        let sums = list(&trace.tensor(mean).unwrap().sum_dim_intlist(-1, false, Kind::Double));
        assert!(sums.iter().all(|found| (found - sum).abs() < 1e-5), "768 numbers, rounded to 2^-24 of 1: {sum}");
    }
    // An edit of another tensor does not matter.
    let rule = EditRule::parse("unet.attn1.v => scale(0.5)").unwrap();
    let _ = layer.record(&["unet.attn1.probs | head_mean"], |layer, recorder| {
        let mut edits = Edits::new(std::slice::from_ref(&rule), &layer.taps, words(), 1).unwrap();
        let mut both = Both(&mut edits, Counted::new(recorder, true));
        let out = layer.forward(&mut both);
        assert!(both.1.blocks > 1);
        out
    });
}

#[test]
fn a_budget_counts_what_comes_in_blocks() {
    let layer = layer(Attends::Itself, Kind::Float, HEADS);
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::create(folder.path(), &about(), Layout::WHOLE).unwrap();
    let rules = vec![Rule::parse("unet.attn1.probs | head_mean").unwrap()];
    let capture = Capture { rules, budget: Some(4 * 768 * 768) }; // one mean over the heads
    let mut recorder = Recorder::new(&capture, &layer.taps, words(), 1, writer).unwrap();
    let _ = layer.forward(&mut Counted::new(&mut recorder, true));
    assert_eq!(recorder.end(None).unwrap(), 1, "the second");
    assert_eq!(Trace::open(folder.path()).unwrap().entries().len(), 1);
}
