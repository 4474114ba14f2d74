//! The tokens of a word in a prompt.

use crate::error::{Result, rule};
use latentrace_nn::Branch;

/// The two prompts of a run and their tokens.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// The prompt.
    pub conditional: Prompt,
    /// The negative prompt.
    pub unconditional: Prompt,
}

/// A prompt and its tokens, without the start token that precedes them. With two text encoders it has the tokens of each: the axis of
/// tokens is one, where the features of both stand side by side.
#[derive(Clone, Debug, Default)]
pub struct Prompt {
    texts: Vec<Tokenized>,
}

/// A text and its tokens in order.
#[derive(Clone, Debug, Default)]
struct Tokenized {
    tokens: Vec<Token>,
}

/// A token as written, its place, and its range of bytes in the text.
#[derive(Clone, Debug)]
struct Token {
    piece: String,
    place: i64,
    from: usize,
    to: usize,
}

impl Prompt {
    /// A text and its tokens in order, each as it is written in the text. A token that is not, such as the end and the
    /// start between two chunks of a long text, takes a place and belongs to no word.
    pub fn new(text: &str, pieces: &[String]) -> Prompt {
        Prompt { texts: vec![Tokenized::new(text, pieces)] }
    }

    /// And the text of the second text encoder, with its tokens.
    pub fn and(mut self, text: &str, pieces: &[String]) -> Prompt {
        self.texts.push(Tokenized::new(text, pieces));
        self
    }

    /// The whole words of the text in order, and the places of their tokens. Punctuation between two words is a word
    /// itself. With two text encoders, then those words of the second that are not words of the first at the same places.
    pub fn words(&self) -> Vec<(String, Vec<i64>)> {
        let mut words: Vec<(String, Vec<i64>)> = Vec::new();
        for word in self.texts.iter().flat_map(Tokenized::words) {
            let is_new = !words.contains(&word);
            words.extend(Some(word).filter(|_| is_new));
        }
        words
    }

    /// The places of a word, or of several words with spaces in between, wherever a text encoder has them as whole words. Upper and
    /// lower case are the same.
    fn places(&self, word: &str) -> Vec<i64> {
        let mut places: Vec<i64> = Vec::new();
        for place in self.texts.iter().flat_map(|text| text.places(word)) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    fn is_empty(&self) -> bool {
        self.texts.iter().all(|text| text.tokens.is_empty())
    }

    /// The tokens, for a hint; those of the second text encoder where they are others.
    fn listed(&self) -> String {
        let mut listed: Vec<String> = self.texts.iter().map(Tokenized::listed).collect();
        listed.dedup();
        listed.join("; of the second text encoder: ")
    }
}

impl Tokenized {
    fn new(text: &str, pieces: &[String]) -> Tokenized {
        let mut tokens: Vec<Token> = Vec::new();
        let mut end = 0;
        for (place, piece) in (1..).zip(pieces) {
            let rest = text.get(end..).unwrap_or_default();
            let from = end + rest.len() - rest.trim_start().len();
            let is_next = !piece.is_empty() && text.get(from..).is_some_and(|rest| rest.starts_with(piece.as_str()));
            // A character outside the vocabulary is several tokens, and the text of each is the whole character. So are
            // the vectors of a token of textual inversion.
            let (from, to) = match (is_next, tokens.last()) {
                (true, _) => (from, from + piece.len()),
                (false, Some(before)) if before.piece.contains(piece.as_str()) => (before.from, before.to),
                (false, None) if piece.is_empty() => (from, from),
                (false, _) => continue,
            };
            end = to;
            tokens.push(Token { piece: piece.clone(), place, from, to });
        }
        Tokenized { tokens }
    }

    /// See [`Prompt::words`].
    fn words(&self) -> Vec<(String, Vec<i64>)> {
        let mut words: Vec<(String, Vec<i64>)> = Vec::new();
        for index in 0..self.tokens.len() {
            let place = self.tokens[index].place;
            match words.last_mut().filter(|_| !self.is_boundary(index)) {
                Some((word, places)) => {
                    if !self.is_part_of_a_character(index) {
                        word.push_str(&self.tokens[index].piece);
                    }
                    places.push(place);
                }
                None => words.push((self.tokens[index].piece.clone(), vec![place])),
            }
        }
        words
    }

    /// See [`Prompt::places`]. A place of two words is there twice.
    fn places(&self, word: &str) -> Vec<i64> {
        let word = word.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        let mut places = Vec::new();
        for first in (0..self.tokens.len()).filter(|&first| self.is_boundary(first)) {
            let mut joined = String::new();
            for last in first..self.tokens.len() {
                if !self.is_part_of_a_character(last) || last == first {
                    let apart = last > first && self.tokens[last].from > self.tokens[last - 1].to;
                    joined.push_str(if apart { " " } else { "" });
                    joined.push_str(&self.tokens[last].piece.to_lowercase());
                }
                if joined == word && self.is_boundary(last + 1) {
                    places.extend(self.tokens[first..=last].iter().map(|token| token.place));
                    break;
                }
                if joined.len() > word.len() {
                    break;
                }
            }
        }
        places
    }

