//! Every edit on numbers, in its window and nowhere else; and the comparison of two traces.

#[allow(dead_code)] // each file of tests uses its own part
mod common;

use common::{Run, key, list, noise, same, words};
use latentrace_nn::tch::{Device, Kind, Tensor};
use latentrace_nn::{
    Attends, Attention, AttentionShape, Branch, Moment, Pass, ResnetBlock, ResnetShape, Rows, Tap, Weights,
};
use latentrace_trace::{Comparison, EditRule, Edits, Layout, Prompt, Result, Trace, Words, compare};

const STEPS: usize = 4;

fn edits(rules: &[&str], taps: &[Tap]) -> Result<Edits> {
    let rules: Vec<EditRule> = rules.iter().map(|rule| EditRule::parse(rule)).collect::<Result<_>>()?;
    Edits::new(&rules, taps, words(), STEPS)
}

/// A batch of an unconditional and a conditional row, two images each, at a call.
fn batch(call: usize) -> Moment {
    Moment { call, step: call, rows: Rows::Branches, ..Moment::default() }
}

/// The output of a tap `a.out` at a moment, with rules that edit it.
fn edited(rules: &[&str], moment: Moment, tensor: &Tensor) -> Tensor {
    let tap = Tap::named("a.out");
    let mut edits = edits(rules, std::slice::from_ref(&tap)).unwrap();
    let mut pass = Pass::watched(&mut edits);
    pass.set_moment(moment);
    let out = pass.tap(&tap, tensor.shallow_clone());
    edits.outcome().unwrap();
    out
}

#[test]
fn arithmetic_edits_do_what_they_say() {
    for kind in [Kind::Float, Kind::BFloat16, Kind::Double] {
        let tensor = noise(1, &[4, 3, 2, 5]).to_kind(kind);
        let out = |edit: &str| edited(&[&format!("a.out => {edit}")], batch(0), &tensor);
        for edit in ["zero", "mean", "scale(2)", "add(1)", "noise(0.1)"] {
            assert_eq!((out(edit).kind(), out(edit).size()), (kind, tensor.size()), "{edit}");
        }
        assert!(same(&out("zero"), &tensor.zeros_like()));
        assert!(same(&out("scale(-0.5)"), &(&tensor * -0.5)));
        assert!(same(&out("add( 0.25 )"), &(&tensor + 0.25)));
        assert!(same(&out("scale(1)"), &tensor));
    }
}

#[test]
fn the_mean_is_over_pixels_and_keeps_channels_and_features() {
    let holds = |tap: &str, shape: &[i64], pixels: &[i64]| {
        let tap = common::tap(tap);
        let tensor = noise(1, shape);
        let mut edits = edits(&["** => mean"], std::slice::from_ref(&tap)).unwrap();
        let out = Pass::watched(&mut edits).tap(&tap, tensor.shallow_clone());
        let expected = tensor.mean_dim(pixels, true, None::<Kind>).expand_as(&tensor);
        // The same few numbers may be summed in another order.
        assert!((&out - &expected).abs().max().double_value(&[]) < 1e-6, "{}", tap.name());
        assert!(out.is_contiguous() && out.size() == tensor.size());
    };
    holds("unet.mid_block.resnets.0.out", &[2, 3, 4, 4], &[2, 3]);
    holds("unet.x.attn1.out", &[2, 16, 6], &[1]);
    for word in ["q", "k", "v", "scores", "probs"] {
        holds(&format!("unet.x.attn1.{word}"), &[2, 3, 16, 6], &[2]);
    }
}

