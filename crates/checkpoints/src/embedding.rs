//! Textual inversions: files of vectors that stand for a new token (Gal et al. 2022, arXiv 2208.01618).

use crate::checkpoint::Checkpoint;
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

/// The vectors of a token.
#[derive(Debug)]
pub struct Vectors {
    /// The token.
    pub token: String,
    /// The vectors, `[vectors, width]`.
    pub table: Tensor,
}

/// The tensor of a file that AUTOMATIC1111 wrote, and that of a file for both text encoders of SDXL. They are named for
/// what they are, so the token is the name of the file.
const UNNAMED: [&str; 2] = ["emb_params", "clip_l"];

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
    /// The vectors of the tokens that are added to the checkpoint.
    ///
    /// # Errors
    /// A file cannot be read, or its vectors are not of the text encoder's width.
    pub fn vectors(&self) -> Result<Vec<Vectors>> {
        self.embeddings.iter().map(|inversion| self.vectors_of(inversion)).collect()
    }

    fn vectors_of(&self, Inversion { file: path, token }: &Inversion) -> Result<Vectors> {
        let tensors = open(path)?;
        let name = chosen(path, &tensors)?;
        let table = tensors.get(&name)?;
        let width = self.text().encoder.config.hidden_size;
        // A single vector may have no axis for the number of vectors.
        let table = if table.dim() == 1 { table.unsqueeze(0) } else { table };
        match table.size()[..] {
            [rows, found] if rows > 0 && found == width => {}
            [rows, found] if rows > 0 => {
                let hint = "hint: 768 are the features of Stable Diffusion 1.x, 1024 those of 2.x, and 1280 of SDXL's second text encoder";
                let cause = format!("{name} has {found} features, but the text encoder has {width} (hidden_size)");
                return Err(file(path, format!("{cause}\n{hint}")));
            }
            _ => {
                let found = table.size();
                return Err(file(path, format!("{name}: expected a shape of [vectors, {width}], found {found:?}")));
            }
        }
        let stem = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let own = if UNNAMED.contains(&name.as_str()) { stem() } else { name };
        Ok(Vectors { token: token.clone().unwrap_or(own), table })
    }
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

/// The tensor of a file that has the vectors.
fn chosen(path: &Path, tensors: &Tensors) -> Result<String> {
    let names: Vec<&str> = tensors.names().collect();
    match names.as_slice() {
        [only] => Ok(only.to_string()),
        several => UNNAMED.iter().find(|name| several.contains(name)).map(|name| name.to_string()).ok_or_else(|| {
            let shown = several.iter().take(3).copied().collect::<Vec<_>>().join(", ");
            let hint = "hint: an embedding has one tensor, or one that is called emb_params or clip_l";
            file(path, format!("not an embedding: it has {} tensors: {shown}\n{hint}", several.len()))
        }),
    }
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
