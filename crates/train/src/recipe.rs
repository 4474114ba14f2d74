//! The recipe of a training: everything that decides the trained bytes.

use crate::error::{Error, Result, file};
use latentrace_schedulers::Prediction;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// Everything that decides the trained weights, on one kind of machine (CPU model, instruction set, version of libtorch).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The seed of weights, pictures and noise.
    pub seed: u64,
    /// The number of training pictures.
    pub pictures: usize,
    /// Height and width of the pictures.
    pub side: usize,
    /// The number of equal parts of every batch, each of which has random numbers of its own. On a CPU each is computed by one
    /// thread, and gradients are summed in the order of the parts, so the bytes depend on this number and not on how many cores
    /// the machine has. A GPU computes all parts at once.
    pub threads: usize,
    /// The number format of weights, gradients and sums.
    pub format: Format,
    /// The kernels that compute the layers.
    pub kernels: TrainingKernels,
    /// The hash of the checkpoint whose weights the training begins with. Its VAE is not trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// The VAE and its training.
    pub autoencoder: AutoencoderRecipe,
    /// The training of the VAE's decoder by itself, after that of the whole VAE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<DecoderRecipe>,
    /// The text encoder. It is trained with the UNet.
    pub text_encoder: TextRecipe,
    /// The UNet and its training.
    pub denoiser: DenoiserRecipe,
    /// `scheduler/scheduler_config.json` of the model: any class of diffusers, for a network that predicts velocity. Its
    /// betas are the noise of the training.
    pub scheduler: Map<String, Value>,
}

/// A number format to train in. 16 bits were no faster for the bundled model's widths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// 32 bits.
    F32,
}

/// Kernels that can be trained with. Nothing is measured to choose them, so they are the same in every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainingKernels {
    /// libtorch's defaults.
    Plain,
}

/// The VAE and its training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoencoderRecipe {
    /// Channels at each resolution, finest first. Each resolution but the last halves height and width.
    pub channels: Vec<i64>,
    /// Resnets at each resolution of the encoder; the decoder has one more.
    pub layers: i64,
    /// Groups of the norms.
    pub groups: i64,
    /// Channels of the latents.
    pub latent_channels: i64,
    /// Whether the middle blocks attend.
    pub attention: bool,
    /// What the first steps see instead of whole pictures.
    pub crops: Crops,
    /// The weight of the mean absolute error of differences between neighbouring pixels. That of the pixels' own mean absolute
    /// and mean squared error is 1.
    pub edges: f64,
    /// The weight of the Kullback-Leibler term; the other terms are means over pixels.
    pub divergence: f64,
    /// The training.
    pub training: PhaseRecipe,
}

/// The training of the VAE's decoder by itself. Latents stay what they are, so the UNet does not depend on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderRecipe {
    /// The deviation of the noise that is added to latents of unit variance: about the error of sampled latents.
    pub noise: f64,
    /// The training.
    pub training: PhaseRecipe,
}

/// Square pieces of pictures. A batch has as many pixels as one of whole pictures, from many more pictures, so that each step
/// sees most colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crops {
    /// Height and width.
    pub side: usize,
    /// The number of steps. The steps after them see whole pictures.
    pub steps: u64,
}

/// The text encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextRecipe {
    /// Features of a token. The layers inside have four times as many.
    pub features: i64,
    /// The number of layers.
    pub layers: i64,
    /// Heads of attention.
    pub heads: i64,
}

/// The UNet and its training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenoiserRecipe {
    /// Channels at each resolution, finest first.
    pub channels: Vec<i64>,
    /// Heads of attention at each resolution.
    pub heads: Vec<i64>,
    /// Resnets of each down block; an up block has one more.
    pub layers: i64,
    /// Groups of the norms.
    pub groups: i64,
    /// How much the noise levels count.
    pub weighting: Weighting,
    /// The training.
    pub training: PhaseRecipe,
}

/// How much the squared error of the velocity counts at each noise level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// The same at all levels.
    Uniform,
    /// `min(s, gamma) / (s + 1)` at signal-to-noise ratio `s` (Hang et al. 2023, for a network that predicts velocity), over
    /// its mean: low noise counts less.
    MinSnr(f64),
}

