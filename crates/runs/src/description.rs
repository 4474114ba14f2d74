//! The description of a recorded run: the `run.json` of its trace.

mod check;

use crate::cell::Cell;
use crate::home::commit;
use crate::inputs;
use crate::key::{self, Computed, Kept};
use crate::located::{self, Located};
use crate::models::on_disk;
use crate::processor;
use crate::rules::RuleCounts;
use anyhow::{Context, Result, anyhow, ensure};
use latentrace_files::counted;
use latentrace_pipeline::nn::tch;
use latentrace_pipeline::nn::{Kernels, LIBTORCH};
use latentrace_pipeline::schedulers::{Config, Level, Plan};
use latentrace_pipeline::{Model, Negative, Prepared, Request, Size, Start, Tokens, plain};
use latentrace_trace::{EditRule, Prompt, Rule, Trace, Words};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Everything that decides a run's numbers, with the program that made it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    /// The settings, in the fields of a spec.
    pub cell: Cell,
    /// The checkpoint.
    pub model: RecordedModel,
    /// The scheduler's `_class_name` and all its options.
    pub scheduler: Value,
    /// Height and width in pixels.
    pub size: [i64; 2],
    /// Channels, height and width of the latents.
    pub latents: [i64; 3],
    /// The number of network calls.
    pub calls: usize,
    /// The tokens of the prompt.
    pub prompt: Text,
    /// The tokens of the negative prompt. None where something else stands for it.
    pub negative: Text,
    /// The tokens of the prompt for the second text encoder, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_2: Option<Text>,
    /// The tokens of the negative prompt for the second text encoder, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_2: Option<Text>,
    /// What stands for the negative prompt, if that is not its text.
    #[serde(default, skip_serializing_if = "Negative::is_text")]
    pub negative_is: Negative,
    /// The sizes, crops and scores that the UNet was told, if it takes any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ids: Option<TimeIds>,
    /// The run that this one was forked from, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<ForkPoint>,
    /// The picture that the run started from, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Located>,
    /// The mask of that picture, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<Located>,
    /// The text features that the run was given in place of its texts, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Located>,
    /// The records of other runs that its edits read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<Located>,
    /// The capture rules: what was recorded besides the sampler's values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capture: Vec<Rule>,
    /// The largest number of bytes that the capture rules may keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
    /// How many tensors each rule selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fires: Option<RuleCounts>,
    /// The kernels of UNet and VAE, where they are not libtorch's own: see [`Kernels`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernels: Option<String>,
    /// The program that made it.
    pub program: Program,
}

/// The settings that calls were made with, and the tokens of their two texts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PhaseSettings {
    /// The settings.
    pub cell: Cell,
    /// The tokens of the prompt.
    pub prompt: Text,
    /// The tokens of the negative prompt.
    pub negative: Text,
    /// The tokens of the prompt for the second text encoder, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_2: Option<Text>,
    /// The tokens of the negative prompt for the second text encoder, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_2: Option<Text>,
}

/// The numbers that a UNet of SDXL's kind was told of a picture (`unet.time_ids`): original height and width, top and left of the crop,
/// and then target height and width, or an aesthetic score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeIds {
    /// With the prompt.
    pub prompt: Vec<f64>,
    /// With the negative prompt.
    pub negative: Vec<f64>,
}

/// A checkpoint folder, identified by the hash of its files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedModel {
    /// The absolute path of the folder.
    pub folder: PathBuf,
    /// The path relative to the record's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative: Option<PathBuf>,
    /// The blake3 hash of the files that its output depends on, in hexadecimal.
    pub blake3: String,
}

/// The tokens of a text, and the part of the text that did not fit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Text {
    /// The pieces of text that the tokens stand for, without the start and end tokens.
    pub tokens: Vec<String>,
    /// The part of the text that did not fit into the text encoder's context.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lost: String,
}

/// The run and the call that a run was forked from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ForkPoint {
    /// The absolute path of the other run's trace.
    pub trace: PathBuf,
    /// The path relative to this record's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative: Option<PathBuf>,
    /// The first call of the other run that was not taken over.
    pub call: usize,
    /// The noise level of the sample that the run started from, if its sampler is not the other run's. If it is, the
    /// record has the earlier calls too, and this is `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// The calls that were taken over, by their settings. `None` in a record of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past: Option<Vec<Phase>>,
}

