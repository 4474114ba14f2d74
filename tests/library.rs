//! The snippets of the README, as they stand there; and that nothing is prepared twice.

#![allow(clippy::print_stdout)] // a snippet prints

use latentrace::experiments::{How, Measure, Progress, Spec, Sweep, page};
use latentrace::runs::{Cell, Job, Kept, Mode, Verification, open};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

type Tested = Result<(), Box<dyn Error>>;

const PROMPT: &str = "a large red circle on the left, white background";

/// Makes a new folder the current one, for all tests of this program: the snippets write into `runs`.
fn in_a_new_folder() {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("library");
        std::fs::remove_dir_all(&folder).ok(); // what an earlier run of the tests left
        std::fs::create_dir_all(&folder).unwrap();
        std::env::set_current_dir(&folder).unwrap();
        folder
    });
    assert!(FOLDER.is_dir());
}

#[test]
fn the_snippets_of_the_readme_are_those_that_are_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lines = |text: &str| -> Vec<String> { text.lines().map(|line| line.trim().to_owned()).collect() };
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let tested = lines(include_str!("library.rs")).join("\n");
    for name in ["a", "b", "c"] {
        let (_, rest) = readme.split_once(&format!("<!-- snippet {name} -->\n```rust\n")).expect(name);
        let snippet = lines(rest.split("```").next().unwrap());
        assert!(snippet.len() < 15, "snippet {name} has {} lines", snippet.len());
        assert!(tested.contains(&snippet.join("\n")), "snippet {name} is not the tested one");
    }
}

#[test]
fn a_run_is_recorded_with_a_capture_and_an_edit_verified_and_forked() -> Tested {
    in_a_new_folder();
    let cell = Cell {
        prompt: "a large red circle on the left, white background".into(),
        edits: vec!["unet.mid_block.out @step[25:] => scale(0.5)".parse()?],
        ..Cell::default()
    };
    let model = open(&cell, &())?;
    let kept = Kept { capture: vec!["unet.mid_block.out @branch{cond}".parse()?], budget: None };
    let run = Job::new(&model, &cell, &kept)?.make("runs/halved".as_ref(), &())?;
    println!("worst relative difference {:.1e}", Verification::of_run(&run)?.worst());

    let trace = run.read()?;
    let less = |cell: &Cell| Cell { guidance: 3.0.into(), ..cell.clone() };
    let (fork, _) = Job::fork(&model, &trace, 40, less, None)?;
    let fork = fork.make("runs/halved-then-3".as_ref(), &())?;
    assert!(run.picture().is_file() && fork.picture().is_file());
    assert_eq!(trace.of_tap("unet.mid_block.out").count(), 50, "one for each call");
    for run in [&run, &fork] {
        assert!(Verification::of_run(run)?.worst() < 1e-6);
    }
    let again = Job::new(&model, &cell, &kept)?.make("runs/halved".as_ref(), &());
    assert!(again.is_err_and(|error| error.to_string().contains("there is a run here already")));
    Ok(())
}

#[test]
fn a_sweep_runs_from_a_spec_in_rust_and_its_report_is_written() -> Tested {
    in_a_new_folder();
    let spec = Spec::draft("scales")
        .fix("prompt", "a large red circle on the left, white background")
        .vary("guidance", [1.0, 4.0, 9.0])
        .measure(Measure::Adherence)
        .check()?;
    let tell = |progress: Progress| {
        if let Progress::Cell { label, left, .. } = progress {
            println!("{label}, {left} to go");
        }
    };
    let results = Sweep::new(&spec, How::default(), "runs/scales".as_ref(), &tell)?.run(&tell)?;
    for row in &results.rows {
        println!("{}: {:?}", row.label, row.numbers);
    }
    assert_eq!((results.rows.len(), results.new, results.failed.len()), (3, 3, 0));
    assert!(results.rows.iter().all(|row| row.run.picture().is_file() && !row.numbers.is_empty()));
    let page = page::write(&["runs/scales".into()], None, 400, &())?;
    println!("{}, {} pictures", page.path.display(), page.pictures);
    assert_eq!(page.pictures, 3);
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
        let sweep =
            Sweep::new(&spec, How { mode, ..How::default() }, &folder.path().join(format!("{mode:?}")), &|_| ())?;
        let (cells, reads) = (sweep.cells(), sweep.reads());
        let results = sweep.run(&|_| ())?;
        let after = counts();
        assert_eq!((cells, results.rows.len(), reads), (6, 6, 1), "one picture is read, once");
        assert_eq!(after.plans - before.plans, 6, "{mode:?}: a plan for each cell");
        assert_eq!(after.texts - before.texts, 12, "{mode:?}: two texts for each cell");
    }
    // Made again, nothing is computed but the names of what is there.
    let before = counts();
    let results = Sweep::new(&spec, How::default(), &folder.path().join("Alone"), &|_| ())?.run(&|_| ())?;
    assert_eq!((results.new, counts().plans - before.plans), (0, 6));
    Ok(())
}
