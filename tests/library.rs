//! The snippets of the README, as they stand there.

use latentrace::experiments::{How, Measure, Progress, Spec, Sweep, page};
use latentrace::pipeline::Options;
use latentrace::runs::{Cell, Job, Kept, Mode, Verification, bundled, open};
use std::error::Error;

type Tested = Result<(), Box<dyn Error>>;

const PROMPT: &str = "a large red circle on the left, white background";

#[test]
fn a_run_is_recorded_with_a_capture_and_an_edit_verified_and_forked() -> Tested {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    // snippet a
    let model = open(&bundled()?, Options::default(), &())?;
    let edits = vec!["unet.mid_block.out @step[5:] => scale(0.5)".parse()?];
    let cell = Cell { prompt: PROMPT.into(), seed: 193, steps: 10, edits, ..Cell::default() };
    let kept = Kept { capture: vec!["unet.mid_block.out @branch{cond}".parse()?], budget: None };
    let run = Job::new(&model, &cell, &kept)?.make(&folder.join("halved"), &())?;
    assert!(Verification::of_run(&run)?.worst() < 1e-6);
    let trace = run.read()?;
    let (fork, _) = Job::fork(&model, &trace, 8, |cell| Cell { guidance: 3.0.into(), ..cell.clone() }, None)?;
    let fork = fork.make(&folder.join("halved-then-3"), &())?;
    // end
    assert!(run.picture().is_file() && fork.picture().is_file());
    assert_eq!(trace.of_tap("unet.mid_block.out").count(), 11, "one for each call: PNDM's second step has two");
    assert!(Verification::of_run(&fork)?.worst() < 1e-6);
    assert!(Job::new(&model, &cell, &kept)?.make(&folder.join("halved"), &()).is_err(), "a run is there");
    Ok(())
}

#[test]
fn a_sweep_runs_from_a_spec_in_rust_and_its_report_is_written() -> Tested {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let heard = std::cell::Cell::new(0);
    let said = |_: String| heard.set(heard.get() + 1);
    // snippet b
    let spec = Spec::draft("scales")
        .fix("prompt", PROMPT)
        .fix("steps", 4)
        .vary("guidance", [1.0, 4.0, 9.0])
        .measure(Measure::Adherence)
        .check()?;
    let tell = |progress: Progress| {
        if let Progress::Cell { label, left, .. } = progress {
            said(format!("{label}: {left} to go"));
        }
    };
    let results = Sweep::new(&spec, How::default(), &tell)?.run(&folder.join("scales"), &tell)?;
    for row in &results.rows {
        said(format!("{} {:?} {}", row.label, row.numbers, row.run.picture().display()));
    }
    // end
    assert_eq!((results.rows.len(), results.new, heard.get()), (3, 3, 6));
    assert!(results.rows.iter().all(|row| row.run.picture().is_file() && !row.numbers.is_empty()));
    // snippet c
    let written = page::write(&[folder.join("scales")], None, 100, &())?;
    println!("{} with {} pictures", written.path.display(), written.pictures);
    // end
    assert_eq!(written.pictures, 3);
    Ok(())
}

#[test]
fn a_sweep_prepares_each_cell_once_and_reads_its_picture_once() -> Tested {
    use latentrace::pipeline::counts;
    let folder = tempfile::tempdir()?;
    let photo = folder.path().join("photo.png");
    let image = latentrace::plot::RgbImage::from_fn(90, 70, |x, y| [(2 * x) as u8, (3 * y) as u8, 90].into());
    latentrace::plot::save_png(&photo, &image, &[])?;
    let spec = Spec::draft("counted")
        .fix("prompt", PROMPT)
        .fix("steps", 4)
        .fix("image", photo.display().to_string())
        .vary("strength", [0.5, 1.0])
        .vary("guidance", [1.0, 4.0, 9.0])
        .check()?;
    for mode in [Mode::Alone, Mode::Batched] {
        let before = counts();
        let sweep = Sweep::new(&spec, How { mode, ..How::default() }, &|_| ())?;
        let (cells, reads) = (sweep.cells(), sweep.reads());
        let results = sweep.run(&folder.path().join(format!("{mode:?}")), &|_| ())?;
        let after = counts();
        assert_eq!((cells, results.rows.len(), reads), (6, 6, 1), "one picture is read, once");
        assert_eq!(after.plans - before.plans, 6, "{mode:?}: a plan for each cell");
        assert_eq!(after.texts - before.texts, 12, "{mode:?}: two texts for each cell");
    }
    // Made again, nothing is computed but the names of what is there.
    let before = counts();
    let results = Sweep::new(&spec, How::default(), &|_| ())?.run(&folder.path().join("Alone"), &|_| ())?;
    assert_eq!((results.new, counts().plans - before.plans), (0, 6));
    Ok(())
}
