//! How often a rule will fire is counted before a run, and the run agrees.

#[allow(dead_code)] // each file of tests uses its own part
mod common;

use common::{Run, noise, words};
use latentrace_nn::tch::Kind;
use latentrace_nn::{Branch, Moment, Rows};
use latentrace_trace::{Course, EditRule, Edits, Foreseen, Layout, Passage, Rule, Trace};

fn rule(text: &str) -> EditRule {
    EditRule::parse(text).unwrap()
}

/// The course of a run of four steps of two calls each: a network, the sampler, the texts, an encoder that does not
/// pass.
fn course() -> Course {
    let calls = (0..8).map(|call| Moment {
        call,
        step: call / 2,
        evaluation: call % 2,
        sigma: 12.0 / (1 << call) as f64,
        ..Moment::default()
    });
    let passage = |name: &str, shape: &[i64], rows, calls: &[usize]| Passage {
        tap: common::tap(name),
        shape: shape.to_vec(),
        kind: Kind::Float,
        rows,
        grid: name.contains("attn").then_some([3, 3]),
        calls: calls.to_vec(),
    };
    let all: Vec<usize> = (0..8).collect();
    let passages = vec![
        passage("text_encoder.out", &[1, 5, 6], Rows::Branch(Branch::Conditional), &[0]),
        passage("text_encoder.out", &[1, 5, 6], Rows::Branch(Branch::Unconditional), &[0]),
        passage("sampler.sample", &[1, 4, 3, 3], Rows::Images, &all),
        passage("unet.time_embedding", &[1, 8], Rows::Branches, &all),
        passage("unet.mid_block.out", &[2, 3, 4, 4], Rows::Branches, &all),
        passage("unet.x.attn2.scores", &[2, 2, 9, 5], Rows::Branches, &all),
        passage("unet.x.attn2.probs", &[2, 2, 9, 5], Rows::Branches, &all),
        passage("vae.encoder.out", &[1, 8, 3, 3], Rows::Images, &[]),
    ];
    Course::new(passages, calls.collect(), words())
}

fn capture(text: &str) -> Foreseen {
    course().capture(&Rule::parse(text).unwrap()).unwrap()
}

fn edit(text: &str) -> Foreseen {
    course().edit(&rule(text)).unwrap()
}

#[test]
fn rules_that_fire_are_counted() {
    for (text, tensors, calls) in [
        ("unet.mid_block.out", 16, 8),
        ("unet.mid_block.out @branch{cond}", 8, 8),
        ("unet.mid_block.out @step[-1]", 4, 2),
        ("unet.mid_block.out @step[2:60]", 8, 4),
        ("unet.mid_block.out @eval[1] @sigma[:3]", 6, 3),
        ("text_encoder.out", 2, 1),
        ("sampler.sample @image[0]", 8, 8),
        ("unet.{time_embedding,mid_block.out}", 24, 8),
        ("vae.encoder.out", 0, 0),
    ] {
        let (kept, edited) = (capture(text), edit(&format!("{text} => scale(2)")));
        for found in [&kept, &edited] {
            assert_eq!((found.tensors, found.calls), (tensors, calls), "{text}");
            assert_eq!(found.unmet.is_empty(), tensors > 0, "{text}");
        }
    }
    let bytes = |text: &str| capture(text).bytes();
    assert_eq!(bytes("unet.mid_block.out"), 16 * 48 * 4);
    assert_eq!(bytes("unet.mid_block.out @step[0] | f16"), 4 * 48 * 2);
    assert_eq!(bytes("unet.x.attn2.probs @branch{cond} | head_mean | tokens(red)"), 8 * 9 * 4);
    assert_eq!(bytes("unet.mid_block.out | topk(5) | f16"), 16 * (5 * 2 + 5 * 8), "the places are exact");
    assert_eq!(bytes("** | stats"), 0);
    // Only the branch that has the word.
    assert_eq!(capture("unet.x.attn2.probs | tokens(red)").tensors, 8);
    assert_eq!(edit("unet.x.attn2.scores => mask(red)").tensors, 8);
    assert_eq!(edit("unet.x.attn2.scores => mask(a)").tensors, 16);
    assert_eq!(edit("unet.x.attn2.probs => reweight(#4, 0)").tensors, 16);
}

