//! `store.json`: the format of a store, and how long its claims last.

use crate::lease::Pace;
use anyhow::{Context, Result, anyhow, bail, ensure};
use latentrace_files::{create, read_text};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::ErrorKind;
use std::path::Path;

/// What a store says of itself.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct About {
    /// Changes with the meaning of the files.
    format: u32,
    /// How long claims last. All processes must agree, so it is chosen once.
    pub(super) claims: Pace,
}

impl Default for About {
    fn default() -> About {
        About { format: FORMAT, claims: Pace::default() }
    }
}

impl About {
    /// What a store says. `None` if it says nothing: it is new, or an earlier version made it.
    pub(super) fn of(root: &Path) -> Result<Option<About>> {
        let file = root.join(ABOUT);
        if !file.exists() {
            return Ok(None);
        }
        let (place, text) = (file.display(), read_text(&file)?);
        let hint = "hint: restore it, or remove it: claims then last as long as in a new store";
        let value: Value = serde_json::from_str(&text).map_err(|error| anyhow!("{place}: {error}\n{hint}"))?;
        if let Some(format) = value["format"].as_u64().filter(|format| *format > FORMAT.into()) {
            bail!(
                "{place}: a store of format {format}, and this version knows {FORMAT}\nhint: use the version that made it"
            );
        }
        let about: About = serde_json::from_value(value).map_err(|error| anyhow!("{place}: {error}\n{hint}"))?;
        ensure!(about.claims.is_sound(), "{place}: term_s is less than three times renewed_s, or out of range\n{hint}");
        Ok(Some(about))
    }

    /// What a store says, which is written first if it says nothing. Of several processes one writes it.
    pub(super) fn agreed(root: &Path) -> Result<About> {
        if About::of(root)?.is_none() {
            let text = serde_json::to_string_pretty(&About::default())?;
            let written = create(&root.join(ABOUT), |path| std::fs::write(path, format!("{text}\n")));
            match written.map_err(latentrace_files::Error::into_io) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(error).with_context(|| root.join(ABOUT).display().to_string());
                }
                _ => {}
            }
        }
        Ok(About::of(root)?.unwrap_or_default())
    }
}

/// The file in which a store says what it is.
const ABOUT: &str = "store.json";

/// The format of stores that this version makes.
const FORMAT: u32 = 1;

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;

    #[test]
    fn a_store_of_a_newer_format_is_refused_and_one_without_a_file_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(ABOUT);
        Store::open(folder.path()).unwrap();
        assert_eq!(About::of(folder.path()).unwrap().unwrap().claims, Pace::default());
        for (text, expected) in [
            (r#"{ "format": 2, "what": 1 }"#, "a store of format 2, and this version knows 1"),
            (r#"{ "format": 1, "claims": { "renewed_s": 10, "term_s": 20 } }"#, "less than three times renewed_s"),
            ("{", "hint: restore it"),
        ] {
            std::fs::write(&file, text).unwrap();
            for result in [Store::open(folder.path()).map(drop), Store::look(folder.path()).map(drop)] {
                let error = format!("{:#}", result.unwrap_err());
                assert!(error.contains(expected) && error.contains(ABOUT), "{error}");
            }
        }
        std::fs::remove_file(&file).unwrap();
        Store::look(folder.path()).unwrap();
        assert!(!file.exists() && Store::look(&folder.path().join("none")).is_err());
        Store::open(folder.path()).unwrap();
        assert!(file.exists());
    }
}
