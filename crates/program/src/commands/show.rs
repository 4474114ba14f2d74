//! `latentrace show`: what a picture says of how it was made.

use crate::printer::line;
use anyhow::Result;
use latentrace::files::counted;
use latentrace::plot::open_image;
use latentrace::runs::{self, Cell, Located, PAIRS, Provenance, RunFolder, What};
use std::path::PathBuf;

/// Print how a picture was made, from what its own file says
#[derive(clap::Args)]
pub struct Show {
    /// The picture, or the folder of its run; a PNG of `generate`, `vary`, `run`, `fork` or `resume`
    picture: PathBuf,
    /// The settings as the JSON object that they are kept as
    #[arg(long)]
    json: bool,
}

impl Show {
    /// Prints it.
    pub fn run(mut self) -> Result<()> {
        self.picture = RunFolder::picture_at(&self.picture)?;
        let text = runs::text(&self.picture)?;
        let read: Result<Provenance, _> = serde_json::from_str(&text);
        match read {
            Ok(about) if !self.json => self.print(&about)?,
            _ => line!("{text}"), // of an earlier version, or of a figure
        }
        Ok(())
    }

    fn print(&self, about: &Provenance) -> Result<()> {
        let image = open_image(&self.picture)?;
        let what = match about.shows {
            What::Picture => "",
            What::Previews => ", previews of a run's way",
        };
        line!("{}: {} x {} pixels{what}", self.picture.display(), image.width(), image.height());
        for (name, value) in lines(about) {
            line!("{name:<10}  {value}");
        }
        match &about.fork {
            Some(fork) => line!("\n`latentrace fork {} --at STEP` goes on from that record", fork.trace.display()),
            None => {
                let picture = match about.shows {
                    What::Picture => self.picture.clone(),
                    What::Previews => self.picture.with_file_name("image.png"),
                };
                line!("\n`latentrace generate --like {}` makes it again", picture.display());
            }
        }
        Ok(())
    }
}

/// The parts of a checkpoint that may be of another one, as lines call them.
const PARTS: [&str; 7] = ["encoder", "encoder2", "unet", "vae", "tokenizer", "tokenizer2", "config"];

/// What SDXL was told of the picture, as far as the settings say it.
fn told(cell: &Cell) -> String {
    let scores = ["aesthetic_score", "negative_aesthetic_score"];
    let fields = ["empty_negative"].into_iter().chain(PAIRS).chain(scores);
    let given = fields.filter_map(|field| Some(format!("{field} {}", cell.written(field)?)));
    given.collect::<Vec<_>>().join(", ")
}

/// Each thing with its name, those alone that are there.
fn lines(about: &Provenance) -> Vec<(&'static str, String)> {
    let Provenance { cell, used, program, .. } = about;
    let given = |text: &str| (!text.is_empty()).then(|| text.to_string());
    let option = |(key, value): (&String, &serde_json::Value)| match value.as_str() {
        Some(text) => format!("{key} {text}"),
        None => format!("{key} {value}"),
    };
    let options = used.scheduler.as_object().into_iter().flatten().filter(|(key, _)| !key.starts_with('_'));
    let options: Vec<String> = options.map(option).collect();
    let file = |file: &Option<Located>| file.as_ref().map(|file| format!("{} ({})", file.path.display(), &file.blake3));
    let model = &used.inputs.model;
    let commit = program.commit.as_deref().unwrap_or("unknown commit");
    let [height, width] = used.size;
    let mut lines = vec![
        ("prompt", Some(cell.prompt.clone())),
        ("lost", given(&about.words_lost.prompt)),
        ("negative", given(&cell.negative)),
        ("lost", given(&about.words_lost.negative)),
        ("prompt 2", cell.prompt_2.clone()),
        ("lost", given(&about.words_lost.prompt_2).filter(|_| about.words_lost.prompt_2 != about.words_lost.prompt)),
        ("negative 2", cell.negative_2.clone()),
        (
            "lost",
            given(&about.words_lost.negative_2).filter(|_| about.words_lost.negative_2 != about.words_lost.negative),
        ),
        ("told", given(&told(cell))),
        ("seed", Some(cell.seed.to_string())),
        ("steps", Some(format!("{}, {} calls of the network", cell.steps, about.calls))),
        ("guidance", Some(cell.guidance.to_string())),
        ("size", Some(format!("{width} x {height} pixels"))),
        ("image", file(&used.inputs.image)),
        ("mask", file(&used.inputs.mask)),
        ("strength", used.strength.map(|strength| format!("{strength}, to size by {}", cell.value("fit")))),
        (
            "sampler",
            used.scheduler["_class_name"].as_str().map(|class| format!("{class}, read as {}", cell.value("reading"))),
        ),
        ("", Some(options.join(", "))),
    ];
    lines.extend(cell.edits.iter().map(|edit| ("edit", Some(edit.to_string()))));
    lines.extend(
        used.inputs.traces.iter().map(|read| ("reads", Some(format!("{} ({})", read.path.display(), read.blake3)))),
    );
    lines.extend(used.kept.capture.iter().map(|rule| ("capture", Some(rule.to_string()))));
    lines.extend(cell.loras.iter().map(|lora| ("lora", Some(lora.to_string()))));
    lines.extend(cell.embeddings.iter().map(|embedding| ("embedding", Some(embedding.to_string()))));
    let encoders = [&cell.text_encoder, &cell.text_encoder_2];
    let tokenizers = [&cell.tokenizer, &cell.tokenizer_2];
    let parts = encoders.into_iter().chain([&cell.unet, &cell.vae]).chain(tokenizers).chain([&cell.config]);
    let part = |part: &Option<PathBuf>| part.as_ref().map(|part| part.display().to_string());
    lines.extend(PARTS.into_iter().zip(parts.map(part)));
    lines.extend([
        ("variant", cell.variant.clone()),
        ("family", cell.family.map(|family| family.to_string())),
        ("model", Some(format!("{} ({})", model.path.display(), model.blake3))),
        (
            "ran",
            Some(format!(
                "in {} on {} by {} of {}",
                cell.value("dtype"),
                program.device,
                counted(program.threads, "thread"),
                program.processor
            )),
        ),
        ("made by", Some(format!("latentrace {} ({commit}), libtorch {}", program.latentrace, program.libtorch))),
        ("batch", used.together.then(|| "made with others, which rounds otherwise than alone".into())),
        ("fork", about.fork.as_ref().map(|fork| format!("from call {} of {}", fork.call, fork.trace.display()))),
        ("key", given(&about.key)),
    ]);
    lines.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
