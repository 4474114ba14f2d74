//! `latentrace adherence`: how much of what a caption asks for is seen in its picture.

use crate::lost;
use crate::models::ModelArguments;
use crate::record::bar;
use anyhow::{Context, Result, ensure};
use latentrace_pipeline::Request;
use latentrace_pipeline::nn::{Pass, replace};
use latentrace_shapes::{Adherence, Detail, Picture, Scene, Stream, adherence, look, parse};
use std::path::PathBuf;

/// Measure how often a model of shapes shows what held-out captions ask for
#[derive(clap::Args)]
pub struct Measure {
    #[command(flatten)]
    model: ModelArguments,
    /// How many held-out captions
    #[arg(long, default_value_t = 200)]
    captions: usize,
    /// Guidance scales
    #[arg(long, value_delimiter = ',', default_value = "0,1,2,4,8", allow_negative_numbers = true)]
    guidance: Vec<f64>,
    /// Sampling steps
    #[arg(long, default_value_t = 50)]
    steps: usize,
    /// Seed of the captions and of the pictures
    #[arg(long, default_value_t = 193)]
    seed: u64,
    /// Where to write the figures as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

impl Measure {
    /// Measures every guidance scale on the same captions and seeds.
    pub fn run(self) -> Result<()> {
        let model = self.model.open()?;
        let scenes = held_out(self.seed, self.captions);
        let more = scenes.len() as u64;
        ensure!(self.seed.checked_add(more).is_some(), "seed: {} and {more} more go beyond {}", self.seed, u64::MAX);
        let calls = model.check(&Request { steps: self.steps, ..model.request("", 0) })?.calls();
        let bar = bar(calls * scenes.len() * self.guidance.len());
        let mut csv = String::from("guidance,attribute,right,asked,rate,low,high\n");
        println!("{} held-out captions, {} steps, seed {}", scenes.len(), self.steps, self.seed);
        let mut lost = lost::Captions::default();
        for &guidance in &self.guidance {
            let mut total = Adherence::default();
            for (number, scene) in scenes.iter().enumerate() {
                let caption = scene.caption(Detail::FULL);
                let own = model.request(&caption, self.seed + number as u64);
                let outcome =
                    model.run(&Request { steps: self.steps, guidance: guidance.into(), ..own }, &mut Pass::silent())?;
                bar.suspend(|| lost.say(&outcome.tokens[0]));
                let picture = outcome.picture;
                let seen = look(&Picture { width: picture.width, height: picture.height, pixels: picture.pixels });
                total += adherence(&parse(&caption).context("a caption of this world")?, &seen);
                bar.inc(calls as u64);
            }
            let mut line = format!("guidance {guidance}:");
            let whole = [("whole", total.whole)];
            for (attribute, tally) in total.attributes().into_iter().chain(whole) {
                let (rate, (low, high)) = (tally.rate().unwrap_or(f64::NAN), tally.interval());
                line += &format!(" {attribute} {:.1} %", 100.0 * rate);
                csv +=
                    &format!("{guidance},{attribute},{},{},{rate:.4},{low:.4},{high:.4}\n", tally.right, tally.asked);
            }
            bar.suspend(|| println!("{line}"));
        }
        bar.finish_and_clear();
        if let Some(path) = &self.csv {
            replace(path, csv.as_bytes())?;
        }
        Ok(())
    }
}

/// Scenes that no training saw.
pub fn held_out(seed: u64, count: usize) -> Vec<Scene> {
    let scenes = (0..).map(|index| Scene::random(&mut Stream::numbered(seed ^ 0x6865_6c64, index)));
    scenes.filter(Scene::held_out).take(count).collect()
}
