//! The scheduler's configuration file.

use crate::error::{Error, Result, read};
use crate::index::{INDEX, Index, SECOND};
use latentrace_schedulers::{Config, Pipeline};
use std::path::{Path, PathBuf};

/// Where a checkpoint's scheduler configuration comes from. It is read when it is asked for, because a run that names
/// another sampler does not need a supported class here.
#[derive(Clone, Debug)]
pub struct SchedulerFile {
    pub(crate) origin: Origin,
    /// The class that `model_index.json` names. As in diffusers, it is used instead of the one in the file.
    pub(crate) class: Option<(PathBuf, String)>,
    /// The pipeline that runs the checkpoint in diffusers, which may change the scheduler that it is given.
    pub pipeline: Pipeline,
}

#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// A `scheduler_config.json`.
    File(PathBuf),
    /// Values that belong to the family of a single file.
    Known { file: PathBuf, json: String },
}

/// The class that a file is read as if its own is not supported and another will be used: it knows the values that say
/// how the network was trained.
const STAND_IN: &str = "DDIMScheduler";

impl SchedulerFile {
    /// The scheduler of a folder in the diffusers layout, which may have no other part.
    ///
    /// # Errors
    /// The folder's `model_index.json` cannot be read.
    pub fn of(folder: &Path) -> Result<SchedulerFile> {
        let index = folder.join(INDEX).is_file().then(|| Index::read(folder)).transpose()?;
        let is_xl = index.as_ref().is_some_and(|index| index.texts().contains(&SECOND));
        let pipeline = if is_xl { Pipeline::StableDiffusionXl } else { Pipeline::StableDiffusion };
        let class = index.and_then(|index| Some((index.path().to_path_buf(), index.class("scheduler")?.to_owned())));
        Ok(SchedulerFile { origin: Origin::File(folder.join("scheduler/scheduler_config.json")), class, pipeline })
    }

    /// The configuration.
    ///
    /// # Errors
    /// The file is missing or malformed, or its class or a value is not supported.
    pub fn read(&self) -> Result<Config> {
        let text = self.text()?;
        let (read, file) = match &self.class {
            Some((index, class)) => (Config::from_json_as(&text, class), index.as_path()),
            None => (Config::from_json(&text), self.path()),
        };
        read.map_err(|cause| match cause {
            latentrace_schedulers::Error::Class { .. } => Error::Scheduler {
                file: file.display().to_string(),
                cause: cause.into(),
                hint: "\nhint: a run can name another sampler, which takes the betas and the prediction from the file",
            },
            cause => Error::Scheduler { file: self.path().display().to_string(), cause: cause.into(), hint: "" },
        })
    }

    /// The configuration for a run that names another sampler: if the class is not supported, the values of the file
    /// are read as those of a class that is.
    ///
    /// # Errors
    /// The file is missing or malformed, or a value is not supported.
    pub fn read_for_another(&self) -> Result<Config> {
        self.read().or_else(|error| Config::from_json_as(&self.text()?, STAND_IN).map_err(|_| error))
    }

    /// The name of the scheduler's class.
    pub(crate) fn class_name(&self) -> Result<String> {
        if let Some((_, class)) = &self.class {
            return Ok(class.clone());
        }
        let json: serde_json::Value = serde_json::from_str(&self.text()?).unwrap_or_default();
        Ok(json["_class_name"].as_str().unwrap_or("PNDMScheduler").to_owned())
    }

    /// Whether it is the one that SDXL-Turbo was published with.
    pub(crate) fn is_turbo(&self) -> bool {
        let json = self.text().ok().and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        let is_trailing = json.is_some_and(|json| json["timestep_spacing"] == "trailing");
        is_trailing && self.class_name().is_ok_and(|class| class == "EulerAncestralDiscreteScheduler")
    }

    /// The files that the configuration depends on.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let Origin::File(path) = &self.origin else { return Vec::new() };
        let own = read(path).ok().and_then(|text| Config::from_json(&text).ok()).map(|own| own.class().to_string());
        let index = self.class.as_ref().filter(|(_, class)| own.as_ref() != Some(class));
        [path.clone()].into_iter().chain(index.map(|(index, _)| index.clone())).collect()
    }

    fn path(&self) -> &Path {
        match &self.origin {
            Origin::File(path) | Origin::Known { file: path, .. } => path,
        }
    }

    /// The configuration as JSON.
    pub(crate) fn text(&self) -> Result<String> {
        match &self.origin {
            Origin::File(path) => read(path),
            Origin::Known { json, .. } => Ok(json.clone()),
        }
    }
}