#[test]
fn noise_is_its_seed_its_place_and_so_many_deviations() {
    let tensor = noise(1, &[4, 2, 50, 50]) * 3.0 + 7.0; // of 5000 numbers a row
    let of = |rule: &str, call| edited(&[rule], batch(call), &tensor) - &tensor;
    let rule = "a.out => noise(0.5)";
    let first = of(rule, 2);
    assert!(same(&first, &of(rule, 2)), "the same again");
    let far = |a: &Tensor, b: &Tensor| (a - b).abs().mean(None::<Kind>).double_value(&[]) > 1.0;
    assert!(far(&first, &of(rule, 3)), "another call");
    assert!(far(&first, &of("a.out => noise(0.5, 1)", 2)), "another seed");
    assert!(far(&first, &of("a.o* => noise(0.5)", 2)), "another rule");
    for (one, other) in [(0, 1), (0, 2), (1, 3), (2, 3)] {
        assert!(far(&first.get(one), &first.get(other)), "rows {one} and {other}: another image or branch");
    }
    for row in 0..4 {
        let size = 0.5 * tensor.get(row).std(false).double_value(&[]);
        let (mean, std) = (first.get(row).mean(None::<Kind>), first.get(row).std(false));
        // Of 5000 draws the mean is off by 0.014 deviations and the deviation by a hundredth: five times that.
        assert!(
            mean.double_value(&[]).abs() < 0.07 * size && (std.double_value(&[]) / size - 1.0).abs() < 0.05,
            "{row}"
        );
    }
    // An image's noise does not depend on its neighbours in the batch.
    let alone = Moment { image: 1, ..batch(2) };
    let pair = Tensor::cat(&[tensor.narrow(0, 1, 1), tensor.narrow(0, 3, 1)], 0);
    let alone = edited(&[rule], alone, &pair) - &pair;
    assert!(
        same(&alone.narrow(0, 0, 1), &first.narrow(0, 1, 1)) && same(&alone.narrow(0, 1, 1), &first.narrow(0, 3, 1))
    );
}

