//! Which kernels a model's networks run on.

use crate::Dtype;
use crate::error::{Error, Result};
use latentrace_nn::tch::{self, Kind};
use latentrace_nn::{Engine, Fastest, Kernels, LIBTORCH, fastest};
use latentrace_unet::UnetConfig;
use serde::{Deserialize, Serialize};
use std::env;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The work of a layer, see [`work`], from which it is worth the seconds to look for the fastest kernels. The bundled
/// model has 3e6, Stable Diffusion 1.x 1e9 and more.
const LARGE: f64 = 1e8;

/// The work of a layer of the UNet at the size that it was trained with, summed over the resolutions: pixels times
/// channels squared, as a convolution has it.
fn work(config: &UnetConfig) -> f64 {
    let [height, width] = config.sample_size;
    let layer = |(level, channels): (usize, &i64)| (channels * channels) as f64 / 4f64.powi(level as i32);
    (height * width) as f64 * config.block_out_channels.iter().enumerate().map(layer).sum::<f64>()
}

/// Which kernels UNet and VAE run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KernelChoice {
    /// The fastest. For a large network on a CPU they are measured once on a machine, and then read from a file in the user's
    /// cache folder; for a small one they are libtorch's own.
    #[default]
    Fastest,
    /// These, and an error where the machine lacks them.
    Exactly(Kernels),
    /// Those of a record. What the machine lacks is left out, with a note.
    Recorded(Kernels),
}

impl KernelChoice {
    /// The kernels on this machine; and a note where they are not those of the record, have just been measured, or where the
    /// number format is slower than f32.
    ///
    /// # Errors
    /// The machine lacks those that are asked for, or the fastest cannot be measured.
    pub(crate) fn on(self, config: &UnetConfig, kind: Kind, device: tch::Device) -> Result<(Kernels, Option<String>)> {
        match self {
            KernelChoice::Fastest if are_measured(config, device) => {
                let found = of_this_machine(kind)?;
                Ok((found.kernels, found.note(kind)))
            }
            KernelChoice::Fastest => Ok((Kernels::of(kind, device), None)),
            KernelChoice::Exactly(kernels) => match kernels.available(kind, device) {
                available if available == kernels => Ok((kernels, None)),
                _ => Err(lacking(kernels, kind, device)),
            },
            KernelChoice::Recorded(recorded) => {
                let kernels = recorded.available(kind, device);
                let note = format!(
                    "the run was computed by the kernels {recorded}, and here are {kernels}: numbers differ by rounding"
                );
                Ok((kernels, (kernels != recorded).then_some(note)))
            }
        }
    }
}

/// From this share of f32's time on a number format is called slower. Less is noise of the measurement.
const SLOWER: f64 = 1.05;

/// The error where a machine lacks kernels for a number format, with those that it has.
fn lacking(kernels: Kernels, kind: Kind, device: tch::Device) -> Error {
    let engines = Engine::ALL.into_iter().filter(|engine| device == tch::Device::Cpu && engine.computes(kind));
    let mut words: Vec<String> = vec!["channels-last".into(), "linear-as-convolution".into()];
    words.extend(engines.map(|engine| format!("attention-{}", engine.name())));
    words.extend((Kernels::of(kind, device) != Kernels::PLAIN).then(|| "fused".into()));
    let words = words.join(", ");
    let expected = format!("plain, or some of {words}, joined by +, which this machine has for this number format");
    Error::Range { field: "kernels", expected, found: kernels.to_string() }
}

/// Whether the fastest kernels for a UNet are found by measuring. Otherwise they follow from number format and device.
pub fn are_measured(config: &UnetConfig, device: tch::Device) -> bool {
    device == tch::Device::Cpu && work(config) >= LARGE
}

/// The kernels that were measured for a number format on this machine, and their time as a share of f32's, without measuring.
/// `None` if nothing was.
pub fn measured_kernels(kind: Kind) -> Option<(Kernels, f64)> {
    usable(kind).map(|found| (found.kernels, found.against_f32))
}

/// The kernels for a number format.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Found {
    kernels: Kernels,
    /// Their time as a share of f32's.
    against_f32: f64,
    /// How long the measurement took, if this process has just made it.
    took: Option<Duration>,
}

