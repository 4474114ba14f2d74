//! What of a text did not fit the text encoder, said once by each command that encodes one.

use crate::description::Description;
use latentrace_pipeline::Tokens;

/// A line for each of a run's two texts that did not fit.
pub fn lines(description: &Description) -> Vec<String> {
    let texts = [("prompt", &description.prompt), ("negative", &description.negative)];
    texts.into_iter().filter_map(|(name, text)| line(name, text.tokens.len(), &text.lost)).collect()
}

/// Says it on stderr.
pub fn say(description: &Description) {
    lines(description).iter().for_each(|line| eprintln!("warning: {line}"));
}

/// Says of many captions only the first that did not fit.
#[derive(Default)]
pub struct Captions(bool);

impl Captions {
    /// Says it of a caption, unless it was said of another.
    pub fn say(&mut self, caption: &Tokens) {
        let line = line("a caption", caption.pieces.len(), &caption.lost).filter(|_| !self.0);
        if let Some(line) = line {
            eprintln!("warning: {line}");
            self.0 = true;
        }
    }
}

fn line(name: &str, tokens: usize, lost: &str) -> Option<String> {
    let shown: String = lost.chars().take(80).collect();
    (!lost.is_empty()).then(|| format!("{name}: {tokens} tokens fit; lost from here on: {shown}"))
}
