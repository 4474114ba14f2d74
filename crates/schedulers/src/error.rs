//! The errors of the crate.

use crate::Class;
use serde_json::Value;

/// Why there is no config or no plan, in one line: the field, what was found, and what is allowed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The text is not a JSON object.
    #[error("scheduler config: expected a JSON object, found {found}")]
    Json {
        /// The error of the parser, or the JSON that is there.
        found: String,
    },
    /// A config that names no class.
    #[error("scheduler config: _class_name is missing")]
    NoClass,
    /// An unknown scheduler class.
    #[error("scheduler class: expected a short name, or diffusers' name of a class, found {found}{}", known(nearest))]
    Class {
        /// The name.
        found: String,
        /// The most similar name, if there is one.
        nearest: Option<String>,
    },
    /// A word that is not one of the values of an option.
    #[error("{field}: expected {allowed}, found {found}{}", hint(nearest))]
    Choice {
        /// The option.
        field: String,
        /// The value.
        found: String,
        /// The allowed values.
        allowed: String,
        /// The most similar value, if there is one.
        nearest: Option<String>,
    },
    /// A value of the wrong kind, or outside its range.
    #[error("{field}: expected {expected}, found {found}")]
    Value {
        /// The option.
        field: String,
        /// The allowed kind and range.
        expected: String,
        /// The value.
        found: String,
    },
    /// An override of an option that the class does not have.
    #[error("{field}: {class} has no such option{}", hint(nearest))]
    Key {
        /// The option.
        field: String,
        /// The class.
        class: Class,
        /// The most similar option, if there is one.
        nearest: Option<String>,
    },
    /// A key of a file that is an option of no class.
    #[error("{field}: no scheduler has such an option{}", hint(nearest))]
    Unknown {
        /// The key.
        field: String,
        /// The most similar option, if there is one.
        nearest: Option<String>,
    },
    /// Two options that cannot be used together.
    #[error("{first}, {second}: expected one of them at most, found both")]
    Both {
        /// One option.
        first: &'static str,
        /// The other option.
        second: &'static str,
    },
    /// A known value that is not supported.
    #[error("{field}: {found} {reason}")]
    Unsupported {
        /// The option.
        field: &'static str,
        /// The value.
        found: String,
        /// Why not.
        reason: &'static str,
    },
    /// A value that only the exact reading supports.
    #[error("{field}: {found} is not in diffusers' {class}; the exact reading has it")]
    OnlyExact {
        /// The option.
        field: &'static str,
        /// The value.
        found: String,
        /// The class.
        class: Class,
    },
    /// An inversion from noise, or from an image with noise added.
    #[error("scheduler class: ddim_inverse goes up from an image, so it cannot start from noise and has no strength")]
    Inverse,
    /// A schedule that cannot be sampled.
    #[error("betas: {} at time {time}: {reason}", *beta as f32)]
    Beta {
        /// The training time.
        time: usize,
        /// The variance it adds.
        beta: f64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A number of steps that is not possible.
    #[error("steps: expected {expected}, found {found}")]
    Steps {
        /// The range.
        expected: String,
        /// The number.
        found: usize,
    },
    /// A strength that leaves no step, or is above 1.
    #[error("strength: expected a number that leaves 1 to {steps} steps of {steps}, found {found}")]
    Strength {
        /// The number.
        found: f64,
        /// The whole run.
        steps: usize,
    },
    /// A time outside the training times.
    #[error("timesteps: {time} is outside the training times 0 to {}", len - 1)]
    Time {
        /// The time.
        time: i64,
        /// The number of training times.
        len: usize,
    },
    /// Fewer steps than the Runge-Kutta start of PNDM needs.
    #[error("steps: expected 4 or more while skip_prk_steps is false, found {steps}")]
    WarmUp {
        /// The number of steps.
        steps: usize,
    },
    /// A number of steps for which numpy computes one time too many.
    #[error(
        "steps: {steps} with trailing spacing makes diffusers call the network once more, at time -1; the exact reading does not"
    )]
    Overrun {
        /// The number of steps.
        steps: usize,
    },
    /// A text that is not the text of a plan.
    #[error("plan text: line {line}: expected {expected}, found {found}")]
    Text {
        /// The line, counted from 1; 0 if the text is empty.
        line: usize,
        /// What is allowed there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A network that predicts the noise, on a sample that is all noise.
    #[error(
        "prediction_type: epsilon gives no estimate at zero signal (rescale_betas_zero_snr), where sigma is infinite"
    )]
    PureNoise,
    /// A coefficient that is not finite, because two levels are equal.
    #[error(
        "step {step} of {steps}: a coefficient is not finite: two noise levels are equal, or a step of higher order ends at sigma 0"
    )]
    NotFinite {
        /// The step.
        step: usize,
        /// The number of network calls of the plan.
        steps: usize,
    },
}

/// The most similar name, or where all of them are listed.
fn known(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or(" (`latentrace schedule --list` lists all names)".into(), |_| hint(nearest))
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or(String::new(), |name| format!(" (nearest: {name})"))
}

/// The candidate with the smallest edit distance, if that is at most two fifths of the length of the word. Letters and digits
/// count first: `dpm2m` is `dpm++2m` without its signs, and not a misspelling of `dpm2`.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    if word.len() > 100 {
        return None;
    }
    let word = word.to_lowercase();
    let plain = |text: &str| text.chars().filter(|letter| letter.is_alphanumeric()).collect::<String>();
    let away = |name: &str| (edits(&plain(&word), &plain(name)), edits(&word, name));
    let ((_, edits), name) = candidates.into_iter().map(|name| (away(&name.to_lowercase()), name)).min()?;
    (edits * 5 <= word.chars().count() * 2).then(|| name.to_owned())
}

/// The Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[row.len() - 1]
}

/// A value for an error message: on one line, and not too long.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
