//! The parts of the article, and the spec of each.

use super::Article;
use anyhow::{Context, Result};
use latentrace_runs::{Cell, STRENGTH, is_id};
use std::path::Path;
use toml::{Table, Value};

/// A part of the article.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// From a prompt to tokens and to embeddings.
    Text,
    /// The denoising loop, written by hand.
    Loop,
    /// Nine guidance scales.
    Guidance,
    /// Nine pictures with a negative prompt.
    Negative,
    /// Nine variations of a picture.
    Variations,
}

/// The texts of the experiments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The prompt of the loop and of the guidance sweep.
    pub prompt: String,
    /// A prompt and a negative prompt.
    pub with_negative: [String; 2],
    /// The prompt and the negative prompt of the variations.
    pub of_variations: [String; 2],
}

impl Subject {
    /// For Stable Diffusion.
    pub fn of_photographs() -> Subject {
        Subject {
            prompt: "a photograph of an astronaut riding a horse".into(),
            with_negative: ["a lighthouse on a rocky coast at sunset, oil painting", "people, boats"].map(String::from),
            of_variations: [
                "an ocean world like Earth seen from its orbit, concept art in the style of a space agency",
                "cartoon, sketch, moon",
            ]
            .map(String::from),
        }
    }

    /// For the bundled model, which knows circles, squares and triangles.
    pub fn of_shapes() -> Subject {
        Subject {
            prompt: "a large red circle on the left, white background".into(),
            with_negative: ["a large circle on the left and a large square on the right, white background", "red"]
                .map(String::from),
            of_variations: [
                "a large red circle on the left and a small black triangle on the right, yellow background",
                "purple",
            ]
            .map(String::from),
        }
    }
}

/// The article's seed.
pub(super) const SEED: i64 = 193;
/// The number of steps of the loop, and of everything else.
pub(super) const STEPS: [i64; 2] = [64, 50];
/// The guidance scales of the loop and of the variations.
pub(super) const SCALES: [f64; 2] = [9.0, 6.0];
/// The guidance scales of the sweep.
pub(super) const SWEEP: [f64; 9] = [0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0];
/// How many pictures there are with a negative prompt, and how many variations.
pub(super) const PICTURES: i64 = 9;
/// The scheduler of the loop as the article writes it: all options are the defaults of the class. The betas must be
/// given, because they would be those of the checkpoint otherwise.
const DEFAULT_PNDM: &str = r#"{"_class_name":"PNDMScheduler","num_train_timesteps":1000,"beta_schedule":"linear","beta_start":0.0001,"beta_end":0.02}"#;

impl Part {
    /// All parts, in the article's order.
    pub const ALL: [Part; 5] = [Part::Text, Part::Loop, Part::Guidance, Part::Negative, Part::Variations];

    /// The name of the part's folder.
    pub fn name(self) -> &'static str {
        match self {
            Part::Text => "text",
            Part::Loop => "loop",
            Part::Guidance => "guidance",
            Part::Negative => "negative",
            Part::Variations => "variations",
        }
    }

    /// The heading of the part.
    pub fn title(self) -> &'static str {
        match self {
            Part::Text => "From a prompt to embeddings",
            Part::Loop => "The denoising loop, by hand",
            Part::Guidance => "Guidance scales",
            Part::Negative => "A negative prompt",
            Part::Variations => "Variations of a picture",
        }
    }

    /// The specs of the part, by name: of the loop with the default scheduler and with the checkpoint's own, and none of
    /// the text.
    ///
    /// # Errors
    /// A field has no form in TOML.
    pub(super) fn specs(self, article: &Article) -> Result<Vec<(&'static str, String)>> {
        let base = if self == Part::Variations { &article.base_of_variations } else { &article.base };
        let base = fields_of(base)?;
        let spec = |own: &[(&str, Value)], vary: Option<(&str, Value)>| {
            let own = own.iter().map(|(field, value)| (field.to_string(), value.clone()));
            self.spec(base.clone().into_iter().chain(own).collect(), vary)
        };
        let Article { subject, image, .. } = article;
        let [loop_steps, steps] = STEPS.map(|steps| ("steps", Value::from(steps)));
        let [by_hand, varied] = SCALES.map(|scale| ("guidance", Value::from(scale)));
        let seeds = || Value::Table(Table::from_iter([("range".to_string(), vec![SEED, SEED + PICTURES - 1].into())]));
        // In a spec, a brace that stands for itself is written twice.
        let text = |text: &str| Value::from(text.replace('{', "{{").replace('}', "}}"));
        let one = [("prompt", text(&subject.prompt)), ("seed", SEED.into())];
        let texts = |[prompt, negative]: &[String; 2]| [("prompt", text(prompt)), ("negative", text(negative))];
        Ok(match self {
            Part::Text => Vec::new(),
            Part::Loop => {
                let own = [&one[..], &[loop_steps, by_hand]].concat();
                // The pipeline would set the offset to 1; the article's loop does without the pipeline.
                let default = [("sampler", DEFAULT_PNDM.into()), ("scheduler.steps_offset", 0.into())];
                let as_written = spec(&[&own[..], &default].concat(), None)?;
                vec![("loop-as-written", as_written), ("loop-own-scheduler", spec(&own, None)?)]
            }
            Part::Guidance => {
                let own = [&one[..], &[steps]].concat();
                vec![(self.name(), spec(&own, Some(("guidance", SWEEP.to_vec().into())))?)]
            }
            Part::Negative => {
                let own = [&texts(&subject.with_negative)[..], &[steps]].concat();
                vec![(self.name(), spec(&own, Some(("seed", seeds())))?)]
            }
            Part::Variations => {
                let image = std::path::absolute(image)?.display().to_string();
                let start = [("image", image.into()), ("strength", STRENGTH.into()), steps, varied];
                let own = [&texts(&subject.of_variations)[..], &start].concat();
                vec![(self.name(), spec(&own, Some(("seed", seeds())))?)]
            }
        })
    }

    /// The text of a spec with fixed fields and one that varies.
    fn spec(self, fixed: Table, vary: Option<(&str, Value)>) -> Result<String> {
        let mut spec = Table::from_iter([
            ("name".to_string(), format!("article-{}", self.name()).into()),
            ("about".to_string(), self.title().into()),
            ("columns".to_string(), 3.into()),
            ("figures".to_string(), Value::Array(vec!["grid".into()])),
            ("fixed".to_string(), Value::Table(fixed)),
        ]);
        if let Some((field, values)) = vary {
            spec.insert("vary".into(), Value::Table(Table::from_iter([(field.to_string(), values)])));
        }
        toml::to_string_pretty(&spec).context("a spec")
    }
}

/// The fields of a cell that are not the default, with absolute paths.
pub(super) fn fields_of(cell: &Cell) -> Result<Table> {
    let absolute = |path: &Path| if is_id(path) { Ok(path.to_path_buf()) } else { std::path::absolute(path) };
    let model = cell.model.as_deref().map(absolute).transpose()?;
    let choice = cell.choice().map_paths(|path| absolute(&path))?;
    let cell = Cell { model, ..cell.clone() }.with_choice(choice);
    let (own, default) = (serde_json::to_value(cell)?, serde_json::to_value(Cell::default())?);
    let changed = own.as_object().into_iter().flatten().filter(|(field, value)| default.get(field) != Some(value));
    changed.map(|(field, value)| Ok((field.clone(), Value::try_from(value)?))).collect()
}
