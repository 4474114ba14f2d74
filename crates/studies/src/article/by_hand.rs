//! The loop as the article writes it, beside the same loop with the checkpoint's own scheduler, and what the difference
//! does.

use super::page::Section;
use anyhow::{Context, Result};
use image::Rgb;
use image::imageops::thumbnail;
use latentrace_experiments::{Results, enlargement};
use latentrace_pipeline::Model;
use latentrace_pipeline::nn::SamplerValue;
use latentrace_pipeline::nn::tch::{Kind, Tensor};
use latentrace_pipeline::schedulers::Level;
use latentrace_plot::{Chart, ChartAxis, Grid, RgbImage, Series, Tile, open_image, save_png, write};
use latentrace_runs::{Description, Frames, Observer};
use latentrace_trace::Trace;
use std::path::Path;

/// The article decodes once in so many calls, and after the last one.
const EVERY: usize = 8;
/// The largest side of a picture in the figure.
const SIDE: u32 = 128;

const WHITE: Rgb<u8> = Rgb([255; 3]);

/// The two runs.
pub struct ByHand {
    as_written: Looped,
    own: Looped,
    /// The noise level that the model was trained with at a time.
    trained: Vec<f64>,
}

/// One run of the loop.
struct Looped {
    label: &'static str,
    /// The times and noise levels of its calls, as its scheduler has them.
    levels: Vec<Level>,
    /// After which calls the latents were decoded, and the pictures.
    pictures: Vec<(usize, RgbImage)>,
    /// The final latents, `[1, 4, height, width]`.
    latents: Tensor,
}

impl ByHand {
    /// Reads both runs and decodes their pictures.
    ///
    /// # Errors
    /// A record cannot be read, or the decoder fails.
    pub fn new(model: &Model, written: &Results, own: &Results, observer: &dyn Observer) -> Result<ByHand> {
        Ok(ByHand {
            as_written: Looped::read("PNDMScheduler(), as written", model, written, observer)?,
            own: Looped::read("the checkpoint's scheduler", model, own, observer)?,
            trained: model.scheduler.schedule().sigmas().to_vec(),
        })
    }

    /// Writes the figures, and adds them with the numbers to a section.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, output: &Path, section: &mut Section) -> Result<()> {
        let (name, title) = ("loop.png", "Latents after every eighth call, decoded");
        save_png(&output.join(name), &self.grid().render(), &[("Description".into(), title.into())])?;
        section.figure(name, title);
        write(output, "loop-noise", &self.chart())?;
        section.figure(
            "loop-noise.svg",
            "The noise level that each scheduler assumes at a time, and that of the training",
        );
        section.table(["", self.as_written.label, self.own.label], self.numbers());
        Ok(())
    }

    fn grid(&self) -> Grid {
        let columns = self.as_written.pictures.len().max(self.own.pictures.len());
        let mut cells = Vec::new();
        for run in [&self.as_written, &self.own] {
            let small = |image: &RgbImage| match image.width().max(image.height()) {
                side if side > SIDE => thumbnail(image, image.width() * SIDE / side, image.height() * SIDE / side),
                _ => image.clone(),
            };
            let tiles = run.pictures.iter().map(|(call, image)| Tile::new(small(image), format!("call {}", call + 1)));
            let blank = RgbImage::from_pixel(1, 1, WHITE);
            cells.extend(tiles.chain(std::iter::repeat(Tile::new(blank, ""))).take(columns));
        }
        let images: Vec<RgbImage> = cells.iter().take(1).map(|cell| cell.image.clone()).collect();
        Grid {
            title: None,
            columns,
            scale: enlargement(&images),
            cells,
            row_labels: [&self.as_written, &self.own].map(|run| run.label.to_string()).into(),
            column_labels: Vec::new(),
        }
    }

    fn chart(&self) -> Chart {
        let of = |run: &Looped| run.levels.iter().map(|level| (level.t, level.sigma)).collect();
        let trained = self.trained.iter().enumerate().map(|(time, sigma)| (time as f64, *sigma)).collect();
        Chart {
            title: "Noise level by time".into(),
            x: ChartAxis::linear("time t of the call").reversed(),
            y: ChartAxis::log("noise level sigma"),
            series: vec![
                Series::new("what the model was trained with", trained).dashed(),
                Series::new(self.as_written.label, of(&self.as_written)),
                Series::new(self.own.label, of(&self.own)),
            ],
            ..Chart::default()
        }
    }

    fn numbers(&self) -> Vec<[String; 3]> {
        let both = [&self.as_written, &self.own];
        let row = |name: &str, of: &dyn Fn(&Looped) -> String| [name.into(), of(both[0]), of(both[1])];
        let first = |run: &Looped| run.levels.first().copied().unwrap_or(Level { t: 0.0, sigma: 0.0 });
        let last = |run: &Looped| run.levels.last().copied().unwrap_or(Level { t: 0.0, sigma: 0.0 });
        let trained = |level: Level| self.trained.get(level.t as usize).copied().unwrap_or(f64::NAN);
        let rms = |tensor: &Tensor| tensor.square().mean(Kind::Double).sqrt().double_value(&[]);
        let apart = rms(&(&both[0].latents - &both[1].latents)) / rms(&both[1].latents);
        vec![
            row("calls of the UNet", &|run| run.levels.len().to_string()),
            row("time of the first call", &|run| first(run).t.to_string()),
            row("noise level that it assumes there", &|run| format!("{:.2}", first(run).sigma)),
            row("noise level of the training there", &|run| format!("{:.2}", trained(first(run)))),
            row("noise level that it assumes at the last call", &|run| format!("{:.4}", last(run).sigma)),
            row("noise level of the training there", &|run| format!("{:.4}", trained(last(run)))),
            row("standard deviation of the final latents", &|run| {
                format!("{:.3}", run.latents.std(false).double_value(&[]))
            }),
            [
                "distance of the final latents, relative to the right column's size".into(),
                format!("{:.1} %", 100.0 * apart),
                "0".into(),
            ],
        ]
    }
}

impl Looped {
    fn read(label: &'static str, model: &Model, results: &Results, observer: &dyn Observer) -> Result<Looped> {
        let run = &results.rows.first().context("no run")?.run;
        let trace = run.read()?;
        let levels = Description::of(&trace)?.plan()?.steps().iter().map(|step| step.level).collect::<Vec<Level>>();
        let last = levels.len().saturating_sub(1);
        // The latents after a call are the sample of the next one.
        let after: Vec<usize> = (0..last).step_by(EVERY).collect();
        let next: Vec<usize> = after.iter().map(|call| call + 1).collect();
        let frames = Frames::decode(&trace, model, &next, observer)?;
        let mut pictures: Vec<(usize, RgbImage)> =
            frames.calls.iter().map(|call| call - 1).zip(frames.samples).collect();
        pictures.push((last, open_image(run.picture())?));
        Ok(Looped { label, levels, pictures, latents: final_latents(&trace)? })
    }
}

/// The final latents of a record.
fn final_latents(trace: &Trace) -> Result<Tensor> {
    let entry = trace.values(SamplerValue::Latents).next_back().context("no final latents in the record")?;
    Ok(trace.tensor(entry)?.to_kind(Kind::Float))
}
