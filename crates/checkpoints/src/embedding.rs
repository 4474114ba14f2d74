//! Textual inversions: files of vectors that stand for a new token (Gal et al. 2022, arXiv 2208.01618).

use crate::checkpoint::{Checkpoint, TextPart};
use crate::error::{Result, file};
use crate::weights::{PICKLES, checked, pickle};
use latentrace_nn::tch::Tensor;
use latentrace_nn::{Named, Piece, Tensors};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// A textual inversion as it is asked for: `FILE`, or `FILE=TOKEN`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Inversion {
    /// The file.
    pub file: PathBuf,
    /// The token, if it is not the one that the file names.
    pub token: Option<String>,
}

/// The vectors of a token for a text encoder.
#[derive(Debug)]
pub struct Vectors {
    /// The token.
    pub token: String,
    /// The name of the text encoder's part: `text_encoder` or `text_encoder_2`.
    pub part: &'static str,
    /// The vectors, `[vectors, width]`.
    pub table: Tensor,
}

/// The tensor of a file that AUTOMATIC1111 wrote, and those of a file for the text encoders of SDXL. They are named for what they
/// are, so the token is the name of the file.
const UNNAMED: [&str; 3] = ["emb_params", "clip_l", "clip_g"];

/// The tensors of a file for both text encoders of SDXL, each with the part that it is for.
const OF_PARTS: [(&str, &str); 2] = [("clip_l", "text_encoder"), ("clip_g", "text_encoder_2")];

impl From<String> for Inversion {
    /// What follows the `=` behind a file's ending is the token. So a path may have a `=` too.
    fn from(text: String) -> Inversion {
        let endings = PICKLES.iter().chain(&["safetensors"]);
        let split = endings.filter_map(|ending| Some(text.rfind(&format!(".{ending}="))? + ending.len() + 1)).max();
        match split {
            Some(at) if !text[at + 1..].is_empty() => {
                Inversion { file: text[..at].into(), token: Some(text[at + 1..].into()) }
            }
            _ => Inversion { file: text.into(), token: None },
        }
    }
}

impl From<Inversion> for String {
    fn from(inversion: Inversion) -> String {
        inversion.to_string()
    }
}

impl fmt::Display for Inversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.token {
            Some(token) => write!(f, "{}={token}", self.file.display()),
            None => write!(f, "{}", self.file.display()),
        }
    }
}

