//! Records the UNet's mid block over all steps of a run, makes the run again with it halved from step 5 on, and says how
//! far the two pictures are apart: `cargo run --release --example mid_block`.

#![allow(clippy::print_stdout)] // an example prints
use latentrace::nn::{Both, Pass};
use latentrace::pipeline::{Model, Options, Request};
use latentrace::trace::{Capture, Edits, Layout, Recorder, Rule, Trace, Words, Writer};
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let model = Model::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models/shapes"), Options::default())?;
    let request = Request { steps: 10, ..model.request("a large red circle on the left, white background", 193) };
    let mut pictures = Vec::new();
    for (name, rules) in [("plain", vec![]), ("edited", vec!["unet.mid_block.out @step[5:] => scale(0.5)".to_string()])]
    {
        let capture = Capture { rules: vec![Rule::parse("unet.mid_block.out @branch{cond}")?], budget: None };
        let writer = Writer::create(&folder.path().join(name), &serde_json::json!({ "name": name }), Layout::LIVE)?;
        let recorder = Recorder::new(&capture, &model.taps, Words::default(), request.steps, writer)?;
        let mut probe = Both(Edits::new(&rules, &model.taps, Words::default(), request.steps)?, recorder);
        pictures.push(model.run(&request, &mut Pass::watched(&mut probe))?.picture);
        probe.1.end(None)?;
        for entry in Trace::open(&folder.path().join(name))?.of_tap("unet.mid_block.out") {
            println!("{name}: call {:2}, sigma {:6.3}, rms {:.3}", entry.call, entry.sigma, entry.statistics.rms);
        }
    }
    let apart = pictures[0].pixels.iter().zip(&pictures[1].pixels).map(|(a, b)| a.abs_diff(*b)).max();
    println!("the pictures differ by up to {} of 255", apart.unwrap_or(0));
    Ok(())
}
