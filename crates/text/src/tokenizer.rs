//! CLIP's byte-pair tokenizer.

use crate::emphasis::{self, Part};
use crate::specials::{Files, Specials};
use serde_json::Value;
use std::io::ErrorKind;
use std::path::Path;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, pre_tokenizers};

/// CLIP's tokenizer: lower case, split into words and punctuation, the bytes of each word merged by byte-pair encoding.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    start: u32,
    end: u32,
    padding: u32,
    length: usize,
    rows: u32,
}

/// A prompt as token ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tokens {
    /// One or more chunks of the model's length: start token, the prompt's tokens, end token, and padding.
    pub ids: Vec<i64>,
    /// The text of each of the prompt's tokens, as written; that of `ids[i + 1]` is `pieces[i]`. Between two chunks, the
    /// end and the start token stand for themselves.
    pub pieces: Vec<String>,
    /// The end of the prompt that did not fit, as written; empty if all fitted.
    pub lost: String,
    /// The weight of each id; empty if all are 1.
    pub weights: Vec<f64>,
}

/// How a prompt is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// Whether brackets and numbers are weights of words, see [`plain`](crate::plain).
    pub weights: bool,
    /// Whether a prompt that does not fit goes on in further chunks.
    pub chunks: bool,
}

/// The largest number of chunks of a prompt. A text that needs more is surely a mistake.
pub const MOST_CHUNKS: usize = 50;

/// A tokenizer that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is missing or has the wrong content.
    #[error("{file}: {cause}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A weight in a prompt that cannot be read.
    #[error(
        "prompt: {cause}, at place {place}, near {near:?}\nhint: (word:1.3) and (word) and [word] are weights; \\( and \\[ are the brackets themselves"
    )]
    Weight {
        /// The place of the character, from 1.
        place: usize,
        /// The text around it.
        near: String,
        /// What is wrong.
        cause: String,
    },
    /// A token that a file gives an id that it cannot have.
    #[error(
        "{file}: {token:?} is said to have the id {said}, but is {id}\nhint: added tokens follow the vocabulary without a gap; give the file's ids in this order"
    )]
    Id {
        /// The file or folder.
        file: String,
        /// The token's text.
        token: String,
        /// The id in the file.
        said: u32,
        /// The id that follows from the vocabulary.
        id: u32,
    },
    /// A token to be added that the vocabulary has.
    #[error("{token:?}: the tokenizer has this token already\nhint: name another, as FILE={token}-2")]
    Known {
        /// The token's text.
        token: String,
    },
    /// A token that the text encoder has no embedding for.
    #[error(
        "{token:?}: this token has the id {id}, but the text encoder has embeddings for {rows} tokens\nhint: the tokenizer is of another checkpoint, or its added tokens have no embeddings here"
    )]
    Beyond {
        /// The token's text.
        token: String,
        /// Its id.
        id: u32,
        /// The number of embeddings.
        rows: u32,
    },
}

/// The files of a tokenizer's folder that decide its tokens; none of them must be there, see [`Tokenizer::open`].
pub const FILES: &[&str] = &[
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "added_tokens.json",
];

