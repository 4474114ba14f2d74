//! A byte-pair vocabulary in CLIP's format, to be written.

use crate::tokenizer::{Error, failure};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// A byte-pair vocabulary. All 256 bytes have tokens, so any text can be encoded.
pub struct Vocabulary {
    tokens: Vec<String>,
    merges: Vec<String>,
}

impl Vocabulary {
    /// The tokens in CLIP's order: the bytes, the bytes at the end of a word, the merges, and the two special tokens.
    pub fn of(merges: Vec<String>) -> Vocabulary {
        let mut bytes: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        bytes.sort_unstable();
        let singles = bytes.iter().map(char::to_string);
        let ends = bytes.iter().map(|byte| format!("{byte}</w>"));
        let merged = merges.iter().map(|pair| pair.replace(' ', ""));
        let specials = ["<|startoftext|>", "<|endoftext|>"].map(str::to_string);
        let tokens = singles.chain(ends).chain(merged).chain(specials).collect();
        Vocabulary { tokens, merges }
    }

    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no tokens; always false.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Writes the four files of a `tokenizer/` folder. Prompts will be padded to `length` with the token `padding`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, folder: &Path, length: usize, padding: &str) -> Result<(), Error> {
        std::fs::create_dir_all(folder).map_err(|error| failure(folder, error))?;
        let numbered: BTreeMap<&str, usize> =
            self.tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
        let lines = ["#version: 0.2".to_owned()].into_iter().chain(self.merges.iter().cloned());
        let merges: String = lines.map(|line| line + "\n").collect();
        let special = |token: &str| json!({ "content": token, "lstrip": false, "normalized": true, "rstrip": false, "single_word": false });
        let map = json!({
            "bos_token": special("<|startoftext|>"), "eos_token": special("<|endoftext|>"),
            "pad_token": padding, "unk_token": special("<|endoftext|>"),
        });
        let config = json!({
            "add_prefix_space": false, "bos_token": "<|startoftext|>", "do_lower_case": true,
            "eos_token": "<|endoftext|>", "errors": "replace", "model_max_length": length,
            "pad_token": padding, "tokenizer_class": "CLIPTokenizer", "unk_token": "<|endoftext|>",
        });
        for (name, text) in [
            ("vocab.json", json!(numbered).to_string()),
            ("merges.txt", merges),
            ("special_tokens_map.json", format!("{map:#}\n")),
            ("tokenizer_config.json", format!("{config:#}\n")),
        ] {
            let path = folder.join(name);
            latentrace_nn::replace(&path, text.as_bytes()).map_err(|error| failure(&path, error))?;
        }
        Ok(())
    }
}
