//! Warnings about text that does not fit into the text encoder's context.

use crate::description::{Description, Text};
use crate::observer::Observer;
use latentrace_pipeline::Tokens;

/// A line for each of a run's texts that does not fit.
pub fn lines(description: &Description) -> Vec<String> {
    let Description { prompt, negative, prompt_2, negative_2, .. } = description;
    // The second text encoder may lose another part of the same text.
    let second = |first: &Text, second: &Option<Text>| second.clone().filter(|second| second.lost != first.lost);
    let texts = [
        ("prompt", Some(prompt.clone())),
        ("negative", Some(negative.clone())),
        ("prompt of the second text encoder", second(prompt, prompt_2)),
        ("negative of the second text encoder", second(negative, negative_2)),
    ];
    let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text?)));
    texts.filter_map(|(name, text)| line(name, text.tokens.len(), &text.lost)).collect()
}

/// Warns of each text of a run that does not fit.
pub fn warn(description: &Description, observer: &dyn Observer) {
    lines(description).iter().for_each(|line| observer.warn(line));
}

/// Warns only of the first of many captions that does not fit.
#[derive(Default)]
pub struct Captions(bool);

impl Captions {
    /// Warns if a caption does not fit, and no earlier one has been warned of.
    pub fn warn(&mut self, caption: &Tokens, observer: &dyn Observer) {
        let line = line("a caption", caption.pieces.len(), &caption.lost).filter(|_| !self.0);
        if let Some(line) = line {
            observer.warn(&line);
            self.0 = true;
        }
    }
}

fn line(name: &str, tokens: usize, lost: &str) -> Option<String> {
    let shown: String = lost.chars().take(80).collect();
    (!lost.is_empty()).then(|| format!("{name}: {tokens} tokens fit; lost from here on: {shown}"))
}
