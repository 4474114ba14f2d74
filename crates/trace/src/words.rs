//! Which tokens of a prompt a word is.

use crate::error::{Result, rule};
use latentrace_nn::Branch;

/// The tokens of the two texts of a run, in order and as written, without the start token that goes before them.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// Of the prompt.
    pub conditional: Vec<String>,
    /// Of the negative prompt.
    pub unconditional: Vec<String>,
}

impl Words {
    /// The tokens of a branch's text; a tensor that both branches share is taken for the prompt's.
    fn of(&self, branch: Option<Branch>) -> &[String] {
        match branch {
            Some(Branch::Unconditional) => &self.unconditional,
            _ => &self.conditional,
        }
    }

    /// The places of a word on an attention's token axis, where 0 is the start token. The word may be several tokens, may
    /// stand in the text several times, or may be the number of a place itself.
    pub fn places(&self, word: &str, branch: Option<Branch>) -> Vec<i64> {
        if let Ok(place) = word.parse() {
            return vec![place];
        }
        let (pieces, word) = (self.of(branch), word.to_lowercase());
        let mut places = Vec::new();
        for first in 0..pieces.len() {
            let mut joined = String::new();
            for (last, piece) in pieces.iter().enumerate().skip(first) {
                joined.push_str(&piece.trim().to_lowercase());
                if joined == word {
                    places.extend((first..=last).map(|piece| piece as i64 + 1));
                }
                if joined.len() >= word.len() {
                    break;
                }
            }
        }
        places
    }

    /// The places of several words in a branch; none where the branch's text has none of them.
    pub fn all_places(&self, words: &[String], branch: Option<Branch>) -> Vec<i64> {
        words.iter().flat_map(|word| self.places(word, branch)).collect()
    }

    /// Holds that every word is in one of the texts.
    pub(crate) fn check(&self, words: &[String], text: &str) -> Result<()> {
        let found = |word: &str| {
            [Branch::Conditional, Branch::Unconditional]
                .iter()
                .any(|branch| !self.places(word, Some(*branch)).is_empty())
        };
        match words.iter().find(|word| !found(word)) {
            None => Ok(()),
            Some(word) => Err(rule(text, format!("{word}: no such word in the prompt"), self.listed())),
        }
    }

    fn listed(&self) -> String {
        let listed: Vec<String> =
            self.conditional.iter().enumerate().map(|(index, piece)| format!("{} {piece}", index + 1)).collect();
        format!("the tokens of the prompt are {}", listed.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_its_tokens_wherever_it_stands() {
        let split = |text: &str| text.split(' ').map(str::to_string).collect();
        let words = Words { conditional: split("an astro naut and an Astro naut"), unconditional: split("a cat") };
        assert_eq!(words.places("astronaut", Some(Branch::Conditional)), [2, 3, 6, 7]);
        assert_eq!(words.places("an", None), [1, 5]);
        assert_eq!(words.places("cat", Some(Branch::Unconditional)), [2]);
        assert_eq!(words.places("4", None), [4]);
        assert!(words.places("naut and", None).is_empty());
        assert!(words.check(&["cat".into(), "astronaut".into()], "rule").is_ok());
        let error = words.check(&["dog".into()], "rule").unwrap_err().to_string();
        assert!(error.contains("dog") && error.contains("2 astro"), "{error}");
    }
}
