//! What can be wrong with a config, or with what is asked of it.

use crate::Class;
use serde_json::Value;

/// What is wrong, in one line: the field, what was found, and what works.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The text is not a JSON object.
    #[error("scheduler config: expected a JSON object, found {found}")]
    Json {
        /// The parser's complaint, or what stands there instead.
        found: String,
    },
    /// A scheduler class that is not built here.
    #[error(
        "scheduler class: expected {}, or diffusers' name of a class, found {found}{}",
        names(nearest),
        hint(nearest)
    )]
    Class {
        /// The name.
        found: String,
        /// The name that was perhaps meant.
        nearest: Option<String>,
    },
    /// An option's value that its class does not know.
    #[error("{field}: expected {allowed}, found {found}{}", hint(nearest))]
    Choice {
        /// The option.
        field: String,
        /// The value.
        found: String,
        /// The values that work.
        allowed: String,
        /// The value that was perhaps meant.
        nearest: Option<String>,
    },
    /// A value of the wrong kind or outside its range.
    #[error("{field}: expected {expected}, found {found}")]
    Value {
        /// The option.
        field: String,
        /// The kind and range.
        expected: String,
        /// The value.
        found: String,
    },
    /// An override of something that the class does not read.
    #[error("{field}: {class} reads no such option{}", hint(nearest))]
    Key {
        /// The option.
        field: String,
        /// The class.
        class: Class,
        /// The option that was perhaps meant.
        nearest: Option<String>,
    },
    /// A key of a file that none of the classes reads.
    #[error("{field}: no scheduler reads such an option{}", hint(nearest))]
    Unknown {
        /// The key.
        field: String,
        /// The option that was perhaps meant.
        nearest: Option<String>,
    },
    /// Options that exclude each other.
    #[error("{first}, {second}: expected one of them at most, found both")]
    Both {
        /// One.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A value that is known, and cannot work.
    #[error("{field}: {found} {reason}")]
    Unsupported {
        /// The option.
        field: &'static str,
        /// The value.
        found: String,
        /// Why not.
        reason: &'static str,
    },
    /// A value that diffusers has nothing like.
    #[error("{field}: {found} is not in diffusers' {class}; the exact reading has it")]
    OnlyExact {
        /// The option.
        field: &'static str,
        /// The value.
        found: String,
        /// The class.
        class: Class,
    },
    /// An inversion that is to start from noise, or from noise added to an image.
    #[error("scheduler class: ddim_inverse goes up from an image, so it starts from no noise and takes no strength")]
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
    /// A number of steps that cannot be taken.
    #[error("steps: expected {expected}, found {found}")]
    Steps {
        /// The range.
        expected: String,
        /// The number.
        found: usize,
    },
    /// A part of a run that is no part of it.
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
    /// PNDM's Runge-Kutta start has no room.
    #[error("steps: expected 4 or more while skip_prk_steps is false, found {steps}")]
    WarmUp {
        /// The number of steps.
        steps: usize,
    },
    /// numpy makes one time too many.
    #[error(
        "steps: {steps} with trailing spacing makes diffusers call the network once more, at time -1; the exact reading does not"
    )]
    Overrun {
        /// The number of steps.
        steps: usize,
    },
    /// The text of a plan that none could have been written as.
    #[error("plan text: line {line}: expected {expected}, found {found}")]
    Text {
        /// The line, counted from 1; 0 where there is none.
        line: usize,
        /// What would have been right.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A network that predicts noise, shown nothing but noise.
    #[error("prediction_type: epsilon says nothing at zero signal (rescale_betas_zero_snr), where sigma is infinite")]
    PureNoise,
    /// Coefficients that are not numbers, because two levels coincide.
    #[error(
        "step {step} of {steps}: a coefficient is not finite: two noise levels are equal, or a step of higher order ends in no noise"
    )]
    NotFinite {
        /// The step.
        step: usize,
        /// The calls of the plan.
        steps: usize,
    },
}

/// All the names, unless one of them was meant.
fn names(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(|| Class::names().collect::<Vec<_>>().join(", "), |_| "a short name".into())
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or(String::new(), |name| format!(" (nearest: {name})"))
}

/// The candidate fewest letter edits away, if that is two fifths of the word or less.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    if word.len() > 100 {
        return None;
    }
    let word = word.to_lowercase();
    let near = candidates.into_iter().map(|name| (edits(&word, &name.to_lowercase()), name)).min()?;
    (near.0 * 5 <= word.chars().count() * 2).then(|| near.1.to_owned())
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

/// A value as a message shows it: on one line, and not too long.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