impl Tokenizer {
    /// Reads a `tokenizer/` folder: `vocab.json` and `merges.txt`, or else `tokenizer.json`; the special tokens and the
    /// length from `special_tokens_map.json` and `tokenizer_config.json`. `length` is that of the text encoder's input.
    ///
    /// # Errors
    /// A file is missing or cannot be parsed, or lacks a token that CLIP needs.
    pub fn open(folder: &Path, length: usize) -> Result<Tokenizer, Error> {
        let (vocab, merges, whole) =
            (folder.join("vocab.json"), folder.join("merges.txt"), folder.join("tokenizer.json"));
        let config = json(&folder.join("tokenizer_config.json"))?;
        // A list of added tokens in the config is complete, and a tokenizer.json is long.
        let is_complete = config["added_tokens_decoder"].is_object();
        let whole_json = if is_complete || !whole.exists() { Value::Null } else { json(&whole)? };
        let specials = Specials::read(&Files {
            config: &config,
            map: &json(&folder.join("special_tokens_map.json"))?,
            added: &json(&folder.join("added_tokens.json"))?,
            whole: &whole_json["added_tokens"],
        });
        let stated = config["model_max_length"].as_u64().and_then(|stated| usize::try_from(stated).ok());
        let length = stated.map_or(length, |stated| stated.min(length));
        if !vocab.exists() && whole.exists() {
            let inner = tokenizers::Tokenizer::from_file(&whole).map_err(|error| failure(&whole, error))?;
            return Tokenizer::finish(inner, specials, &whole, length);
        }
        for path in [&vocab, &merges] {
            std::fs::metadata(path).map_err(|error| match error.kind() {
                ErrorKind::NotFound => failure(path, "no such file"),
                _ => failure(path, error),
            })?;
        }
        let text = |path: &Path| path.to_str().map(str::to_string).ok_or_else(|| failure(path, "not a Unicode path"));
        let bpe = BPE::from_file(&text(&vocab)?, &text(&merges)?)
            .unk_token(specials.unknown.content.clone())
            .end_of_word_suffix("</w>".into())
            .build()
            .map_err(|error| {
                let of_merges = error.to_string().contains("Merges text file");
                failure(if of_merges { &merges } else { &vocab }, error)
            })?;
        Tokenizer::finish(clip(bpe).map_err(|error| failure(&vocab, error))?, specials, &vocab, length)
    }

