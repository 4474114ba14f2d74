//! What a command records besides the sampler's values, and what that will cost.

use crate::record::Job;
use crate::rules::Fires;
use anyhow::{Result, ensure};
use latentrace_pipeline::nn::ModuleValue;
use latentrace_trace::{Foreseen, Layout, PerTap};
use std::collections::HashSet;

/// How rules are written, for the end of a command's help.
pub const RULES: &str = "\
Rules name tensors as `latentrace taps` lists them: * stands for a part of a name, ** for any parts, {a,b} for either.
  windows     @step[10:20] @eval[0] @image[0] @sigma[1:15] @branch{cond}
  words       whole words of the prompt, as red or astronaut; #3 is the token at place 3, where #0 is the start
  --capture   RULE | full, stats, head_mean, tokens(red, circle), down(32), topk(16), histogram(64), f16, q8
  --edit      RULE => zero, mean, scale(0.5), add(0.1), add(TRACE, 0.5), noise(0.1), replace(TRACE), skip, mask(red),
              reweight(red, 2)";

/// What to record and what to change.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct CaptureArguments {
    /// Keep more tensors: "unet.**.attn2.probs @step[0:50:5] @branch{cond} | head_mean | tokens(red)"; see `latentrace taps`
    #[arg(long, value_name = "RULE")]
    pub capture: Vec<String>,
    /// Keep at most so much of them, such as 500MB or 2GiB; what comes after is counted and not kept
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub budget: Option<u64>,
    /// Change tensors on the way: "unet.mid_block.out @step[10:20] => scale(0.5)"
    #[arg(long, value_name = "RULE")]
    pub edit: Vec<String>,
    /// Say what would be kept and how large it is, and run nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Prints what each picture of a command would keep and change.
pub fn estimate(job: &Job, fires: &Fires, images: u64) -> Result<()> {
    let flight = job.course()?.flight_recorder()?;
    let pictures = if images == 1 { "one picture".into() } else { format!("each of {images} pictures") };
    println!("{} calls of the network for {pictures}\n", job.calls());
    println!("{:>9} {:>9}  what", "tensors", "bytes");
    println!("{:>9} {:>9}  the flight recorder: the sampler's values", flight.tensors, human(flight.bytes()));
    for rule in &fires.capture {
        println!("{:>9} {:>9}  {}", rule.tensors, human(rule.bytes()), rule.rule);
        for PerTap { tap, tensors, bytes, .. } in rule.taps.iter().take(8) {
            println!("{tensors:>9} {:>9}    {tap}", human(*bytes));
        }
        if rule.taps.len() > 8 {
            println!("{:>19}    and {} more taps", "", rule.taps.len() - 8);
        }
    }
    for rule in &fires.edits {
        println!("{:>9} {:>9}  {}", rule.tensors, "changed", rule.rule);
    }
    if let Some(rule) = &fires.guidance {
        println!("{:>9} {:>9}  {}", rule.calls, "calls", rule.rule);
    }
    for (_, rule) in fires.all() {
        rule.notes.iter().for_each(|note| println!("note: {}: {note}", rule.rule));
    }
    println!("\n{} on disk for each picture", human(flight.bytes() + captured(job, fires)));
    let more = human(memory(job, fires)?);
    println!("{more} more memory at most: scores and probabilities of one attention, and what waits for the disk");
    Ok(())
}

/// Bytes on disk that a run will take, near enough: what it keeps and its pictures.
pub fn disk(job: &Job) -> Result<u64> {
    let flight = job.course()?.flight_recorder()?;
    let [height, width] = job.description().size;
    let pixels = 3 * (height * width) as u64;
    Ok(flight.bytes() + captured(job, &job.foresee()?) + 4 * pixels)
}

/// Bytes of what is kept besides the sampler's values.
fn captured(job: &Job, fires: &Fires) -> u64 {
    let bytes = fires.capture.iter().map(Foreseen::bytes).sum::<u64>();
    job.description().budget.map_or(bytes, |budget| bytes.min(budget))
}

/// The largest attention whose scores or probabilities are asked for, and the queue.
fn memory(job: &Job, fires: &Fires) -> Result<u64> {
    let asked: HashSet<&str> =
        fires.capture.iter().chain(&fires.edits).flat_map(|rule| &rule.taps).map(|tap| tap.tap.as_str()).collect();
    let course = job.course()?;
    let materialised = course.passages().iter().filter(|passage| {
        let value = passage.tap.role().module();
        asked.contains(passage.tap.name()) && value.is_some_and(ModuleValue::is_scores_or_probs)
    });
    let largest = materialised.map(|passage| 2 * passage.shape.iter().product::<i64>() as u64 * 4).max();
    Ok(largest.unwrap_or(0) + if fires.capture.is_empty() { 0 } else { Layout::LIVE.memory() })
}

/// Bytes in the unit that a reader takes in at once.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        (size, unit) = (size / 1000.0, unit + 1);
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

/// Reads `500MB`, `2GiB`, `1e6`.
fn parse_bytes(text: &str) -> Result<u64> {
    let text = text.trim();
    let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor = match text[number.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" | "k" => 1e3,
        "mb" | "m" => 1e6,
        "gb" | "g" => 1e9,
        "tb" | "t" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024f64.powi(2),
        "gib" => 1024f64.powi(3),
        "tib" => 1024f64.powi(4),
        _ => f64::NAN,
    };
    let bytes = number.trim().parse::<f64>().unwrap_or(f64::NAN) * factor;
    ensure!((0.0..1e18).contains(&bytes), "expected a size such as 500MB or 2GiB, found {text}");
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, bytes) in [("500MB", 500_000_000), ("2GiB", 1 << 31), ("12", 12), ("1.5 kb", 1500)] {
            assert_eq!(parse_bytes(text).unwrap(), bytes, "{text}");
        }
        for bad in ["", "x", "3 apples", "-1MB", "1e30"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
        assert_eq!([human(999), human(1_500_000), human(0)], ["999 B", "1.5 MB", "0 B"]);
    }
}
