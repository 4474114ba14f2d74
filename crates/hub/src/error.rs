//! What can go wrong between the name of a model and its files on the disk.

use crate::id::{Moved, moved};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An error of this crate: a message with the model, the file or the address, and on a line of its own what would work.
/// The message includes the cause: there is no [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text is not the id of a model.
    #[error(
        "{id:?}: not the id of a model: {cause}\nhint: an id is OWNER/NAME, such as stable-diffusion-v1-5/stable-diffusion-v1-5"
    )]
    Id {
        /// The text.
        id: String,
        /// The rule that it breaks.
        cause: &'static str,
    },
    /// A text cannot be the name of a revision.
    #[error("{revision:?}: not a revision: {cause}\nhint: a revision is a branch such as main, a tag, or a commit")]
    RevisionName {
        /// The text.
        revision: String,
        /// The rule that it breaks.
        cause: &'static str,
    },
    /// A setting, or the environment variable it was read from, has a value that cannot be used.
    #[error("{name}: {cause}\nhint: {hint}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What is wrong with its value. A token is not repeated here.
        cause: String,
        /// What would work.
        hint: &'static str,
    },
    /// The hub has no such model, or does not show it without a token.
    #[error("{id}: no such model at {url}\nhint: {}", missing(id, *moved, *token))]
    NotFound {
        /// The model.
        id: String,
        /// The address that was asked.
        url: String,
        /// What is known to have become of this model.
        moved: Option<Moved>,
        /// Whether a token was sent.
        token: bool,
    },
    /// The model exists, but has no such branch, tag or commit.
    #[error(
        "{id}: no revision {revision} at {url}\nhint: main is the revision that every model has; others are listed at {page}"
    )]
    UnknownRevision {
        /// The model.
        id: String,
        /// The revision that was asked for.
        revision: String,
        /// The address that was asked.
        url: String,
        /// The page of the model that lists its branches and tags.
        page: String,
    },
    /// The hub lists a file and then does not have it.
    #[error("{id}: {file}: no such file at {url}\nhint: try again; if this remains, the model on the hub is damaged")]
    NoFile {
        /// The model.
        id: String,
        /// The file.
        file: String,
        /// The address that was asked.
        url: String,
    },
    /// A file was chosen that the model does not have.
    #[error("{id}: {file}: not among the files of revision {revision}\n{hint}")]
    NotListed {
        /// The model.
        id: String,
        /// The revision.
        revision: String,
        /// The file.
        file: String,
        /// The line with similar names.
        hint: String,
    },
    /// The model is given only to those who have accepted its licence.
    #[error("{id}: its owner gives it only to those who accept its licence ({url})\nhint: {}", gate(page, *token))]
    Gated {
        /// The model.
        id: String,
        /// The address that was asked.
        url: String,
        /// The page where the licence can be accepted.
        page: String,
        /// Whether a token was sent.
        token: bool,
    },
    /// The hub does not accept the token.
    #[error(
        "{id}: the hub does not accept the token: {said} ({url})\nhint: make a token at {endpoint}/settings/tokens and set HF_TOKEN, or unset it for a public model"
    )]
    Token {
        /// The model.
        id: String,
        /// The address that was asked.
        url: String,
        /// The address of the hub.
        endpoint: String,
        /// What the hub said.
        said: String,
    },
    /// The hub refuses the request for another reason.
    #[error("{id}: {url} answers {status}{}\nhint: {}", remark(said), refused(*status))]
    Refused {
        /// The model.
        id: String,
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the hub said, or nothing.
        said: String,
    },
    /// The hub asks for fewer requests.
    #[error("{url} answers 429, too many requests, after {}{}\nhint: wait; with a token in HF_TOKEN more requests are allowed", tries(*count), asked(*wait))]
    RateLimited {
        /// The address.
        url: String,
        /// How long the hub asks to wait.
        wait: Option<Duration>,
        /// How many times it was asked.
        count: u32,
    },
    /// The hub has a fault of its own.
    #[error("{url} answers {status} after {}\nhint: the hub has a fault; try again later, a started download continues", tries(*count))]
    Server {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// How many times it was asked.
        count: u32,
    },
    /// No connection to the hub can be made.
    #[error(
        "{url} cannot be reached: {cause}\nhint: check the network, HTTPS_PROXY, SSL_CERT_FILE and HF_ENDPOINT; what is in the cache can be used offline"
    )]
    Unreachable {
        /// The address.
        url: String,
        /// What the system said.
        cause: String,
    },
    /// The connection ended before the answer did.
    #[error("{url}: the connection was lost after {}: {cause}\nhint: call this again, and the download continues where it stopped", tries(*count))]
    Lost {
        /// The address.
        url: String,
        /// What the system said, or how many bytes came of how many.
        cause: String,
        /// How many times it was tried.
        count: u32,
    },
    /// The hub did not answer, or stopped sending.
    #[error("{url}: no answer within {} s, after {}\nhint: call this again, and the download continues where it stopped", limit.as_secs_f64(), tries(*count))]
    Timeout {
        /// The address.
        url: String,
        /// How long was waited.
        limit: Duration,
        /// How many times it was tried.
        count: u32,
    },
    /// Something that is not the hub answers, usually a proxy or the page of a network's login.
    #[error(
        "{url} answers with {found} in place of {expected}\nhint: a proxy or a network's login page may answer for the hub; check HTTPS_PROXY and HF_ENDPOINT"
    )]
    NotHub {
        /// The address.
        url: String,
        /// What came.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The answer of the hub lacks something, or has something that must not be used.
    #[error("{url}: {cause}\nhint: HF_ENDPOINT must be a hub as https://huggingface.co is; report this if it is")]
    Answer {
        /// The address.
        url: String,
        /// What is wrong with the answer.
        cause: String,
    },
    /// A file on the hub has another size than the hub's list of files says.
    #[error(
        "{file}: {url} sends {found} bytes, and the list of files says {expected}\nhint: a proxy or mirror may have an old file; check HTTPS_PROXY and HF_ENDPOINT"
    )]
    Length {
        /// The file.
        file: String,
        /// The address.
        url: String,
        /// The size that the list says.
        expected: u64,
        /// The size that is sent.
        found: u64,
    },
    /// The bytes of a file are not those that the hub's list of files says. They have been deleted.
    #[error(
        "{file}: wrong checksum of {url}: expected {expected}, found {found}\nhint: the bad file has been deleted; call this again, and if it remains, check HTTPS_PROXY and HF_ENDPOINT"
    )]
    Checksum {
        /// The file.
        file: String,
        /// The address.
        url: String,
        /// The checksum in the list of files.
        expected: String,
        /// The checksum of the bytes that came.
        found: String,
    },
    /// The disk has too little space for the files.
    #[error("{}: {} are needed, and {} are free\nhint: free {} or set HF_HUB_CACHE to a folder on another disk", folder.display(), bytes(*needed), bytes(*available), bytes(needed.saturating_sub(*available)))]
    Space {
        /// The folder of the cache.
        folder: PathBuf,
        /// The bytes that are to be downloaded.
        needed: u64,
        /// The bytes that are free.
        available: u64,
    },
    /// Offline, and the cache does not have it.
    #[error("{id}: revision {revision} is not in the cache {}, and downloads are off\nhint: {}", folder.display(), offline(id))]
    Offline {
        /// The model.
        id: String,
        /// The revision.
        revision: String,
        /// The cache in which it was looked for.
        folder: PathBuf,
    },
    /// The cache must be written to, and cannot be.
    #[error("{}: could not be written: {cause}\nhint: the cache is read-only for you; set HF_HUB_CACHE to a folder that you may write", path.display())]
    ReadOnly {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The cache has something that Python's program would not have written.
    #[error("{}: {cause}\nhint: delete it, and it is made again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// A file of the cache could not be read or written.
    #[error("{}: {}", path.display(), latentrace_files::said(cause))]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the hub could not be reached or did not answer. Then a model in the cache may still be what is wanted.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Error::Unreachable { .. } | Error::Timeout { .. } | Error::Lost { .. } | Error::Server { .. })
    }

    /// The same error, after so many tries.
    pub(crate) fn after(mut self, tries: u32) -> Error {
        match &mut self {
            Error::RateLimited { count, .. }
            | Error::Server { count, .. }
            | Error::Lost { count, .. }
            | Error::Timeout { count, .. } => *count = tries,
            _ => {}
        }
        self
    }

    pub(crate) fn reading(path: &Path) -> impl Fn(io::Error) -> Error {
        move |cause| Error::File { path: path.to_owned(), cause }
    }

    pub(crate) fn writing(path: &Path) -> impl Fn(io::Error) -> Error {
        move |cause| match cause.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Error::ReadOnly { path: path.to_owned(), cause }
            }
            _ => Error::File { path: path.to_owned(), cause },
        }
    }
}

