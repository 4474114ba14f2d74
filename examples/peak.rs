//! How much memory the parts of a run take at most: `peak CHECKPOINT DTYPE [SIDE] [PARTS]`, where PARTS are some of `text`, `unet`, `decode`,
//! `encode`, and `whole`, joined by commas. Linux only. `whole` is `decode` with every layer computed at once, not strip by strip.
//!
//! For each part: the time, that of all processors together, and in MiB the most that the process held (`VmHWM`), what it holds afterwards (`VmRSS`), and how much of
//! that is its own (`RssAnon`); the rest are pages of mapped files, which the system may drop.

#![allow(clippy::print_stdout)] // what it prints is what it is for
use latentrace::nn::tch::{Kind, Tensor, no_grad};
use latentrace::nn::{Pass, keep_freed_memory, seeded, with_strips_of};
use latentrace::pipeline::{Device, Dtype, Model, Options};
use std::error::Error;
use std::path::Path;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, dtype, more @ ..] = arguments.as_slice() else { return Err("expected CHECKPOINT DTYPE".into()) };
    let dtype = serde_json::from_value::<Dtype>(dtype.as_str().into())?;
    let options = Options { dtype, device: Device::Cpu, ..Options::default() };
    println!("{:>8} {:>8} {:>8} {:>8} {:>8} {:>8}", "", "seconds", "of CPUs", "VmHWM", "VmRSS", "RssAnon");
    let model = measured("load", || Model::open(Path::new(folder), options))??;
    let side = more.first().map_or(Ok(512), |side| side.parse::<i64>())? / 8;
    let parts = more.get(1).map_or("text,unet,decode,encode", String::as_str);
    let normal = |shape: &[i64]| seeded(1, || Tensor::randn(shape, (Kind::Float, model.device))).to_kind(dtype.kind());
    let pass = || Pass::silent();
    let mut decoded: Vec<Vec<u8>> = Vec::new();
    for part in parts.split(',') {
        match part {
            "text" => _ = measured(part, || model.encode("a red circle", &mut pass()))??,
            "unet" => {
                let (sample, time) = (normal(&[2, 4, side, side]), Tensor::from_slice(&[500f32]));
                let text = normal(&[2, 77, model.checkpoint.unet.config.cross_attention_dim]);
                measured(part, || drop(no_grad(|| model.unet.forward(&mut pass(), &sample, &time, &text))))?;
            }
            "decode" | "whole" => {
                let latents = normal(&[1, 4, side, side]).to_kind(Kind::Float);
                let decode = || model.decode(&latents, &mut pass());
                let picture =
                    measured(part, || if part == "whole" { with_strips_of(i64::MAX, decode) } else { decode() })??;
                decoded.push(picture.pixels);
            }
            "encode" => {
                let picture = normal(&[1, 3, 8 * side, 8 * side]).to_kind(model.vae.kind());
                measured(part, || drop(no_grad(|| model.vae.moments(&mut pass(), &picture))))?;
            }
            other => return Err(format!("{other}: no such part").into()),
        }
    }
    if let [first, .., last] = &decoded[..] {
        let apart = first.iter().zip(last).map(|(a, b)| a.abs_diff(*b));
        let (different, most) = (apart.clone().filter(|apart| *apart > 0).count(), apart.max().unwrap_or_default());
        println!("first and last decoded: {different} of {} bytes differ, by {most} at most", last.len());
    }
    Ok(())
}

/// Does work, and prints what it took.
fn measured<T>(what: &str, work: impl FnOnce() -> T) -> std::io::Result<T> {
    std::fs::write("/proc/self/clear_refs", "5")?; // the most that was held begins anew
    let (began, busy) = (Instant::now(), processor_seconds());
    let done = work();
    let (seconds, busy) = (began.elapsed().as_secs_f64(), processor_seconds() - busy);
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<u64>().unwrap_or_default() / 1024
    };
    println!("{what:>8} {seconds:8.2} {busy:8.2} {:8} {:8} {:8}", mib("VmHWM"), mib("VmRSS"), mib("RssAnon"));
    Ok(done)
}

/// The time that the processors have worked for this process.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
