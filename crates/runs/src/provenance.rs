//! What a picture says of itself inside its own file: all that is needed to make it again.

use crate::cell::Cell;
use crate::description::{Checkpoint, Description, Fork, Program};
use crate::inputs::Inputs;
use crate::key::{Kept, Mode, key};
use crate::located::Located;
use crate::record::Recorded;
use anyhow::{Context, Result};
use latentrace_files::png::read_png_text;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;

/// How a picture was made. Nothing in it differs when it is made again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Provenance {
    /// What of the run the file shows.
    #[serde(default)]
    pub shows: What,
    /// The settings as they were asked for.
    pub cell: Cell,
    /// The name of the cell in a store: the hash of all that can change its pixels. A fork has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// What was used where the settings leave it open, and the content of every file.
    pub used: Used,
    /// Network calls.
    pub calls: usize,
    /// What of the texts did not fit the text encoder.
    pub words_lost: Lost,
    /// The run that this one goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<Fork>,
    /// The program and the machine.
    pub program: Program,
}

/// What a file shows of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Its picture.
    #[default]
    Picture,
    /// Clean estimates on its way.
    Previews,
}

/// Values that settings leave to the model, and files by their content.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Used {
    /// The checkpoint, the picture that the run starts from, and the records that its edits read.
    #[serde(flatten)]
    pub inputs: Inputs,
    /// `_class_name` and every option.
    pub scheduler: Value,
    /// Pixels: height, width.
    pub size: [i64; 2],
    /// How much of the picture was made anew, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// What was kept of the run.
    #[serde(flatten)]
    pub kept: Kept,
    /// Whether it was made in a batch with others, which rounds otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub together: bool,
}

/// What of two texts did not fit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lost {
    /// Of the prompt.
    pub prompt: String,
    /// Of the negative prompt.
    pub negative: String,
}

/// The keyword of the text in a PNG file.
const KEYWORD: &str = "Latentrace";

impl Provenance {
    /// That of a run with its key in a store.
    pub fn of(recorded: &Recorded, key: &str) -> Provenance {
        let Recorded { description, together, .. } = recorded;
        let Description { cell, model, image, traces, scheduler, size, calls, prompt, negative, fork, program, .. } =
            description.clone();
        let Checkpoint { folder, blake3, .. } = model;
        let model = Located { path: folder, relative: None, blake3 };
        // The way from one record's folder is another when the picture is made again beside another.
        let lies = |content: Located| Located { relative: None, ..content };
        let (image, traces) = (image.map(lies), traces.into_iter().map(lies).collect());
        let fork = fork.map(|fork| Fork { relative: None, ..fork });
        Provenance {
            shows: What::Picture,
            key: key.into(),
            used: Used {
                inputs: Inputs { model, image, traces },
                scheduler,
                size,
                strength: cell.picture_strength(),
                kept: description.kept(),
                together: *together,
            },
            calls,
            words_lost: Lost { prompt: prompt.lost, negative: negative.lost },
            fork,
            program,
            cell,
        }
    }

    /// That of a run outside of any store, whose key is made from what is recorded of it.
    ///
    /// # Errors
    /// An edit cannot be read.
    pub fn of_run(recorded: &Recorded) -> Result<Provenance> {
        let about = Provenance::of(recorded, "");
        let is_known = about.fork.is_none() && about.cell.image.is_some() == about.used.inputs.image.is_some();
        let key =
            if is_known { key(&about.cell, &about.used.inputs, &about.used.kept, Mode::Alone)? } else { String::new() };
        Ok(Provenance { key, ..about })
    }

    /// As texts of a PNG file, for what it shows.
    pub fn chunks(&self, shows: What) -> [(String, String); 2] {
        let about = Provenance { shows, ..self.clone() };
        let about = serde_json::to_string(&about).unwrap_or_default(); // strings and numbers: it does not fail
        [("Description".into(), self.cell.prompt.clone()), (KEYWORD.into(), about)]
    }

    /// Reads that of a PNG file.
    ///
    /// # Errors
    /// The file is no PNG, or says nothing of this kind.
    pub fn read(path: &Path) -> Result<Provenance> {
        let hint = "hint: `latentrace show` prints what it says";
        serde_json::from_str(&text(path)?).with_context(|| {
            format!("{}: not the settings of one picture in a form that is read\n{hint}", path.display())
        })
    }

    /// What decides pixels and is another now, each with both: none where the picture can be made again to the bit.
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
            ("made", batch(self.used.together), batch(now.used.together)),
        ];
        let other = pairs.into_iter().filter(|(_, then, now)| then != now);
        other.map(|(what, then, now)| format!("{what}: {then} then, {now} now")).collect()
    }
}

/// The texts of a grid: the first picture's cell, and the last one's seed. Each picture has the rest.
pub fn of_grid(first: &Cell, last: u64) -> [(String, String); 2] {
    let about = json!({ "shows": "grid", "cell": first, "last_seed": last });
    [("Description".into(), first.prompt.clone()), (KEYWORD.into(), about.to_string())]
}

/// What a PNG file says of how it was made, as it is written there.
pub fn text(path: &Path) -> Result<String> {
    let found = read_png_text(path)?.into_iter().find(|(keyword, _)| keyword == KEYWORD);
    let (_, text) = found.with_context(|| {
        format!(
            "{}: it does not say how it was made\nhint: pictures of latentrace do, unless another program wrote them anew; a grid's own pictures do",
            path.display()
        )
    })?;
    Ok(text)
}
