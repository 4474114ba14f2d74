//! The byte-pair vocabulary of the captions, in CLIP's format.

use crate::error::{Result, file};
use latentrace_nn::replace;
use latentrace_shapes::{Detail, Scene, Stream};
use latentrace_text::Tokenizer;
use serde_json::json;
use std::collections::HashMap;
use std::path::Path;
use tokenizers::Trainer;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// Byte-pair merges learnt from captions. All 256 bytes have tokens, so any text can be encoded.
pub struct Vocabulary {
    tokens: Vec<String>,
    merges: Vec<String>,
}

/// The number of tokens to which every caption is padded; the longest caption has fewer.
pub const LENGTH: usize = 32;

impl Vocabulary {
    /// Learns at most `merges` merges from `captions` captions.
    ///
    /// # Errors
    /// If the trainer of the tokenizer fails.
    pub fn learn(seed: u64, captions: u64) -> Result<Vocabulary> {
        let fail = |error: tokenizers::Error| file(Path::new("vocabulary"), error);
        let texts = (0..captions).map(|index| {
            let mut stream = Stream::numbered(seed, index);
            Scene::random(&mut stream).caption(Detail::FULL)
        });
        let mut trainer =
            BpeTrainer::builder().show_progress(false).vocab_size(4096).end_of_word_suffix("</w>".into()).build();
        let words = |text: &str| {
            let apart = text.replace(',', " , ");
            Ok(apart.split_whitespace().map(str::to_string).collect())
        };
        trainer.feed(texts, words).map_err(fail)?;
        let mut model = tokenizers::models::bpe::BPE::default();
        trainer.train(&mut model).map_err(fail)?;
        let folder = tempfile::tempdir().map_err(|error| file(Path::new("vocabulary"), error))?;
        tokenizers::Model::save(&model, folder.path(), None).map_err(fail)?;
        let path = folder.path().join("merges.txt");
        let text = std::fs::read_to_string(&path).map_err(|error| file(&path, error))?;
        let merges: Vec<String> =
            text.lines().filter(|line| !line.starts_with("#version")).map(str::to_string).collect();
        Ok(Vocabulary::of(merges))
    }

    /// The tokens in CLIP's order: the bytes, the bytes at the end of a word, the merges, and the two special tokens.
    fn of(merges: Vec<String>) -> Vocabulary {
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

    /// Writes the files to a folder and reads them back as a tokenizer.
    ///
    /// # Errors
    /// If a file cannot be written or read.
    pub fn tokenizer(&self, folder: &Path) -> Result<Tokenizer> {
        self.write(folder)?;
        Ok(Tokenizer::open(folder, LENGTH)?)
    }

    /// Writes the four files of a `tokenizer/` folder.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|error| file(folder, error))?;
        let numbered: HashMap<&str, usize> =
            self.tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
        let ordered: std::collections::BTreeMap<_, _> = numbered.into_iter().collect();
        let merges = format!("#version: 0.2\n{}\n", self.merges.join("\n"));
        let special = |token: &str| json!({ "content": token, "lstrip": false, "normalized": true, "rstrip": false, "single_word": false });
        let map = json!({
            "bos_token": special("<|startoftext|>"), "eos_token": special("<|endoftext|>"),
            "pad_token": "<|endoftext|>", "unk_token": special("<|endoftext|>"),
        });
        let config = json!({
            "add_prefix_space": false, "bos_token": "<|startoftext|>", "do_lower_case": true,
            "eos_token": "<|endoftext|>", "errors": "replace", "model_max_length": LENGTH,
            "pad_token": "<|endoftext|>", "tokenizer_class": "CLIPTokenizer", "unk_token": "<|endoftext|>",
        });
        replace(&folder.join("vocab.json"), json!(ordered).to_string().as_bytes())?;
        replace(&folder.join("merges.txt"), merges.as_bytes())?;
        replace(&folder.join("special_tokens_map.json"), format!("{map:#}\n").as_bytes())?;
        Ok(replace(&folder.join("tokenizer_config.json"), format!("{config:#}\n").as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_world_is_one_token_and_any_text_has_some() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Vocabulary::learn(1, 3000).unwrap().tokenizer(folder.path()).unwrap();
        let tokens = tokenizer
            .encode("a small red circle on the left and a large blue square on the right, white background")
            .unwrap();
        assert_eq!(tokens.pieces.len(), 18);
        assert_eq!(tokens.pieces[2], "red");
        assert!(tokens.lost.is_empty());
        let strange = tokenizer.encode("Übermut 𝄞 \u{0}").unwrap();
        assert!(strange.pieces.len() > 4);
        assert!(strange.ids.iter().all(|&id| id < 2000));
    }
}
