//! What a run would keep and cost, for `--dry-run`.

use crate::bytes::human;
use crate::printer::line;
use anyhow::Result;
use latentrace::runs::Job;
use latentrace::trace::PerTap;

/// Prints what each picture of a command would keep and change.
pub fn estimate(job: &Job, images: u64) -> Result<()> {
    let (fires, cost) = (job.fires(), job.cost()?);
    let pictures = if images == 1 { "one picture".into() } else { format!("each of {images} pictures") };
    line!("{} calls of the network for {pictures}\n", job.calls());
    line!("{:>9} {:>9}  what", "tensors", "bytes");
    line!("{:>9} {:>9}  the flight recorder: the sampler's values", cost.sampler.tensors, human(cost.sampler.bytes()));
    for rule in &fires.capture {
        line!("{:>9} {:>9}  {}", rule.tensors, human(rule.bytes()), rule.rule);
        for PerTap { tap, tensors, bytes, .. } in rule.taps.iter().take(8) {
            line!("{tensors:>9} {:>9}    {tap}", human(*bytes));
        }
        if rule.taps.len() > 8 {
            line!("{:>19}    and {} more taps", "", rule.taps.len() - 8);
        }
    }
    for rule in &fires.edits {
        line!("{:>9} {:>9}  {}", rule.tensors, "changed", rule.rule);
    }
    for rule in fires.guidance.iter().chain(&fires.loras) {
        line!("{:>9} {:>9}  {}", rule.calls, "calls", rule.rule);
    }
    for (_, rule) in fires.all() {
        rule.notes.iter().for_each(|note| line!("note: {}: {note}", rule.rule));
    }
    line!("\n{} on disk for each picture", human(cost.recorded()));
    let more = human(cost.memory);
    line!("{more} more memory at most: scores and probabilities of one attention, and what waits for the disk");
    Ok(())
}
