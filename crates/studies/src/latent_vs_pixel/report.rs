//! The results: numbers as JSON and CSV, curves, a grid of pictures, and a summary.

use super::clock::{Clock, Pairs, Quartiles};
use super::pictures::{Asked, Gallery};
use super::turns::Turns;
use super::{TrainingSettings, both, unets};
use anyhow::Result;
use latentrace_experiments::enlargement;
use latentrace_files::{Table, fields, replace};
use latentrace_pipeline::Model;
use latentrace_plot::{Chart, ChartAxis, Grid, RgbImage, Series, Tile, save_png, write};
use latentrace_runs::Program;
use latentrace_shapes::{Adherence, Tally};
use latentrace_train::{Space, decoder_parameters, parameters};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// All measurements of the study.
pub struct Findings<'a> {
    pub settings: &'a TrainingSettings,
    pub model: &'a Model,
    pub asked: &'a Asked,
    pub clock: &'a Clock,
    pub turns: &'a Turns,
    pub gallery: &'a Gallery<'a>,
}

/// The speed-ups of latents over pixels that the source article states: of sampling, and of training.
const CLAIM: [f64; 2] = [2.7, 3.0];
/// The number of captions in the grid.
const ROWS: usize = 8;

/// Numbers that are computed from the measurements.
struct Figures {
    parameters: [usize; 2],
    decoder: usize,
    adherence: [Adherence; 2],
}

