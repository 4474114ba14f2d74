//! Cells that take over calls of other cells, compared with the same cells made alone: every file is the same in every byte, and the
//! network computes as many rows as were planned.

mod common;

use common::differing;
use latentrace_experiments::{How, Results, Spec, Sweep};
use latentrace_files::Table;
use latentrace_pipeline::counts;
use latentrace_runs::{Mode, Verification};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data").join(path)
}

/// What is the same in all cells: the tiny checkpoint, eight steps of DDIM.
fn fixed() -> String {
    let model = data("golden/networks/sd1");
    format!("model = {model:?}\nsampler = \"ddim\"\nsteps = 8\nprompt = \"a cat\"\nseed = 1\nguidance = 4\n")
}

fn opened(folder: &TempDir, name: &str, head: &str, fixed: &str, vary: &str) -> Spec {
    // What is said later counts.
    let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
    let varied: Vec<&str> = vary.lines().filter_map(|line| Some(line.split_once('=')?.0.trim())).collect();
    for (field, value) in fixed.lines().filter_map(|line| line.split_once('=')) {
        fields.insert(field.trim(), value.trim());
    }
    fields.retain(|field, _| !varied.contains(field));
    let fixed: String = fields.into_iter().map(|(field, value)| format!("{field} = {value}\n")).collect();
    let path = folder.path().join(format!("{name}.toml"));
    std::fs::write(&path, format!("name = {name:?}\n{head}\n[fixed]\n{fixed}\n[vary]\n{vary}\n")).unwrap();
    Spec::open(&path, &[]).unwrap()
}

/// Makes a sweep, and returns its results with the rows that the network computed.
fn made(spec: &Spec, how: How, root: &Path) -> (Results, usize) {
    let before = counts().rows;
    let results = Sweep::new(spec, how, root, &|_| {}).unwrap().run(&|_| {}).unwrap();
    (results, counts().rows - before)
}

fn planned(spec: &Spec, how: How) -> [usize; 2] {
    let estimate =
        Sweep::new(spec, how, Path::new("a store that is not there"), &|_| {}).unwrap().estimate(&|_| {}).unwrap();
    [estimate.evaluations, estimate.apart]
}

/// How many calls a cell took over from others, as its settings say; nothing if they say nothing of it.
fn taken(cell: &Path) -> Option<u64> {
    let settings: Value = serde_json::from_slice(&std::fs::read(cell.join("cell.json")).unwrap()).unwrap();
    let taken = settings.get("taken_over")?.as_object().unwrap();
    Some(taken.values().map(|calls| calls.as_u64().unwrap()).sum())
}

/// Makes a sweep over one field, and each of its cells in a sweep of its own. `evaluations` are those of the sweep, and `calls` those
/// that each cell takes over.
fn check(name: &str, head: &str, fixed: &str, (field, values): (&str, &[&str]), evaluations: usize, calls: &[u64]) {
    let folder = tempfile::tempdir().unwrap();
    let spec = opened(&folder, name, head, fixed, &format!("{field} = [{}]", values.join(", ")));
    let (results, computed) = made(&spec, How::default(), &folder.path().join("shared"));
    assert!(results.failed.is_empty(), "{name}: {:?}", results.failed);
    let [planned, apart] = planned(&spec, How::default());
    assert_eq!([planned, computed, results.evaluations], [evaluations; 3], "{name}");
    let mut apart_too = 0;
    for (index, (row, value)) in results.rows.iter().zip(values).enumerate() {
        // The folder has a name of the same length, so that relative paths in the record are the same.
        let alone = opened(&folder, &format!("alone-{index}"), head, &format!("{fixed}{field} = {value}\n"), "");
        let (alone, computed) = made(&alone, How::default(), &folder.path().join(format!("alone{index}")));
        apart_too += computed;
        let (one, other) = (row.run.path(), alone.rows[0].run.path());
        let differing = differing(one, other);
        assert!(differing.is_empty(), "{name}, {}: {differing:?} differ", row.label);
        assert_eq!((taken(one).unwrap_or(0), taken(other)), (calls[index], None), "{name}, {}", row.label);
        let verified = Verification::of_run(&row.run).unwrap();
        assert!(verified.checks.iter().all(|check| check.absolute == 0.0), "{name}: the record leads to itself");
    }
    assert_eq!(apart, apart_too, "{name}");
}

