//! What a command records besides the sampler's values, and what that will cost.

use crate::description::Description;
use crate::record::Job;
use anyhow::{Result, ensure};
use latentrace_pipeline::nn::{Moment, shape_only};
use latentrace_pipeline::schedulers::Plan;
use latentrace_pipeline::{Model, Options, Outlined, Size, When, moment, outline};
use latentrace_trace::{FLIGHT_RECORDER, Layout, Rule, Scene, bytes};
use std::collections::HashMap;

/// How rules are written, for the end of a command's help.
pub const RULES: &str = "\
Rules name tensors as `latentrace taps` lists them: * stands for a part of a name, ** for any parts, {a,b} for either.
  windows     @step[10:20] @eval[0] @image[0] @sigma[1:15] @branch{cond}
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

impl CaptureArguments {
    /// Prints what a run would keep.
    pub fn estimate(&self, model: &Model, job: &Job, images: u64) -> Result<()> {
        let description = job.description();
        let request = description.request()?;
        let plan = job.asked().1.plan(&request)?;
        let mut rules = vec![Rule::parse(FLIGHT_RECORDER)?];
        rules.extend(self.capture.iter().map(|text| Rule::parse(text)).collect::<Result<Vec<_>, _>>()?);
        let options = Options { dtype: description.cell.dtype, device: description.cell.device };
        let list =
            outline(&model.folder, options, Some(Size { height: description.size[0], width: description.size[1] }))?;
        let mut total = 0;
        let pictures = if images == 1 { "one picture".into() } else { format!("each of {images} pictures") };
        println!("{} calls of the network for {pictures}\n", plan.calls());
        println!("{:>9} {:>9}  what", "tensors", "bytes");
        for (index, rule) in rules.iter().enumerate() {
            let costs = costs(rule, &list, &plan, description);
            let (tensors, size) = costs.values().fold((0, 0), |(n, size), (count, bytes)| (n + count, size + bytes));
            let text = if index == 0 {
                "the flight recorder: the sampler's values".into()
            } else {
                self.capture[index - 1].clone()
            };
            println!("{tensors:>9} {:>9}  {text}", human(size));
            for (tap, (count, size)) in costs.iter().take(if index == 0 { 0 } else { 8 }) {
                println!("{count:>9} {:>9}    {tap}", human(*size));
            }
            if index > 0 && costs.len() > 8 {
                println!("{:>19}    and {} more taps", "", costs.len() - 8);
            }
            total += if index == 0 { size } else { self.budget.map_or(size, |budget| size.min(budget)) };
        }
        println!("\n{} on disk for each picture", human(total));
        let more = human(memory(&rules, &list, &plan));
        println!("{more} more memory at most: scores and probabilities of one attention, and what waits for the disk");
        Ok(())
    }
}

/// Bytes on disk that a run will take, near enough: what it keeps and its pictures.
pub fn disk(model: &Model, job: &Job) -> Result<u64> {
    let description = job.description();
    let (request, start) = job.asked();
    let plan = start.plan(request)?;
    let options = Options { dtype: description.cell.dtype, device: description.cell.device };
    let list = outline(&model.folder, options, Some(request.size))?;
    let mut rules = vec![Rule::parse(FLIGHT_RECORDER)?];
    rules.extend(description.capture.iter().map(|text| Rule::parse(text)).collect::<Result<Vec<_>, _>>()?);
    let sizes =
        rules.iter().map(|rule| costs(rule, &list, &plan, description).values().map(|(_, size)| size).sum::<u64>());
    let mut sizes = sizes.collect::<Vec<_>>();
    let flight = sizes.remove(0);
    let captured = sizes.iter().sum::<u64>();
    let pixels = 3 * (request.size.height * request.size.width) as u64;
    Ok(flight + description.budget.map_or(captured, |budget| captured.min(budget)) + 4 * pixels)
}

/// How many tensors of each tap a rule keeps, and their bytes, in the order of the taps.
fn costs(rule: &Rule, list: &[Outlined], plan: &Plan, description: &Description) -> indexed::Indexed {
    let [_, height, width] = description.latents;
    let scene = Scene { words: description.words(), latents: [height, width] };
    let mut costs = indexed::Indexed::default();
    for seen in list.iter().filter(|seen| rule.selector.names(&seen.tap)) {
        let mut sizes: HashMap<_, Option<u64>> = HashMap::new();
        for at in moments(seen, plan) {
            if !rule.selector.admits(&at, description.cell.steps) {
                continue;
            }
            for row in at.rows(seen.shape[0]).into_iter().filter(|row| rule.selector.admits_row(row)) {
                let size = *sizes.entry(row.branch).or_insert_with(|| {
                    let mut shape = seen.shape.clone();
                    shape[0] = 1;
                    let whole = Some(shape_only(&shape, seen.kind));
                    let kept = rule
                        .reductions
                        .iter()
                        .fold(whole, |tensor, reduction| reduction.apply(&seen.tap, row.branch, tensor?, &scene));
                    kept.map(|kept| bytes(&kept, rule.storage))
                });
                if let Some(size) = size {
                    costs.add(seen.tap.name(), size);
                }
            }
        }
    }
    costs
}

/// Every moment of a run at which a tensor passes.
fn moments(seen: &Outlined, plan: &Plan) -> Vec<Moment> {
    let at = |call| Moment { rows: seen.rows, ..moment(plan, call) };
    match seen.when {
        When::Text | When::Start => vec![at(0)],
        When::Call => (0..plan.calls()).map(at).collect(),
        When::Draw => (0..plan.draws().saturating_sub(1)).map(at).collect(),
        When::Pixels => vec![at(plan.calls() - 1)],
        When::Picture => Vec::new(),
    }
}

/// The largest attention that leaves its fused kernel, and the queue.
fn memory(rules: &[Rule], list: &[Outlined], plan: &Plan) -> u64 {
    let materialised = |seen: &&Outlined| {
        let name = seen.tap.name();
        let asked = |rule: &Rule| rule.selector.names(&seen.tap) && !moments(seen, plan).is_empty();
        (name.ends_with(".probs") || name.ends_with(".scores")) && rules.iter().any(asked)
    };
    let largest = list.iter().filter(materialised).map(|seen| 2 * seen.shape.iter().product::<i64>() as u64 * 4).max();
    largest.unwrap_or(0) + if rules.len() > 1 { Layout::LIVE.memory() } else { 0 }
}

/// A map that keeps its order.
mod indexed {
    /// Names with how many times and how much was added.
    #[derive(Default)]
    pub struct Indexed(Vec<(String, (usize, u64))>);

    impl Indexed {
        pub fn add(&mut self, name: &str, size: u64) {
            match self.0.iter_mut().rev().find(|(known, _)| known == name) {
                Some((_, (count, bytes))) => (*count, *bytes) = (*count + 1, *bytes + size),
                None => self.0.push((name.into(), (1, size))),
            }
        }

        pub fn iter(&self) -> impl Iterator<Item = &(String, (usize, u64))> {
            self.0.iter()
        }

        pub fn values(&self) -> impl Iterator<Item = (usize, u64)> {
            self.0.iter().map(|(_, cost)| *cost)
        }

        pub fn len(&self) -> usize {
            self.0.len()
        }
    }
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
