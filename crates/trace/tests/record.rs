//! What is recorded is what passed: bits, rows, rounding, statistics, budgets, windows, and continued records.

#[allow(dead_code)] // each file of tests uses its own part
mod common;

use common::{Run, about, bits, holds_what_passed, key, list, noise, same};
use latentrace_nn::tch::{Device, Kind, Tensor};
use latentrace_nn::{
    Attends, Attention, AttentionShape, Branch, Conditioning, ModuleValue, Moment, Part, Pass, Role, Rows,
    SamplerValue, Tap, Weights,
};
use latentrace_trace::{End, Entry, Layout, Statistics, Trace, Writer};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

fn recorded(run: &Run, rules: &[&str], layout: Layout) -> (tempfile::TempDir, Trace) {
    let folder = tempfile::tempdir().unwrap();
    run.record(folder.path(), rules, None, layout).unwrap();
    let trace = Trace::open(folder.path()).unwrap();
    assert_eq!(trace.problems(), [""; 0]);
    (folder, trace)
}

/// The only entry of a tap.
fn only<'a>(trace: &'a Trace, tap: &'a str) -> &'a Entry {
    let found: Vec<&Entry> = trace.of_tap(tap).collect();
    assert_eq!(found.len(), 1, "{tap}");
    found[0]
}

/// A run of one tensor.
fn single(name: &str, tensor: Tensor) -> Run {
    let mut run = Run::empty();
    run.pass(name, Moment::default(), tensor);
    run
}

/// Every file of a folder and the folders in it.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.path().is_dir() {
            true => found.extend(files(&entry.path())),
            false => _ = found.insert(entry.path(), std::fs::read(entry.path()).unwrap()),
        }
    }
    found
}

#[test]
fn every_tensor_comes_back_bit_by_bit() {
    for images in [1, 2] {
        for layout in [Layout::EVERY_CALL, Layout::WHOLE] {
            let run = Run::new(5, images);
            let (_folder, trace) = recorded(&run, &["unet.**", "text_encoder.out"], layout);
            let rows = run.rows();
            assert_eq!(holds_what_passed(&trace, &rows), rows.len());
            let keys: HashSet<_> = trace.entries().iter().map(Entry::key).collect();
            assert_eq!(keys.len(), trace.entries().len(), "each once");
            assert_eq!((trace.complete(), trace.end().unwrap().error.as_ref()), (5, None));
            assert_eq!(trace.run()["prompt"], "a red cat");
        }
    }
}

#[test]
fn every_format_and_odd_number_and_layout_in_memory_comes_back() {
    let odd = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-42, f32::MAX, f32::MIN_POSITIVE];
    let odd = Tensor::from_slice(&odd).view([2, 4]);
    let mut run = Run::empty();
    for kind in [Kind::Float, Kind::Half, Kind::BFloat16, Kind::Double] {
        run.pass(&format!("a.{kind:?}"), Moment::default(), odd.to_kind(kind));
    }
    for kind in [Kind::Int64, Kind::Uint8] {
        let numbers = Tensor::from_slice(&[0i64, 1, 255, 7, 254, 128]).view([3, 2]).to_kind(kind);
        run.pass(&format!("a.{kind:?}"), Moment::default(), numbers);
    }
    run.pass("a.turned", Moment::default(), noise(1, &[4, 3, 2]).permute([2, 0, 1]));
    run.pass("a.turned_row", Moment::default(), noise(2, &[1, 3, 2]).transpose(1, 2));
    run.pass("a.spread", Moment::default(), noise(3, &[1, 1, 4]).expand([2, 3, 4], false));
    run.pass("a.part", Moment::default(), noise(4, &[5, 6]).narrow(0, 1, 2).narrow(1, 2, 3));
    run.pass("a.vector", Moment::default(), noise(5, &[3]));
    run.pass("a.nothing", Moment::default(), Tensor::zeros([2, 0, 3], (Kind::Float, Device::Cpu)));
    let (_folder, trace) = recorded(&run, &["a.*"], Layout::WHOLE);
    let rows = run.rows();
    assert_eq!(holds_what_passed(&trace, &rows), rows.len());
    assert_eq!(only(&trace, "a.turned_row").shape, [1, 2, 3]);
}

#[test]
fn a_batch_is_taken_apart_into_branches_and_images() {
    let mut run = Run::empty();
    let at = |call, image, rows| Moment { call, image, rows, ..Moment::default() };
    let numbered = |count: i64| Tensor::arange(count, (Kind::Float, Device::Cpu)).view([count, 1]) * 10.0;
    run.pass("unet.out", at(0, 0, Rows::Branches), numbered(2));
    run.pass("unet.out", at(1, 3, Rows::Branches), numbered(4));
    run.pass("unet.time", at(1, 3, Rows::Branches), numbered(1));
    run.pass("text.out", at(1, 3, Rows::Branch(Branch::Conditional)), numbered(2));
    run.pass("vae.out", at(1, 3, Rows::Images), numbered(2));
    let (_folder, trace) = recorded(&run, &["**"], Layout::EVERY_CALL);
    let (u, c) = (Some(Branch::Unconditional), Some(Branch::Conditional));
    let expected = [
        ("unet.out", 0, u, 0, 0.0),
        ("unet.out", 0, c, 0, 10.0),
        ("unet.out", 1, u, 3, 0.0),
        ("unet.out", 1, u, 4, 10.0),
        ("unet.out", 1, c, 3, 20.0),
        ("unet.out", 1, c, 4, 30.0),
        ("unet.time", 1, None, 3, 0.0),
        ("text.out", 1, c, 3, 0.0),
        ("text.out", 1, c, 4, 10.0),
        ("vae.out", 1, None, 3, 0.0),
        ("vae.out", 1, None, 4, 10.0),
    ];
    assert_eq!(trace.entries().len(), expected.len());
    for (entry, (tap, call, branch, image, number)) in trace.entries().iter().zip(expected) {
        assert_eq!(entry.key(), key(tap, call, branch, image), "in the order in which they passed");
        assert_eq!(list(&trace.tensor(entry).unwrap()), [number], "{}", entry.key().name());
    }
    assert_eq!(list(&trace.get("unet.out", 0, c).unwrap()), [10.0]);
    let error = trace.get("unet.out", 1, c).unwrap_err().to_string(); // image 0 was not in that batch
    assert!(
        error.starts_with("unet.out/001/cond: not in ") && error.contains("hint: there are unet.out/000"),
        "{error}"
    );
}

