//! The byte-pair vocabulary of the captions, in CLIP's format.

use crate::error::{Result, file};
use latentrace_shapes::{Detail, Scene, Stream};
use latentrace_text::{Tokenizer, Vocabulary};
use std::path::Path;
use tokenizers::Trainer;
use tokenizers::models::bpe::BpeTrainer;

/// The number of tokens to which every caption is padded; the longest caption has fewer.
pub const LENGTH: usize = 32;

/// The smallest number of tokens that a network's configuration can have: the two special ones.
pub(crate) const SPECIALS: usize = 2;

/// Learns a vocabulary from `captions` captions.
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
    let merges: Vec<String> = text.lines().filter(|line| !line.starts_with("#version")).map(str::to_string).collect();
    Ok(Vocabulary::of(merges))
}

/// Writes a vocabulary to a folder, padded as Stable Diffusion 1.x pads, and reads it back as a tokenizer.
///
/// # Errors
/// If a file cannot be written or read.
pub fn tokenizer(vocabulary: &Vocabulary, folder: &Path) -> Result<Tokenizer> {
    write(vocabulary, folder)?;
    Ok(Tokenizer::open(folder, LENGTH)?)
}

/// Writes the four files of a `tokenizer/` folder.
///
/// # Errors
/// If a file cannot be written.
pub fn write(vocabulary: &Vocabulary, folder: &Path) -> Result<()> {
    Ok(vocabulary.write(folder, LENGTH, "<|endoftext|>")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_world_is_one_token_and_any_text_has_some() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = tokenizer(&learn(1, 3000).unwrap(), folder.path()).unwrap();
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