impl Findings<'_> {
    /// Writes all files. Returns the lines of the summary, and the paths.
    pub fn write(&self, output: &Path) -> Result<(Vec<String>, Vec<PathBuf>)> {
        let [latents, pixels] = &unets(self.model)?;
        let mut figures = Figures {
            parameters: [parameters(latents)?, parameters(pixels)?],
            decoder: decoder_parameters(&self.model.checkpoint.vae.config)?,
            adherence: [Adherence::default(); 2],
        };
        let mut cells = Vec::new();
        for number in 0..self.asked.captions.len() {
            for space in Space::BOTH {
                let (image, seen) = self.gallery.judged(space, number)?;
                figures.adherence[space as usize] += seen;
                if number < ROWS {
                    cells.push(Tile::new(image, verdict(&seen)));
                }
            }
        }
        let (csv, json) = (output.join("latent-vs-pixel.csv"), output.join("latent-vs-pixel.json"));
        self.table(&figures).write(&csv)?;
        replace(&json, format!("{:#}\n", self.json(&figures)).as_bytes())?;
        let mut paths = vec![csv, json];
        paths.extend(write(output, "loss", &self.curves())?);
        paths.push(self.grid(output, cells)?);
        Ok((self.words(&figures), paths))
    }

    /// All numbers, one a row: what is measured, the space, the value between its bounds, and the unit. The bounds of
    /// times and ratios are quartiles, and those of rates the Wilson score interval at 95 %.
    fn table(&self, figures: &Figures) -> Table {
        let mut table = Table::new(["figure", "space", "low", "value", "high", "unit"]);
        let mut line = |figure: &str, of: &str, [low, value, high]: [String; 3], unit: &str| {
            table.row(fields![figure, of, low, value, high, unit]);
        };
        let alone = |value: f64| [String::new(), number(value), String::new()];
        for (space, count) in both(figures.parameters) {
            line("parameters", space.name(), alone(count as f64), "");
        }
        line("parameters of the decoder", "latents", alone(figures.decoder as f64), "");
        for (figure, space, time) in self.times() {
            line(figure, space.name(), time.cells(), "ms");
        }
        for (figure, ratio, claim) in self.ratios() {
            line(figure, "pixels / latents", ratio.cells(), "times");
            claim.into_iter().for_each(|claim| line(figure, "the article", alone(claim), "times"));
        }
        line("encoding ahead", "latents", alone(self.clock.encoding_seconds), "s");
        for space in Space::BOTH {
            let last = self.turns.last(space);
            line("trained", space.name(), alone(last.seconds), "s");
            line("training steps", space.name(), alone(last.steps as f64), "");
            line("training samples", space.name(), alone(self.samples(space)), "");
        }
        line("training samples a second", "latents / pixels", alone(self.speed()), "times");
        for (space, adherence) in both(figures.adherence) {
            for (attribute, tally) in attributes(&adherence) {
                let (low, high) = tally.interval();
                let rate = tally.rate().map_or(String::new(), number);
                line(&format!("adherence: {attribute}"), space.name(), [number(low), rate, number(high)], "");
            }
        }
        table
    }

    fn json(&self, figures: &Figures) -> Value {
        let Asked { captions, steps, guidance, plan, .. } = self.asked;
        let trained = |space| {
            let last = self.turns.last(space);
            json!({ "seconds": last.seconds, "steps": last.steps, "samples": self.samples(space), "loss": last.loss })
        };
        json!({
            "the_article_says": { "sampling": CLAIM[0], "training": CLAIM[1] },
            "settings": self.settings,
            "parameters": {
                "latents": figures.parameters[0], "pixels": figures.parameters[1], "decoder": figures.decoder,
            },
            "milliseconds": self.times().map(|(figure, space, time)| {
                json!({ "figure": figure, "space": space, "quartiles": time })
            }),
            "pixels_over_latents": self.ratios().map(|(figure, ratio, claim)| {
                json!({ "figure": figure, "quartiles": ratio, "the_article_says": claim })
            }),
            "timings": self.clock,
            "budget_seconds": self.turns.budget(),
            "trained": { "latents": trained(Space::Latents), "pixels": trained(Space::Pixels) },
            "pictures": { "captions": captions.len(), "steps": steps, "calls": plan.calls(), "guidance": guidance },
            "training_samples_a_second_latents_over_pixels": self.speed(),
            "adherence": { "latents": figures.adherence[0], "pixels": figures.adherence[1] },
        })
    }

    /// All times, in milliseconds.
    fn times(&self) -> [(&'static str, Space, Quartiles); 6] {
        let Clock { sampling, decoding, training, encoding, .. } = self.clock;
        let of = |list: &[f64]| super::clock::quartiles(list.iter().copied());
        let step = |pairs: &Pairs, space| pairs.of(space);
        [
            ("sampling step", Space::Latents, step(sampling, Space::Latents)),
            ("sampling step", Space::Pixels, step(sampling, Space::Pixels)),
            ("decoding of a picture", Space::Latents, of(decoding)),
            ("training step", Space::Latents, step(training, Space::Latents)),
            ("training step", Space::Pixels, step(training, Space::Pixels)),
            ("encoding of a batch", Space::Latents, of(encoding)),
        ]
    }

    /// All ratios of pixels to latents, with the article's value if it has one.
    fn ratios(&self) -> [(&'static str, Quartiles, Option<f64>); 4] {
        let clock = self.clock;
        [
            ("sampling step", clock.sampling.ratio(), Some(CLAIM[0])),
            ("whole picture with decoding", clock.picture_ratio(self.asked.plan.calls()), Some(CLAIM[0])),
            ("training step", clock.training.ratio(), Some(CLAIM[1])),
            ("training step with encoding", clock.training_ratio_with_encoding(), Some(CLAIM[1])),
        ]
    }

    fn samples(&self, space: Space) -> f64 {
        (self.turns.last(space).steps * self.settings.batch) as f64
    }

    /// The training samples a second on latents over those on pixels, for the whole training.
    fn speed(&self) -> f64 {
        let [latents, pixels] = Space::BOTH.map(|space| self.samples(space) / self.turns.last(space).seconds);
        latents / pixels
    }

    fn curves(&self) -> Chart {
        let curve = |space: Space| {
            let points = self.turns.notes(space).iter().map(|note| (note.seconds, note.loss)).collect();
            Series::new(space.name(), points)
        };
        Chart {
            title: "latents and pixels: loss over equal seconds of training".into(),
            x: ChartAxis::linear("seconds of training, the other's turns not counted"),
            y: ChartAxis::log("mean squared error of the velocity"),
            series: Space::BOTH.map(curve).into(),
            notes: vec![
                "each loss is relative to its own space: compare how a curve falls, not how high it lies".into(),
                format!("batch {}, learning rate {}", self.settings.batch, self.settings.learning_rate),
            ],
            ..Chart::default()
        }
    }

    /// Writes the grid, with a row for each of the first captions.
    fn grid(&self, output: &Path, cells: Vec<Tile>) -> Result<PathBuf> {
        let Asked { captions, steps, guidance, .. } = self.asked;
        let images: Vec<RgbImage> = cells.iter().take(1).map(|cell| cell.image.clone()).collect();
        let title = format!("{} s of training each, guidance {guidance}, {steps} steps", self.turns.budget());
        let grid = Grid {
            title: Some(title.clone()),
            columns: 2,
            scale: enlargement(&images),
            cells,
            row_labels: captions.iter().take(ROWS).cloned().collect(),
            column_labels: Space::BOTH.map(|space| space.name().to_string()).into(),
        };
        let path = output.join("grid.png");
        save_png(&path, &grid.render(), &[("Description".into(), title)])?;
        Ok(path)
    }

    /// The lines of the summary.
    fn words(&self, figures: &Figures) -> Vec<String> {
        let mut lines = Vec::new();
        let [latents, pixels] = figures.parameters;
        lines.push(format!(
            "parameters: {latents} on latents, {pixels} on pixels; the decoder has {} more",
            figures.decoder
        ));
        if let Some(Program { device, threads, .. }) = &self.clock.program {
            lines.push(format!("timed in pairs on {device}, {threads} threads; medians, and quartiles in brackets"));
        }
        for (figure, space, time) in self.times() {
            lines.push(format!("{figure:<28} {:<8} {} ms", space.name(), time.words()));
        }
        for (figure, ratio, claim) in self.ratios() {
            let claim = claim.map_or(String::new(), |claim| format!("; the article says {claim}"));
            lines.push(format!("{figure:<28} pixels take {} times as long{claim}", ratio.words()));
        }
        let encoding = self.clock.encoding_seconds;
        lines.push(format!(
            "trained for {} s each, and {encoding:.1} s to encode all pictures before",
            self.turns.budget()
        ));
        for space in Space::BOTH {
            lines.push(format!("  {:<8} {} samples", space.name(), self.samples(space)));
        }
        lines.push(format!("  latents {:.1} times as many a second; the article says {}", self.speed(), CLAIM[1]));
        let Asked { captions, steps, guidance, .. } = self.asked;
        lines.push(format!(
            "{} held-out captions, guidance {guidance}, {steps} steps, right of what is asked:",
            captions.len()
        ));
        let [latents, pixels] = figures.adherence;
        for ((attribute, latents), (_, pixels)) in attributes(&latents).into_iter().zip(attributes(&pixels)) {
            lines.push(format!("  {attribute:<10} latents {latents}; pixels {pixels}"));
        }
        lines
    }
}

impl Quartiles {
    fn cells(self) -> [String; 3] {
        [self.low, self.median, self.high].map(number)
    }

    fn words(self) -> String {
        format!("{:.2} ({:.2} to {:.2})", self.median, self.low, self.high)
    }
}

/// A number with at most four decimals.
fn number(value: f64) -> String {
    ((value * 1e4).round() / 1e4).to_string()
}

/// The tally of every attribute and of whole pictures, by name.
fn attributes(adherence: &Adherence) -> Vec<(&'static str, Tally)> {
    adherence.attributes().into_iter().chain([("whole", adherence.whole)]).collect()
}

/// The caption of a picture in the grid: what is wrong with it.
fn verdict(seen: &Adherence) -> String {
    let wrong = seen.attributes().into_iter().filter(|(_, tally)| tally.right < tally.asked);
    let mut words: Vec<String> = wrong.map(|(attribute, _)| attribute.to_string()).collect();
    words.extend((seen.missing > 0).then(|| format!("{} missing", seen.missing)));
    words.extend((seen.extra > 0).then(|| format!("{} extra", seen.extra)));
    if words.is_empty() { "all right".into() } else { format!("wrong: {}", words.join(", ")) }
}