/// A phase: consecutive calls that were made with the same settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Phase {
    /// The first call of the next phase.
    pub until: usize,
    /// The settings, if they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<PhaseSettings>,
}

/// The program and the machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Program {
    /// The version of Latentrace.
    pub latentrace: String,
    /// The commit of its checkout, with a + if files were changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The version of libtorch.
    pub libtorch: String,
    /// The device that the networks ran on.
    pub device: String,
    /// The number of CPU threads that the networks ran on.
    pub threads: usize,
    /// The processor and its instruction sets.
    #[serde(default)]
    pub processor: String,
}

impl Description {
    /// The description of a run that will be made. `image` is the file of the picture that it starts from, and `mask` that of
    /// its mask.
    pub(crate) fn new(
        model: &Model,
        cell: &Cell,
        prepared: &Prepared,
        image: Option<Located>,
        mask: Option<Located>,
    ) -> Result<Description> {
        let Prepared { request, plan, tokens, .. } = prepared;
        let [height, width] = request.size.latents(model.checkpoint.vae.config.factor())?;
        let text = |text: &Tokens| Text { tokens: text.pieces.clone(), lost: text.lost.clone() };
        let [prompt, mut negative] = prepared.first_tokens().map(text);
        let [prompt_2, mut negative_2] = tokens.each_ref().map(|tokens| tokens.get(1).map(text));
        if !prepared.negative.is_text() {
            // Nothing attends to it, so that no rule can name a word of it.
            negative = Text::default();
            negative_2 = negative_2.map(|_| Text::default());
        }
        let mut cell = cell.clone();
        for edit in &mut cell.edits {
            let Some(trace) = edit.reads() else { continue };
            let trace = Trace::open(trace)?; // its error is the clearest
            *edit = edit.clone().reading(&std::path::absolute(trace.folder())?);
        }
        cell = cell.clone().with_choice(on_disk(&cell.choice())?.map_paths(std::path::absolute)?);
        if let Some(features) = &mut cell.features {
            *features = std::path::absolute(&*features)?;
        }
        let folder = std::path::absolute(model.checkpoint.place())?;
        Ok(Description {
            image,
            mask,
            features: inputs::features_of(&cell)?,
            traces: inputs::traces_of(&cell)?,
            model: RecordedModel { blake3: key::hash(&folder, &cell.choice())?, folder, relative: None },
            scheduler: request.scheduler.resolved(),
            size: [request.size.height, request.size.width],
            latents: [model.checkpoint.vae.config.latent_channels, height, width],
            calls: plan.calls(),
            prompt,
            negative,
            prompt_2,
            negative_2,
            negative_is: prepared.negative,
            time_ids: prepared.ids.clone().map(|[prompt, negative]| TimeIds { prompt, negative }),
            fork: None,
            capture: Vec::new(),
            budget: None,
            fires: None,
            kernels: (model.kernels != Kernels::PLAIN).then(|| model.kernels.to_string()),
            program: Program::this(model.device, model.threads_for(request.size, 1)),
            cell,
        })
    }

    /// The kernels that UNet and VAE ran on.
    ///
    /// # Errors
    /// They are none that Latentrace has.
    pub fn kernels(&self) -> Result<Kernels> {
        Ok(self.kernels.as_deref().map_or(Ok(Kernels::PLAIN), str::parse)?)
    }

    /// What of its computation changes rounding.
    ///
    /// # Errors
    /// See [`Description::kernels`].
    pub fn computed(&self) -> Result<Computed> {
        let on_cpu = self.program.device == "cpu";
        Ok(Computed { kernels: self.kernels()?, threads: on_cpu.then_some(self.program.threads) })
    }

