//! The sampler of a cell: a name, or the text of a config.

use anyhow::{Context, Result, bail, ensure};
use latentrace_files::read_text;
use latentrace_pipeline::schedulers::{Class, Config, Error, class_of};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::path::Path;

/// The prefix of a scheduler option among the fields of a cell and on a command line.
pub const PREFIX: &str = "scheduler.";

/// The scheduler config of a cell: `own`, the model's, or the one of a sampler, with options that replace its own.
///
/// # Errors
/// The sampler is not known, its config cannot be read, or an option is not valid.
pub fn configured(
    own: &Config,
    sampler: Option<&Sampler>,
    options: impl IntoIterator<Item = (String, Value)>,
) -> Result<Config> {
    let options: Vec<(String, Value)> = options.into_iter().collect();
    let mut config = match sampler {
        Some(sampler) => sampler.config(own).context("sampler")?,
        None => own.clone(),
    };
    // diffusers applies options in `from_config`, which reads the scheduler's config again; a named one has just been
    // read.
    if !options.is_empty() && !matches!(sampler, Some(Sampler::Named(_))) {
        config = config.with_class(&config.class().to_string())?;
    }
    config.with_all(options).context("scheduler")
}

/// Lines for the user about the options that `StableDiffusionPipeline` changes in a scheduler's config.
pub fn set_by_pipeline(config: &Config) -> Vec<String> {
    let line = |(option, own, value): (&str, Value, Value)| {
        format!(
            "scheduler: {option} is {value} in place of {own}, as StableDiffusionPipeline sets it\nhint: {PREFIX}{option}={own}, with --set or in a spec, keeps it"
        )
    };
    config.set_by_pipeline().into_iter().map(line).collect()
}