#[test]
fn rounded_numbers_are_the_nearest_that_their_format_has() {
    let numbers = Tensor::cat(&[noise(1, &[1, 500]), noise(2, &[1, 500]) * 1e-6, noise(3, &[1, 500]) * 300.0], 1);
    let run = single("a.out", numbers.shallow_clone());
    let (_folder, trace) = recorded(&run, &["a.out | f16", "a.out | q8", "a.out | stats"], Layout::WHOLE);
    let [half, levels, stats] = trace.entries() else { panic!("three entries") };
    let of = |entry: &Entry| trace.tensor(entry).unwrap();
    assert_eq!((of(half).kind(), half.stored.as_ref().unwrap().dtype.as_str()), (Kind::Half, "F16"));
    for (x, y) in list(&numbers).into_iter().zip(list(&of(half))) {
        // f16 has 11 digits, and below 2^-14 steps of 2^-24.
        let step = 2f64.powf(x.abs().log2().floor().max(-14.0) - 10.0);
        assert!((x - y).abs() <= step / 2.0, "{x} became {y}");
    }
    let [low, high] = levels.stored.as_ref().unwrap().range.unwrap();
    assert_eq!((low, high), (numbers.min().double_value(&[]), numbers.max().double_value(&[])));
    assert_eq!((of(levels).kind(), levels.stored.as_ref().unwrap().dtype.as_str()), (Kind::Float, "U8"));
    for (x, y) in list(&numbers).into_iter().zip(list(&of(levels))) {
        // Scaling and back is done in f32, which is off by a few units in the last of the largest number's 24 digits.
        let rounding = 4.0 * 2f64.powi(-24) * low.abs().max(high.abs());
        assert!((x - y).abs() <= (high - low) / 255.0 / 2.0 + rounding, "{x} became {y}");
    }
    assert_eq!((half.kept.as_str(), levels.kept.as_str(), stats.kept.as_str()), ("f16", "q8", "stats"));
    assert!(stats.stored.is_none());
    assert!(trace.tensor(stats).unwrap_err().to_string().contains("hint: only its statistics were kept"));
    for entry in trace.entries() {
        assert_eq!((entry.dtype.as_str(), entry.shape.as_slice()), ("F32", &[1, 1500][..]));
        assert_eq!(entry.statistics, half.statistics, "of what passed, not of what was stored");
    }
}

#[test]
fn levels_of_odd_tensors() {
    let mut run = Run::empty();
    let row = |numbers: &[f32]| Tensor::from_slice(numbers).unsqueeze(0);
    run.pass("a.constant", Moment::default(), row(&[-2.75; 5]));
    run.pass("a.unclean", Moment::default(), row(&[1.0, f32::NAN, 3.0, f32::INFINITY, f32::NEG_INFINITY]));
    run.pass("a.never", Moment::default(), row(&[f32::NAN; 3]));
    run.pass("a.half", Moment::default(), row(&[0.5, 8.0]).to_kind(Kind::BFloat16));
    let (_folder, trace) = recorded(&run, &["a.* | q8"], Layout::WHOLE);
    let read = |tap| list(&trace.tensor(only(&trace, tap)).unwrap());
    assert_eq!(read("a.constant"), [-2.75; 5]);
    assert_eq!(read("a.unclean"), [1.0, 1.0, 3.0, 3.0, 1.0], "to the ends of what is finite");
    assert_eq!(read("a.never"), [0.0; 3]);
    assert_eq!(read("a.half"), [0.5, 8.0]);
    assert_eq!(only(&trace, "a.half").dtype, "BF16");
}

#[test]
fn a_histogram_counts_every_finite_number_between_the_least_and_the_greatest() {
    let finite: Vec<f32> = (0..100).map(|n| n as f32 / 10.0).collect(); // 0 to 9.9: ten in each of ten bins
    let unclean = [&finite[..], &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]].concat();
    for (numbers, nan, inf) in [(&finite, 0, 0), (&unclean, 1, 2)] {
        let run = single("a.out", Tensor::from_slice(numbers).unsqueeze(0));
        let (_folder, trace) = recorded(&run, &["a.out | histogram(10)"], Layout::WHOLE);
        let entry = only(&trace, "a.out");
        assert_eq!(list(&trace.tensor(entry).unwrap()), [10.0; 10]);
        assert_eq!(entry.stored.as_ref().unwrap().range, Some([0.0, f64::from(9.9f32)]));
        let Statistics { min, max, .. } = entry.statistics;
        assert_eq!((min, max), (0.0, f64::from(9.9f32)), "of the tensor, not of the counts");
        assert_eq!((entry.statistics.nan, entry.statistics.inf), (nan, inf));
    }
    // No finite number, so nothing to count.
    let run = single("a.out", Tensor::from_slice(&[f32::NAN; 3]).unsqueeze(0));
    let (_folder, trace) = recorded(&run, &["a.out | histogram(4)"], Layout::WHOLE);
    assert_eq!(list(&trace.tensor(only(&trace, "a.out")).unwrap()), [0.0; 4]);
}

