//! What a run was: the `run.json` of its trace.

mod check;

use crate::cell::Cell;
use crate::inputs;
use crate::key::{self, Kept};
use crate::located::{self, Located};
use crate::models::home;
use crate::processor;
use crate::rules::Counts;
use anyhow::{Context, Result, anyhow};
use latentrace_pipeline::nn::LIBTORCH;
use latentrace_pipeline::nn::tch;
use latentrace_pipeline::schedulers::{Config, Level, Plan};
use latentrace_pipeline::{Model, Prepared, Request, Size};
use latentrace_trace::{EditRule, Prompt, Rule, Trace, Words};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Everything that decides a run's numbers, and what made it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    /// The settings, as a spec says them.
    pub cell: Cell,
    /// The checkpoint.
    pub model: Checkpoint,
    /// The scheduler, every option resolved.
    pub scheduler: Value,
    /// Pixels: height, width.
    pub size: [i64; 2],
    /// Channels, height and width of the latents.
    pub latents: [i64; 3],
    /// Network calls.
    pub calls: usize,
    /// The prompt as the text encoder saw it.
    pub prompt: Text,
    /// The negative prompt.
    pub negative: Text,
    /// The run that this one goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<Fork>,
    /// The picture that the run started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Located>,
    /// The records of other runs that its edits read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<Located>,
    /// What was kept besides the sampler's values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capture: Vec<Rule>,
    /// How many bytes of it at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
    /// How many tensors each rule selects, as was known before the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fires: Option<Counts>,
    /// What made it.
    pub program: Program,
}

/// What calls were made with: the settings, and the two texts of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// The settings.
    pub cell: Cell,
    /// The prompt as the text encoder saw it.
    pub prompt: Text,
    /// The negative prompt.
    pub negative: Text,
}

/// A checkpoint folder and the hash of the files in it that decide what it computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The folder, from the root.
    pub folder: PathBuf,
    /// The way there from the record's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative: Option<PathBuf>,
    /// blake3 of its files.
    pub blake3: String,
}

/// A text's own tokens, and what did not fit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Text {
    /// As written; the start token comes before them.
    pub tokens: Vec<String>,
    /// What did not fit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lost: String,
}

/// Where a run left another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fork {
    /// The other's trace, from the root.
    pub trace: PathBuf,
    /// The way there from this record's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative: Option<PathBuf>,
    /// The other's first call that was not taken over.
    pub call: usize,
    /// With another sampler, the level of the sample that the run began with; without, the calls before are here too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// The calls that were taken over, by the settings that they were made with. A record of before does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past: Option<Vec<Phase>>,
}

/// Calls that were made with the same settings: those of no earlier phase, up to one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Phase {
    /// The first call that is of the next phase.
    pub until: usize,
    /// What they were made with, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Settings>,
}

/// The program and the machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Program {
    /// The version of Latentrace.
    pub latentrace: String,
    /// The commit of its checkout, with a + where that was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The version of libtorch.
    pub libtorch: String,
    /// Where the networks ran.
    pub device: String,
    /// CPU threads of libtorch.
    pub threads: i32,
    /// The processor and its instruction sets.
    #[serde(default)]
    pub processor: String,
}

impl Description {
    /// Describes a run that is about to be made. `image` is the file of the picture that it starts from.
    pub(crate) fn new(model: &Model, cell: &Cell, prepared: &Prepared, image: Option<Located>) -> Result<Description> {
        let Prepared { request, plan, tokens, .. } = prepared;
        let [height, width] = request.size.latents(model.vae_config.factor())?;
        let [prompt, negative] =
            tokens.each_ref().map(|text| Text { tokens: text.pieces.clone(), lost: text.lost.clone() });
        let mut cell = cell.clone();
        for edit in &mut cell.edits {
            let Some(trace) = edit.reads() else { continue };
            let trace = Trace::open(trace)?; // which says best what is wrong with it
            *edit = edit.clone().reading(&std::path::absolute(trace.folder())?);
        }
        let folder = std::path::absolute(&model.folder)?;
        Ok(Description {
            image,
            traces: inputs::traces_of(&cell)?,
            model: Checkpoint { folder, relative: None, blake3: key::hash(&model.folder)? },
            scheduler: request.scheduler.resolved(),
            size: [request.size.height, request.size.width],
            latents: [model.unet_config.in_channels, height, width],
            calls: plan.calls(),
            prompt,
            negative,
            fork: None,
            capture: Vec::new(),
            budget: None,
            fires: None,
            program: Program::this(model.device),
            cell,
        })
    }

    /// Reads what a trace says of its run, and checks all of it: what a reader finds in a description can be computed with.
    ///
    /// # Errors
    /// The trace is none of a run of latentrace, or a field has a value that no run has; the error names the field.
    pub fn of(trace: &Trace) -> Result<Description> {
        let file = trace.folder().join("run.json");
        if trace.run().get("cell").is_none() {
            return Err(anyhow!(
                "{}: not the record of a run of latentrace, and so only good to compare",
                file.display()
            ));
        }
        let read: Result<Description, _> = serde_path_to_error::deserialize(trace.run());
        let checked = read.map_err(anyhow::Error::from).and_then(|read| read.check(trace).map(|()| read));
        checked.map_err(|error| anyhow!("{}: {}", file.display(), shortened(&format!("{error:#}"))))
    }

