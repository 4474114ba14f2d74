//! The hashes of all files of a cell, in a file beside them. A copy can be checked by them on any machine.

use anyhow::{Context, Result};
use latentrace_files::{open_plain, read_text, replace};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// The file with the hashes.
pub(crate) const MANIFEST: &str = "manifest.json";

/// Hashes by the path of a file in its folder, with `/`.
type Hashes = BTreeMap<String, String>;

/// Writes the hashes of a folder's files into it. They are on the disk when this returns, as those files are.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(&serde_json::json!({ "blake3": hashes(folder)? }))?;
    Ok(replace(&folder.join(MANIFEST), format!("{text}\n").as_bytes())?)
}

/// What differs between the files of a folder and the hashes in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Files that are not as they were written.
    pub changed: Vec<String>,
    /// Files that are gone.
    pub missing: Vec<String>,
    /// Files that were not there: drawn later by other commands, or put there.
    pub added: Vec<String>,
}

impl Differences {
    /// Whether a file is damaged or gone. Added ones do no harm.
    pub fn is_damage(&self) -> bool {
        !self.changed.is_empty() || !self.missing.is_empty()
    }
}

impl fmt::Display for Differences {
    /// The damage in words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |what: &str, files: &[String]| (!files.is_empty()).then(|| format!("{what}: {}", files.join(", ")));
        let parts = [list("not as it was written", &self.changed), list("gone", &self.missing)];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

/// Compares the files of a folder with the hashes in it. `None` if it has no hashes: an earlier version made it.
///
/// # Errors
/// A file cannot be read, or the hashes are damaged.
pub(crate) fn differences(folder: &Path) -> Result<Option<Differences>> {
    let file = folder.join(MANIFEST);
    if !file.exists() {
        return Ok(None);
    }
    #[derive(serde::Deserialize)]
    struct Written {
        blake3: Hashes,
    }
    let Written { blake3: then } =
        serde_json::from_str(&read_text(&file)?).with_context(|| file.display().to_string())?;
    let now = hashes(folder)?;
    let mut found = Differences::default();
    for (name, hash) in &then {
        match now.get(name) {
            None => found.missing.push(name.clone()),
            Some(other) if other != hash => found.changed.push(name.clone()),
            Some(_) => {}
        }
    }
    found.added = now.into_keys().filter(|name| !then.contains_key(name)).collect();
    Ok(Some(found))
}

/// The hashes of all files in a folder and the folders in it, but for the file of the hashes.
fn hashes(folder: &Path) -> Result<Hashes> {
    let mut found = Hashes::new();
    collect(folder, "", &mut found)?;
    found.remove(MANIFEST);
    Ok(found)
}

fn collect(folder: &Path, before: &str, found: &mut Hashes) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let entry = entry.with_context(|| folder.display().to_string())?;
        let name = format!("{before}{}", entry.file_name().to_string_lossy());
        let path = entry.path();
        let about = std::fs::symlink_metadata(&path).with_context(|| path.display().to_string())?;
        if about.is_dir() {
            collect(&path, &format!("{name}/"), found)?;
        } else if about.is_file() {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(open_plain(&path)?).with_context(|| path.display().to_string())?;
            found.insert(name, hasher.finalize().to_hex().to_string());
        } else {
            found.insert(name, "a link or no plain file".into()); // it is not followed, and equals no hash
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_a_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("trace")).unwrap();
        assert_eq!(differences(folder.path()).unwrap(), None);
        for name in ["cell.json", "trace/run.json", "trace/b"] {
            std::fs::write(at(name), name).unwrap();
        }
        write(folder.path()).unwrap();
        assert_eq!(differences(folder.path()).unwrap(), Some(Differences::default()));
        std::fs::write(at("trace/run.json"), "trace/run.jsoN").unwrap();
        std::fs::remove_file(at("trace/b")).unwrap();
        std::os::unix::fs::symlink(at("cell.json"), at("trace/b")).unwrap();
        std::fs::remove_file(at("cell.json")).unwrap();
        std::fs::write(at("figure.png"), "").unwrap();
        let found = differences(folder.path()).unwrap().unwrap();
        assert_eq!(found.changed, ["trace/b", "trace/run.json"]);
        assert_eq!((found.missing.clone(), found.added.clone()), (vec!["cell.json".into()], vec!["figure.png".into()]));
        assert!(found.is_damage());
        std::fs::write(at(MANIFEST), "{").unwrap();
        assert!(format!("{:#}", differences(folder.path()).unwrap_err()).contains(MANIFEST));
    }
}
