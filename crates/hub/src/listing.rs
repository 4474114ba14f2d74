//! The hub's list of the files of a model.

use crate::names::{is_hex, path};
use crate::{Error, Hash, Result};
use serde::Deserialize;

/// A file of a model as the hub lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its path in the model, with slashes. It has been checked: it stays below the folder that it is put into.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The checksum of its content.
    pub hash: Hash,
}

/// The files of one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: Vec<Listed>,
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    #[serde(rename = "rfilename")]
    name: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob: Option<String>,
    lfs: Option<Large>,
}

/// A file in the storage for large files: git has only a pointer, so `blobId` is the hash of that.
#[derive(Deserialize)]
struct Large {
    sha256: String,
    size: u64,
}

impl Listing {
    /// Reads the hub's answer, and checks everything in it that becomes a path.
    pub(crate) fn parse(text: &str, url: &str) -> Result<Listing> {
        let fail = |cause: String| Error::Answer { url: url.to_owned(), cause };
        let answer: Answer =
            serde_json::from_str(text).map_err(|cause| fail(format!("not the description of a model: {cause}")))?;
        if !is_hex(&answer.sha, 40) {
            return Err(fail(format!("{:?} is not a commit", answer.sha)));
        }
        let files: Result<Vec<Listed>, String> = answer.siblings.into_iter().map(listed).collect();
        Ok(Listing { commit: answer.sha, files: files.map_err(fail)? })
    }
}

fn listed(sibling: Sibling) -> Result<Listed, String> {
    let Sibling { name, size, blob, lfs } = sibling;
    path(&name).map_err(|cause| format!("{name:?} must not be the name of a file: {cause}"))?;
    let (bytes, hash) = match (lfs, size, blob) {
        (Some(large), ..) => (large.size, Hash::Sha256(large.sha256)),
        (None, Some(size), Some(blob)) => (size, Hash::Git(blob)),
        _ => return Err(format!("{name}: the list of files has neither its size nor its hash")),
    };
    let digits = if matches!(hash, Hash::Sha256(_)) { 64 } else { 40 };
    if !is_hex(hash.etag(), digits) {
        return Err(format!("{name}: {:?} is not a hash", hash.etag()));
    }
    Ok(Listed { name, bytes, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "39593d5650112b4cc580433f6b0435385882d819";

    fn parse(siblings: &str) -> Result<Listing> {
        let text = format!(r#"{{"id": "a/b", "sha": "{COMMIT}", "siblings": [{siblings}], "more": 1}}"#);
        Listing::parse(&text, "http://hub/api")
    }

    #[test]
    fn large_and_small_files_have_their_hashes() {
        let sha256 = "ab".repeat(32);
        let listing = parse(&format!(
            r#"{{"rfilename": "unet/w.safetensors", "size": 9, "blobId": "{COMMIT}",
                 "lfs": {{"sha256": "{sha256}", "size": 9, "pointerSize": 134}}}},
               {{"rfilename": "config.json", "size": 2, "blobId": "{COMMIT}"}}"#
        ))
        .unwrap();
        assert_eq!(listing.commit, COMMIT);
        let large = Listed { name: "unet/w.safetensors".into(), bytes: 9, hash: Hash::Sha256(sha256) };
        let small = Listed { name: "config.json".into(), bytes: 2, hash: Hash::Git(COMMIT.into()) };
        assert_eq!(listing.files, [large, small]);
    }

    #[test]
    fn what_would_leave_the_cache_is_refused() {
        let hashed = |name: &str, blob: &str| format!(r#"{{"rfilename": "{name}", "size": 2, "blobId": "{blob}"}}"#);
        for (siblings, said) in [
            (hashed("../x", COMMIT), "\"../x\" must not be the name of a file"),
            (hashed("/etc/passwd", COMMIT), "must not be the name of a file"),
            (hashed("a\\\\b", COMMIT), "must not be the name of a file"),
            (hashed("a\\u0000", COMMIT), "must not be the name of a file"),
            (hashed("a", "../../x"), "\"../../x\" is not a hash"),
            (hashed("a", &COMMIT.to_uppercase()), "is not a hash"),
            (r#"{"rfilename": "a"}"#.into(), "a: the list of files has neither its size nor its hash"),
            (r#"{"name": "a"}"#.into(), "not the description of a model: missing field `rfilename`"),
        ] {
            let error = parse(&siblings).unwrap_err().to_string();
            assert!(error.starts_with("http://hub/api: ") && error.contains(said), "{siblings}: {error}");
        }
        let error = Listing::parse(r#"{"sha": "../x", "siblings": []}"#, "u").unwrap_err().to_string();
        assert!(error.contains("\"../x\" is not a commit"), "{error}");
    }
}