#[test]
fn a_rule_that_cannot_fire_says_what_would() {
    for (text, said) in [
        ("unet.mid_block.out @step[60:70]", "@step[60:70] selects nothing of this run\nhint: steps are 0 to 3"),
        ("unet.mid_block.out @step[3:1]", "@step[3:1] selects nothing of this run\nhint: steps are 0 to 3"),
        ("unet.mid_block.out @sigma[20:30]", "hint: sigma goes from 12.000 down to 0.0938"),
        ("unet.mid_block.out @sigma[4:5]", "and next to the window is 6.0000 and 3.0000"),
        ("unet.mid_block.out @eval[3]", "hint: calls of a step are 0 to 1"),
        ("unet.mid_block.out @image[1]", "hint: a run is one image: @image[0]"),
        (
            "unet.mid_block.out @step[0] @sigma[:1]",
            "no tensor lies in all of its windows\nhint: steps are 0 to 3; sigma",
        ),
        ("vae.encoder.**", "does not pass in this run\nhint: it passes where a run starts from a picture"),
        ("text_encoder.out @step[2]", "@step[2] selects nothing of this run"),
        ("unet.mid_blok.out", "near names: unet.mid_block.out"),
    ] {
        for found in [capture(text), edit(&format!("{text} => scale(2)"))] {
            let [unmet] = found.unmet.as_slice() else { panic!("{text}: {:?}", found.unmet) };
            let error = unmet.error.to_string();
            assert!(found.tensors == 0 && error.contains(said), "{text}: {error}");
        }
    }
    let error = |found: Foreseen| found.unmet.into_iter().next().unwrap().error.to_string();
    let blue = error(edit("unet.x.attn2.scores => mask(red, blue)"));
    assert!(blue.contains("blue: no such word in the prompt\nhint: tokens of the prompt: #1 a, #2 red"), "{blue}");
    for branch in [
        error(edit("unet.x.attn2.scores @branch{uncond} => mask(red)")),
        error(capture("unet.x.attn2.probs @branch{uncond} | tokens(red)")),
    ] {
        assert!(branch.contains("red: not in the text of the branch that is selected"), "{branch}");
        assert!(branch.contains("of the negative prompt: #1 a, #2 dog"), "{branch}");
    }
}