/// The settings of one of the trainings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseRecipe {
    /// The number of steps.
    pub steps: u64,
    /// The batch size.
    pub batch: usize,
    /// The highest learning rate. It is reached after [`PhaseRecipe::warm_up`] steps.
    pub learning_rate: f64,
    /// Steps of linear warm-up.
    pub warm_up: u64,
    /// The last steps, in which the learning rate falls to 0 as `1 - sqrt(done)` (Hägele et al. 2024). Before them nothing
    /// depends on the number of steps, so a longer training goes on from there.
    pub decay: u64,
    /// The largest decay of the moving average of the weights.
    pub average: f64,
}

/// One of the trainings of a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The training of the VAE.
    Autoencoder,
    /// The training of the VAE's decoder by itself.
    Decoder,
    /// The training of UNet and text encoder.
    Denoiser,
}

/// The recipe of the bundled model.
const SHAPES: &str = include_str!("../../../data/recipes/shapes.toml");

impl Recipe {
    /// The recipe of the bundled model (`data/recipes/shapes.toml`).
    ///
    /// # Errors
    /// If it is invalid, which the tests would find.
    pub fn shapes() -> Result<Recipe> {
        Recipe::parse(SHAPES, Path::new("data/recipes/shapes.toml"))
    }

    /// Reads a recipe, a TOML file. Every field must be there, and no other.
    ///
    /// # Errors
    /// If the file cannot be read, a field is unknown or missing, or a value cannot be trained with.
    pub fn read(path: &Path) -> Result<Recipe> {
        Recipe::parse(&std::fs::read_to_string(path).map_err(|error| file(path, error))?, path)
    }

    /// Parses the text of a recipe; `path` is for messages.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Recipe> {
        let recipe: Recipe = toml::from_str(text).map_err(|error| file(path, error.to_string().trim_end()))?;
        recipe.check().map_err(|error| file(path, error))?;
        Ok(recipe)
    }

    /// The settings of a training; `None` if the recipe has no such training.
    pub fn phase(&self, phase: Phase) -> Option<&PhaseRecipe> {
        match phase {
            Phase::Autoencoder => Some(&self.autoencoder.training),
            Phase::Decoder => self.decoder.as_ref().map(|decoder| &decoder.training),
            Phase::Denoiser => Some(&self.denoiser.training),
        }
    }

    /// The noise of the training.
    ///
    /// # Errors
    /// If `scheduler` is not a configuration of a known scheduler.
    pub fn noise(&self) -> Result<latentrace_schedulers::Config> {
        Ok(latentrace_schedulers::Config::from_json(&Value::Object(self.scheduler.clone()).to_string())?)
    }

    /// Checks what the types do not say.
    fn check(&self) -> std::result::Result<(), String> {
        let Recipe { pictures, side, threads, .. } = *self;
        expect(pictures > 0, "pictures", "at least 1", pictures)?;
        expect(threads > 0, "threads", "at least 1", threads)?;
        expect(
            self.denoiser.heads.len() == self.denoiser.channels.len(),
            "denoiser.heads",
            "a number for each of channels",
            &self.denoiser.heads,
        )?;
        let halvings = (self.autoencoder.channels.len() + self.denoiser.channels.len()).saturating_sub(2);
        let least = 1_usize << halvings.min(16);
        expect(
            side >= 32 && side.is_multiple_of(least),
            "side",
            &format!("at least 32, and a multiple of {least}"),
            side,
        )?;
        let (crop, factor) = (self.autoencoder.crops.side, 1 << (self.autoencoder.channels.len() - 1).min(16));
        let fits = crop <= side && crop >= factor && crop.is_multiple_of(factor);
        expect(fits, "autoencoder.crops.side", &format!("a multiple of {factor}, at most {side}"), crop)?;
        self.autoencoder.training.check(threads).map_err(|error| format!("autoencoder.training.{error}"))?;
        if let Some(DecoderRecipe { noise, training }) = &self.decoder {
            expect(noise.is_finite() && *noise >= 0.0, "decoder.noise", "a number of at least 0", noise)?;
            training.check(threads).map_err(|error| format!("decoder.training.{error}"))?;
        }
        self.denoiser.training.check(threads).map_err(|error| format!("denoiser.training.{error}"))?;
        let noise = self.noise().map_err(|error| format!("scheduler: {error}"))?;
        let velocity = noise.prediction() == Prediction::Velocity;
        expect(velocity, "scheduler.prediction_type", "\"v_prediction\"", self.scheduler.get("prediction_type"))?;
        crate::networks::Networks::of(self, 1024).map(drop).map_err(|error| error.to_string())
    }
}