impl Found {
    /// What is said of them.
    fn note(&self, kind: Kind) -> Option<String> {
        let Found { kernels, against_f32, took } = *self;
        let name = format!("{:?}", Dtype::of(kind)?).to_lowercase();
        let chosen = took.map(|took| {
            format!(
                "kernels for {name}: {kernels} are the fastest here, measured once on this machine in {:.0} s",
                took.as_secs_f64()
            )
        });
        let slow = (kind != Kind::Float && against_f32 > SLOWER)
            .then(|| format!("{name} takes {against_f32:.1} times as long as f32 on this CPU\nhint: --dtype f32"));
        let lines: Vec<String> = chosen.into_iter().chain(slow).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

fn of_this_machine(kind: Kind) -> Result<Found> {
    // One at a time, and once in a process, also where no file can be written.
    static KNOWN: Mutex<Vec<(Kind, Found)>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, found)) = known.iter().find(|(of, _)| *of == kind) {
        return Ok(*found);
    }
    let found = match usable(kind) {
        Some(found) => found,
        None => {
            let Fastest { kernels, against_f32, took } = fastest(kind)?;
            let found = Found { kernels, against_f32, took: Some(took) };
            file(kind).into_iter().for_each(|file| keep(&file, Machine::this(), found));
            found
        }
    };
    known.push((kind, Found { took: None, ..found }));
    Ok(found)
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
    kernels: Kernels,
    against_f32: f64,
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

/// What was measured on this machine for a number format, if its kernels can be had. A container may refuse a program what the
/// processor has.
fn usable(kind: Kind) -> Option<Found> {
    let found = read(&file(kind)?, &Machine::this())?;
    (found.kernels.available(kind, tch::Device::Cpu) == found.kernels).then_some(found)
}

/// What a file says, if it was measured on this machine.
fn read(file: &Path, machine: &Machine) -> Option<Found> {
    let measured: Measured = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    let Measured { machine: on, kernels, against_f32 } = measured;
    (on == *machine && against_f32 > 0.0).then_some(Found { kernels, against_f32, took: None })
}

/// Keeps a measurement. A cache that cannot be written is no error: the next process measures again.
fn keep(file: &Path, machine: Machine, found: Found) {
    let measured = Measured { machine, kernels: found.kernels, against_f32: found.against_f32 };
    if let (Some(folder), Ok(text)) = (file.parent(), serde_json::to_vec_pretty(&measured)) {
        std::fs::create_dir_all(folder).ok();
        latentrace_files::replace_unsynced(file, &text).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_is_told_of_once_and_a_slow_format_always() {
        let found = Found { kernels: Kernels::PLAIN, against_f32: 0.5, took: None };
        assert_eq!(found.note(Kind::BFloat16), None);
        let measured = Found { took: Some(Duration::from_secs(3)), ..found };
        let text = "kernels for bf16: plain are the fastest here, measured once on this machine in 3 s";
        assert_eq!(measured.note(Kind::BFloat16).as_deref(), Some(text));
        let slow = Found { against_f32: 1.84, ..found }.note(Kind::Half);
        assert_eq!(slow.as_deref(), Some("f16 takes 1.8 times as long as f32 on this CPU\nhint: --dtype f32"));
    }

    #[test]
    fn kernels_that_the_machine_lacks_are_an_error_where_they_are_asked_for_and_a_note_in_a_record() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/models/shapes");
        let config = crate::Checkpoint::open(&folder, &crate::Choice::default()).unwrap().unet.config;
        let fused: Kernels = "channels-last+fused".parse().unwrap();
        let on = |choice: KernelChoice| choice.on(&config, Kind::Float, tch::Device::Cpu);
        let refused = on(KernelChoice::Exactly(fused)).unwrap_err().to_string();
        assert!(
            refused.contains("kernels: expected plain, or some of channels-last, ")
                && refused.contains("found channels-last+fused"),
            "{refused}"
        );
        let (kernels, note) = on(KernelChoice::Recorded(fused)).unwrap();
        assert_eq!(kernels.to_string(), "channels-last");
        assert!(note.unwrap().contains("by the kernels channels-last+fused, and here are channels-last"));
        assert_eq!(on(KernelChoice::Exactly(kernels)).unwrap(), (kernels, None));
    }

    #[test]
    fn a_measurement_counts_on_the_machine_that_it_was_made_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kernels/float.json");
        let found = Found { kernels: "channels-last".parse().unwrap(), against_f32: 0.5, took: None };
        assert_eq!(read(&file, &Machine::this()), None);
        keep(&file, Machine::this(), Found { took: Some(Duration::from_secs(3)), ..found });
        assert_eq!(read(&file, &Machine::this()), Some(found));
        let other = Machine { threads: 1 + Machine::this().threads, ..Machine::this() };
        assert_eq!(read(&file, &other), None);
        for text in ["", "{}", "{\"machine\":", "null"] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read(&file, &Machine::this()), None, "{text:?}");
        }
    }
}