#[test]
fn the_largest_magnitudes_are_kept_with_their_places() {
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
        let tensor = Tensor::from_slice(&[1f32, -8.0, 3.0, 0.5, 7.0, -2.0]).view([1, 2, 3]).to_kind(kind);
        let (_folder, trace) = recorded(&single("a.out", tensor), &["a.out | topk(3)"], Layout::WHOLE);
        let entry = only(&trace, "a.out");
        let (top, places) = (trace.tensor(entry).unwrap(), trace.places(entry).unwrap().unwrap());
        assert_eq!((top.size(), top.kind(), list(&top)), (vec![1, 3], kind, vec![-8.0, 7.0, 3.0]));
        assert_eq!((places.size(), places.kind(), list(&places)), (vec![1, 3], Kind::Int64, vec![1.0, 4.0, 2.0]));
        assert_eq!((entry.statistics.min, entry.statistics.max), (-8.0, 7.0), "of the numbers alone");
    }
}

#[test]
fn places_are_exact_whatever_the_numbers_are_rounded_to() {
    // Places above 65504, which f16 cannot hold, and not apart in 256 levels.
    let tensor = Tensor::zeros([1, 300, 300], (Kind::Float, Device::Cpu));
    for (place, number) in [(89_999, 9.123_456f32), (70_001, -8.0), (70_002, 7.5), (3, 1.0)] {
        let _ = tensor.view([-1]).get(place).fill_(f64::from(number));
    }
    for (format, rounded) in [("f16", Kind::Half), ("q8", Kind::Uint8)] {
        let rule = format!("a.out | topk(4) | {format}");
        let (_folder, trace) = recorded(&single("a.out", tensor.shallow_clone()), &[&rule], Layout::WHOLE);
        let entry = only(&trace, "a.out");
        assert_eq!(list(&trace.places(entry).unwrap().unwrap()), [89_999.0, 70_001.0, 70_002.0, 3.0], "{format}");
        let stored = entry.stored.as_ref().unwrap().dtype.clone();
        assert_eq!(stored, if rounded == Kind::Half { "F16" } else { "U8" });
        let numbers = list(&trace.tensor(entry).unwrap());
        // Half a unit of f16's 11 digits below 16, or half of one of 255 levels between -8 and 9.12.
        let rounding = if rounded == Kind::Half { 2f64.powi(-8) } else { 17.13 / 510.0 };
        for (number, exact) in numbers.iter().zip([9.123_456, -8.0, 7.5, 1.0]) {
            assert!((number - exact).abs() <= rounding, "{format}: {numbers:?}");
        }
    }
    let (_folder, trace) = recorded(&single("a.out", tensor), &["a.out | topk(4) | stats"], Layout::WHOLE);
    let entry = only(&trace, "a.out");
    assert!(entry.stored.is_none() && entry.places.is_none());
}

#[test]
fn a_grid_is_recorded_with_what_has_its_pixels_on_one_axis() {
    let mut run = Run::empty();
    let at = Moment { grid: Some([5, 3]), rows: Rows::Branch(Branch::Conditional), ..Moment::default() };
    run.pass("unet.x.attn2.probs", at, noise(1, &[1, 2, 15, 5]).softmax(-1, Kind::Float));
    run.pass("unet.x.attn2.k", at, noise(2, &[1, 2, 5, 4]));
    run.pass("unet.x.attn2.out", at, noise(3, &[1, 15, 8]));
    run.pass("unet.x.out", Moment { grid: None, ..at }, noise(4, &[1, 8, 5, 3]));
    let rules = ["**", "**.probs | down(3)", "**.probs | topk(3)", "unet.x.out | down(3)"];
    let (_folder, trace) = recorded(&run, &rules, Layout::WHOLE);
    let grid = |tap: &str, kept: &str| {
        trace.of_tap(tap).find(|entry| entry.kept == kept).unwrap_or_else(|| panic!("{tap} {kept}")).grid
    };
    assert_eq!(grid("unet.x.attn2.probs", ""), Some([5, 3]));
    assert_eq!(grid("unet.x.attn2.probs", "down(3)"), Some([3, 1]));
    assert_eq!(grid("unet.x.attn2.probs", "topk(3)"), None);
    assert_eq!(grid("unet.x.attn2.k", ""), None, "its third axis is the text");
    assert_eq!(grid("unet.x.attn2.out", ""), Some([5, 3]));
    assert_eq!((grid("unet.x.out", ""), grid("unet.x.out", "down(3)")), (None, None));
    // Without a grid, the shape of the picture is not guessed.
    let mut run = Run::empty();
    run.pass("unet.x.attn2.probs", Moment { grid: None, ..at }, noise(1, &[1, 2, 15, 5]));
    let folder = tempfile::tempdir().unwrap();
    let error = run.record(folder.path(), &["**.probs | down(3)"], None, Layout::WHOLE).unwrap_err().to_string();
    assert!(error.contains("unet.x.attn2.probs has no pixels"), "{error}");
    assert!(Trace::open(folder.path()).unwrap().end().unwrap().error.as_ref().unwrap().contains("has no pixels"));
}

#[test]
fn what_a_rule_reduces_is_kept_beside_the_whole() {
    let run = Run::new(2, 1);
    let rules = ["unet.x.attn2.probs", "unet.x.attn2.probs | head_mean | tokens(cat)", "unet.mid_block.out | down(2)"];
    let (_folder, trace) = recorded(&run, &rules, Layout::EVERY_CALL);
    let rows = run.rows();
    for call in 0..2 {
        let at = |branch| key("unet.x.attn2.probs", call, Some(branch), 0);
        let kept = |branch, kept: &str| trace.find(&latentrace_trace::Key { kept: kept.into(), ..at(branch) });
        let whole = &rows[&at(Branch::Conditional)];
        assert!(same(&trace.tensor(kept(Branch::Conditional, "").unwrap()).unwrap(), whole));
        let cat = trace.tensor(kept(Branch::Conditional, "head_mean | tokens(cat)").unwrap()).unwrap();
        let expected =
            (0..9).map(|pixel| (0..2).map(|head| whole.double_value(&[0, head, pixel, 3])).sum::<f64>() / 2.0);
        // The mean of two f32 numbers below 1, rounded.
        assert!(list(&cat).into_iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-7));
        assert!(kept(Branch::Unconditional, "head_mean | tokens(cat)").is_none(), "the negative prompt has no cat");
    }
    let small = trace.of_tap("unet.mid_block.out").next().unwrap();
    assert_eq!((small.kept.as_str(), small.shape.as_slice()), ("down(2)", &[1, 3, 2, 2][..]));
}