    /// Checks that `file` has every special token, and adds those that it does not declare as special itself.
    fn finish(
        mut inner: tokenizers::Tokenizer,
        specials: Specials,
        file: &Path,
        length: usize,
    ) -> Result<Tokenizer, Error> {
        if length < 2 {
            return Err(failure(file, format!("model_max_length: {length} leaves no room for start and end")));
        }
        let id = |inner: &tokenizers::Tokenizer, token: &str| {
            inner.token_to_id(token).ok_or_else(|| failure(file, format!("no token {token} in the vocabulary")))
        };
        inner.add_tokens(specials.added.values().cloned()).map_err(|error| failure(file, error))?;
        for (said, token) in &specials.added {
            let id = id(&inner, &token.content)?;
            if id != *said {
                let of = file.with_file_name(specials.source);
                let (file, token) = (of.display().to_string(), token.content.clone());
                return Err(Error::Id { file, token, said: *said, id });
            }
        }
        let marked = inner.get_added_tokens_decoder();
        for special in specials.in_order() {
            id(&inner, &special.content)?;
            if marked.values().all(|known| known.content != special.content) {
                inner.add_special_tokens([special.clone()]).map_err(|error| failure(file, error))?;
            }
        }
        let extra = specials.extra.iter().filter(|token| marked.values().all(|known| known.content != token.content));
        inner.add_tokens(extra.cloned()).map_err(|error| failure(file, error))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| failure(file, error))?;
        let ids = [&specials.start, &specials.end, &specials.padding].map(|token| id(&inner, &token.content));
        let [start, end, padding] = ids;
        Ok(Tokenizer { start: start?, end: end?, padding: padding?, inner, length, rows: u32::MAX })
    }

    /// The tokenizer with another padding token, which is then special: wherever a prompt has it, it is found as such.
    ///
    /// # Errors
    /// The vocabulary does not have the token.
    pub fn padded_with(self, token: &str) -> Result<Tokenizer, Error> {
        let id = self.inner.token_to_id(token);
        let padding = id.ok_or_else(|| {
            failure(Path::new("tokenizer"), format!("no token {token} in the vocabulary, to pad with"))
        })?;
        let mut inner = self.inner;
        let is_marked = inner.get_added_tokens_decoder().values().any(|known| known.content == token);
        if !is_marked {
            inner
                .add_special_tokens([AddedToken::from(token, true)])
                .map_err(|error| failure(Path::new("tokenizer"), error))?;
        }
        Ok(Tokenizer { padding, inner, ..self })
    }

    /// The tokenizer of a text encoder with embeddings for so many tokens. A token beyond them is an error when it is
    /// used.
    pub fn for_embeddings(self, rows: i64) -> Tokenizer {
        Tokenizer { rows: u32::try_from(rows).unwrap_or(u32::MAX), ..self }
    }

    /// The id that prompts are padded with.
    pub fn padding(&self) -> u32 {
        self.padding
    }

    /// The id that ends a prompt.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// The number of tokens that every prompt is padded or truncated to.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Adds a token of so many vectors: `token`, `token_1`, `token_2`, and so on. Where a prompt has the first, all of
    /// them stand in its place. Returns the id of the first; those of the others follow.
    ///
    /// # Errors
    /// The vocabulary has one of them.
    pub fn add(&mut self, token: &str, vectors: usize) -> Result<u32, Error> {
        let names = (0..vectors.max(1)).map(|index| numbered(token, index));
        // One more, or else an older token would be taken for a vector of this one.
        if let Some(token) = names.clone().chain([numbered(token, vectors.max(1))]).find(|name| self.has(name)) {
            return Err(Error::Known { token });
        }
        let tokens: Vec<AddedToken> = names.map(|name| AddedToken::from(name, false)).collect();
        self.inner.add_tokens(tokens).map_err(|error| failure(Path::new("tokenizer"), error))?;
        let id = self.inner.token_to_id(token);
        let id = id.ok_or_else(|| failure(Path::new("tokenizer"), format!("no token {token:?}")))?;
        if id > self.rows {
            return Err(Error::Beyond { token: token.into(), id, rows: self.rows });
        }
        if self.rows != u32::MAX {
            self.rows = id + vectors.max(1) as u32;
        }
        Ok(id)
    }

    /// Whether the vocabulary has a token.
    fn has(&self, token: &str) -> bool {
        self.id(token).is_some()
    }

    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id, as the vocabulary has it.
    pub fn token(&self, id: i64) -> Option<String> {
        u32::try_from(id).ok().and_then(|id| self.inner.id_to_token(id))
    }

    /// The tokens of a prompt, padded or truncated to [`Tokenizer::length`].
    ///
    /// # Errors
    /// The text encoder has no embedding for a token. The tokenizer fails, which never happens with a vocabulary that
    /// has all 256 bytes.
    pub fn encode(&self, prompt: &str) -> Result<Tokens, Error> {
        self.encode_as(prompt, Form::default())
    }

    /// The tokens of a prompt that is read in a form.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`]; or the weights cannot be read.
    pub fn encode_as(&self, prompt: &str, form: Form) -> Result<Tokens, Error> {
        let parts = if form.weights { emphasis::parse(prompt)? } else { Vec::from([Part::from(prompt)]) };
        let text: String = parts.iter().map(|part| part.text.as_str()).collect();
        let mut found = Vec::new();
        let mut from = 0;
        for part in &parts {
            self.find(part, from, &mut found)?;
            from += part.text.len();
        }
        let most = if form.chunks { MOST_CHUNKS } else { 1 };
        let kept = found.len().min(most * self.room());
        let tokens = self.chunked(&text, &found[..kept]);
        let lost = found.get(kept).and_then(|first| text.get(first.from..)).unwrap_or_default();
        if let Some(id) = tokens.ids.iter().find_map(|&id| u32::try_from(id).ok().filter(|id| *id >= self.rows)) {
            let token = self.inner.id_to_token(id).unwrap_or_default();
            return Err(Error::Beyond { token, id, rows: self.rows });
        }
        Ok(Tokens { lost: lost.to_string(), ..tokens })
    }

    /// Adds the tokens of a part of a text, which begins at a byte of it.
    fn find(&self, part: &Part, begin: usize, found: &mut Vec<Found>) -> Result<(), Error> {
        let encoding = self.inner.encode(part.text.as_str(), false);
        let encoding = encoding.map_err(|error| failure(Path::new("tokenizer"), error))?;
        for (&id, &(from, to)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            let of = |id| Found { id, from: begin + from, to: begin + to, weight: part.weight };
            found.push(of(id));
            found.extend(self.further(id).map(of));
        }
        Ok(())
    }

    /// The ids of the further vectors of an added token, as diffusers' `maybe_convert_prompt` writes them after it.
    fn further(&self, id: u32) -> impl Iterator<Item = u32> {
        let added = self.inner.get_added_vocabulary();
        let token = added.get_added_tokens_decoder().get(&id).map(|token| token.content.clone());
        token.into_iter().flat_map(move |token| {
            (1..).map_while(move |index| added.get_vocab().get(&numbered(&token, index)).copied())
        })
    }

    /// Tokens in chunks, each with start, end and padding. A text without tokens is one chunk.
    fn chunked(&self, text: &str, found: &[Found]) -> Tokens {
        let special = |id| Found { id, from: 0, to: 0, weight: 1.0 };
        let ends = [self.end, self.start].map(|id| self.inner.id_to_token(id).unwrap_or_default());
        let mut tokens = Tokens { ids: Vec::new(), pieces: Vec::new(), lost: String::new(), weights: Vec::new() };
        let chunks = found.chunks(self.room().max(1)).chain(found.is_empty().then_some(&[][..]));
        for chunk in chunks {
            if !tokens.ids.is_empty() {
                tokens.pieces.extend(ends.clone());
            }
            tokens.pieces.extend(chunk.iter().map(|token| text.get(token.from..token.to).unwrap_or_default().into()));
            let all = [special(self.start)].into_iter().chain(chunk.iter().copied()).chain([special(self.end)]);
            for token in all.chain(std::iter::repeat(special(self.padding))).take(self.length) {
                tokens.ids.push(token.id.into());
                tokens.weights.push(token.weight);
            }
        }
        if tokens.weights.iter().all(|weight| *weight == 1.0) {
            tokens.weights.clear();
        }
        tokens
    }

    /// Adds chunks without text to a text until it has `length` tokens, which is a multiple of [`Tokenizer::length`].
    pub fn fill(&self, text: &mut Tokens, length: usize) {
        while text.ids.len() < length {
            let empty = self.chunked("", &[]);
            if !text.weights.is_empty() {
                text.weights.extend(empty.ids.iter().map(|_| 1.0));
            }
            text.ids.extend(empty.ids);
        }
    }

    /// The number of a prompt's tokens that a chunk holds, without start and end.
    fn room(&self) -> usize {
        self.length - 2
    }
}

