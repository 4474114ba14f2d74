//! `latentrace latent-vs-pixel`: the same UNet, text and training on latents and on pixels, side by side.

use crate::printer::{self, Printer, line};
use anyhow::Result;
use latentrace::runs::Observer;
use latentrace_studies::latent_vs_pixel::{self as study, Heard};
use std::path::PathBuf;

/// Train one network on latents and on pixels, and compare
///
/// Measures what each costs and shows.
#[derive(clap::Args)]
pub struct LatentVsPixel {
    /// Seconds that each of the two trains for; the whole takes twice that, and then the pictures
    #[arg(long, default_value_t = 1800, value_parser = clap::value_parser!(u64).range(1..), value_name = "SECONDS")]
    seconds_of_training: u64,
    /// How many held-out captions
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    captions: u64,
    /// Sampling steps of the pictures
    #[arg(long, default_value_t = 50)]
    steps: usize,
    /// w in u + w (c - u)
    #[arg(long, default_value_t = 4.0, allow_negative_numbers = true)]
    guidance: f64,
    /// Seed of weights, noise, captions and pictures
    #[arg(long, default_value_t = 193, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64 / 2))]
    seed: u64,
    /// Pictures to draw and train on
    #[arg(long, default_value_t = 24_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pictures: u64,
    /// Samples in a training step of either; a large one leaves pixels few steps in their seconds
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=4096))]
    batch: u64,
    /// Learning rate of both
    #[arg(long, default_value_t = 1e-3)]
    learning_rate: f64,
    /// Pairs of timings, one of each in turn
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pairs: u64,
    /// Folder of the results and of the state; a stopped run goes on from there
    #[arg(long, default_value = "runs/latent-vs-pixel", value_name = "FOLDER")]
    output: PathBuf,
}

impl LatentVsPixel {
    /// Measures, trains, makes the pictures, and draws; each only as far as it was not done before.
    pub fn run(self) -> Result<()> {
        let LatentVsPixel { seconds_of_training, captions, steps, guidance, seed, pictures, batch, .. } = self;
        let LatentVsPixel { learning_rate, pairs, output, .. } = self;
        let study = study::Study {
            seconds_of_training,
            captions,
            steps,
            guidance,
            seed,
            pictures,
            batch,
            learning_rate,
            pairs,
            output,
        };
        let printer = Printer::waiting();
        let paths = study.run(&|heard| match heard {
            Heard::Line(text) => line!("{text}"),
            Heard::Run(event) => printer.tell(event),
            Heard::Begin(calls) => printer.begin(calls),
            Heard::Making(what) => printer.message(what),
            Heard::Called(calls) => printer.called(calls),
            Heard::End => printer.end(),
        })?;
        printer::files(&paths);
        Ok(())
    }
}