    /// Whether a word may begin with a token: not between letters or digits without a space.
    fn is_boundary(&self, index: usize) -> bool {
        let Some((before, after)) = index.checked_sub(1).and_then(|before| Some((before, self.tokens.get(index)?)))
        else {
            return true;
        };
        let before = &self.tokens[before];
        let meet = before.piece.ends_with(char::is_alphanumeric) && after.piece.starts_with(char::is_alphanumeric);
        !self.is_part_of_a_character(index) && (after.from > before.to || !meet)
    }

    /// Whether a token belongs to the same character as the token before it.
    fn is_part_of_a_character(&self, index: usize) -> bool {
        let before = index.checked_sub(1).map(|before| &self.tokens[before]);
        before.is_some_and(|before| before.from == self.tokens[index].from && before.to > before.from)
    }

    fn listed(&self) -> String {
        if self.tokens.is_empty() {
            return "none".into();
        }
        let listed = self.tokens.iter().map(|token| format!("#{} {}", token.place, token.piece));
        listed.collect::<Vec<_>>().join(", ")
    }
}

impl Words {
    /// The text of a branch; for a tensor that both branches share, the prompt.
    fn of(&self, branch: Option<Branch>) -> &Prompt {
        match branch {
            Some(Branch::Unconditional) => &self.unconditional,
            _ => &self.conditional,
        }
    }

    /// The places of a word on the token axis of an attention, where 0 is the start token: those of all its tokens,
    /// wherever the text of a branch has it as a whole word. `#3` is place 3.
    pub fn places(&self, word: &str, branch: Option<Branch>) -> Vec<i64> {
        match place(word) {
            Some(place) => vec![place],
            None => self.of(branch).places(word),
        }
    }

