//! CLIP's byte-pair tokenizer.

use serde_json::Value;
use std::path::Path;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, pre_tokenizers};

/// CLIP's tokenizer: lower case, words and signs apart, each word's bytes merged pair by pair.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    start: u32,
    end: u32,
    padding: u32,
    length: usize,
}

/// A prompt as numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    /// Start, the prompt's tokens, end, and padding up to the model's length.
    pub ids: Vec<i64>,
    /// What each of the prompt's own tokens stands for, as written; `ids[i + 1]` is `pieces[i]`.
    pub pieces: Vec<String>,
    /// What did not fit, as written; empty when everything did.
    pub lost: String,
}

/// A tokenizer that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that is missing or is not what it should be.
    #[error("{file}: {cause}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        cause: String,
    },
}

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

impl Tokenizer {
    /// Reads a `tokenizer/` folder: `vocab.json` and `merges.txt`, or else `tokenizer.json`; the padding token and the
    /// length from `special_tokens_map.json` and `tokenizer_config.json`. `length` is what the text encoder takes.
    ///
    /// # Errors
    /// A file is missing or garbled, or lacks a token that CLIP needs.
    pub fn open(folder: &Path, length: usize) -> Result<Tokenizer, Error> {
        let (vocab, merges, whole) =
            (folder.join("vocab.json"), folder.join("merges.txt"), folder.join("tokenizer.json"));
        if !vocab.exists() && whole.exists() {
            let inner = tokenizers::Tokenizer::from_file(&whole).map_err(|error| failure(&whole, error))?;
            return Tokenizer::finish(inner, folder, length);
        }
        for path in [&vocab, &merges] {
            std::fs::metadata(path).map_err(|error| failure(path, error))?;
        }
        let text = |path: &Path| path.to_str().map(str::to_string).ok_or_else(|| failure(path, "not a Unicode path"));
        let bpe = BPE::from_file(&text(&vocab)?, &text(&merges)?)
            .unk_token(END.into())
            .end_of_word_suffix("</w>".into())
            .build()
            .map_err(|error| failure(&vocab, error))?;
        Tokenizer::finish(clip(bpe).map_err(|error| failure(&vocab, error))?, folder, length)
    }

    fn finish(mut inner: tokenizers::Tokenizer, folder: &Path, length: usize) -> Result<Tokenizer, Error> {
        let specials = [START, END].map(|token| AddedToken::from(token, true));
        inner.add_special_tokens(specials).map_err(|error| failure(folder, error))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| failure(folder, error))?;
        let id = |token: &str| {
            inner.token_to_id(token).ok_or_else(|| failure(folder, format!("no token {token} in the vocabulary")))
        };
        let (start, end, padding) = (id(START)?, id(END)?, id(&padding_token(folder)?)?);
        let stated = json(&folder.join("tokenizer_config.json"))?
            .and_then(|config| config["model_max_length"].as_u64())
            .and_then(|stated| usize::try_from(stated).ok());
        let length = stated.map_or(length, |stated| stated.min(length));
        if length < 2 {
            return Err(failure(folder, format!("model_max_length: {length} leaves no room for start and end")));
        }
        Ok(Tokenizer { inner, start, end, padding, length })
    }

    /// The number of tokens that every prompt is padded or cut to.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Tokens of a prompt, padded to [`Tokenizer::length`], or cut to it with the words lost kept.
    ///
    /// # Errors
    /// The tokenizer itself fails, which a vocabulary with all 256 bytes never does.
    pub fn encode(&self, prompt: &str) -> Result<Tokens, Error> {
        let encoding = self.inner.encode(prompt, false).map_err(|error| failure(Path::new("tokenizer"), error))?;
        let room = self.length - 2;
        let kept = encoding.get_ids().len().min(room);
        let ids = [self.start].into_iter().chain(encoding.get_ids()[..kept].iter().copied()).chain([self.end]);
        let padded = ids.chain(std::iter::repeat(self.padding)).take(self.length);
        let written = |(from, to): (usize, usize)| prompt.get(from..to).unwrap_or_default().to_string();
        let lost = encoding.get_offsets().get(kept).map_or(String::new(), |&(from, _)| written((from, prompt.len())));
        Ok(Tokens {
            ids: padded.map(i64::from).collect(),
            pieces: encoding.get_offsets()[..kept].iter().copied().map(written).collect(),
            lost,
        })
    }
}

/// What surrounds CLIP's merges: normal form and case, then words, single digits and runs of signs, then bytes.
fn clip(bpe: BPE) -> tokenizers::Result<tokenizers::Tokenizer> {
    const WORDS: &str =
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    let spaces = Replace::new(tokenizers::normalizers::replace::ReplacePattern::Regex(r"\s+".into()), " ")?;
    let split = Split::new(SplitPattern::Regex(WORDS.into()), SplitDelimiterBehavior::Removed, true)?;
    let bytes = ByteLevel::new(false, true, true).use_regex(false);
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    tokenizer.with_normalizer(Some(Sequence::new(vec![NFC.into(), spaces.into(), Lowercase.into()])))?;
    tokenizer.with_pre_tokenizer(Some(pre_tokenizers::sequence::Sequence::new(vec![split.into(), bytes.into()])));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    Ok(tokenizer)
}

/// The padding token: `special_tokens_map.json` wins over `tokenizer_config.json`, as SD 2.x needs, where they differ.
fn padding_token(folder: &Path) -> Result<String, Error> {
    for file in ["special_tokens_map.json", "tokenizer_config.json"] {
        let Some(values) = json(&folder.join(file))? else { continue };
        let token = &values["pad_token"];
        if let Some(token) = token.as_str().or_else(|| token["content"].as_str()) {
            return Ok(token.into());
        }
    }
    Ok(END.into())
}

fn json(path: &Path) -> Result<Option<Value>, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| failure(path, error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failure(path, error)),
    }
}

fn failure(path: &Path, cause: impl ToString) -> Error {
    Error::File { file: path.display().to_string(), cause: cause.to_string() }
}
