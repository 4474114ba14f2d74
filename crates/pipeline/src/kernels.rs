//! Which kernels a model's networks run on.

use crate::error::Result;
use latentrace_nn::tch::{self, Kind};
use latentrace_nn::{Kernels, LIBTORCH, fastest};
use latentrace_unet::UnetConfig;
use serde::{Deserialize, Serialize};
use std::env;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The work of a layer, see [`work`], from which it is worth the seconds to look for the fastest kernels. The bundled
/// model has 3e5, Stable Diffusion 1.x 1e9 and more.
const LARGE: f64 = 1e8;

/// The work of a layer of the UNet at the size that it was trained with, summed over the resolutions: pixels times
/// channels squared, as a convolution has it.
fn work(config: &UnetConfig) -> f64 {
    let [height, width] = config.sample_size;
    let layer = |(level, channels): (usize, &i64)| (channels * channels) as f64 / 4f64.powi(level as i32);
    (height * width) as f64 * config.block_out_channels.iter().enumerate().map(layer).sum::<f64>()
}

/// The kernels for a UNet, and its VAE, in a number format on a device. For a large network on a CPU, the fastest: they
/// are measured once on a machine, and then read from a file in the user's cache folder. For a small one on a CPU,
/// libtorch's own.
///
/// # Errors
/// The kernels cannot be measured.
pub fn kernels_for(config: &UnetConfig, kind: Kind, device: tch::Device) -> Result<Kernels> {
    match device {
        tch::Device::Cpu if work(config) >= LARGE => of_this_machine(kind),
        _ => Ok(Kernels::of(kind, device)),
    }
}

/// What was measured for a number format, without measuring. `None` if nothing was.
pub fn measured_kernels(kind: Kind) -> Option<Kernels> {
    read(&file(kind)?, &Machine::this())
}

fn of_this_machine(kind: Kind) -> Result<Kernels> {
    // One at a time, and once in a process, also where no file can be written.
    static KNOWN: Mutex<Vec<(Kind, Kernels)>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, kernels)) = known.iter().find(|(of, _)| *of == kind) {
        return Ok(*kernels);
    }
    let kernels = match measured_kernels(kind) {
        Some(kernels) => kernels,
        None => {
            let kernels = fastest(kind)?;
            file(kind).into_iter().for_each(|file| keep(&file, Machine::this(), kernels));
            kernels
        }
    };
    known.push((kind, kernels));
    Ok(kernels)
}

/// What a measurement depends on.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Machine {
    processor: String,
    threads: i32,
    libtorch: String,
    program: String,
}

/// The file of a measurement.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    machine: Machine,
    kernels: String,
}

impl Machine {
    fn this() -> Machine {
        Machine {
            processor: processor(),
            threads: tch::get_num_threads(),
            libtorch: LIBTORCH.into(),
            program: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

/// The processor's name and its instructions. Empty where the system does not say.
fn processor() -> String {
    let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = |key: &str| about.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_string();
    [line("model name"), line("flags")].join("; ")
}

fn file(kind: Kind) -> Option<PathBuf> {
    let of_user = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = of_user.or_else(|| env::home_dir().map(|home| home.join(".cache")))?;
    Some(cache.join("latentrace/kernels").join(format!("{kind:?}.json").to_lowercase()))
}

/// The kernels of a file, if they were measured on this machine and are there.
fn read(file: &Path, machine: &Machine) -> Option<Kernels> {
    let measured: Measured = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    measured.kernels.parse().ok().filter(|_| measured.machine == *machine)
}

/// Keeps a measurement. A cache that cannot be written is no error: the next process measures again.
fn keep(file: &Path, machine: Machine, kernels: Kernels) {
    let measured = Measured { machine, kernels: kernels.to_string() };
    if let (Some(folder), Ok(text)) = (file.parent(), serde_json::to_vec_pretty(&measured)) {
        std::fs::create_dir_all(folder).ok();
        latentrace_files::replace_unsynced(file, &text).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_counts_on_the_machine_that_it_was_made_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kernels/float.json");
        let kernels: Kernels = "channels-last".parse().unwrap();
        assert_eq!(read(&file, &Machine::this()), None);
        keep(&file, Machine::this(), kernels);
        assert_eq!(read(&file, &Machine::this()), Some(kernels));
        let other = Machine { threads: 1 + Machine::this().threads, ..Machine::this() };
        assert_eq!(read(&file, &other), None);
        for text in ["", "{}", "{\"machine\":", "null"] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read(&file, &Machine::this()), None, "{text:?}");
        }
    }
}