#[test]
fn scales_of_guidance_share_the_first_call() {
    check("guidance", "", &fixed(), ("guidance", &["4", "0", "1", "7.5"]), 2 + 4 * 14, &[0, 1, 1, 1]);
}

#[test]
fn schedules_of_guidance_share_the_calls_before_they_differ_and_the_first_at_which_they_do() {
    // DDIM with eight steps has the sigmas 8.3, 5.0, 3.2, 2.1, 1.4, 0.96, 0.60, 0.29 (about): 4 is between the second and the third.
    let windows = ["{ weight = 7, sigma = [4, 100] }", "{ weight = 7, sigma = [4, 100], outside = 0 }", "7"];
    check("schedule", "", &fixed(), ("guidance", &windows), 2 * (3 + 3 * 5), &[0, 3, 3]);
}

#[test]
fn edits_from_a_step_on_share_all_calls_before_it() {
    let unet =
        ["[\"unet.mid_block.out @step[3:] => scale(0.5)\"]", "[\"unet.mid_block.out @step[3:] => scale(1.5)\"]", "[]"];
    check("network", "", &fixed(), ("edits", &unet), 2 * (3 + 3 * 5), &[0, 3, 3]);
    let sample =
        ["[\"sampler.sample @step[3] => noise(0.1)\"]", "[\"sampler.sample @step[3] => noise(0.1, 1)\"]", "[]"];
    check("sample", "", &fixed(), ("edits", &sample), 2 * (3 + 3 * 5), &[0, 3, 3]);
    // An edit of what the network returned at a call needs the call as it is.
    let output = ["[\"sampler.epsilon.guided @step[3:] => scale(1.1)\"]", "[]"];
    check("output", "", &fixed(), ("edits", &output), 2 * (4 + 2 * 4), &[0, 4]);
    let text = ["[\"text_encoder.text_model.out @branch{cond} => scale(0.5)\"]", "[]"];
    check("text", "", &fixed(), ("edits", &text), 2 * 16, &[0, 0]);
    // What only the picture shows needs no other call.
    let picture = ["[\"vae.decoder.mid_block.resnets.0.out => scale(0.5)\"]", "[]"];
    check("picture", "", &fixed(), ("edits", &picture), 2 * 8, &[0, 8]);
}

#[test]
fn an_edit_that_all_cells_have_is_taken_over_with_the_calls() {
    let edited = format!(
        "{}edits = [\"unet.**.attn2.scores => mask(cat)\", \"sampler.sample @step[2] => scale(1.1)\"]\n",
        fixed()
    );
    check("edited", "", &edited, ("guidance", &["4", "2"]), 2 + 2 * 14, &[0, 1]);
    // A rule that names a word does something else with another text.
    let masks =
        ["[\"unet.**.attn2.scores @step[4:] => mask(cat)\"]", "[\"unet.**.attn2.scores @step[4:] => mask(a)\"]"];
    check("words", "", &fixed(), ("edits", &masks), 2 * (4 + 2 * 4), &[0, 4]);
}

#[test]
fn what_differs_from_the_start_shares_nothing() {
    check("seeds", "", &fixed(), ("seed", &["1", "2"]), 2 * 16, &[0, 0]);
    check("prompts", "", &fixed(), ("prompt", &["\"a cat\"", "\"a dog\""]), 2 * 16, &[0, 0]);
    check("negatives", "", &fixed(), ("negative", &["\"\"", "\"a dog\""]), 2 * 16, &[0, 0]);
    check("steps", "", &fixed(), ("steps", &["8", "7"]), 2 * 15, &[0, 0]);
}

#[test]
fn samplers_that_begin_alike_share_the_first_call() {
    check(
        "samplers",
        "",
        &fixed(),
        ("sampler", &["\"ddim\"", "\"ddpm\"", "\"pndm\"", "\"euler\""]),
        2 + 7 * 6 + 2 + 16,
        &[0, 1, 1, 0],
    );
}