    /// Reads the description of a trace, and checks every field, so that computing with its values is safe.
    ///
    /// # Errors
    /// The trace is not of a run of Latentrace, or a field is not valid. The error names the field.
    pub fn of(trace: &Trace) -> Result<Description> {
        let file = trace.folder().join("run.json");
        if trace.run().get("cell").is_none() {
            return Err(anyhow!(
                "{}: not the record of a run of latentrace, so it can only be compared",
                file.display()
            ));
        }
        let read: Result<Description, _> = serde_path_to_error::deserialize(trace.run());
        let checked = read.map_err(anyhow::Error::from).and_then(|read| read.check(trace).map(|()| read));
        let checked = checked.map(|read| read.found(trace.folder()));
        checked.map_err(|error| anyhow!("{}: {}", file.display(), shortened(&format!("{error:#}"))))
    }

    /// Checks that the checkpoint's files are those that this description names, after a run: they may have been replaced
    /// since the description was made.
    ///
    /// # Errors
    /// A file was changed.
    pub(crate) fn check_checkpoint(&self, model: &Model) -> Result<()> {
        let place = model.checkpoint.place();
        let now = key::hash(&std::path::absolute(place)?, &self.cell.choice())?;
        ensure!(
            now == self.model.blake3,
            "{}: its files, or those of a LoRA or embedding, were changed while they were in use, so the run is not kept\nhint: run it again",
            place.display()
        );
        Ok(())
    }

    /// The same description, with files of the checkpoint that are now in the run's folder, or in the one around it.
    fn found(mut self, record: &Path) -> Description {
        let homes: Vec<&Path> = record.ancestors().skip(1).take(2).collect();
        let past = self.fork.iter_mut().flat_map(|fork| fork.past.iter_mut().flatten());
        let cells = past.filter_map(|phase| phase.settings.as_mut()).map(|settings| &mut settings.cell);
        for cell in cells.chain([&mut self.cell]) {
            *cell = cell.clone().with_choice(located::choice_in(&homes, cell.choice()));
        }
        self
    }

    /// Sets all relative paths, for a record in a folder.
    pub fn seen_from(&mut self, record: &Path) {
        self.model.relative = located::way(record, &self.model.folder);
        for trace in self.traces.iter_mut().chain(&mut self.image).chain(&mut self.mask).chain(&mut self.features) {
            trace.relative = located::way(record, &trace.path);
        }
        if let Some(fork) = &mut self.fork {
            fork.relative = located::way(record, &fork.trace);
        }
    }

    /// The settings of the run itself.
    pub fn settings(&self) -> PhaseSettings {
        PhaseSettings {
            cell: self.cell.clone(),
            prompt: self.prompt.clone(),
            negative: self.negative.clone(),
            prompt_2: self.prompt_2.clone(),
            negative_2: self.negative_2.clone(),
        }
    }

    /// The request of the run.
    ///
    /// # Errors
    /// The scheduler cannot be read.
    pub fn request(&self) -> Result<Request> {
        self.request_of(&self.cell)
    }

    /// [`Description::request`] with the settings of another cell.
    ///
    /// # Errors
    /// The scheduler cannot be read.
    pub fn request_of(&self, cell: &Cell) -> Result<Request> {
        let Cell { prompt, negative, prompt_2, negative_2, empty_negative, seed, steps, guidance, reading, .. } =
            cell.clone();
        let scheduler = Config::from_resolved(&self.scheduler).context("scheduler")?;
        let [height, width] = self.size;
        // The record has what the network returned for the texts, and needs no features.
        let (text, size, features) = (cell.text(), Size { height, width }, None);
        Ok(Request {
            prompt,
            negative,
            prompt_2,
            negative_2,
            empty_negative,
            micro: cell.micro(),
            seed,
            steps,
            guidance,
            reading,
            scheduler,
            size,
            text,
            features,
        })
    }

    /// What the run recorded besides the sampler's values.
    pub fn kept(&self) -> Kept {
        Kept { capture: self.capture.clone(), budget: self.budget }
    }

    /// The plan of the run.
    ///
    /// # Errors
    /// The scheduler cannot be read, or cannot sample these steps.
    pub fn plan(&self) -> Result<Plan> {
        let start = crate::past::start_of(self, |_, _| Ok(tch::Tensor::new()), || false)?; // the plan depends on no tensor
        Ok(start.plan(&self.request()?)?)
    }

    /// Whether the sampler draws noise after the start.
    ///
    /// # Errors
    /// The scheduler cannot be read, or cannot sample these steps.
    pub fn draws_noise(&self) -> Result<bool> {
        Ok(Start::Noise.plan(&self.request()?)?.draws() > 1)
    }