    /// The places of several words in a branch, each once; none if the text of the branch has none of them.
    pub fn all_places(&self, words: &[String], branch: Option<Branch>) -> Vec<i64> {
        let mut places = Vec::new();
        for place in words.iter().flat_map(|word| self.places(word, branch)) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// Whether one of the two texts has a word.
    pub(crate) fn has(&self, word: &str) -> bool {
        [Branch::Conditional, Branch::Unconditional].iter().any(|branch| !self.places(word, Some(*branch)).is_empty())
    }

    /// The error of a word that neither text has.
    pub(crate) fn unknown(&self, word: &str, text: &str) -> crate::Error {
        rule(text, format!("{word}: no such word in the prompt"), self.listed())
    }

    /// Checks that every word is in one of the texts.
    pub(crate) fn check(&self, words: &[String], text: &str) -> Result<()> {
        match words.iter().find(|word| !self.has(word)) {
            None => Ok(()),
            Some(word) => Err(self.unknown(word, text)),
        }
    }

    /// The tokens of both texts, for a hint.
    pub(crate) fn listed(&self) -> String {
        if self.conditional.is_empty() && self.unconditional.is_empty() {
            return "this run has no words: both texts are empty, or text features were given in their place; #2 is a place".into();
        }
        let (prompt, negative) = (self.conditional.listed(), self.unconditional.listed());
        format!(
            "tokens of the prompt: {prompt}; of the negative prompt: {negative}; words are matched whole, #2 is a place"
        )
    }
}

/// The place of a word such as `#3`.
fn place(word: &str) -> Option<i64> {
    word.strip_prefix('#')?.parse().ok()
}

/// Checks that the places among words are on a token axis of `columns` columns.
pub(crate) fn check_places(words: &[String], columns: i64, text: &str) -> Result<()> {
    match words.iter().find(|word| place(word).is_some_and(|place| !(0..columns).contains(&place))) {
        None => Ok(()),
        Some(word) => Err(rule(text, format!("{word}: no such place"), format!("places are #0 to #{}", columns - 1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text whose tokens are written here with bars between them: "an astro|naut".
    fn prompt(marked: &str) -> Prompt {
        let pieces: Vec<String> = marked.split([' ', '|']).map(str::to_string).collect();
        Prompt::new(&marked.replace('|', ""), &pieces)
    }

    fn places(marked: &str, word: &str) -> Vec<i64> {
        Words { conditional: prompt(marked), ..Words::default() }.places(word, None)
    }

    #[test]
    fn a_word_is_all_its_tokens_wherever_it_stands_whole() {
        let text = "an astro|naut and an Astro|naut|, sad";
        assert_eq!(places(text, "astronaut"), [2, 3, 6, 7]);
        assert_eq!(places(text, "an"), [1, 5]);
        assert_eq!(places(text, ","), [8]);
        assert_eq!(places(text, "an Astronaut"), [1, 2, 3, 5, 6, 7]);
        for part in ["naut", "astro", "naut and", "naut,", "a", "ana"] {
            assert!(places(text, part).is_empty(), "{part}");
        }
        // Pieces of other words, and words of pieces of others.
        for (text, word) in [("a ti|red cat", "red"), ("a top|az", "top"), ("to day", "today"), ("1|9|2|0 cats", "2")] {
            assert!(places(text, word).is_empty(), "{word} in {text}");
        }
        assert_eq!(places("a ti|red red cat", "red"), [4]);
        assert_eq!(places("a red|-|hot cat", "red-hot"), [2, 3, 4]);
        assert_eq!(places("a red|-|hot cat", "red"), [2]);
        assert_eq!(places("a cat|'s 3|d eye", "cat"), [2]);
        assert_eq!(places("a cat|'s 3|d eye", "3D"), [4, 5]);
    }

    #[test]
    fn a_number_is_a_word_and_a_place_has_its_own_spelling() {
        assert_eq!(places("3 red circles", "3"), [1]);
        assert_eq!(places("3 red circles", "#3"), [3]);
        assert!(places("red circles", "3").is_empty());
        assert!(check_places(&["#76".into(), "red".into()], 77, "rule").is_ok());
        for bad in ["#77", "#-1"] {
            let error = check_places(&[bad.into()], 77, "rule").unwrap_err().to_string();
            assert!(error.contains("no such place\nhint: places are #0 to #76"), "{error}");
        }
    }

    #[test]
    fn a_character_of_several_tokens_is_one() {
        let pieces = ["a", "🦙", "🦙", "cat"].map(String::from);
        let words = Words { conditional: Prompt::new("a 🦙 cat", &pieces), ..Words::default() };
        assert_eq!(words.places("🦙", None), [2, 3]);
        assert_eq!(words.conditional.words()[1], ("🦙".to_string(), vec![2, 3]));
    }

    #[test]
    fn the_seam_of_two_chunks_belongs_to_no_word() {
        let pieces =
            ["a", "re", "<end>", "<start>", "d", "<cat>", "<cat>", "🦙", "<end>", "<start>", "🦙"].map(String::from);
        let words = Words { conditional: Prompt::new("a red <cat> 🦙", &pieces), ..Words::default() };
        assert_eq!([words.places("a", None), words.places("red", None)], [vec![1], vec![2, 5]]);
        assert_eq!([words.places("<cat>", None), words.places("🦙", None)], [vec![6, 7], vec![8, 11]]);
        assert!(words.places("<end>", None).is_empty());
        assert!(words.listed().contains("#2 re, #5 d, #6 <cat>"), "{}", words.listed());
        // A prompt may spell out such a token.
        assert_eq!(Prompt::new("a <end> b", &["a", "<end>", "b"].map(String::from)).places("b"), [3]);
    }

    #[test]
    fn words_are_told_apart_and_their_tokens_kept_together() {
        let words = prompt("an astro|naut|, ti|red").words();
        let expected = [("an", vec![1]), ("astronaut", vec![2, 3]), (",", vec![4]), ("tired", vec![5, 6])];
        assert_eq!(words, expected.map(|(word, places)| (word.to_string(), places)));
    }

    #[test]
    fn with_two_text_encoders_a_word_is_at_the_places_of_both() {
        let pieces = |marked: &str| marked.split([' ', '|']).map(str::to_string).collect::<Vec<_>>();
        let both = prompt("a ti|red cat").and("a red dog", &pieces("a red dog"));
        let words = Words { conditional: both.clone(), ..Words::default() };
        assert_eq!(
            ["red", "tired", "dog", "cat", "a"].map(|word| words.places(word, None)),
            [vec![2], vec![2, 3], vec![3], vec![4], vec![1]]
        );
        let all = ["a", "tired", "cat", "red", "dog"];
        assert_eq!(both.words().iter().map(|(word, _)| word.as_str()).collect::<Vec<_>>(), all);
        assert!(words.listed().contains("#4 cat; of the second text encoder: #1 a, #2 red, #3 dog; of the negative"));
        let same = prompt("a cat").and("a cat", &pieces("a cat"));
        assert_eq!((same.words(), same.listed()), (prompt("a cat").words(), prompt("a cat").listed()));
    }

    #[test]
    fn a_word_of_neither_text_is_an_error_that_lists_both() {
        let words = Words { conditional: prompt("a dog"), unconditional: prompt("a cat") };
        assert_eq!(words.places("cat", Some(Branch::Unconditional)), [2]);
        assert!(words.check(&["cat".into(), "dog".into(), "#4".into()], "rule").is_ok());
        let error = words.check(&["red".into()], "rule").unwrap_err().to_string();
        assert!(
            error.contains("red: no such word") && error.contains("#2 dog; of the negative prompt: #1 a"),
            "{error}"
        );
        assert_eq!(words.all_places(&["dog".into(), "#2".into(), "#1".into()], None), [2, 1]);
    }
}