#[test]
fn equal_tensors_are_stored_once_in_a_shard() {
    for (layout, shards) in [(Layout::EVERY_CALL, &[3, 4][..]), (Layout::WHOLE, &[4])] {
        let tensor = noise(1, &[1, 40]);
        let mut run = Run::empty();
        for call in 0..2 {
            for name in ["a", "b", "c"] {
                run.pass(name, Moment { call, ..Moment::default() }, tensor.copy());
            }
            run.pass("zeros", Moment { call, ..Moment::default() }, tensor.zeros_like());
            run.pass("signs", Moment { call, ..Moment::default() }, -tensor.zeros_like());
        }
        run.pass("turned", Moment { call: 1, ..Moment::default() }, tensor.view([1, 8, 5]));
        let (folder, trace) = recorded(&run, &["*"], layout);
        assert_eq!(holds_what_passed(&trace, &run.rows()), 11);
        let place = |tap: &str, call| {
            let stored = trace.find(&key(tap, call, None, 0)).unwrap().stored.clone().unwrap();
            (stored.shard, stored.name)
        };
        for call in 0..2 {
            assert_eq!(place("a", call), place("b", call));
            assert_eq!(place("a", call), place("c", call));
            assert_ne!(place("zeros", call), place("signs", call), "0 and -0 are other bits");
        }
        assert_ne!(place("a", 1), place("turned", 1), "another shape");
        let mut held = Vec::new();
        for file in std::fs::read_dir(folder.path().join("shards")).unwrap().flatten() {
            let bytes = std::fs::read(file.path()).unwrap();
            held.push(safetensors::SafeTensors::deserialize(&bytes).unwrap().len());
        }
        held.sort();
        assert_eq!(held, shards, "a, zeros, signs, and turned");
    }
}

#[test]
fn a_budget_keeps_a_beginning_and_does_not_touch_the_sampler() {
    let run = Run::new(4, 2);
    let unet = |entry: &&Entry| !entry.tap.starts_with("sampler.");
    for rule in ["unet.mid_block.out", "unet.**", "**"] {
        let (_folder, all) = recorded(&run, &[rule], Layout::EVERY_CALL);
        let all: Vec<_> = all.entries().iter().filter(unet).map(Entry::key).collect();
        let rows = run.rows();
        let sizes: Vec<u64> = all.iter().map(|key| bits(&rows[key]).len() as u64).collect();
        let total: u64 = sizes.iter().sum();
        for budget in [0, 1, sizes[0], sizes[0] + 1, total / 3, total - 1, total] {
            let folder = tempfile::tempdir().unwrap();
            let beyond = run.record(folder.path(), &[rule], Some(budget), Layout::EVERY_CALL).unwrap();
            let trace = Trace::open(folder.path()).unwrap();
            let kept: Vec<_> = trace.entries().iter().filter(unet).map(Entry::key).collect();
            let mut left = budget;
            let fits = sizes
                .iter()
                .take_while(|size| {
                    left >= **size && {
                        left -= **size;
                        true
                    }
                })
                .count();
            assert_eq!(kept, all[..fits], "{rule}, {budget} bytes");
            assert_eq!(beyond, (all.len() - fits) as u64, "{rule}, {budget} bytes");
            assert_eq!(trace.end().unwrap().beyond_budget, beyond);
            let sampler = trace.entries().iter().filter(|entry| !unet(entry)).count();
            assert_eq!(sampler, 4 * 3 * 2, "calls, taps, images: {rule}, {budget} bytes");
            holds_what_passed(&trace, &rows);
        }
    }
    // Statistics take no byte, and formats count as they are stored.
    let folder = tempfile::tempdir().unwrap();
    let rules = ["unet.mid_block.out | stats", "unet.mid_block.out | q8"];
    let beyond = run.record(folder.path(), &rules, Some(48 * 5), Layout::WHOLE).unwrap();
    let trace = Trace::open(folder.path()).unwrap();
    let count = |kept| trace.entries().iter().filter(|entry| entry.kept == kept).count();
    assert_eq!((count("stats"), count("q8"), beyond), (16, 5, 11), "48 numbers each");
}

#[test]
fn two_rules_for_the_same_keep_it_once_and_pay_once() {
    let run = Run::new(2, 1);
    let folder = tempfile::tempdir().unwrap();
    let rules = ["unet.**.out", "unet.mid_block.*", "unet.** @branch{cond}"];
    let rows = run.rows();
    let all: u64 =
        rows.iter().filter(|(key, _)| key.tap.starts_with("unet.")).map(|(_, row)| bits(row).len() as u64).sum();
    assert_eq!(run.record(folder.path(), &rules, Some(all), Layout::WHOLE).unwrap(), 0);
    let trace = Trace::open(folder.path()).unwrap();
    let mut keys: Vec<_> = trace.entries().iter().map(Entry::key).collect();
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count, "each once");
    let expected = rows.keys().filter(|key| {
        let probs = key.tap == "unet.x.attn2.probs" && key.branch == Some(Branch::Unconditional);
        !probs && !key.tap.starts_with("text_encoder")
    });
    assert_eq!(keys, expected.cloned().collect::<Vec<_>>());
    holds_what_passed(&trace, &rows);
}