    /// Says where everything is from the folder that the record will be in, beside where it is from the root.
    pub fn seen_from(&mut self, record: &Path) {
        self.model.relative = located::way(record, &self.model.folder);
        for trace in self.traces.iter_mut().chain(&mut self.image) {
            trace.relative = located::way(record, &trace.path);
        }
        if let Some(fork) = &mut self.fork {
            fork.relative = located::way(record, &fork.trace);
        }
    }

    /// What was asked for, and the two texts of it.
    pub fn settings(&self) -> Settings {
        Settings { cell: self.cell.clone(), prompt: self.prompt.clone(), negative: self.negative.clone() }
    }

    /// The run as it was asked for, without its model.
    pub fn request(&self) -> Result<Request> {
        self.request_of(&self.cell)
    }

    /// The same with the settings of another cell.
    pub fn request_of(&self, cell: &Cell) -> Result<Request> {
        let Cell { prompt, negative, seed, steps, guidance, reading, .. } = cell.clone();
        let scheduler = Config::from_resolved(&self.scheduler).context("scheduler")?;
        let [height, width] = self.size;
        Ok(Request { prompt, negative, seed, steps, guidance, reading, scheduler, size: Size { height, width } })
    }

    /// What was kept besides the sampler's values, and how much of it at most.
    pub fn kept(&self) -> Kept {
        Kept { capture: self.capture.clone(), budget: self.budget }
    }

    /// The program of the run.
    pub fn plan(&self) -> Result<Plan> {
        let start = crate::past::start_of(self, |_, _| Ok(tch::Tensor::new()))?; // the plan depends on no tensor
        Ok(start.plan(&self.request()?)?)
    }

    /// All calls of the run, by the settings that they were made with.
    pub fn phases(&self) -> Vec<Phase> {
        let mut phases = match &self.fork {
            Some(Fork { past: Some(past), .. }) => past.clone(),
            Some(Fork { past: None, level: None, call, .. }) => vec![Phase { until: *call, settings: None }],
            _ => Vec::new(),
        };
        phases.retain(|phase| phase.until > 0);
        phases.push(Phase { until: self.calls, settings: Some(self.settings()) });
        phases
    }

    /// The edits of a cell, with the records that they read where these are now, from the root.
    ///
    /// # Errors
    /// A record is not there any more, or is another.
    pub fn edits(&self, cell: &Cell, record: &Path) -> Result<Vec<EditRule>> {
        let found = |edit: &EditRule| -> Result<EditRule> {
            let known = edit.reads().and_then(|path| self.traces.iter().find(|known| known.path == path));
            let Some(Located { path, relative, blake3 }) = known else { return Ok(edit.clone()) };
            let places = located::places(path, relative.as_deref(), record);
            let hint = "an edit of this run reads it: put it back";
            let found = located::find(&places, blake3, key::hash_of_trace, hint).with_context(|| edit.to_string())?;
            Ok(edit.clone().reading(&std::path::absolute(found)?))
        };
        cell.edits.iter().map(found).collect()
    }

    /// The tokens of the two texts.
    pub fn words(&self) -> Words {
        self.settings().words()
    }

    /// Height and width of the latents.
    pub fn grid(&self) -> (usize, usize) {
        (self.latents[1] as usize, self.latents[2] as usize)
    }
}

/// A message of sane length, whatever stands in the file that it quotes.
fn shortened(message: &str) -> String {
    const LONGEST: usize = 500;
    match message.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} ..", &message[..end]),
        None => message.into(),
    }
}

/// The phases of the calls before one.
pub fn up_to(mut phases: Vec<Phase>, call: usize) -> Vec<Phase> {
    let whole = phases.iter().position(|phase| phase.until >= call).map_or(phases.len(), |last| last + 1);
    phases.truncate(whole);
    phases.iter_mut().for_each(|phase| phase.until = phase.until.min(call));
    phases.retain(|phase| phase.until > 0);
    phases
}

impl Settings {
    /// The tokens of the two texts.
    pub fn words(&self) -> Words {
        let Cell { prompt, negative, .. } = &self.cell;
        Words {
            conditional: Prompt::new(prompt, &self.prompt.tokens),
            unconditional: Prompt::new(negative, &self.negative.tokens),
        }
    }
}

impl Program {
    /// This program, on this machine.
    pub fn this(device: tch::Device) -> Program {
        Program {
            latentrace: env!("CARGO_PKG_VERSION").into(),
            commit: COMMIT.get_or_init(|| home().and_then(|home| commit(&home))).clone(),
            libtorch: LIBTORCH.into(),
            device: format!("{device:?}").to_lowercase(),
            threads: tch::get_num_threads(),
            processor: processor::NAME.clone(),
        }
    }
}

/// The commit of this program's checkout, asked for once.
static COMMIT: OnceLock<Option<String>> = OnceLock::new();

/// The commit of a checkout, with a + where files were changed; `None` where there is no git to ask.
fn commit(folder: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let head = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|files| !files.is_empty());
    Some(if changed { head + "+" } else { head })
}