#[test]
fn what_cannot_be_done_at_all_is_an_error() {
    for (text, said) in [
        ("unet.x.attn2.probs => reweight(#99, 5)", "#99: no such place\nhint: places are #0 to #4"),
        ("unet.x.attn2.scores => mask(#99)", "#99: no such place"),
        ("unet.mid_block.out => mask(red)", "holds no scores of words"),
        ("unet.time_embedding => skip", "cannot be skipped"),
        ("unet.mid_block.out => replace(/nowhere)", "/nowhere: no such folder"),
    ] {
        let error = course().edit(&rule(text)).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
    for (text, said) in [
        ("unet.x.attn2.probs | tokens(#-1)", "#-1: no such place"),
        ("unet.x.attn2.probs | tokens(#5)", "places are #0 to #4"),
        ("unet.time_embedding | down(2)", "unet.time_embedding has no pixels"),
        ("unet.mid_block.out | head_mean", "has no heads"),
    ] {
        let error = course().capture(&Rule::parse(text).unwrap()).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn a_number_that_is_no_word_of_the_prompt_is_not_a_place() {
    for found in [
        capture("unet.x.attn2.probs | tokens(3)"),
        capture("unet.x.attn2.probs | tokens(-1)"),
        edit("unet.x.attn2.scores => mask(99)"),
        edit("unet.x.attn2.probs => reweight(99, 5)"),
    ] {
        let error = found.unmet[0].error.to_string();
        assert!(found.tensors == 0 && error.contains("no such word") && error.contains("#2 is a place"), "{error}");
    }
}

#[test]
fn what_is_taken_over_does_not_fire_again() {
    let fork = course().beginning_at(4);
    let edit = |text: &str| fork.edit(&rule(text)).unwrap();
    assert_eq!(edit("unet.mid_block.out => zero").tensors, 8);
    assert_eq!(edit("sampler.sample => scale(2)").tensors, 4);
    assert_eq!(edit("text_encoder.out => scale(2)").tensors, 2, "the texts are encoded again");
    let past = edit("unet.mid_block.out @step[0:2] => zero");
    assert!(past.unmet[0].error.to_string().ends_with("hint: this run makes the steps 2 to 3"), "{:?}", past.unmet);
    let capture = |text: &str| fork.capture(&Rule::parse(text).unwrap()).unwrap().tensors;
    assert_eq!(capture("unet.mid_block.out"), 8);
    assert_eq!(capture("sampler.sample"), 8, "the sampler's values are recorded again");
    assert_eq!(fork.levels_within("window", [0.5, 3.0]).tensors, 1);
    assert!(fork.levels_within("window", [5.0, 13.0]).unmet[0].error.to_string().contains("sigma goes from 0.7500"));
    assert_eq!(course().levels_within("window", [0.5, 3.0]).tensors, 3);
}

#[test]
fn a_branch_of_what_both_share_is_told() {
    for (text, taps) in [
        ("unet.time_embedding @branch{cond}", "unet.time_embedding: both branches share what passes"),
        ("** @branch{cond} @step[1]", "sampler.sample and another tap: both"),
    ] {
        let found = capture(text);
        assert!(
            found.notes[0].contains(taps) && found.notes[0].contains("@branch{cond} selects it for both"),
            "{text}"
        );
    }
    assert!(capture("unet.mid_block.out @branch{cond}").notes.is_empty());
    assert!(capture("unet.time_embedding").notes.is_empty());
}

#[test]
fn tensors_of_another_run_are_there_in_their_shape_before_anything_runs() {
    let mut other = Run::empty();
    for call in 0..4 {
        let moment = Moment { call, step: call / 2, rows: Rows::Branches, ..Moment::default() };
        other.pass("unet.mid_block.out", moment, noise(call as u64, &[2, 3, 4, 4]));
        other.pass("unet.time_embedding", moment, noise(9, &[1, 7]));
    }
    let folder = tempfile::tempdir().unwrap();
    other.record(folder.path(), &["unet.**"], None, Layout::WHOLE).unwrap();
    let path = folder.path().display();
    let edit =
        |text: &str| course().edit(&rule(&format!("{text} => replace({path})"))).map_err(|error| error.to_string());
    assert_eq!(edit("unet.mid_block.out @step[0:2]").unwrap().tensors, 8);
    assert!(edit("unet.mid_block.out").unwrap_err().contains("that run had fewer calls"));
    assert!(edit("unet.time_embedding @step[0]").unwrap_err().contains("in shape [1, 7], and [1, 8] is called for"));
    assert!(edit("unet.x.attn2.probs").unwrap_err().contains("record that run with --capture unet.x.attn2.probs"));
}

/// The counts before a run are what a recorder keeps and what edits change in it.
#[test]
fn what_is_foreseen_is_what_happens() {
    let run = Run::new(6, 1);
    let mut passages: Vec<Passage> = Vec::new();
    let mut calls: Vec<Moment> = Vec::new();
    for passing in &run.passing {
        let Moment { call, rows, grid, .. } = passing.moment;
        if calls.len() == call {
            calls.push(Moment { rows: Rows::Images, grid: None, ..passing.moment });
        }
        let same = |known: &&mut Passage| known.tap.id() == passing.tap.id() && known.rows == rows;
        match passages.iter_mut().find(same) {
            Some(known) => known.calls.push(call),
            None => passages.push(Passage {
                tap: passing.tap.clone(),
                shape: passing.tensor.size(),
                kind: passing.tensor.kind(),
                rows,
                grid,
                calls: vec![call],
            }),
        }
    }
    let course = Course::new(passages, calls, words());
    assert_eq!(course.steps(), Run::STEPS);
    for text in [
        "unet.**",
        "** @step[1:] @branch{uncond}",
        "unet.x.attn2.probs | head_mean | tokens(red) | down(2)",
        "unet.** @eval[1] | topk(3) | q8",
        "unet.**.out @sigma[5:] | histogram(4)",
        "text_encoder.out @branch{cond}",
    ] {
        let rule = Rule::parse(text).unwrap();
        let said = course.capture(&rule).unwrap();
        let folder = tempfile::tempdir().unwrap();
        run.record(folder.path(), &[text], None, Layout::WHOLE).unwrap();
        let trace = Trace::open(folder.path()).unwrap();
        let own = |entry: &&latentrace_trace::Entry| !entry.role().is_of_sampler();
        let kept: Vec<_> = trace.entries().iter().filter(own).collect();
        let sampler = said.taps.iter().filter(|tap| tap.role.is_of_sampler()).map(|tap| tap.tensors).sum::<usize>();
        assert_eq!(said.tensors - sampler, kept.len(), "{text}");
        let stored = |entry: &latentrace_trace::Entry| {
            let (numbers, places) = (trace.tensor(entry).unwrap(), trace.places(entry).unwrap());
            let each = match entry.stored.as_ref().unwrap().dtype.as_str() {
                "U8" => 1,
                "BF16" => 2,
                _ => 4,
            };
            numbers.numel() as u64 * each + places.map_or(0, |places| 8 * places.numel() as u64)
        };
        let own_bytes = said.taps.iter().filter(|tap| !tap.role.is_of_sampler()).map(|tap| tap.bytes).sum::<u64>();
        assert_eq!(own_bytes, kept.iter().map(|entry| stored(entry)).sum::<u64>(), "{text}");
    }
    for text in ["unet.** @step[1]", "unet.x.attn2.probs @branch{cond}", "** @sigma[:8] @branch{uncond}"] {
        let edit = rule(&format!("{text} => add(1)"));
        let said = course.edit(&edit).unwrap();
        let mut edits = Edits::new(&[edit], &run.taps, words(), Run::STEPS).unwrap();
        let played = run.play(&mut edits);
        let changed = played.iter().zip(&run.passing).map(|(after, passing)| {
            let rows = after.size()[0];
            (0..rows).filter(|&row| !after.get(row).equal(&passing.tensor.get(row))).count()
        });
        assert_eq!(changed.sum::<usize>(), said.tensors, "{text}");
    }
}
