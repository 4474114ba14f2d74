//! The checksums of the hub: SHA-256 of large files, and git's SHA-1 of all others.

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// What the content of a file must hash to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Hash {
    /// The SHA-256 of the bytes. Files in the hub's storage for large files (LFS) have it.
    Sha256(String),
    /// The SHA-1 that git gives to a blob: that of `blob`, the size, a zero byte and the bytes.
    Git(String),
}

impl Hash {
    /// The hash in hexadecimal: what the hub sends as the file's ETag, and the name of the blob in the cache.
    pub fn etag(&self) -> &str {
        match self {
            Hash::Sha256(hash) | Hash::Git(hash) => hash,
        }
    }
}

/// A hash that is computed as the bytes come.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
}

impl Hasher {
    /// For a file of so many bytes that should have this kind of hash.
    pub(crate) fn new(hash: &Hash, bytes: u64) -> Hasher {
        match hash {
            Hash::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Hash::Git(_) => Hasher::Git(Sha1::new_with_prefix(format!("blob {bytes}\0"))),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Git(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> String {
        match self {
            Hasher::Sha256(hasher) => format!("{:x}", hasher.finalize()),
            Hasher::Git(hasher) => format!("{:x}", hasher.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(hash: Hash, parts: &[&[u8]]) -> String {
        let mut hasher = Hasher::new(&hash, parts.iter().map(|part| part.len() as u64).sum());
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finish()
    }

    #[test]
    fn hashes_are_those_of_git_and_sha256sum() {
        // git hash-object, sha256sum
        assert_eq!(of(Hash::Git(String::new()), &[b"hello", b"\n"]), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(of(Hash::Git(String::new()), &[]), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(of(Hash::Sha256(String::new()), &[b"hel", b"lo\n"]), sha256);
    }
}
