//! CLIP's byte-pair tokenizer.

use crate::specials::Specials;
use serde_json::Value;
use std::io::ErrorKind;
use std::path::Path;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{SplitDelimiterBehavior, pre_tokenizers};

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
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    /// Start token, the prompt's tokens, end token, and padding up to the model's length.
    pub ids: Vec<i64>,
    /// The text of each of the prompt's tokens, as written; that of `ids[i + 1]` is `pieces[i]`.
    pub pieces: Vec<String>,
    /// The end of the prompt that did not fit, as written; empty if all fitted.
    pub lost: String,
}

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
        let specials = Specials::read(&config, &json(&folder.join("special_tokens_map.json"))?);
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
        let marked = inner.get_added_tokens_decoder();
        for special in specials.in_order() {
            id(&inner, &special.content)?;
            if marked.values().all(|known| known.content != special.content) {
                inner.add_special_tokens([special.clone()]).map_err(|error| failure(file, error))?;
            }
        }
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| failure(file, error))?;
        let ids = [&specials.start, &specials.end, &specials.padding].map(|token| id(&inner, &token.content));
        let [start, end, padding] = ids;
        Ok(Tokenizer { start: start?, end: end?, padding: padding?, inner, length, rows: u32::MAX })
    }

    /// The tokenizer with another padding token.
    ///
    /// # Errors
    /// The vocabulary does not have the token.
    pub fn padded_with(self, token: &str) -> Result<Tokenizer, Error> {
        let id = self.inner.token_to_id(token);
        let padding = id.ok_or_else(|| {
            failure(Path::new("tokenizer"), format!("no token {token} in the vocabulary, to pad with"))
        })?;
        Ok(Tokenizer { padding, ..self })
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

    /// The number of tokens that every prompt is padded or truncated to.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The tokens of a prompt, padded or truncated to [`Tokenizer::length`].
    ///
    /// # Errors
    /// The text encoder has no embedding for a token. The tokenizer fails, which never happens with a vocabulary that
    /// has all 256 bytes.
    pub fn encode(&self, prompt: &str) -> Result<Tokens, Error> {
        let encoding = self.inner.encode(prompt, false).map_err(|error| failure(Path::new("tokenizer"), error))?;
        let room = self.length - 2;
        let kept = encoding.get_ids().len().min(room);
        let ids = [self.start].into_iter().chain(encoding.get_ids()[..kept].iter().copied()).chain([self.end]);
        let padded: Vec<u32> = ids.chain(std::iter::repeat(self.padding)).take(self.length).collect();
        if let Some(&id) = padded.iter().find(|&&id| id >= self.rows) {
            let token = self.inner.id_to_token(id).unwrap_or_default();
            return Err(Error::Beyond { token, id, rows: self.rows });
        }
        let written = |(from, to): (usize, usize)| prompt.get(from..to).unwrap_or_default().to_string();
        let lost = encoding.get_offsets().get(kept).map_or(String::new(), |&(from, _)| written((from, prompt.len())));
        Ok(Tokens {
            ids: padded.into_iter().map(i64::from).collect(),
            pieces: encoding.get_offsets()[..kept].iter().copied().map(written).collect(),
            lost,
        })
    }
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