fn expect(holds: bool, field: &str, what: &str, found: impl std::fmt::Debug) -> std::result::Result<(), String> {
    if holds { Ok(()) } else { Err(format!("{field}: expected {what}, found {found:?}")) }
}

impl PhaseRecipe {
    /// A training of unknown length, such as one that is limited in seconds. The learning rate is constant after a
    /// short warm-up, so a longer training continues a shorter one, and a training of few steps is not all warm-up.
    pub fn endless(batch: usize, learning_rate: f64) -> PhaseRecipe {
        PhaseRecipe { steps: u64::MAX, batch, learning_rate, warm_up: 50, decay: 0, average: 0.999 }
    }

    /// The step from which on the learning rate falls.
    pub fn steady_until(&self) -> u64 {
        self.steps - self.decay
    }

    /// The learning rate at a step.
    pub fn learning_rate_at(&self, step: u64) -> f64 {
        let warm = (step + 1) as f64 / self.warm_up.max(1) as f64;
        let fallen = step.saturating_sub(self.steady_until()) as f64 / self.decay.max(1) as f64;
        self.learning_rate * warm.min(1.0) * (1.0 - fallen.min(1.0).sqrt())
    }

    /// The decay of the moving average at a step: smaller at first, so that it forgets the initial weights.
    pub fn average_at(&self, step: u64) -> f64 {
        self.average.min((1.0 + step as f64) / (10.0 + step as f64))
    }

    fn check(&self, threads: usize) -> std::result::Result<(), String> {
        let PhaseRecipe { steps, batch, learning_rate, decay, average, .. } = *self;
        expect(steps > 0, "steps", "at least 1", steps)?;
        expect(decay <= steps, "decay", &format!("at most the {steps} steps"), decay)?;
        expect(
            batch > 0 && batch.is_multiple_of(threads),
            "batch",
            &format!("a multiple of the {threads} threads"),
            batch,
        )?;
        expect(learning_rate.is_finite() && learning_rate > 0.0, "learning_rate", "a number above 0", learning_rate)?;
        expect((0.0..1.0).contains(&average), "average", "a number from 0 to below 1", average)
    }
}

impl Phase {
    /// The name in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Autoencoder => "autoencoder",
            Phase::Decoder => "decoder",
            Phase::Denoiser => "denoiser",
        }
    }
}

// Which states belong to a recipe.
impl Recipe {
    /// The recipe as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// What decides the state of a training before its learning rate falls.
    fn decides(&self, phase: Phase) -> Value {
        let mut all = self.json();
        all[phase.name()]["training"]["steps"] = Value::Null;
        let others: &[&str] = match phase {
            Phase::Autoencoder => &["decoder", "text_encoder", "denoiser", "scheduler"],
            Phase::Decoder => &["text_encoder", "denoiser", "scheduler"],
            Phase::Denoiser => &["decoder"],
        };
        others.iter().for_each(|field| all[*field] = Value::Null);
        all
    }

    /// Checks that a state of `saved` after `step` steps is one of this recipe too: that all that decided it is the same.
    /// The number of steps did not, before the learning rate began to fall.
    pub(crate) fn check_state(&self, phase: Phase, saved: &Value, step: u64, path: &Path) -> Result<()> {
        let refuse = |field: String, there: &Value, here: &Value| Error::OtherRecipe {
            file: path.display().to_string(),
            field,
            there: there.to_string(),
            here: here.to_string(),
        };
        let saved: Recipe = serde_json::from_value(saved.clone()).map_err(|error| file(path, error))?;
        let (there, here) = (saved.decides(phase), self.decides(phase));
        if let Some((field, there, here)) = difference(&there, &here) {
            return Err(refuse(field, &there, &here));
        }
        let [Some(there), Some(here)] = [&saved, self].map(|recipe| recipe.phase(phase)) else { return Ok(()) };
        if there.steps != here.steps && step > there.steady_until().min(here.steady_until()) {
            let field = format!("{}.training.steps", phase.name());
            return Err(refuse(field, &there.steps.into(), &here.steps.into()));
        }
        Ok(())
    }
}