#[test]
fn a_tap_whose_tensors_change_their_shape_and_format_is_told_right() {
    let mut run = Run::empty();
    for (call, kind) in [Kind::Float, Kind::Half, Kind::Float, Kind::BFloat16].into_iter().enumerate() {
        run.pass("a", Moment { call, ..Moment::default() }, noise(1, &[1, 1 + call as i64 / 2]).to_kind(kind));
    }
    let (_folder, trace) = recorded(&run, &["a"], Layout::WHOLE);
    let told: Vec<_> = trace.entries().iter().map(|entry| (entry.shape[1], entry.dtype.as_str())).collect();
    assert_eq!(told, [(1, "F32"), (1, "F16"), (2, "F32"), (2, "BF16")]);
    assert_eq!(holds_what_passed(&trace, &run.rows()), 4);
}

#[test]
fn windows_choose_calls_and_rows() {
    let run = Run::new(6, 2);
    let kept = |rule: &str| {
        let (_folder, trace) = recorded(&run, &[rule], Layout::WHOLE);
        let entries = trace.of_tap("unet.mid_block.out");
        entries.map(|entry| (entry.call, entry.branch.unwrap().name(), entry.image)).collect::<Vec<_>>()
    };
    let rows = |calls: &[usize], branches: &[&'static str], images: &[usize]| {
        let mut rows = Vec::new();
        for &call in calls {
            for &branch in branches {
                rows.extend(images.iter().map(|&image| (call, branch, image)));
            }
        }
        rows
    };
    let both = ["uncond", "cond"];
    assert_eq!(kept("unet.mid_block.out"), rows(&[0, 1, 2, 3, 4, 5], &both, &[0, 1]));
    assert_eq!(kept("unet.mid_block.out @step[1]"), rows(&[2, 3], &both, &[0, 1]));
    assert_eq!(kept("unet.mid_block.out @step[-1]"), rows(&[4, 5], &both, &[0, 1]));
    assert_eq!(kept("unet.mid_block.out @step[::2] @eval[1]"), rows(&[1, 5], &both, &[0, 1]));
    assert_eq!(kept("unet.mid_block.out @branch{cond} @image[1]"), rows(&[0, 1, 2, 3, 4, 5], &["cond"], &[1]));
    assert_eq!(kept("unet.mid_block.out @sigma[9:12] @branch{uncond}"), rows(&[1], &["uncond"], &[0, 1])); // 14.6 / 1.33
    assert_eq!(kept("unet.mid_block.out @step[7:]"), []);
    let folder = tempfile::tempdir().unwrap();
    let error = run.record(folder.path(), &["unet.mid_blok.out"], None, Layout::WHOLE).unwrap_err().to_string();
    assert!(error.contains("near names: unet.mid_block.out"), "{error}");
}

#[test]
fn looking_changes_no_bit_of_a_network() {
    let weights = Weights::random("unet", 3, Kind::Float, Device::Cpu);
    let names = AttentionShape::DIFFUSERS;
    let attends = Attends::Text;
    let shape =
        AttentionShape { width: 12, context: 6, attends, heads: 3, bias: false, causal: false, upcast: false, names };
    let attention = Attention::load(&weights.at("x.attn2"), shape).unwrap();
    let (x, context) = (noise(1, &[2, 9, 12]), noise(2, &[2, 5, 6]));
    let moment = Moment { rows: Rows::Branches, ..Moment::default() };
    let mut run = Run::empty();
    run.taps = weights.taps();
    let silent = attention.forward(&mut Pass::silent(), &x, &context);
    for (rules, fused) in [(&["unet.**.{q,k,v,out}"][..], true), (&["unet.**", "unet.** | q8"][..], false)] {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::create(folder.path(), &about(), Layout::WHOLE).unwrap();
        let mut recorder = run.recorder(rules, None, writer).unwrap();
        let mut pass = Pass::watched(&mut recorder);
        pass.set_moment(moment);
        let watched = attention.forward(&mut pass, &x, &context);
        recorder.end(None).unwrap();
        let trace = Trace::open(folder.path()).unwrap();
        let cond = trace.get("unet.x.attn2.out", 0, Some(Branch::Conditional)).unwrap();
        assert!(same(&cond, &watched.narrow(0, 1, 1)));
        if fused {
            assert!(same(&silent, &watched));
        } else {
            // The same sums of at most 12 products of order one in another order: units in the last place.
            assert!((&silent - &watched).abs().max().double_value(&[]) < 1e-6);
            let probs = trace.get("unet.x.attn2.probs", 0, Some(Branch::Unconditional)).unwrap();
            assert_eq!(probs.size(), [1, 3, 9, 5]);
        }
    }
}