/// Parses a scheduler option of a command line, `scheduler.use_karras_sigmas=true`. A value that is not JSON is a
/// string.
///
/// # Errors
/// The text has another form, or no scheduler has the option.
pub fn parse_option(text: &str) -> Result<(String, Value)> {
    let Some((key, value)) = text.split_once('=') else { bail!("expected scheduler.OPTION=VALUE, found {text}") };
    let Some(option) = key.trim().strip_prefix(PREFIX) else {
        bail!("{}: not an option of the scheduler\nhint: --set takes {PREFIX}OPTION=VALUE", key.trim());
    };
    is_known(option)?;
    let value = value.trim();
    Ok((option.into(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

/// Checks that at least one scheduler has an option.
///
/// # Errors
/// None has it.
pub fn is_known(option: &str) -> Result<()> {
    let mut known: Vec<&str> = Class::ALL.into_iter().flat_map(Class::option_names).collect();
    known.sort_unstable();
    known.dedup();
    let hint = || latentrace_files::hint(option, known.iter().copied());
    ensure!(known.contains(&option), "{PREFIX}{option}: no scheduler has such an option\n{}", hint());
    Ok(())
}

/// The sampler of a cell. In a record it is a string: a name, or the whole text of a config. So the pixels of a cell do
/// not depend on a config file that may change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Sampler {
    /// A short name or a diffusers class name. The other options are the checkpoint's.
    Named(String),
    /// The text of a `scheduler_config.json`.
    Config(String),
}

impl Sampler {
    /// Reads the sampler of a command line or a spec: a name, the path of a `scheduler_config.json`, or the path of a
    /// folder that has this file, directly or in `scheduler/` as in a checkpoint.
    ///
    /// # Errors
    /// The file cannot be read, or has no valid config. An unknown name is an error later, in [`Sampler::config`].
    pub fn read(text: &str) -> Result<Sampler> {
        if text.starts_with('{') {
            return Sampler::checked(text).context("sampler");
        }
        let path = Path::new(text);
        let inside = ["scheduler/scheduler_config.json", "scheduler_config.json"].map(|name| path.join(name));
        let file = match inside.iter().find(|file| file.is_file()) {
            _ if class_of(text).is_ok() => return Ok(Sampler::Named(text.into())),
            Some(file) => file.as_path(),
            None if text.ends_with(".json") || path.is_file() => path,
            None => return Ok(Sampler::Named(text.into())),
        };
        ensure!(file.exists(), "{}: no such file", file.display());
        let text = read_text(file)?;
        Sampler::checked(&text).with_context(|| file.display().to_string())
    }

    /// [`Sampler::read`], with the causes of an error in its text.
    ///
    /// # Errors
    /// See [`Sampler::read`].
    pub fn parse(text: &str) -> Result<Sampler, String> {
        Sampler::read(text).map_err(|error| format!("{error:#}"))
    }

    /// Checks the text of a config, and removes its whitespace if it is standard JSON (Python's may have infinities).
    fn checked(text: &str) -> Result<Sampler> {
        Config::from_json(text)?;
        let close = serde_json::from_str(text).map(|value: Value| value.to_string());
        Ok(Sampler::Config(close.unwrap_or_else(|_| text.trim().to_owned())))
    }

    /// Replaces a name that is a path by the config of the file.
    ///
    /// # Errors
    /// See [`Sampler::read`].
    pub fn resolved(self) -> Result<Sampler> {
        match self {
            Sampler::Named(name) => Sampler::read(&name),
            Sampler::Config(_) => Ok(self),
        }
    }

    /// The config of this sampler for a checkpoint with the config `own`.
    ///
    /// # Errors
    /// The name is not known, or an option is not valid.
    pub fn config(&self, own: &Config) -> Result<Config, Error> {
        match self {
            Sampler::Named(name) => own.with_class(name),
            Sampler::Config(text) => own.with_file(text),
        }
    }
}

impl From<String> for Sampler {
    fn from(text: String) -> Sampler {
        if text.starts_with('{') { Sampler::Config(text) } else { Sampler::Named(text) }
    }
}

impl From<Sampler> for String {
    fn from(sampler: Sampler) -> String {
        match sampler {
            Sampler::Named(text) | Sampler::Config(text) => text,
        }
    }
}

/// The label of the sampler: its name, or the config's class and six digits of the config's hash.
impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sampler::Named(name) => f.write_str(name),
            Sampler::Config(text) => {
                let class = Config::from_json(text).map_or_else(|_| "file".into(), |config| config.class().to_string());
                write!(f, "{class} {}", &blake3::hash(text.as_bytes()).to_hex()[..6])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"_class_name": "UniPCMultistepScheduler", "solver_order": 3}"#;

    #[test]
    fn a_name_is_a_name_and_a_file_is_its_text() {
        assert_eq!(Sampler::read("lms").unwrap(), Sampler::Named("lms".into()));
        // An unknown name is an error only when it is used with a checkpoint.
        assert_eq!(Sampler::read("lmx").unwrap(), Sampler::Named("lmx".into()));
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("scheduler")).unwrap();
        let file = folder.path().join("scheduler/scheduler_config.json");
        std::fs::write(&file, CONFIG).unwrap();
        for path in [file.as_path(), &folder.path().join("scheduler"), folder.path()] {
            let sampler = Sampler::read(path.to_str().unwrap()).unwrap();
            assert!(sampler.to_string().starts_with("UniPCMultistepScheduler "), "{sampler}");
            assert_ne!(
                sampler.to_string(),
                Sampler::read(r#"{"_class_name": "UniPCMultistepScheduler"}"#).unwrap().to_string()
            );
            let text = String::from(sampler.clone());
            assert_eq!(
                (text.contains(' '), Sampler::from(text.clone()), Sampler::read(&text).unwrap()),
                (false, sampler.clone(), sampler)
            );
        }
        std::fs::write(
            &file,
            "\n {\"_class_name\": \"DPMSolverMultistepScheduler\", \"lambda_min_clipped\": -Infinity}",
        )
        .unwrap();
        let infinite = Sampler::read(file.to_str().unwrap()).unwrap();
        assert_eq!(Sampler::from(String::from(infinite.clone())), infinite, "a config stays a config");
        std::fs::write(&file, r#"{"_class_name": "DDIMScheduler", "eta": 3}"#).unwrap();
        let error = format!("{:#}", Sampler::read(file.to_str().unwrap()).unwrap_err());
        assert!(error.ends_with("scheduler_config.json: eta: expected a number in 0..=1, found 3"), "{error}");
        assert!(Sampler::read("nowhere.json").is_err());
    }
}