/// The first field in which two values differ, with both values.
fn difference(a: &Value, b: &Value) -> Option<(String, Value, Value)> {
    match (a, b) {
        (Value::Object(left), Value::Object(right)) => left.keys().chain(right.keys()).find_map(|key| {
            let (field, a, b) = difference(&a[key], &b[key])?;
            Some((if field.is_empty() { key.clone() } else { format!("{key}.{field}") }, a, b))
        }),
        _ => (a != b).then(|| (String::new(), a.clone(), b.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(of: Result<Recipe>) -> String {
        of.expect_err("an invalid recipe").to_string()
    }

    fn changed(from: &str, to: &str) -> Result<Recipe> {
        assert!(SHAPES.contains(from), "{from}");
        Recipe::parse(&SHAPES.replacen(from, to, 1), Path::new("x.toml"))
    }

    #[test]
    fn the_recipe_of_the_bundled_model_is_valid_and_survives_json() {
        let recipe = Recipe::shapes().unwrap();
        assert_eq!(serde_json::from_value::<Recipe>(recipe.json()).unwrap(), recipe);
    }

    #[test]
    fn what_cannot_be_trained_is_named() {
        for (from, to, said) in [
            ("seed =", "sede =", "unknown field `sede`"),
            ("warm_up =", "warmup =", "unknown field `warmup`"),
            ("format = \"f32\"", "format = \"bf16\"", "unknown variant `bf16`, expected `f32`"),
            ("kernels = \"plain\"", "kernels = \"fused\"", "unknown variant `fused`, expected `plain`"),
            ("threads = 2", "threads = 5", "autoencoder.training.batch: expected a multiple of the 5 threads"),
            ("side = 128", "side = 100", "side: expected at least 32, and a multiple of 16, found 100"),
            ("v_prediction", "epsilon", "scheduler.prediction_type: expected \"v_prediction\""),
            ("_class_name = \"", "_class_name = \"No", "No"),
        ] {
            let message = error(changed(from, to));
            assert!(message.starts_with("x.toml: ") && message.contains(said), "{to}: {message}");
        }
        assert!(error(Recipe::read(Path::new("no/such.toml"))).starts_with("no/such.toml: "));
    }

    #[test]
    fn the_learning_rate_rises_holds_and_falls_to_nothing() {
        let phase = PhaseRecipe { steps: 1000, batch: 1, learning_rate: 0.5, warm_up: 100, decay: 200, average: 0.9 };
        let rates: Vec<f64> = (0..=1000).map(|step| phase.learning_rate_at(step)).collect();
        assert!(rates[..100].windows(2).all(|pair| pair[0] < pair[1]));
        assert!(rates[99..=800].iter().all(|rate| *rate == 0.5));
        assert!(rates[800..].windows(2).all(|pair| pair[0] > pair[1]));
        assert!((rates[850] - 0.25).abs() < 1e-12 && rates[1000] == 0.0, "a quarter of the fall halves it");
        assert_eq!(PhaseRecipe::endless(8, 0.5).learning_rate_at(1_000_000_000), 0.5);
    }

    #[test]
    fn a_state_belongs_to_every_recipe_that_would_have_made_it() {
        let recipe = Recipe::shapes().unwrap();
        let path = Path::new("state");
        let check = |other: &Recipe, phase, step| other.check_state(phase, &recipe.json(), step, path);
        for phase in [Phase::Autoencoder, Phase::Decoder, Phase::Denoiser] {
            assert!(check(&recipe, phase, recipe.phase(phase).unwrap().steps).is_ok());
        }
        let steady = recipe.denoiser.training.steady_until();
        let mut longer = recipe.clone();
        longer.denoiser.training.steps *= 2;
        assert!(check(&longer, Phase::Denoiser, steady).is_ok(), "until then the longer training is the same");
        let refused = check(&longer, Phase::Denoiser, steady + 1).unwrap_err().to_string();
        let steps = recipe.denoiser.training.steps;
        assert!(
            refused.contains(&format!("denoiser.training.steps is {steps} there and {} here", 2 * steps)),
            "{refused}"
        );
        let mut other = recipe.clone();
        other.denoiser.channels[0] += 16;
        for phase in [Phase::Autoencoder, Phase::Decoder] {
            assert!(check(&other, phase, 10).is_ok(), "the VAE does not depend on the UNet");
        }
        let without = Recipe { decoder: None, ..recipe.clone() };
        for phase in [Phase::Autoencoder, Phase::Denoiser] {
            assert!(check(&without, phase, 10).is_ok(), "these do not depend on the decoder's own training");
        }
        let refused = check(&other, Phase::Denoiser, 10).unwrap_err().to_string();
        assert!(refused.starts_with("state: ") && refused.contains("denoiser.channels"), "{refused}");
    }
}
