//! The provenance of a picture: a text in its file that has everything needed to make it again.

use crate::cell::Cell;
use crate::description::{Description, ForkPoint, Program, RecordedModel, Text};
use crate::inputs::Inputs;
use crate::key::{Kept, Mode, key};
use crate::located::Located;
use crate::record::Recorded;
use anyhow::{Context, Result, ensure};
use latentrace_files::png::read_png_text;
use latentrace_pipeline::nn::Kernels;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;

/// How a picture was made. It does not change if the picture is made again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Provenance {
    /// What the file shows of the run.
    #[serde(default)]
    pub shows: What,
    /// The settings.
    pub cell: Cell,
    /// The cell's [`key`] in a store. Empty for a fork.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// The values that the settings leave to the model, and the content of every file.
    pub used: Used,
    /// The number of network calls.
    pub calls: usize,
    /// The parts of the texts that did not fit into the text encoder's context.
    pub words_lost: Lost,
    /// The run that this one was forked from, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<ForkPoint>,
    /// The kernels of UNet and VAE, where they are not libtorch's own.
    #[serde(default, skip_serializing_if = "is_plain")]
    pub kernels: Kernels,
    /// The program and the machine.
    pub program: Program,
}

fn is_plain(kernels: &Kernels) -> bool {
    *kernels == Kernels::PLAIN
}

/// What a file shows of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Its picture.
    #[default]
    Picture,
    /// Clean estimates at some of its calls.
    Previews,
}

/// Values that settings leave to the model, and files by their content.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Used {
    /// The checkpoint, the picture that the run starts from, and the records that its edits read.
    #[serde(flatten)]
    pub inputs: Inputs,
    /// The scheduler's `_class_name` and all its options.
    pub scheduler: Value,
    /// Height and width in pixels.
    pub size: [i64; 2],
    /// The strength, if the run starts from a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// What the run recorded besides the sampler's values.
    #[serde(flatten)]
    pub kept: Kept,
    /// Whether it was made in a batch with others, which changes rounding.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub together: bool,
}

/// The parts of a run's two texts that did not fit into the text encoder's context.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lost {
    /// Of the prompt.
    pub prompt: String,
    /// Of the negative prompt.
    pub negative: String,
    /// Of the prompt for the second text encoder.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prompt_2: String,
    /// Of the negative prompt for the second text encoder.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub negative_2: String,
}

/// The keyword of the text in a PNG file.
const KEYWORD: &str = "Latentrace";

impl Provenance {
    /// The provenance of a run, with its key in a store.
    pub fn of(recorded: &Recorded, key: &str) -> Provenance {
        let Recorded { description, together, .. } = recorded;
        let Description {
            cell,
            model,
            image,
            mask,
            features,
            traces,
            scheduler,
            size,
            calls,
            prompt,
            negative,
            prompt_2,
            negative_2,
            fork,
            program,
            ..
        } = description.clone();
        let kernels = description.kernels().unwrap_or_default(); // checked when it was read or made
        let RecordedModel { folder, blake3, .. } = model;
        let model = Located { path: folder, relative: None, blake3 };
        // Relative paths depend on the folder of the record, and the provenance does not.
        let absolute = |content: Located| Located { relative: None, ..content };
        let (image, mask, features) = (image.map(absolute), mask.map(absolute), features.map(absolute));
        let traces = traces.into_iter().map(absolute).collect();
        let fork = fork.map(|fork| ForkPoint { relative: None, ..fork });
        let lost = |text: Option<Text>| text.map(|text| text.lost).unwrap_or_default();
        Provenance {
            shows: What::Picture,
            key: key.into(),
            used: Used {
                inputs: Inputs { model, image, mask, features, traces },
                scheduler,
                size,
                strength: cell.picture_strength(),
                kept: description.kept(),
                together: *together,
            },
            calls,
            words_lost: Lost {
                prompt: prompt.lost,
                negative: negative.lost,
                prompt_2: lost(prompt_2),
                negative_2: lost(negative_2),
            },
            fork,
            kernels,
            program,
            cell,
        }
    }