    /// The phases of the run: all its calls, by the settings that they were made with.
    pub fn phases(&self) -> Vec<Phase> {
        let mut phases = match &self.fork {
            Some(ForkPoint { past: Some(past), .. }) => past.clone(),
            Some(ForkPoint { past: None, level: None, call, .. }) => vec![Phase { until: *call, settings: None }],
            _ => Vec::new(),
        };
        phases.retain(|phase| phase.until > 0);
        phases.push(Phase { until: self.calls, settings: Some(self.settings()) });
        phases
    }

    /// The edits of a cell, with the present absolute paths of the records that they read. `record` is the folder of
    /// this record.
    ///
    /// # Errors
    /// A record no longer exists, or has changed.
    pub fn edits(&self, cell: &Cell, record: &Path) -> Result<Vec<EditRule>> {
        let found = |edit: &EditRule| -> Result<EditRule> {
            let known = edit.reads().and_then(|path| self.traces.iter().find(|known| known.path == path));
            let Some(Located { path, relative, blake3 }) = known else { return Ok(edit.clone()) };
            let places = located::places(path, relative.as_deref(), record);
            let (what, hint) = ("the record that it reads", "put the record back in one of these places");
            let found = located::find(what, &places, blake3, &key::hash_of_trace, hint);
            let found = found.with_context(|| edit.to_string())?;
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

/// A message, shortened if it quotes a long value of a file.
fn shortened(message: &str) -> String {
    const LONGEST: usize = 500;
    match message.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} ..", &message[..end]),
        None => message.into(),
    }
}

/// The phases of the calls before `call`.
pub fn up_to(mut phases: Vec<Phase>, call: usize) -> Vec<Phase> {
    let whole = phases.iter().position(|phase| phase.until >= call).map_or(phases.len(), |last| last + 1);
    phases.truncate(whole);
    phases.iter_mut().for_each(|phase| phase.until = phase.until.min(call));
    phases.retain(|phase| phase.until > 0);
    phases
}

impl PhaseSettings {
    /// The tokens of the two texts.
    pub fn words(&self) -> Words {
        let Cell { prompt, negative, prompt_2, negative_2, weights, .. } = &self.cell;
        // A record may come from anywhere, with weights that cannot be read.
        let written = |text: &String| weights.then(|| plain(text).ok()).flatten().unwrap_or_else(|| text.clone());
        let of = |first: &String, tokens: &Text, second: Option<&String>, second_tokens: Option<&Text>| {
            let prompt = Prompt::new(&written(first), &tokens.tokens);
            match second_tokens {
                Some(text) => prompt.and(&written(second.unwrap_or(first)), &text.tokens),
                None => prompt,
            }
        };
        Words {
            conditional: of(prompt, &self.prompt, prompt_2.as_ref(), self.prompt_2.as_ref()),
            unconditional: of(negative, &self.negative, negative_2.as_ref(), self.negative_2.as_ref()),
        }
    }
}

impl Program {
    /// This program, on this machine, with networks on so many CPU threads.
    pub fn this(device: tch::Device, threads: usize) -> Program {
        Program {
            latentrace: env!("CARGO_PKG_VERSION").into(),
            commit: commit(),
            libtorch: LIBTORCH.into(),
            device: format!("{device:?}").to_lowercase(),
            threads,
            processor: processor::NAME.clone(),
        }
    }
}

impl Program {
    /// How a run on so many threads of this machine is computed otherwise than one that was recorded, if that changes
    /// rounding: the number of threads, or the processor's instruction sets.
    pub fn rounds_otherwise(&self, threads: usize) -> Option<String> {
        let features = processor::features();
        let same_features = self.processor == *processor::NAME || self.processor.ends_with(&format!(", {features}"));
        (self.threads != threads || !same_features).then(|| {
            let (then, now) = (counted(self.threads, "thread"), counted(threads, "thread"));
            let of = &self.processor;
            format!(
                "made with {then} of {of}, and goes on with {now} of {}: numbers may differ by rounding",
                *processor::NAME
            )
        })
    }
}