#[test]
fn windows_edit_their_rows_and_leave_the_others_bit_by_bit() {
    // Four rows with numbers that arithmetic would not leave alone.
    let odd = Tensor::from_slice(&[-0.0, f32::NAN, f32::INFINITY, 1e-42]).repeat([4, 1]);
    let tensor = Tensor::cat(&[odd, noise(1, &[4, 4])], 1);
    let changed = |rule: &str, moment| {
        let out = edited(&[rule], moment, &tensor);
        let zero = |row: i64| same(&out.narrow(0, row, 1), &tensor.narrow(0, row, 1).zeros_like());
        let kept = |row: i64| same(&out.narrow(0, row, 1), &tensor.narrow(0, row, 1));
        (0..4)
            .filter(|&row| {
                assert!(zero(row) != kept(row), "row {row}");
                zero(row)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(changed("a.out => zero", batch(0)), [0, 1, 2, 3]);
    assert_eq!(changed("a.out @branch{uncond} => zero", batch(0)), [0, 1]);
    assert_eq!(changed("a.out @branch{cond} => zero", batch(0)), [2, 3]);
    assert_eq!(changed("a.out @branch{c} @image[1] => zero", batch(0)), [3]);
    assert_eq!(changed("a.out @image[0] => zero", batch(0)), [0, 2]);
    assert_eq!(changed("a.out @step[1:3] => zero", batch(2)), [0, 1, 2, 3]);
    assert_eq!(changed("a.out @step[1:3] => zero", batch(3)), [0i64; 0]);
    assert_eq!(changed("a.out @step[-1] => zero", batch(STEPS - 1)), [0, 1, 2, 3]);
    assert_eq!(changed("a.out @sigma[2:] => zero", batch(0)), [0i64; 0]);
    assert_eq!(changed("a.out @image[1] => zero", Moment { rows: Rows::Images, ..batch(0) }), [1]);
    // Nothing is even copied where nothing is edited.
    assert_eq!(edited(&["a.out @step[1:3] => zero"], batch(3), &tensor).data_ptr(), tensor.data_ptr());
    // A row that both branches share belongs to either.
    let shared = noise(2, &[1, 8]);
    assert!(same(&edited(&["a.out @branch{cond} => zero"], batch(0), &shared), &shared.zeros_like()));
}

#[test]
fn edits_go_in_order_and_begin_where_they_are_told() {
    let tensor = noise(1, &[2, 6]);
    let first = edited(&["a.out => scale(3)", "a.out => add(1)"], batch(0), &tensor);
    assert!(same(&first, &(&tensor * 3.0 + 1.0)));
    let second = edited(&["a.out => add(1)", "a.out => scale(3)"], batch(0), &tensor);
    assert!(same(&second, &((&tensor + 1.0) * 3.0)));
    let tap = Tap::named("a.out");
    let mut edits = edits(&["a.out => zero"], std::slice::from_ref(&tap)).unwrap().beginning_at(2);
    let mut pass = Pass::watched(&mut edits);
    for call in 0..4 {
        pass.set_moment(batch(call));
        assert_eq!(pass.wants(&tap), call >= 2);
        assert_eq!(same(&pass.tap(&tap, tensor.shallow_clone()), &tensor), call < 2, "call {call}");
    }
}

/// A recorded run of four calls, and its numbers.
fn other_run() -> (tempfile::TempDir, String, Run) {
    let run = Run::new(4, 2);
    let folder = tempfile::tempdir().unwrap();
    run.record(
        folder.path(),
        &["unet.mid_block.out", "unet.half.out", "unet.x.attn2.probs | f16"],
        None,
        Layout::EVERY_CALL,
    )
    .unwrap();
    let path = folder.path().display().to_string();
    (folder, path, run)
}

#[test]
fn tensors_of_another_run_are_put_in_or_added() {
    let (_folder, path, run) = other_run();
    let rows = run.rows();
    let taps = &run.taps;
    let tap = |name: &str| taps.iter().find(|tap| tap.name() == name).unwrap();
    for name in ["unet.mid_block.out", "unet.half.out"] {
        let old = |call, branch, image| rows[&key(name, call, Some(branch), image)].shallow_clone();
        let (u, c) = (Branch::Unconditional, Branch::Conditional);
        let new = old(0, u, 0)
            .repeat([4, 1, 1, 1].as_slice())
            .reshape([&[4], &old(0, u, 0).size()[1..]].concat())
            .ones_like()
            * 0.5;
        let out = |rule: String, call| {
            let mut edits = edits(&[&rule], taps).unwrap();
            let mut pass = Pass::watched(&mut edits);
            pass.set_moment(batch(call));
            let out = pass.tap(tap(name), new.shallow_clone());
            edits.outcome().unwrap();
            out
        };
        let whole = |call| Tensor::cat(&[old(call, u, 0), old(call, u, 1), old(call, c, 0), old(call, c, 1)], 0);
        for call in 0..4 {
            assert!(same(&out(format!("{name} => replace({path})"), call), &whole(call)), "{name}, call {call}");
            assert!(same(&out(format!("{name} => add({path}, -2.5)"), call), &(&new + whole(call) * -2.5)));
        }
        let half = out(format!("{name} @branch{{cond}} => replace( {path} )"), 1);
        assert!(
            same(&half.narrow(0, 0, 2), &new.narrow(0, 0, 2)) && same(&half.narrow(0, 2, 2), &whole(1).narrow(0, 2, 2))
        );
    }
    // In the number format of the edited run: bf16 numbers are f32 numbers.
    let mut edits = edits(&[&format!("unet.half.out => replace({path})")], taps).unwrap();
    let mut pass = Pass::watched(&mut edits);
    pass.set_moment(batch(0));
    let out = pass.tap(tap("unet.half.out"), noise(1, &[4, 7]));
    let first = rows[&key("unet.half.out", 0, Some(Branch::Unconditional), 0)].to_kind(Kind::Float);
    assert!(out.kind() == Kind::Float && same(&out.narrow(0, 0, 1), &first));
}

#[test]
fn what_another_run_does_not_hold_is_an_error_that_says_how_to_get_it() {
    let (_folder, path, run) = other_run();
    // Never kept, or not whole.
    for name in ["unet.time_embedding", "unet.x.attn2.probs"] {
        let error = edits(&[&format!("{name} => replace({path})")], &run.taps).err().unwrap().to_string();
        assert!(error.contains(name) && error.contains(&path), "{error}");
        assert!(error.ends_with(&format!("hint: record that run with --capture {name}")), "{error}");
    }
    let error = edits(&["unet.half.out => add(/nowhere, 1)"], &run.taps).err().unwrap().to_string();
    assert!(error.starts_with("/nowhere: no such folder"), "{error}");
    // Found only during the run: the tensor is unchanged, and the outcome is an error.
    let tap = run.taps.iter().find(|tap| tap.name() == "unet.half.out").unwrap();
    for (call, rows, hint) in [(9, 4, "had fewer calls"), (0, 6, "had fewer calls"), (0, 1, "had fewer calls")] {
        let mut edits = edits(&[&format!("unet.half.out => replace({path})")], &run.taps).unwrap();
        let tensor = noise(1, &[rows, 7]);
        let mut pass = Pass::watched(&mut edits);
        pass.set_moment(batch(call));
        assert!(same(&pass.tap(tap, tensor.shallow_clone()), &tensor), "the tensor passes");
        let error = edits.outcome().unwrap_err().to_string();
        assert!(error.contains("unet.half.out/") && error.contains(hint), "{error}");
    }
    let mut edits = edits(&[&format!("unet.half.out => replace({path})")], &run.taps).unwrap();
    let mut pass = Pass::watched(&mut edits);
    pass.set_moment(batch(0));
    let _ = pass.tap(tap, noise(1, &[4, 8]));
    let error = edits.outcome().unwrap_err().to_string();
    assert!(error.contains("there in shape [1, 7], and [1, 8] is called for"), "{error}");
    edits.outcome().unwrap(); // said once
}

#[test]
fn a_skipped_block_passes_its_shortcut_on() {
    for outputs in [4, 6] {
        let weights = Weights::random("unet", 5, Kind::Float, Device::Cpu);
        let shape = ResnetShape { inputs: 4, outputs, time: Some(3), groups: 2, eps: 1e-5 };
        let block = ResnetBlock::load(&weights.at("resnets.0"), shape).unwrap();
        let (x, time) = (noise(1, &[2, 4, 5, 5]), noise(2, &[1, 3]));
        let run = |rules: &[&str]| {
            let mut edits = edits(rules, &weights.taps()).unwrap();
            let mut pass = Pass::watched(&mut edits);
            pass.set_moment(batch(1));
            let out = block.forward(&mut pass, &x, Some(&time));
            edits.outcome().unwrap();
            out
        };
        let plain = block.forward(&mut Pass::silent(), &x, Some(&time));
        // A block that adds nothing: its second convolution's output is zero.
        let shortcut = run(&["unet.resnets.0.conv2 => zero"]);
        let skipped = run(&["unet.resnets.0.out => skip"]);
        assert!(same(&skipped, &shortcut) && !same(&skipped, &plain));
        if outputs == 4 {
            assert!(same(&skipped, &x), "of the same width, what came in");
        }
        let half = run(&["unet.resnets.0.out @branch{cond} => skip"]);
        assert!(same(&half.narrow(0, 0, 1), &plain.narrow(0, 0, 1)));
        assert!(same(&half.narrow(0, 1, 1), &shortcut.narrow(0, 1, 1)));
        assert!(same(&run(&["unet.resnets.0.out => scale(2)", "unet.resnets.0.out => skip"]), &(&shortcut * 2.0)));
        assert!(same(&run(&["unet.resnets.0.out @step[2:] => skip"]), &plain));
        let error = edits(&["unet.resnets.0.conv1 => skip"], &weights.taps()).err().unwrap().to_string();
        assert!(error.contains("conv1 cannot be skipped\nhint: residual modules"), "{error}");
    }
}

/// An attention to five tokens, and its taps.
fn attention(to: &str) -> (Attention, Vec<Tap>) {
    let weights = Weights::random("unet", 3, Kind::Float, Device::Cpu);
    let names = AttentionShape::DIFFUSERS;
    let attends = if to == "x.attn2" { Attends::Text } else { Attends::Itself };
    let shape =
        AttentionShape { width: 12, context: 6, attends, heads: 3, bias: false, causal: false, upcast: false, names };
    (Attention::load(&weights.at(to), shape).unwrap(), weights.taps())
}

/// The probabilities and the output of an attention that rules edit.
fn attended(rules: &[&str], words: Words) -> (Tensor, Tensor) {
    let (attention, taps) = attention("x.attn2");
    let rules: Vec<EditRule> = rules.iter().map(|rule| EditRule::parse(rule).unwrap()).collect();
    let mut edits = Edits::new(&rules, &taps, words, STEPS).unwrap();
    let mut seen = Seen(Vec::new());
    let mut both = latentrace_nn::Both(&mut edits, &mut seen);
    let mut pass = Pass::watched(&mut both);
    pass.set_moment(batch(0));
    let out = attention.forward(&mut pass, &noise(1, &[2, 9, 12]), &noise(2, &[2, 5, 6]));
    edits.outcome().unwrap();
    (seen.0.pop().unwrap(), out)
}

/// A probe that sees probabilities.
struct Seen(Vec<Tensor>);

impl latentrace_nn::Probe for Seen {
    fn wants(&self, tap: &Tap, _: &Moment) -> bool {
        tap.name().ends_with(".probs")
    }
    fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        self.0.push(tensor.shallow_clone());
        tensor
    }
}

#[test]
fn a_masked_word_is_attended_to_by_no_pixel() {
    let (plain, _) = attended(&[], words());
    let (probs, out) = attended(&["unet.**.attn2.scores => mask(red)"], words());
    assert_eq!(probs.size(), [2, 3, 9, 5]);
    // Of the conditional row, token 2: the start token is 0.
    let red = probs.get(1).narrow(-1, 2, 1);
    assert!(list(&red).iter().all(|probability| *probability == 0.0));
    let sums = probs.sum_dim_intlist(-1, false, Kind::Double);
    assert!((sums - 1.0).abs().max().double_value(&[]) < 1e-6, "five f32 numbers");
    let others: Tensor = plain.get(1) / (1.0 - plain.get(1).narrow(-1, 2, 1));
    for token in [0, 1, 3, 4] {
        let gap = (others.narrow(-1, token, 1) - probs.get(1).narrow(-1, token, 1)).abs().max();
        assert!(gap.double_value(&[]) < 1e-6, "the rest is shared as before");
    }
    assert!(same(&probs.get(0), &plain.get(0)), "the negative prompt has no such word");
    assert!(out.isfinite().all().int64_value(&[]) == 1);
    // Several words, a word of several tokens, and one that stands in both texts.
    let (probs, _) = attended(&["unet.**.attn2.scores => mask(a, cat)"], words());
    let zeros = |row: i64| {
        (0..5).filter(|&token| list(&probs.get(row).narrow(-1, token, 1)).iter().all(|p| *p == 0.0)).collect::<Vec<_>>()
    };
    assert_eq!((zeros(0), zeros(1)), (vec![1], vec![1, 3]));
    let split = Prompt::new("astronaut", &["astro", "naut"].map(String::from));
    let split = Words { conditional: split, ..Words::default() };
    let (probs, _) = attended(&["unet.**.attn2.scores @branch{cond} => mask(astronaut)"], split);
    assert!(
        list(&probs.get(1).narrow(-1, 1, 2)).iter().all(|p| *p == 0.0)
            && probs.get(1).narrow(-1, 3, 1).min().double_value(&[]) > 0.0
    );
}

#[test]
fn a_reweighted_word_is_its_column_times_a_number() {
    let (plain, without) = attended(&[], words());
    let (probs, out) = attended(&["unet.**.attn2.probs => reweight(cat, -2)"], words());
    assert!(same(&probs.get(0), &plain.get(0)), "the negative prompt has no such word");
    for token in 0..5 {
        let (before, after) = (plain.get(1).narrow(-1, token, 1), probs.get(1).narrow(-1, token, 1));
        assert!(same(&after, &(&before * if token == 3 { -2.0 } else { 1.0 })), "token {token}");
    }
    assert!(same(&out.get(0), &without.get(0)) && !same(&out.get(1), &without.get(1)));
    let (by_place, _) = attended(&["unet.**.attn2.probs @branch{cond} => reweight(#3, -2)"], words());
    assert!(same(&by_place, &probs), "#3 is the place of the cat");
}

#[test]
fn rules_that_cannot_be_are_errors_with_a_hint() {
    let (_, mut taps) = attention("x.attn2");
    taps.extend(attention("x.attn1").1);
    for (rule, said) in [
        ("unet.x.attn2.out", "no => between"),
        ("unet.x.attn2.out => ", "is no edit"),
        ("unet.x.attn2.out => remove", "remove is no edit"),
        ("unet.x.attn2.out => scale", "scale is no edit"),
        ("unet.x.attn2.out => scale(x)", "is no edit"),
        ("unet.x.attn2.out => scale(inf)", "is no edit"),
        ("unet.x.attn2.out => scale(NaN)", "is no edit"),
        ("unet.x.attn2.out => scale(1, 2)", "is no edit"),
        ("unet.x.attn2.out => noise(0.1, x)", "is no edit"),
        ("unet.x.attn2.out => zero(1)", "is no edit"),
        ("unet.x.attn2.out => replace()", "is no edit"),
        ("unet.x.attn2.scores => mask", "is no edit"),
        ("unet.x.attn2.probs => reweight(red)", "is no edit"),
        ("unet.x.attn2.out @when[1] => zero", "@when[1] is no window"),
        ("unet.x.attn2.owt => zero", "near names: unet.x.attn2.out"),
        ("unet.x.attn2.q => skip", "unet.x.attn2.q cannot be skipped"),
        ("unet.x.attn2.probs => mask(red)", "unet.x.attn2.probs holds no scores of words"),
        ("unet.x.attn1.scores => mask(red)", "unet.x.attn1.scores holds no scores of words"),
        ("unet.x.attn2.scores => reweight(red, 2)", "unet.x.attn2.scores holds no probabilities of words"),
        ("unet.x.attn2.scores => mask(blue)", "blue: no such word in the prompt"),
        ("unet.x.attn2.probs => reweight(blue, 2)", "blue: no such word in the prompt"),
    ] {
        let error = edits(&[rule], &taps).err().unwrap_or_else(|| panic!("{rule}: accepted")).to_string();
        assert!(error.contains(said) && error.contains("hint: "), "{rule}: {error}");
    }
    assert!(edits(&["unet.x.attn2.out => zero", "nonsense"], &taps).is_err(), "every rule is read");
}

fn trace_of(run: &Run, rules: &[&str], layout: Layout) -> (tempfile::TempDir, Trace) {
    let folder = tempfile::tempdir().unwrap();
    run.record(folder.path(), rules, None, layout).unwrap();
    let trace = Trace::open(folder.path()).unwrap();
    (folder, trace)
}

fn all_the_same(comparison: &Comparison, count: usize) {
    assert_eq!((comparison.only_first, comparison.only_second, comparison.differences.len()), (0, 0, count));
    assert!(comparison.differences.iter().all(|difference| (difference.absolute, difference.relative) == (0.0, 0.0)));
    assert!(comparison.first_beyond(0.0).is_none());
}

#[test]
fn the_same_runs_do_not_differ_and_a_changed_tensor_is_found() {
    let count = Run::new(4, 2).rows().len();
    let (_a, plain) = trace_of(&Run::new(4, 2), &["**"], Layout::EVERY_CALL);
    let (_b, again) = trace_of(&Run::new(4, 2), &["**"], Layout::WHOLE);
    all_the_same(&compare(&plain, &plain).unwrap(), count);
    all_the_same(&compare(&plain, &again).unwrap(), count);
    let nudged = Run::changed(4, 2, |name, call, tensor| match (name, call) {
        ("unet.mid_block.out", 2) => {
            let _ = tensor.get(3).flatten(0, -1).get(5).fill_(100.0); // the conditional row of the second image
            tensor
        }
        _ => tensor,
    });
    let (_c, nudged_trace) = trace_of(&nudged, &["**"], Layout::WHOLE);
    let comparison = compare(&plain, &nudged_trace).unwrap();
    let found = comparison.first_beyond(0.0).unwrap();
    let expected = key("unet.mid_block.out", 2, Some(Branch::Conditional), 1);
    assert_eq!((&found.key, found.step), (&expected, 1));
    let before = list(&Run::new(4, 2).rows()[&expected]);
    let absolute = 100.0 - before[5];
    let size = before.iter().fold(0.0, |size: f64, number| size.max(number.abs()));
    assert_eq!((found.absolute, found.relative), (absolute, absolute / (size + 1e-12)));
    assert_eq!(comparison.worst().unwrap().key, expected);
    assert_eq!(comparison.differences.iter().filter(|difference| difference.absolute > 0.0).count(), 1);
    assert!(
        comparison.first_beyond(found.relative).is_none() && comparison.first_beyond(found.relative * 0.99).is_some()
    );
    // A trace that ends sooner, and one with other taps.
    let (_d, short) = trace_of(&Run::new(3, 2), &["**"], Layout::WHOLE);
    let comparison = compare(&plain, &short).unwrap();
    assert_eq!(comparison.only_first, (count - 2) / 4, "all but the texts, of one call");
    assert_eq!(compare(&short, &plain).unwrap().only_second, comparison.only_first);
    let (_e, few) = trace_of(&Run::new(4, 2), &["unet.** | stats"], Layout::WHOLE);
    let comparison = compare(&few, &plain).unwrap();
    assert_eq!((comparison.differences.len(), comparison.only_first), (4 * 3 * 2, 0), "statistics are no tensors");
}

#[test]
fn runs_of_other_batches_branches_and_formats_are_held_against_each_other() {
    let together = Run::new(3, 2);
    let mut apart = Run::empty();
    for call in 0..3 {
        for (key, row) in together.rows().into_iter().filter(|(key, _)| key.call == call) {
            let rows = key.branch.map_or(Rows::Images, Rows::Branch);
            let image = key.image;
            apart.pass(&key.tap, Moment { call, image, rows, ..Moment::default() }, row);
        }
    }
    let (_a, first) = trace_of(&together, &["**"], Layout::EVERY_CALL);
    let (_b, second) = trace_of(&apart, &["**"], Layout::WHOLE);
    all_the_same(&compare(&first, &second).unwrap(), together.rows().len());
    // A network in bf16 against the same in f32.
    let halves = Run::changed(3, 2, |_, _, tensor| tensor.to_kind(Kind::BFloat16));
    let (_c, halves) = trace_of(&halves, &["**"], Layout::WHOLE);
    let comparison = compare(&first, &halves).unwrap();
    assert_eq!(comparison.differences.len(), together.rows().len());
    for difference in &comparison.differences {
        // bf16 has 8 digits: half a unit of the last is 2^-9 of the number, and numbers are at most the largest.
        assert!(difference.relative <= 2f64.powi(-8), "{difference:?}");
        let exact = difference.key.tap == "unet.half.out";
        assert_eq!(difference.absolute == 0.0, exact, "{difference:?}");
    }
    // Tensors of different shapes differ by infinity.
    let cut =
        Run::changed(3, 2, |name, _, tensor| if name == "sampler.sample" { tensor.narrow(3, 0, 2) } else { tensor });
    let (_d, cut) = trace_of(&cut, &["**"], Layout::WHOLE);
    let comparison = compare(&first, &cut).unwrap();
    assert_eq!(comparison.first_beyond(1e9).unwrap().key.tap, "sampler.sample");
    assert_eq!(comparison.worst().unwrap().relative, f64::INFINITY);
}

#[test]
fn the_largest_numbers_at_other_places_differ() {
    let top = |numbers: &[f32]| {
        let mut run = Run::empty();
        run.pass("a.out", Moment::default(), Tensor::from_slice(numbers).view([1, -1]));
        trace_of(&run, &["a.out | topk(2)"], Layout::WHOLE)
    };
    let apart = |other: &[f32]| {
        let ((_a, first), (_b, second)) = (top(&[4.0, 0.0, 3.0]), top(other));
        compare(&first, &second).unwrap().worst().unwrap().absolute
    };
    assert_eq!(apart(&[4.0, 0.0, 3.0]), 0.0);
    assert_eq!(apart(&[3.5, 0.0, 4.0]), 1.0, "in another order: place by place");
    assert_eq!(apart(&[4.0, 3.0, 0.0]), f64::INFINITY);
}

#[test]
fn texts_and_pictures_are_edited_however_late_a_run_begins() {
    let tap = common::tap("text_encoder.out");
    let mut edits = edits(&["text_encoder.out => scale(2)"], std::slice::from_ref(&tap)).unwrap().beginning_at(3);
    let tensor = noise(1, &[1, 5, 6]);
    let mut pass = Pass::watched(&mut edits);
    pass.set_moment(Moment { rows: Rows::Branch(Branch::Conditional), ..Moment::default() });
    assert!(same(&pass.tap(&tap, tensor.shallow_clone()), &(&tensor * 2.0)), "a fork encodes its texts anew");
    // A run that was cut off after its last call still has its picture to decode.
    let tap = common::tap("vae.decoder.out");
    let mut edits = crate::edits(&["vae.** => scale(2)"], std::slice::from_ref(&tap)).unwrap().beginning_at(STEPS);
    let mut pass = Pass::watched(&mut edits);
    pass.set_moment(Moment { call: STEPS - 1, ..Moment::default() });
    assert!(same(&pass.tap(&tap, tensor.shallow_clone()), &(&tensor * 2.0)));
}

#[test]
fn damage_is_no_difference() {
    let (folder, first) = trace_of(&Run::new(2, 1), &[], Layout::WHOLE);
    let (_b, second) = trace_of(&Run::new(2, 1), &[], Layout::WHOLE);
    let shard = folder.path().join("shards/000000.safetensors");
    drop(first);
    let mut bytes = std::fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&shard, bytes).unwrap();
    let first = Trace::open(folder.path()).unwrap();
    for error in [compare(&first, &second), compare(&second, &first)] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains("have changed since they were recorded"), "{error}");
    }
}