#[test]
fn the_index_says_what_the_numbers_are_like_and_when_they_passed() {
    let mut run = Run::new(3, 2);
    let unclean = noise(9, &[1, 2000]) * 50.0 + 3.0;
    for (place, number) in [(3, f64::NAN), (700, f64::INFINITY), (1999, f64::NEG_INFINITY)] {
        _ = unclean.get(0).get(place).fill_(number);
    }
    run.pass("a.unclean", Moment { call: 2, sigma: 1.0 / 3.0, t: 0.1 + 0.2, ..Moment::default() }, unclean);
    let (_folder, trace) = recorded(&run, &["**"], Layout::EVERY_CALL);
    let rows = run.rows();
    let dtype = |kind| if kind == Kind::Float { "F32" } else { "BF16" };
    for entry in trace.entries() {
        let row = &rows[&entry.key()];
        assert_eq!(entry.shape.iter().map(|&size| size as i64).collect::<Vec<_>>(), row.size());
        assert_eq!(entry.dtype, dtype(row.kind()));
        let numbers: Vec<f64> = list(row).into_iter().filter(|number| number.is_finite()).collect();
        let count = numbers.len() as f64;
        let found = entry.statistics;
        let mean = numbers.iter().sum::<f64>() / count;
        let rms = (numbers.iter().map(|x| x * x).sum::<f64>() / count).sqrt();
        // Sums of up to 64 numbers in f32: half a unit of 2^-24 for each addition.
        assert!((found.mean - mean).abs() <= 4e-6 * rms && (found.rms - rms).abs() <= 4e-6 * rms, "{entry:?}");
        assert_eq!(found.min, numbers.iter().copied().fold(f64::INFINITY, f64::min));
        assert_eq!(found.max, numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        assert_eq!((found.nan, found.inf), if entry.tap == "a.unclean" { (1, 2) } else { (0, 0) });
        let passed =
            run.passing.iter().find(|passing| passing.tap.name() == entry.tap && passing.moment.call == entry.call);
        let Moment { step, evaluation, t, sigma, .. } = passed.unwrap().moment;
        assert_eq!((entry.step, entry.evaluation, entry.t, entry.sigma), (step, evaluation, t, sigma));
    }
}

#[test]
fn numbers_of_the_index_come_back_bit_by_bit() {
    let mut run = Run::empty();
    for call in 0..2000 {
        let sigma = (0.731 * call as f64).sin().abs() * 1e3f64.powf((call % 7) as f64 - 3.0);
        run.pass("a", Moment { call, sigma, t: sigma.sqrt(), ..Moment::default() }, noise(1, &[1, 1]));
    }
    let (_folder, trace) = recorded(&run, &["a | stats"], Layout::WHOLE);
    assert_eq!(trace.entries().len(), 2000);
    for (entry, passing) in trace.entries().iter().zip(&run.passing) {
        assert_eq!((entry.sigma, entry.t), (passing.moment.sigma, passing.moment.t));
    }
}

#[test]
fn the_same_run_twice_is_the_same_bytes() {
    for (layout, shards) in [(Layout::EVERY_CALL, 5), (Layout::WHOLE, 1)] {
        let [first, second] = [(); 2].map(|()| {
            let rules = ["unet.**", "unet.** | q8", "unet.mid_block.out | histogram(8)", "text_encoder.out | f16"];
            let (folder, _) = recorded(&Run::new(5, 2), &rules, layout);
            let relative = |path: PathBuf| path.strip_prefix(folder.path()).unwrap().to_path_buf();
            files(folder.path()).into_iter().map(|(path, bytes)| (relative(path), bytes)).collect::<BTreeMap<_, _>>()
        });
        assert_eq!(first.len(), 2 + shards, "run.json, index.jsonl and the shards");
        assert!(first == second, "{:?}", first.keys());
    }
}

/// Cuts a record as a kill would: the index after some bytes, a shard to which no line refers, and one half written.
fn cut(folder: &Path, index: usize) {
    let path = folder.join("index.jsonl");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..index]).unwrap();
    std::fs::write(folder.join("shards/000077.safetensors"), b"orphan").unwrap();
    std::fs::write(folder.join("shards/.partial-aB3"), b"half").unwrap();
}

