//! `latentrace taps`: every tensor of a model that can be looked at.

use crate::arguments::ModelArguments;
use crate::bytes::human;
use crate::printer::line;
use anyhow::{Result, ensure};
use latentrace::files::counted;
use latentrace::pipeline::nn::tch::Kind;
use latentrace::pipeline::{Outlined, Size, TextShape, When, outline};
use latentrace::trace::Selector;
use serde_json::json;

/// List every tensor of a model, without reading a weight
///
/// Each with its shape and bytes, and when it passes.
#[derive(clap::Args)]
pub struct Taps {
    #[command(flatten)]
    model: ModelArguments,
    /// Only those that a selector fits, such as "unet.**.attn2.*"
    #[arg(long, default_value = "**", value_name = "SELECTOR")]
    select: String,
    /// Pixels from top to bottom [default: the checkpoint's own]
    #[arg(long)]
    height: Option<i64>,
    /// Pixels from left to right [default: the same as the height]
    #[arg(long, requires = "height")]
    width: Option<i64>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl Taps {
    /// Prints the list.
    pub fn run(self) -> Result<()> {
        let selector = Selector::parse(&self.select)?;
        ensure!(
            !selector.has_windows(),
            "--select {}: taps have no windows\nhint: leave out what begins with @; windows are for --capture and --edit",
            self.select
        );
        let size = self.height.map(|height| Size { height, width: self.width.unwrap_or(height) });
        let all = outline(&self.model.checkpoint()?, self.model.options(), size, TextShape::default())?;
        let mut listed: Vec<&Outlined> = Vec::new();
        for seen in all.iter().filter(|seen| selector.names(&seen.tap)) {
            // The text encoder runs twice, and is one list of names.
            if !listed.iter().any(|known| known.tap.name() == seen.tap.name()) {
                listed.push(seen);
            }
        }
        ensure!(!listed.is_empty(), selector.fits_nothing(all.iter().map(|seen| seen.tap.name())));
        if self.json {
            for seen in listed {
                let Outlined { tap, shape, kind, when, .. } = seen;
                line!(
                    "{}",
                    json!({ "tap": tap.name(), "shape": shape, "dtype": dtype(*kind), "bytes": seen.bytes(),
                    "when": words(*when), "can_be_skipped": tap.is_residual() })
                );
            }
            return Ok(());
        }
        let shape = |seen: &Outlined| format!("{:?}", seen.shape);
        let widest = |of: &dyn Fn(&Outlined) -> usize| listed.iter().map(|seen| of(seen)).max().unwrap_or(0);
        let names = widest(&|seen| seen.tap.name().len());
        let shapes = widest(&|seen| shape(seen).len());
        for seen in &listed {
            let skip = if seen.tap.is_residual() { ", skip" } else { "" };
            line!(
                "{:names$}  {:shapes$}  {:4}  {:>9}  {}{skip}",
                seen.tap.name(),
                shape(seen),
                dtype(seen.kind),
                human(seen.bytes()),
                words(seen.when)
            );
        }
        let per_call: u64 = listed.iter().filter(|seen| seen.when == When::Call).map(|seen| seen.bytes()).sum();
        line!("\n{}; {} at every network call", counted(listed.len(), "tap"), human(per_call));
        Ok(())
    }
}

/// A number format as selectors and records write it.
fn dtype(kind: Kind) -> &'static str {
    match kind {
        Kind::Float => "F32",
        Kind::Half => "F16",
        Kind::BFloat16 => "BF16",
        Kind::Double => "F64",
        _ => "I64",
    }
}

fn words(when: When) -> &'static str {
    match when {
        When::Text => "for each text",
        When::Call => "every call",
        When::Start => "at the start",
        When::Draw => "every draw of noise",
        When::Pixels => "at the end",
        When::Picture => "from a picture",
        When::Latents => "from a picture or its latents",
        When::Mask => "with a mask",
    }
}
