//! Files that appear whole or not at all: written under a temporary name in the same folder, then renamed.

use crate::Error;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// The prefix of a temporary file's name. A process that is killed can leave such a file behind.
pub const PARTIAL: &str = ".partial-";

/// Whether a file's name is that of a temporary file, which is safe to delete once no process is writing it. The safetensors crate has
/// files of its own beside the one that it writes: `.tmp` and six letters or digits, as tempfile names them.
pub fn is_partial(name: &str) -> bool {
    let is_of_safetensors = |rest: &str| rest.len() == 6 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
    name.starts_with(PARTIAL) || name.strip_prefix(".tmp").is_some_and(is_of_safetensors)
}

/// Writes a file, or replaces the one of this name. The bytes are on the disk when this returns (fsync).
///
/// # Errors
/// If the file cannot be written. An earlier file of this name is then unchanged.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write(path, bytes, File::sync_all).map_err(Error::writing(path))
}

/// Like [`replace`], but does not wait for the disk: for figures, which can be drawn again.
///
/// # Errors
/// If the file cannot be written. An earlier file of this name is then unchanged.
pub fn replace_unsynced(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write(path, bytes, |_| Ok(())).map_err(Error::writing(path))
}

/// Creates a file that `fill` writes under the temporary name that it is given. The file and its name are on the disk
/// when this returns. It never replaces a file: if there is one of this name, the error's cause is
/// [`ErrorKind::AlreadyExists`].
///
/// # Errors
/// If the file cannot be written, or exists already.
pub fn create(path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), Error> {
    create_new(path, fill, true).map_err(Error::writing(path))
}

/// Like [`create`], but does not wait for the disk: for what [`sync_all`] brings there later.
///
/// # Errors
/// If the file cannot be written, or exists already.
pub fn create_unsynced(path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), Error> {
    create_new(path, fill, false).map_err(Error::writing(path))
}

/// Makes a folder, with those that it is in, unless it is there.
///
/// # Errors
/// If it cannot be made, for instance because a file has its name.
pub fn create_folder(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(|cause| Error::Folder { path: path.to_owned(), cause })
}

/// Brings a folder with everything in it to the disk. Many files that are synced together cost little more than one.
///
/// # Errors
/// If a file cannot be read or synced.
pub fn sync_all(folder: &Path) -> Result<(), Error> {
    let synced = |path: &Path| File::open(path).and_then(|file| file.sync_all()).map_err(Error::writing(path));
    let entries = std::fs::read_dir(folder).map_err(Error::writing(folder))?;
    for entry in entries {
        let path = entry.map_err(Error::writing(folder))?.path();
        // What a link leads to belongs to somebody else.
        let about = path.symlink_metadata().map_err(Error::writing(&path))?;
        if about.is_dir() {
            sync_all(&path)?;
        } else if about.is_file() {
            synced(&path)?;
        }
    }
    synced(folder)
}

fn write(path: &Path, bytes: &[u8], sync: impl Fn(&File) -> io::Result<()>) -> io::Result<()> {
    let mut file = temporary(path)?;
    file.as_file_mut().write_all(bytes)?; // the error of `file` itself would name the temporary file
    sync(file.as_file())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn create_new(path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>, synced: bool) -> io::Result<()> {
    let file = temporary(path)?;
    let permissions = file.as_file().metadata()?.permissions();
    fill(file.path())?;
    // `fill` may have put another file under the temporary name, as safetensors does, with permissions of its own.
    let filled = File::open(file.path())?;
    filled.set_permissions(permissions)?;
    if synced {
        filled.sync_all()?;
    }
    match file.persist_noclobber(path) {
        Ok(_) => {}
        Err(failed) if failed.error.kind() == ErrorKind::AlreadyExists => return Err(failed.error),
        // The file system has neither hard links nor renaming without replacement: an empty file reserves the name.
        Err(failed) => {
            File::create_new(path)?;
            failed.file.persist(path).map_err(|error| error.error)?;
        }
    }
    if synced { File::open(folder_of(path))?.sync_all() } else { Ok(()) }
}

/// An empty file in the folder of `path`. It is deleted when it is dropped.
fn temporary(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PARTIAL);
    #[cfg(unix)] // tempfile's default is 0o600; this is the default of any new file, before the umask
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // The error would name the temporary file; its reader knows the file that was to be written.
    builder.tempfile_in(folder_of(path)).map_err(|error| match error.kind() {
        ErrorKind::NotFound => io::Error::new(ErrorKind::NotFound, "no such folder"),
        kind => kind.into(),
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_replaced_file_has_the_new_bytes_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for (bytes, write) in [(b"1", replace as fn(&Path, &[u8]) -> _), (b"2", replace), (b"3", replace_unsynced)] {
            write(&path, bytes).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
            assert_eq!(names(folder.path()), ["a"]);
        }
    }

    #[test]
    fn a_created_file_never_replaces_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let put = |text: &str| create(&path, |temporary| fs::write(temporary, text));
        put("first").unwrap();
        assert_eq!(put("second").unwrap_err().into_io().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        let failed = create(&folder.path().join("b"), |_| Err(io::Error::other("no"))).unwrap_err();
        assert!(failed.to_string().ends_with("/b: could not be written: no"), "{failed}");
        assert_eq!(names(folder.path()), ["a"], "nothing else is left");
    }

    #[test]
    fn a_temporary_file_is_known_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let fill = |temporary: &Path| {
            assert!(is_partial(&temporary.file_name().unwrap().to_string_lossy()));
            fs::write(temporary, "")
        };
        create(&folder.path().join("a"), fill).unwrap();
        assert!(!is_partial("a") && !is_partial("partial-a"));
        assert!(is_partial(".tmpAb3xY9") && !is_partial(".tmp-notes") && !is_partial(".tmpAb3xY9.txt"));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_has_the_permissions_of_any_other_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("plain"), "").unwrap();
        replace(&at("replaced"), b"").unwrap();
        let by_renaming = |temporary: &Path| {
            fs::write(at("other"), "")?;
            fs::set_permissions(at("other"), fs::Permissions::from_mode(0o600))?;
            fs::rename(at("other"), temporary)
        };
        create(&at("created"), by_renaming).unwrap();
        let mode = |name: &str| fs::metadata(at(name)).unwrap().permissions().mode();
        assert_eq!([mode("replaced"), mode("created")], [mode("plain"); 2]);
    }

    #[test]
    fn a_file_in_the_place_of_a_folder_is_said_to_be_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        fs::write(&path, "mine").unwrap();
        let error = create_folder(&path).unwrap_err().to_string();
        assert!(error.contains("notes.txt: a file, not a folder\nhint: "), "{error}");
        let error = create_folder(&path.join("runs")).unwrap_err().to_string();
        assert!(error.contains("runs: cannot create: ") && error.contains("notes.txt is a file"), "{error}");
        create_folder(&folder.path().join("a/b")).unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_with_the_file() {
        let error = replace(Path::new("/nowhere/x"), b"").unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/x: could not be written: no such folder"), "{error}");
    }
}