#[test]
fn a_record_that_was_cut_off_goes_on_and_nothing_is_written_twice() {
    let run = Run::new(5, 2);
    let rules = ["unet.**", "text_encoder.out | f16"];
    let (whole, plain) = recorded(&run, &rules, Layout::EVERY_CALL);
    let length = std::fs::metadata(whole.path().join("index.jsonl")).unwrap().len() as usize;
    for part in [0, 1, length / 7, length / 3, length / 2, 2 * length / 3, length - 1, length] {
        let (folder, _) = recorded(&run, &rules, Layout::EVERY_CALL);
        cut(folder.path(), part);
        let before = Trace::open(folder.path()).unwrap();
        let kept = before.entries().to_vec();
        let files_kept: HashSet<String> =
            kept.iter().flat_map(|entry| &entry.stored).map(|at| at.shard.clone()).collect();
        let contents = files(&folder.path().join("shards"));
        let writer = Writer::append(&before, Layout::EVERY_CALL).unwrap();
        let left: HashSet<String> = files(&folder.path().join("shards")).keys().map(|path| name(path)).collect();
        assert_eq!(left, files_kept, "what no line speaks of is gone");
        // A resumed run plays its own record back, so that everything passes again.
        let mut recorder = run.recorder(&rules, None, writer).unwrap();
        run.play(&mut recorder);
        recorder.end(None).unwrap();
        let trace = Trace::open(folder.path()).unwrap();
        assert_eq!(trace.problems(), [""; 0]);
        assert_eq!((trace.complete(), trace.end().is_some()), (5, true));
        assert_eq!(trace.entries()[..kept.len()], kept, "cut after {part} bytes");
        let sorted = |trace: &Trace| {
            let mut keys: Vec<_> = trace.entries().iter().map(Entry::key).collect();
            keys.sort();
            keys
        };
        assert_eq!(sorted(&trace), sorted(&plain), "cut after {part} bytes");
        for entry in trace.entries() {
            assert!(same(&trace.tensor(entry).unwrap(), &plain.tensor(plain.find(&entry.key()).unwrap()).unwrap()));
        }
        for (path, bytes) in files(&folder.path().join("shards")) {
            if files_kept.contains(&name(&path)) {
                assert!(contents[&path] == bytes, "{} was whole", path.display());
            }
            // A shard never changes, so it may have tensors to which no line refers.
            let names: HashSet<String> = safetensors::SafeTensors::deserialize(&bytes)
                .unwrap()
                .names()
                .iter()
                .map(|name| name.to_string())
                .collect();
            let spoken_of = trace.entries().iter().flat_map(|entry| &entry.stored).filter(|at| at.shard == name(&path));
            let spoken_of: HashSet<String> = spoken_of.map(|at| at.name.clone()).collect();
            let whole = names == spoken_of || files_kept.contains(&name(&path)) && names.is_superset(&spoken_of);
            assert!(whole, "{}: {names:?}, and {spoken_of:?} are spoken of", path.display());
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Runs `work` in a thread, and fails if it does not end.
fn in_time(what: &str, work: impl FnOnce() + Send + 'static) {
    let (done, waiting) = channel();
    let thread = std::thread::spawn(move || {
        work();
        done.send(()).unwrap();
    });
    // Milliseconds, if it ends at all.
    if waiting.recv_timeout(Duration::from_secs(10)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        panic!("{what}: waits for ever");
    }
    thread.join().unwrap();
}

#[test]
fn a_queue_of_one_byte_makes_the_run_wait_and_not_stop() {
    for layout in [Layout::EVERY_CALL, Layout::WHOLE] {
        in_time("a queue of one byte", move || {
            let run = Run::new(5, 2);
            let (_folder, trace) = recorded(&run, &["unet.**"], Layout { queue: 1, ..layout });
            holds_what_passed(&trace, &run.rows());
            assert_eq!(trace.complete(), 5);
        });
    }
}

#[test]
fn a_tensor_larger_than_the_queue_does_not_wait_for_the_small_ones_before_it() {
    for layout in [Layout::EVERY_CALL, Layout::WHOLE] {
        in_time("a large tensor", move || {
            let mut run = Run::empty();
            for call in 0..2 {
                let at = Moment { call, ..Moment::default() };
                run.pass("a.small", at, noise(1, &[1, 3]));
                // 20 MB: more than the recorder gathers before it wakes the writer.
                run.pass("a.large", at, Tensor::full([1, 5 << 20], call as i64, (Kind::Float, Device::Cpu)));
                run.pass("a.after", at, noise(2, &[1, 3]));
            }
            let (_folder, trace) = recorded(&run, &["a.*"], Layout { queue: 1 << 20, ..layout });
            assert_eq!(holds_what_passed(&trace, &run.rows()), 6);
        });
    }
}

#[test]
fn a_tensor_that_no_file_can_hold_is_an_error_at_the_end_and_stops_nothing() {
    in_time("truth values", || {
        let mut run = Run::empty();
        for call in 0..4 {
            run.pass("a.mask", Moment { call, ..Moment::default() }, noise(1, &[1, 30]).gt(0.0));
        }
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout { queue: 1, ..Layout::EVERY_CALL };
        let error = run.record(folder.path(), &["a.mask"], None, layout).unwrap_err().to_string();
        assert!(error.contains("no safetensors format for Bool"), "{error}");
        Trace::open(folder.path()).unwrap();
    });
}

#[test]
fn a_record_that_nobody_ends_can_be_read_up_to_its_last_whole_call() {
    let run = Run::new(4, 1);
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::create(folder.path(), &about(), Layout::EVERY_CALL).unwrap();
    let mut recorder = run.recorder(&["unet.**"], None, writer).unwrap();
    run.play(&mut recorder);
    drop(recorder);
    let trace = Trace::open(folder.path()).unwrap();
    assert!(trace.end().is_none() && trace.problems().is_empty());
    assert_eq!(trace.complete(), 3, "nobody said that the fourth was whole");
    holds_what_passed(&trace, &run.rows());
    for key in run.rows().keys().filter(|key| key.call < 3 && !key.tap.starts_with("text")) {
        assert!(trace.find(key).is_some(), "{}", key.name());
    }
    let error = Writer::create(folder.path(), &about(), Layout::WHOLE).err().unwrap().to_string();
    assert!(error.contains("there is a trace here already"), "{error}");
}

#[test]
fn a_run_that_failed_says_why_and_its_last_call_is_not_whole() {
    let run = Run::new(3, 1);
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::create(folder.path(), &about(), Layout::EVERY_CALL).unwrap();
    let mut recorder = run.recorder(&["unet.**"], None, writer).unwrap();
    run.play(&mut recorder);
    recorder.end(Some("NaN in \"unet.out\"".into())).unwrap();
    let trace = Trace::open(folder.path()).unwrap();
    assert_eq!(trace.end().unwrap().error.as_deref(), Some("NaN in \"unet.out\""));
    assert_eq!(trace.complete(), 2);
    let kept = holds_what_passed(&trace, &run.rows());
    assert_eq!(kept, run.rows().len() - 2, "what passed in it is kept, all but the texts");
}

#[test]
fn a_call_that_is_made_again_is_not_recorded_again() {
    let mut run = Run::empty();
    run.pass("a.out", Moment::default(), noise(1, &[1, 3]));
    run.pass("a.out", Moment { again: true, ..Moment::default() }, noise(2, &[1, 3]));
    let (_folder, trace) = recorded(&run, &["a.out"], Layout::WHOLE);
    assert!(same(&trace.tensor(only(&trace, "a.out")).unwrap(), &noise(1, &[1, 3])));
}

#[test]
fn of_a_tap_that_passes_twice_in_a_call_the_first_is_kept_whole() {
    for layout in [Layout::EVERY_CALL, Layout::WHOLE] {
        let mut run = Run::empty();
        for call in 0..2 {
            for place in 0..3 {
                run.pass("a.out", Moment { call, ..Moment::default() }, noise(10 * call as u64 + place, &[1, 3]));
            }
        }
        let (_folder, trace) = recorded(&run, &["a.out"], layout);
        assert_eq!((trace.entries().len(), trace.complete()), (2, 2));
        for (call, entry) in trace.entries().iter().enumerate() {
            assert!(same(&trace.tensor(entry).unwrap(), &noise(10 * call as u64, &[1, 3])), "call {call}");
        }
    }
}

#[test]
fn a_tap_made_by_name_is_recorded_by_its_id() {
    let (known, stranger) = (Tap::named("a.out"), Tap::named("a.out"));
    let mut run = Run::empty();
    run.taps = vec![known.clone()];
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::create(folder.path(), &about(), Layout::WHOLE).unwrap();
    let mut recorder = run.recorder(&["a.out"], None, writer).unwrap();
    let pass = Pass::watched(&mut recorder);
    assert!(pass.wants(&known) && !pass.wants(&stranger), "a model's own taps are what its recorder knows");
    recorder.end(None).unwrap();
}

/// The lines of a record, parsed.
fn lines(folder: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(folder.join("index.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Takes the roles out of a record's lines, as if an earlier version had written them.
fn strip_roles(folder: &Path) {
    let path = folder.join("index.jsonl");
    let mut stripped = String::new();
    for line in std::fs::read_to_string(&path).unwrap().lines() {
        let (body, _) = line.rsplit_once(",\"check\":").unwrap();
        let body = match body.split_once(",\"role\":\"") {
            Some((before, after)) => format!("{before}{}", after.split_once('"').unwrap().1),
            None => body.to_string(),
        };
        stripped += &format!("{body},\"check\":\"{:08x}\"}}\n", crc32fast::hash(body.as_bytes()));
    }
    std::fs::write(&path, stripped).unwrap();
}

#[test]
fn every_line_says_a_role_and_tensors_are_found_by_it() {
    let run = Run::new(6, 1);
    let folder = tempfile::tempdir().unwrap();
    run.record(folder.path(), &["**", "sampler.sample | stats"], None, Layout::WHOLE).unwrap();
    let trace = Trace::open(folder.path()).unwrap();
    for (entry, line) in trace.entries().iter().zip(lines(folder.path()).iter().filter(|line| line["tap"].is_string()))
    {
        let tap = run.taps.iter().find(|tap| tap.name() == entry.tap).unwrap();
        assert_eq!((entry.role, line["role"].as_str()), (Some(tap.role()), Some(&*tap.role().to_string())));
    }
    for (value, name) in [
        (SamplerValue::Sample, "sampler.sample"),
        (SamplerValue::Epsilon(Conditioning::Guided), "sampler.epsilon.guided"),
        (SamplerValue::Denoised, "sampler.denoised"),
    ] {
        let calls: Vec<usize> = trace.values(value).map(|entry| entry.call).collect();
        assert_eq!(calls, [0, 1, 2, 3, 4, 5], "{name}: what was kept of it besides is not a value");
        for call in calls {
            assert!(trace.has_value(value, call));
            assert!(same(&trace.value(value, call).unwrap(), &trace.get(name, call, None).unwrap()));
        }
    }
    assert!(!trace.has_value(SamplerValue::Sample, 6) && !trace.has_value(SamplerValue::Latents, 0));
    let error = |value, call| trace.value(value, call).unwrap_err().to_string();
    assert!(error(SamplerValue::Sample, 6).starts_with("sampler.sample/006: not in "));
    assert!(
        error(SamplerValue::Sample, 6)
            .ends_with("hint: there are sampler.sample/000, sampler.sample/001, sampler.sample/002, ..")
    );
    assert!(error(SamplerValue::Latents, 0).ends_with("hint: no tensor of this tap was kept"));
    let probs = trace.of_role(Role::Module(Part::Unet, ModuleValue::Probs(Attends::Text)));
    assert_eq!(probs.map(|entry| entry.tap.as_str()).collect::<Vec<_>>(), ["unet.x.attn2.probs"; 12]);
}

#[test]
fn a_record_without_roles_is_read_by_its_names_and_can_be_continued() {
    let run = Run::new(6, 1);
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::create(folder.path(), &about(), Layout::EVERY_CALL).unwrap();
    let mut recorder = run.recorder(&["unet.**"], Some(10_000), writer).unwrap();
    let passing: Vec<_> = run.passing.iter().filter(|passing| passing.moment.call < 4).collect();
    let mut pass = Pass::watched(&mut recorder);
    for passing in passing {
        pass.set_moment(passing.moment);
        let _ = pass.tap(&passing.tap, passing.tensor.shallow_clone());
    }
    drop(recorder); // a kill in call 3
    let with = Trace::open(folder.path()).unwrap();
    strip_roles(folder.path());
    let without = Trace::open(folder.path()).unwrap();
    assert_eq!((without.problems(), without.complete()), (&[][..], 3));
    assert_eq!(with.entries().len(), without.entries().len());
    for (with, without) in with.entries().iter().zip(without.entries()) {
        assert_eq!((without.role, without.role()), (None, with.role()), "{}", with.tap);
        assert_eq!(&Entry { role: with.role, ..without.clone() }, with);
    }
    let old = lines(folder.path());
    let writer = Writer::append(&without, Layout::EVERY_CALL).unwrap();
    let mut recorder = run.recorder(&["unet.**"], Some(10_000), writer).unwrap();
    run.play_from(3, &mut recorder);
    recorder.end(None).unwrap();
    let whole = Trace::open(folder.path()).unwrap();
    assert_eq!((whole.problems(), whole.complete()), (&[][..], 6));
    assert_eq!(whole.end(), Some(&End { error: None, beyond_budget: whole.end().unwrap().beyond_budget }));
    assert_eq!(whole.entries()[..without.entries().len()], *without.entries(), "the old lines are as they were");
    assert!(whole.entries()[without.entries().len()..].iter().all(|entry| entry.role.is_some()));
    assert_eq!(whole.values(SamplerValue::Sample).count(), 6);
    assert!(old.iter().all(|line| line["role"].is_null()));
    holds_what_passed(&whole, &run.rows());
}

#[test]
fn the_records_of_earlier_versions_are_found_by_role() {
    let records = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/records");
    for (name, calls) in [("fork_of_fork.trace", 7), ("line_removed.trace", 11)] {
        let trace = Trace::open(&records.join(name)).unwrap();
        assert!(trace.entries().iter().all(|entry| entry.role.is_none()), "{name}");
        let samples: Vec<&Entry> = trace.values(SamplerValue::Sample).collect();
        assert_eq!(samples.len(), calls, "{name}");
        for entry in samples {
            let sample = trace.value(SamplerValue::Sample, entry.call).unwrap();
            assert!(same(&sample, &trace.get("sampler.sample", entry.call, None).unwrap()), "{name}");
        }
        let latents: Vec<&str> = trace.values(SamplerValue::Latents).map(|entry| entry.tap.as_str()).collect();
        assert_eq!(latents, ["sampler.latents"], "{name}");
        for entry in trace.entries() {
            assert_eq!(entry.role().is_of_sampler(), entry.tap.starts_with("sampler."), "{name}: {}", entry.tap);
        }
    }
}
