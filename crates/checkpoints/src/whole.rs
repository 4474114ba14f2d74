//! A folder that appears whole or not at all.

use crate::error::{Result, file};
use std::path::Path;

/// Fills a new folder under a temporary name, in the same parent, and renames it. The `parts` of the checkpoint have their
/// folders already.
pub(crate) fn folder(to: &Path, parts: &[&str], fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if to.symlink_metadata().is_ok() {
        return Err(file(to, "there is something here already"));
    }
    let fail = |error: std::io::Error| file(to, latentrace_files::said(&error));
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(fail)?;
    let partial = tempfile::Builder::new().prefix(latentrace_nn::PARTIAL).tempdir_in(parent).map_err(fail)?;
    for part in parts {
        std::fs::create_dir_all(partial.path().join(part)).map_err(fail)?;
    }
    fill(partial.path())?;
    latentrace_files::sync_all(partial.path()).map_err(|error| file(to, latentrace_files::said(&error.into_io())))?;
    #[cfg(unix)] // a temporary folder is for its owner alone; this is the default of a new folder
    std::fs::set_permissions(partial.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(fail)?;
    std::fs::rename(partial.path(), to).map_err(fail)?;
    let _ = partial.keep(); // it has been renamed, so there is nothing to remove
    Ok(())
}