#[test]
fn a_lora_shares_the_calls_at_which_its_scale_is_zero() {
    let file = data("golden/lora/peft.safetensors");
    let late = |scale: &str| {
        format!("[{{ file = {file:?}, scale = {{ weight = {scale}, sigma = [0, 2.5] }}, text_encoder = 0 }}]")
    };
    let (one, other) = (late("1"), late("0.5"));
    check("loras", "", &fixed(), ("loras", &[&one, &other, "[]"]), 2 * (3 + 3 * 5), &[0, 3, 3]);
}

#[test]
fn pictures_to_start_from_share_what_begins_alike() {
    let image = format!("{}image = {:?}\n", fixed(), data("golden/pictures/sd1.png"));
    check("from-picture", "", &image, ("guidance", &["4", "2"]), 2 + 2 * 10, &[0, 1]);
    check("strengths", "", &image, ("strength", &["0.5", "0.9"]), 2 * (4 + 7), &[0, 0]);
}

#[test]
fn a_cell_that_records_the_inside_of_the_network_makes_these_calls_and_takes_over_the_others() {
    let windows = ["{ weight = 7, sigma = [4, 100] }", "7"];
    let late = "capture = [\"unet.mid_block.out @step[1]\"]";
    check("captured", late, &fixed(), ("guidance", &windows), 2 * (3 + 2 * 5) + 2, &[0, 2]);
    let all = "capture = [\"unet.mid_block.out | stats\"]";
    check("captured-always", all, &fixed(), ("guidance", &windows), 2 * 16, &[0, 0]);
    let text = "capture = [\"text_encoder.text_model.out\"]";
    check("captured-text", text, &fixed(), ("guidance", &windows), 2 * (3 + 2 * 5), &[0, 3]);
}

#[test]
fn a_text_is_encoded_once_for_all_cells() {
    let folder = tempfile::tempdir().unwrap();
    let spec = opened(&folder, "texts", "", &fixed(), "prompt = [\"a cat\", \"a dog\"]\nseed = [1, 2, 3]");
    let before = counts().encoded;
    let (results, _) = made(&spec, How::default(), &folder.path().join("out"));
    assert_eq!((results.new, counts().encoded - before), (6, 3), "two prompts, and the empty one");
}

#[test]
fn a_cell_that_fails_takes_over_nothing_wrong_and_leaves_the_others_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let edits =
        "edits = [[\"sampler.sample @step[3] => scale(1e38)\"], [\"sampler.sample @step[3] => add(1e39)\"], []]";
    let spec = opened(&folder, "failing", "", &fixed(), edits);
    let (results, _) = made(&spec, How::default(), &folder.path().join("out"));
    assert_eq!((results.failed.len(), results.rows.len()), (2, 1));
    let alone = opened(&folder, "alone", "", &fixed(), "");
    let (alone, _) = made(&alone, How::default(), &folder.path().join("one"));
    let differing = differing(results.rows[0].run.path(), alone.rows[0].run.path());
    assert!(differing.is_empty(), "{differing:?} differ");
    let again = opened(
        &folder,
        "failed",
        "",
        &format!("{}edits = [\"sampler.sample @step[3] => scale(1e38)\"]\n", fixed()),
        "",
    );
    let (again, _) = made(&again, How::default(), &folder.path().join("two"));
    assert_eq!(again.failed[0].error, results.failed[0].error);
}

#[test]
fn a_sweep_that_goes_on_shares_among_the_cells_that_are_left() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("out");
    let of = |guidance: &str| opened(&folder, "rest", "", &fixed(), &format!("guidance = [{guidance}]"));
    let how = How::default();
    assert_eq!(made(&of("1, 2"), how.clone(), &root).1, 2 + 2 * 14);
    // The first two are there. The outputs of their calls are not kept in memory any more.
    let (results, computed) = made(&of("1, 2, 3, 4"), how, &root);
    assert_eq!((results.new, results.evaluations, computed), (2, 2 + 2 * 14, 2 + 2 * 14));
}