/// A token, its range of bytes in the text, and its weight.
#[derive(Clone, Copy)]
struct Found {
    id: u32,
    from: usize,
    to: usize,
    weight: f64,
}

/// The name of a vector of a token: `token`, `token_1`, `token_2`, and so on.
fn numbered(token: &str, index: usize) -> String {
    if index == 0 { token.into() } else { format!("{token}_{index}") }
}

/// CLIP's steps before the merges: Unicode normal form, lower case, split into words, single digits and runs of
/// punctuation, bytes.
fn clip(bpe: BPE) -> tokenizers::Result<tokenizers::Tokenizer> {
    const WORDS: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    let spaces = Replace::new(tokenizers::normalizers::replace::ReplacePattern::Regex(r"\s+".into()), " ")?;
    let split = Split::new(SplitPattern::Regex(WORDS.into()), SplitDelimiterBehavior::Removed, true)?;
    // Splits each word once more by GPT-2's pattern. This matters only where the prompt spells out a special token.
    let bytes = ByteLevel::new(false, true, true);
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    tokenizer.with_normalizer(Some(Sequence::new(vec![NFC.into(), spaces.into(), Lowercase.into()])))?;
    tokenizer.with_pre_tokenizer(Some(pre_tokenizers::sequence::Sequence::new(vec![split.into(), bytes.into()])));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    Ok(tokenizer)
}

/// The content of a JSON file; null if there is no such file.
fn json(path: &Path) -> Result<Value, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| failure(path, error)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Value::Null),
        Err(error) => Err(failure(path, error)),
    }
}

pub(crate) fn failure(path: &Path, cause: impl ToString) -> Error {
    Error::File { file: path.display().to_string(), cause: cause.to_string() }
}
