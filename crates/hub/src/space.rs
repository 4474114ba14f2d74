//! Whether the disk has space for what is to be downloaded.

use crate::{Error, Result};
use std::path::Path;

/// Fails if the disk of a folder, which need not exist yet, has fewer free bytes than needed.
pub(crate) fn check(folder: &Path, needed: u64) -> Result<()> {
    let Some(existing) = folder.ancestors().find(|folder| folder.exists()) else { return Ok(()) };
    // A file system that cannot tell is not one that is full: writing would tell.
    let Ok(disk) = rustix::fs::statvfs(existing) else { return Ok(()) };
    let available = disk.f_bavail.saturating_mul(disk.f_frsize);
    if needed > available {
        return Err(Error::Space { folder: folder.to_owned(), needed, available });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_too_small_is_told_with_both_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("not/yet/there");
        check(&cache, 1).unwrap();
        let needed = 1 << 60;
        let error = check(&cache, needed).unwrap_err();
        let Error::Space { available, .. } = error else { panic!("{error}") };
        let said = error.to_string();
        assert!(said.contains(&format!("({needed} bytes) are needed")), "{said}");
        assert!(said.contains(&format!("({available} bytes) are free\nhint: free ")), "{said}");
    }
}