fn missing(id: &str, moved: Option<Moved>, token: bool) -> String {
    match (moved, token) {
        (Some(moved), _) => moved.to_string(),
        (None, false) => {
            format!("check the spelling of {id}; a private model needs a token in HF_TOKEN, or `hf auth login`")
        }
        (None, true) => format!("check the spelling of {id}, and that your token may read it"),
    }
}

fn offline(id: &str) -> String {
    match moved(id) {
        Some(moved) => moved.to_string(),
        None => "download it without --offline and without HF_HUB_OFFLINE, or set HF_HUB_CACHE to a cache that has it"
            .into(),
    }
}

fn gate(page: &str, token: bool) -> String {
    if token {
        format!("accept the licence at {page} with the account of your token")
    } else {
        format!("accept the licence at {page}, make a token, and set HF_TOKEN or run `hf auth login`")
    }
}

fn refused(status: u16) -> &'static str {
    match status {
        403 => "your token may not have the right to read this model",
        451 => "the hub does not give this model in your country",
        _ => "the page of the model may say why",
    }
}

fn remark(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

fn asked(wait: Option<Duration>) -> String {
    wait.map_or(String::new(), |wait| format!("; it asks to wait {} s", wait.as_secs()))
}

fn tries(count: u32) -> String {
    if count == 1 { "1 try".into() } else { format!("{count} tries") }
}

/// A number of bytes as a text that also a small difference shows in: `4.27 GB (4265146304 bytes)`.
fn bytes(count: u64) -> String {
    let units = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    match units.iter().find(|(_, unit)| count as f64 >= *unit) {
        Some((name, unit)) => format!("{:.2} {name} ({count} bytes)", count as f64 / unit),
        None => format!("{count} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_may_not_be_written_is_told_as_such() {
        for kind in [io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::PermissionDenied] {
            let error = Error::writing("/cache/x".as_ref())(kind.into()).to_string();
            assert!(error.starts_with("/cache/x: could not be written: "), "{error}");
            assert!(error.contains("\nhint: the cache is read-only for you; set HF_HUB_CACHE"), "{error}");
        }
        let error = Error::writing("/cache/x".as_ref())(io::ErrorKind::StorageFull.into()).to_string();
        assert_eq!(error, "/cache/x: no storage space");
    }

    #[test]
    fn numbers_are_told_in_words_that_fit() {
        assert_eq!((tries(1), tries(5)), ("1 try".into(), "5 tries".into()));
        assert_eq!(bytes(999), "999 bytes");
        assert_eq!(bytes(4_265_146_304), "4.27 GB (4265146304 bytes)");
    }
}
