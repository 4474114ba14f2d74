//! `latentrace doctor`: what the program found on this machine.

use crate::arguments::ModelArguments;
use crate::openmp;
use crate::printer::line;
use anyhow::Result;
use latentrace::files::counted;
use latentrace::pipeline::nn::tch::{Device, Kind};
use latentrace::pipeline::nn::{self, Cuda, LIBTORCH, all_threads, given_threads};
use latentrace::pipeline::{Model, Size, measured_kernels};
use latentrace::runs::{Origin, home, processor};

/// Say what was found on this machine, and what is missing
#[derive(clap::Args)]
pub struct Doctor {
    #[command(flatten)]
    model: ModelArguments,
}

impl Doctor {
    /// Prints one line for each thing; fails if the model does not open.
    pub fn run(self) -> Result<()> {
        line!("latentrace  {}", env!("CARGO_PKG_VERSION"));
        line!("libtorch    {}", libtorch());
        line!("processor   {}, {}", counted(all_threads(), "thread"), processor::features());
        line!("waiting     {}", openmp::waiting());
        line!("cuda        {}", cuda());
        let place = self.model.place()?;
        let model = self.model.open()?;
        let size = model.request("", 0).size;
        line!("model       {}", place.display());
        line!(
            "            {} x {} pixels, {}, on {}",
            size.height,
            size.width,
            model.scheduler.class(),
            format!("{:?}", model.device).to_lowercase()
        );
        line!("            {}", threads(&model));
        line!("            kernels {}", kernels(&model));
        line!("            {} taps in its networks", model.taps.len());
        Ok(())
    }
}

/// The kernels of a model, and those that were measured for large networks on this machine.
fn kernels(model: &Model) -> String {
    let measured = [("f32", Kind::Float), ("f16", Kind::Half), ("bf16", Kind::BFloat16)].map(|(name, kind)| {
        let (kernels, share) = measured_kernels(kind)?;
        Some(format!("{name} {kernels}, {share:.2} of the time of f32 plain"))
    });
    let measured: Vec<String> = measured.into_iter().flatten().collect();
    let large = if measured.is_empty() { "not measured yet".into() } else { measured.join("; ") };
    format!("{}; of large networks: {large}", model.kernels)
}

/// On how many CPU threads a model runs, and why.
fn threads(model: &Model) -> String {
    let count = counted(model.threads_for(Size::of(&model.checkpoint), 1), "thread");
    match (model.device, given_threads()) {
        (Device::Cpu, Some((name, value))) => format!("{count}: {name}={value}"),
        (Device::Cpu, None) => format!("{count} for a picture of this size"),
        _ => format!("{count} beside the GPU"),
    }
}

fn libtorch() -> String {
    let version = home().and_then(|home| std::fs::read_to_string(home.join(".libtorch/version.py")).ok());
    let stated = version.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("__version__ = ")));
    stated.map_or(LIBTORCH.into(), |version| version.trim_matches('\'').to_string())
}

fn cuda() -> String {
    let driver = std::path::Path::new("/proc/driver/nvidia/version").exists();
    match (nn::cuda(), nn::cuda().devices()) {
        (cuda @ Cuda::Open(path), 0) => {
            let why = cuda.unusable().unwrap_or_else(|| "no device answers".into());
            format!("{why}; opened {}", path.display())
        }
        (Cuda::Open(path), 1) => format!("1 device, {}", path.display()),
        (Cuda::Open(path), devices) => format!("{devices} devices, {}; the first is used", path.display()),
        (Cuda::Broken { path, cause }, _) => {
            format!("{} does not open: {cause}\n{}", path.display(), fetched_again(Origin::THIS))
        }
        (Cuda::Absent, _) if driver => {
            format!("a driver is here, and no libtorch_cuda.so\n{}", fetched_again(Origin::THIS))
        }
        (Cuda::Absent, _) => "none; everything runs on the processor".into(),
    }
}

/// What fetches libtorch with its CUDA library. pip would keep a torch of this version that is for the CPU alone.
fn fetched_again(origin: Origin) -> String {
    match origin {
        Origin::Built => "hint: remove .libtorch and run ./just setup, which fetches it".into(),
        Origin::Installed => format!(
            "hint: `python3 -m pip install --force-reinstall torch=={LIBTORCH}`, in the environment that this program is in, fetches it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installed_program_names_no_recipe_of_a_checkout() {
        let installed = fetched_again(Origin::Installed);
        assert!(installed.contains(&format!("pip install --force-reinstall torch=={LIBTORCH}`")), "{installed}");
        assert!(!installed.contains("just"), "{installed}");
        assert!(fetched_again(Origin::Built).contains("./just setup"));
    }
}