    /// The provenance of a run that is not in a store. Its key is made from its record.
    ///
    /// # Errors
    /// The key cannot be made.
    pub fn of_run(recorded: &Recorded) -> Result<Provenance> {
        let about = Provenance::of(recorded, "");
        let Inputs { image, mask, .. } = &about.used.inputs;
        let has_all = about.cell.image.is_some() == image.is_some() && about.cell.mask.is_some() == mask.is_some();
        let is_known = about.fork.is_none() && has_all;
        let mode = if recorded.together { Mode::Batched } else { Mode::Alone };
        let computed = recorded.description.computed()?;
        let key = match is_known {
            true => key(&about.cell, &about.used.inputs, &about.used.kept, mode, computed)?,
            false => String::new(),
        };
        Ok(Provenance { key, ..about })
    }

    /// The texts of a PNG file that shows the run, as keyword and value.
    pub fn chunks(&self, shows: What) -> [(String, String); 2] {
        let about = Provenance { shows, ..self.clone() };
        let about = serde_json::to_string(&about).unwrap_or_default(); // strings and numbers: it does not fail
        [("Description".into(), self.cell.prompt.clone()), (KEYWORD.into(), about)]
    }

    /// Reads the provenance of a PNG file.
    ///
    /// # Errors
    /// The file is not a PNG, or has no provenance of a single picture.
    pub fn read(path: &Path) -> Result<Provenance> {
        let hint = "hint: `latentrace show` prints what it says";
        let text = text(path)?;
        let is_grid = |about: Value| about["shows"] == "grid";
        ensure!(
            !serde_json::from_str(&text).is_ok_and(is_grid),
            "{}: a grid of several pictures\nhint: the file of each picture says how it was made",
            path.display()
        );
        serde_json::from_str(&text).with_context(|| {
            format!("{}: not the settings of one picture in a form that can be read\n{hint}", path.display())
        })
    }

    /// The properties of the program and the machine that change pixels and differ, each with both values. Empty if the
    /// picture can be made again to the bit.
    pub fn differences(&self, now: &Provenance) -> Vec<String> {
        let (then, program) = (&self.program, &now.program);
        let commit = |program: &Program| program.commit.clone().unwrap_or_else(|| "unknown".into());
        let threads = |program: &Program| program.threads.to_string();
        let batch = |together| if together { "in a batch with others" } else { "alone" }.to_string();
        let pairs = [
            ("latentrace", then.latentrace.clone(), program.latentrace.clone()),
            ("commit", commit(then), commit(program)),
            ("libtorch", then.libtorch.clone(), program.libtorch.clone()),
            ("device", then.device.clone(), program.device.clone()),
            ("processor", then.processor.clone(), program.processor.clone()),
            ("threads", threads(then), threads(program)),
            ("kernels", self.kernels.to_string(), now.kernels.to_string()),
            ("made", batch(self.used.together), batch(now.used.together)),
        ];
        let other = pairs.into_iter().filter(|(_, then, now)| then != now);
        other.map(|(what, then, now)| format!("{what}: {then} then, {now} now")).collect()
    }
}

/// The texts of a grid's PNG file, as keyword and value: the cell of the first picture, and the seed of the last. The
/// files of the pictures have the rest.
pub fn of_grid(first: &Cell, last: u64) -> [(String, String); 2] {
    let about = json!({ "shows": "grid", "cell": first, "last_seed": last });
    [("Description".into(), first.prompt.clone()), (KEYWORD.into(), about.to_string())]
}

/// The provenance of a PNG file, as the JSON text in the file.
///
/// # Errors
/// The file is not a PNG, or has no provenance.
pub fn text(path: &Path) -> Result<String> {
    let found = read_png_text(path)?.into_iter().find(|(keyword, _)| keyword == KEYWORD);
    let (_, text) = found.with_context(|| {
        format!(
            "{}: it does not say how it was made\nhint: pictures of latentrace do, unless another program has written them again",
            path.display()
        )
    })?;
    Ok(text)
}
