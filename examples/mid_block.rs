//! Records the UNet's mid block over all steps of a run in which it is halved from step 5 on, verifies the record, and goes
//! on from step 7 with another guidance: `cargo run --release --example mid_block`.

#![allow(clippy::print_stdout)] // an example prints
use latentrace::runs::{Cell, Job, Kept, Verification, open};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let cell = Cell {
        prompt: "a large red circle on the left, white background".into(),
        seed: 193,
        steps: 10,
        edits: vec!["unet.mid_block.out @step[5:] => scale(0.5)".parse()?],
        ..Cell::default()
    };
    let model = open(&cell, &())?;
    let kept = Kept { capture: vec!["unet.mid_block.out @branch{cond}".parse()?], budget: None };
    let run = Job::new(&model, &cell, &kept)?.make(&folder.path().join("halved"), &())?;

    let trace = run.read()?;
    for entry in trace.of_tap("unet.mid_block.out") {
        println!("call {:2}, sigma {:6.3}, rms {:.3}", entry.call, entry.sigma, entry.statistics.rms);
    }
    println!("verified, worst relative difference {:.1e}", Verification::of_run(&run)?.worst());

    let (fork, _) = Job::fork(&model, &trace, 8, |cell| Cell { guidance: 3.0.into(), ..cell.clone() }, None)?;
    println!("{}", fork.make(&folder.path().join("halved-at-7"), &())?.picture().display());
    Ok(())
}
