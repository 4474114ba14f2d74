//! One picture, with the record of its steps.

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use latentrace_pipeline::nn::tch::Tensor;
use latentrace_pipeline::nn::{Moment, Pass, Probe, Tap};
use latentrace_pipeline::{Model, Outcome, Picture, Request, SamplerTaps};
use latentrace_plot::RgbImage;
use latentrace_trace::{Both, Recorder, rms};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// A run and what was kept of it.
pub struct Recorded {
    /// What came of it.
    pub outcome: Outcome,
    /// The sampler's values of every call.
    pub recorder: Recorder,
    /// How long it took.
    pub elapsed: Duration,
}

const SAMPLE: &str = "sampler.sample";
const UNCONDITIONAL: &str = "sampler.epsilon.unconditional";
const CONDITIONAL: &str = "sampler.epsilon.conditional";
const GUIDED: &str = "sampler.epsilon.guided";
const DENOISED: &str = "sampler.denoised";
const NOISE: &str = "sampler.noise";

/// Runs a request and keeps the sampler's values; `bar` ticks once for every network call.
pub fn record(model: &Model, request: &Request, bar: &ProgressBar) -> Result<Recorded> {
    let recorder = Recorder::of([SAMPLE, UNCONDITIONAL, CONDITIONAL, GUIDED, DENOISED, NOISE]);
    let mut probe = Both(recorder, Tick(bar));
    let began = Instant::now();
    let outcome = model.run(request, &SamplerTaps::new(), &mut Pass::watched(&mut probe))?;
    Ok(Recorded { outcome, recorder: probe.0, elapsed: began.elapsed() })
}

/// A probe that moves a progress bar.
struct Tick<'a>(&'a ProgressBar);

impl Probe for Tick<'_> {
    fn wants(&self, tap: &Tap) -> bool {
        tap.name() == GUIDED
    }

    fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        self.0.inc(1);
        tensor
    }
}

/// A progress bar over network calls, drawn only on a terminal.
pub fn bar(calls: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:24} {wide_bar} {pos}/{len} calls, {eta} left");
    let bar = ProgressBar::new(calls as u64);
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}

/// The columns of [`Recorded::table`].
pub const COLUMNS: [&str; 7] = ["call", "t", "sigma", "rms_x", "rms_epsilon", "rms_epsilon_difference", "rms_denoised"];

impl Recorded {
    /// One row for each network call: its time and noise level, and the root mean squares of the sample
    /// (`x0 + sigma * noise`), of the guided noise, of the difference that the prompt makes, and of the clean estimate.
    pub fn table(&self) -> Vec<[f64; 7]> {
        let calls = self.recorder.together([SAMPLE, UNCONDITIONAL, CONDITIONAL, GUIDED, DENOISED]);
        let row = |(moment, [sample, unconditional, conditional, guided, denoised]): (Moment, [&Tensor; 5])| {
            let difference = rms(&(conditional - unconditional));
            [moment.call as f64, moment.t, moment.sigma, rms(sample), rms(guided), difference, rms(denoised)]
        };
        calls.into_iter().map(row).collect()
    }

    /// [`Recorded::table`] as CSV.
    pub fn csv(&self) -> String {
        let mut csv = COLUMNS.join(",") + "\n";
        for row in self.table() {
            let cells = row.map(|number| number.to_string());
            let _ = writeln!(csv, "{}", cells.join(",")); // writing to a String does not fail
        }
        csv
    }

    /// About eight decoded clean estimates from the first call to the last, each with what it is.
    pub fn previews(&self, model: &Model) -> (Vec<RgbImage>, Vec<String>) {
        let estimates: Vec<_> = self.recorder.of_tap(DENOISED).collect();
        let stride = estimates.len().div_ceil(8).max(1);
        let last = estimates.len().saturating_sub(1);
        let chosen = estimates.iter().enumerate().filter(|(index, _)| index % stride == 0 || *index == last);
        chosen
            .map(|(_, capture)| {
                let picture = model.decode(&capture.tensor, &mut Pass::silent());
                (pixels(&picture), format!("t = {:.0}", capture.moment.t))
            })
            .unzip()
    }
}

/// A picture for the plotting crate.
pub fn pixels(picture: &Picture) -> RgbImage {
    RgbImage::from_raw(picture.width as u32, picture.height as u32, picture.pixels.clone()).unwrap_or_default()
}
