//! What a run was: the `run.json` of its trace.

use crate::cell::Cell;
use crate::inputs::{Content, Inputs};
use crate::models::home;
use crate::processor;
use crate::rules::Counts;
use crate::store::{self, Kept};
use anyhow::{Context, Result};
use latentrace_pipeline::nn::LIBTORCH;
use latentrace_pipeline::nn::tch;
use latentrace_pipeline::schedulers::{Config, Level};
use latentrace_pipeline::{Model, Request, Size, Start, Tokens};
use latentrace_trace::{Prompt, Trace, Words};
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
    pub image: Option<Content>,
    /// The records that its edits read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<Content>,
    /// What was kept besides the sampler's values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capture: Vec<String>,
    /// How many bytes of it at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
    /// How many tensors each rule selects, as was known before the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fires: Option<Counts>,
    /// What made it.
    pub program: Program,
}

/// A checkpoint folder and the hash of the files in it that decide what it computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The folder.
    pub folder: PathBuf,
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
    /// The other's trace.
    pub trace: PathBuf,
    /// The other's first call that was not taken over.
    pub call: usize,
    /// With another sampler, the level of the sample that the run began with; without, the calls before are here too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
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
    /// Describes a run that is about to be made.
    pub fn new(model: &Model, cell: &Cell, request: &Request, start: &Start) -> Result<Description> {
        let factor = model.vae_config.factor();
        let [height, width] = request.size.latents(factor)?;
        let text = |prompt: &str| -> Result<Text> {
            let Tokens { pieces: tokens, lost, .. } = model.tokenizer.encode(prompt)?;
            Ok(Text { tokens, lost })
        };
        let Inputs { image, traces, .. } = Inputs::of(cell)?;
        Ok(Description {
            image,
            traces,
            model: Checkpoint { folder: model.folder.clone(), blake3: store::hash(&model.folder)? },
            scheduler: request.scheduler.resolved(),
            size: [request.size.height, request.size.width],
            latents: [model.unet_config.in_channels, height, width],
            calls: start.plan(request)?.calls(),
            prompt: text(&request.prompt)?,
            negative: text(&request.negative)?,
            fork: None,
            capture: Vec::new(),
            budget: None,
            fires: None,
            program: Program::this(model.device),
            cell: cell.clone(),
        })
    }

    /// Reads what a trace says of its run.
    pub fn of(trace: &Trace) -> Result<Description> {
        let file = trace.folder().join("run.json");
        serde_json::from_value(trace.run().clone()).with_context(|| {
            format!("{}: not the record of a run of latentrace, and so only good to compare", file.display())
        })
    }

    /// The run as it was asked for, without its model.
    pub fn request(&self) -> Result<Request> {
        let Cell { prompt, negative, seed, steps, guidance, reading, .. } = self.cell.clone();
        let scheduler = Config::from_resolved(&self.scheduler).context("scheduler")?;
        let [height, width] = self.size;
        Ok(Request { prompt, negative, seed, steps, guidance, reading, scheduler, size: Size { height, width } })
    }

    /// What was kept besides the sampler's values, and how much of it at most.
    pub fn kept(&self) -> Kept {
        Kept { capture: self.capture.clone(), budget: self.budget }
    }

    /// The tokens of the two texts.
    pub fn words(&self) -> Words {
        let Cell { prompt, negative, .. } = &self.cell;
        Words {
            conditional: Prompt::new(prompt, &self.prompt.tokens),
            unconditional: Prompt::new(negative, &self.negative.tokens),
        }
    }

    /// Height and width of the latents.
    pub fn grid(&self) -> (usize, usize) {
        (self.latents[1] as usize, self.latents[2] as usize)
    }
}

impl Program {
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