#[test]
fn batches_share_with_each_other_and_with_no_cell_that_is_made_alone() {
    let folder = tempfile::tempdir().unwrap();
    let batched = |batch| How { mode: Mode::Batched, batch, ..How::default() };
    let spec = opened(&folder, "batches", "", &fixed(), "guidance = [1, 2, 3, 4, 5]");
    let expected = 2 + 7 * 9; // a weight of 1 needs no unconditional row
    for (name, batch) in [("all", None), ("two", Some(2)), ("one", Some(1))] {
        assert_eq!(planned(&spec, batched(batch)), [expected, 5 * 16 - 8], "{name}");
        let (results, computed) = made(&spec, batched(batch), &folder.path().join(name));
        assert_eq!([results.evaluations, computed], [expected; 2], "{name}");
    }
    let edited = "edits = [[], [\"unet.mid_block.out @step[3:] => scale(0.5)\"], [\"unet.mid_block.out @step[3:] => scale(2)\"]]";
    let spec = opened(&folder, "edited", "", &fixed(), edited);
    // Cells with edits are made alone, and share with each other.
    let expected = 16 + 2 * (3 + 2 * 5);
    assert_eq!(planned(&spec, batched(None)), [expected, 48]);
    let (results, computed) = made(&spec, batched(None), &folder.path().join("edits"));
    assert_eq!([results.evaluations, computed], [expected; 2]);
}

#[test]
fn runs_whose_time_is_shown_make_all_their_calls() {
    let folder = tempfile::tempdir().unwrap();
    let head = "figures = [\"schedulers\"]\n[reference]\nsteps = 12\nsampler = \"lms\"";
    let spec = opened(&folder, "timed", head, &fixed(), "sampler = [\"ddim\", \"ddpm\"]");
    assert_eq!(planned(&spec, How::default()), [32 + 24; 2]);
    let (results, computed) = made(&spec, How::default(), &folder.path().join("out"));
    assert_eq!([results.evaluations, computed], [32 + 24; 2]);
    assert!(results.rows.iter().all(|row| taken(row.run.path()).is_none()));

    // The error in the table is that of the figure, where a sampler has one run of so many steps.
    let read = |name: &str| Table::read(&folder.path().join("out").join(name)).unwrap();
    let column =
        |table: &Table, name: &str| table.column(name).unwrap().map(|field| field.number()).collect::<Vec<f64>>();
    let (table, figure) = (column(&read("results.csv"), "error"), column(&read("compare-schedulers.csv"), "y"));
    assert!(table.iter().all(|error| *error > 0.0 && *error < 2.0), "{table:?}");
    assert!(
        table.iter().zip(&figure).all(|(table, figure)| (table / figure - 1.0).abs() < 1e-12),
        "{table:?} {figure:?}"
    );
}

#[test]
fn nine_arms_of_fifty_steps_are_counted_before_they_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let fixed =
        "sampler = \"ddim\"\nprompt = \"a large red circle on the left, white background\"\nseed = 193\nsteps = 50\n";
    let count =
        |name: &str, vary: &str, mode| planned(&opened(&folder, name, "", fixed, vary), How { mode, ..How::default() });
    let nine = |of: &dyn Fn(usize) -> String| (1..10).map(of).collect::<Vec<_>>().join(", ");
    let guidance = format!("guidance = [{}]", nine(&|scale| (scale + 1).to_string()));
    assert_eq!([Mode::Alone, Mode::Batched].map(|mode| count("guidance", &guidance, mode)), [[884, 900]; 2]);
    let with_one = "guidance = [1, 2, 3, 4, 5, 6, 7, 8, 9]";
    assert_eq!(count("with-one", with_one, Mode::Batched), [835, 850]);
    // 2 [k + S (T - k)] for S arms of T steps that differ from step k on.
    for (name, edit) in [("network", "unet.mid_block.out"), ("sample", "sampler.sample")] {
        let edits = nine(&|scale| format!("[\"{edit} @step[25:] => scale(1.{scale})\"]"));
        assert_eq!(count(name, &format!("edits = [{edits}]"), Mode::Alone), [500, 900], "{name}");
    }
}