impl Checkpoint {
    /// The vectors of the tokens that are added to the checkpoint, for each text encoder that has some.
    ///
    /// # Errors
    /// A file cannot be read, or its vectors are not of the width of a text encoder, or of several.
    pub fn vectors(&self) -> Result<Vec<Vectors>> {
        let of_files = self.embeddings.iter().map(|inversion| self.vectors_of(inversion));
        Ok(of_files.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn vectors_of(&self, Inversion { file: path, token }: &Inversion) -> Result<Vec<Vectors>> {
        let tensors = open(path)?;
        let names: Vec<&str> = tensors.names().collect();
        let chosen = self.chosen(path, &names)?;
        let of = |name: &str| -> Result<Vectors> {
            let table = tensors.get(name)?;
            // A single vector may have no axis for the number of vectors.
            let table = if table.dim() == 1 { table.unsqueeze(0) } else { table };
            let part = self.text_for(path, name, &table.size())?;
            let stem = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let own = || if UNNAMED.contains(&name) { stem() } else { name.to_owned() };
            Ok(Vectors { token: token.clone().unwrap_or_else(own), part: part.encoder.name(), table })
        };
        chosen.into_iter().map(of).collect()
    }

    /// The tensors of a file that are vectors for the checkpoint's text encoders: of a file for both of SDXL, those whose text encoder the
    /// checkpoint has; or else one.
    fn chosen<'a>(&self, path: &Path, names: &[&'a str]) -> Result<Vec<&'a str>> {
        let is_there = |part: &str| self.texts.iter().any(|text| text.encoder.name() == part);
        let of_parts = OF_PARTS.iter().filter(|(_, part)| is_there(part));
        let of_parts: Vec<&str> =
            of_parts.filter_map(|(own, _)| names.iter().find(|name| *name == own).copied()).collect();
        let unnamed = || UNNAMED.iter().find_map(|own| names.iter().find(|name| *name == own).copied());
        match names {
            [only] => Ok(vec![only]),
            _ if !of_parts.is_empty() && !names.contains(&UNNAMED[0]) => Ok(of_parts),
            _ => unnamed().map(|name| vec![name]).ok_or_else(|| {
                let shown = names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
                let hint = "hint: an embedding has one tensor, or one that is called emb_params or clip_l";
                file(path, format!("not an embedding: it has {} tensors: {shown}\n{hint}", names.len()))
            }),
        }
    }

    /// The text encoder that vectors are for: the one that the tensor's name says, if the checkpoint has two, or the one of their width.
    fn text_for(&self, path: &Path, name: &str, shape: &[i64]) -> Result<&TextPart> {
        let said = OF_PARTS.iter().find(|(own, _)| *own == name && self.texts.len() > 1).map(|(_, part)| *part);
        let texts: Vec<&TextPart> =
            self.texts.iter().filter(|text| said.is_none_or(|part| text.encoder.name() == part)).collect();
        let [(1..), found] = shape else {
            let expected = widths(&texts, " or ");
            return Err(file(path, format!("{name}: expected a shape of [vectors, {expected}], found {shape:?}")));
        };
        let fitting: Vec<&TextPart> =
            texts.iter().copied().filter(|text| text.encoder.config.hidden_size == *found).collect();
        match fitting.as_slice() {
            [text] => Ok(text),
            [] => Err(file(path, of_other_width(name, *found, &texts, self.texts.len()))),
            several => {
                let parts: Vec<&str> = several.iter().map(|text| text.encoder.name()).collect();
                let parts = parts.join(" and of ");
                let hint = "hint: a tensor called clip_l is for text_encoder, and one called clip_g for text_encoder_2";
                let cause = format!("{name} has {found} features, which are those of {parts} (hidden_size)");
                Err(file(path, format!("{cause}\n{hint}")))
            }
        }
    }
}

/// What is wrong with vectors of another width than that of the text encoders that they may be for, which are among `all` of a checkpoint.
fn of_other_width(name: &str, found: i64, texts: &[&TextPart], all: usize) -> String {
    let hint =
        "hint: 768 are the features of Stable Diffusion 1.x, 1024 those of 2.x, and 1280 of SDXL's second text encoder";
    let have = match texts {
        [_] if all == 1 => "the text encoder has".to_owned(),
        [text] => format!("{} has", text.encoder.name()),
        _ => "the text encoders have".to_owned(),
    };
    format!("{name} has {found} features, but {have} {} (hidden_size)\n{hint}", widths(texts, " and "))
}

/// The widths of text encoders, in words.
fn widths(texts: &[&TextPart], between: &str) -> String {
    texts.iter().map(|text| text.encoder.config.hidden_size.to_string()).collect::<Vec<_>>().join(between)
}

fn open(path: &Path) -> Result<Tensors> {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    if !path.is_file() {
        let hint = "hint: an embedding is a .safetensors file, such as learned_embeds.safetensors";
        return Err(file(path, format!("{}\n{hint}", if path.is_dir() { "a folder" } else { "no such file" })));
    }
    if PICKLES.contains(&ending.as_str()) {
        return Err(pickle(path));
    }
    let path = checked(path.to_path_buf())?;
    Ok(Tensors::open(&[path], &|stored| vec![Named { name: stored.to_owned(), piece: Piece::Whole }])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_follows_the_ending_of_its_file() {
        for (text, path, token) in [
            ("a/cat.safetensors", "a/cat.safetensors", None),
            ("cat.safetensors=<cat>", "cat.safetensors", Some("<cat>")),
            ("a=b/cat.safetensors", "a=b/cat.safetensors", None),
            ("a=b/cat.pt=x=y", "a=b/cat.pt", Some("x=y")),
            ("cat.safetensors=", "cat.safetensors=", None),
        ] {
            let read = Inversion::from(text.to_string());
            assert_eq!((read.file.to_str().unwrap(), read.token.as_deref()), (path, token));
            assert_eq!(read.to_string(), text);
        }
    }
}
