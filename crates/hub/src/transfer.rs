//! The bytes of one file: downloaded, continued where it stopped, and verified.

use crate::digest::Hasher;
use crate::listing::Listed;
use crate::progress::Progress;
use crate::refusal::Asked;
use crate::remote::{Remote, lost};
use crate::retry::{Failure, Tries};
use crate::{Error, Result};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use ureq::Body;
use ureq::http::{Response, StatusCode};

/// One file on its way to `path`. Nobody else writes to it.
pub(crate) struct Transfer<'a> {
    pub(crate) remote: &'a Remote,
    pub(crate) asked: Asked<'a>,
    pub(crate) url: String,
    pub(crate) listed: &'a Listed,
    pub(crate) path: &'a Path,
}

const BUFFER: usize = 1 << 17;

impl Transfer<'_> {
    /// Downloads what `path` lacks. The file is then complete, verified and on the disk. `counted` bytes of it have been
    /// told as present.
    ///
    /// If this fails, the bytes that came stay for the next time, unless they are wrong.
    pub(crate) fn run(&self, counted: u64, progress: &mut dyn Progress) -> Result<()> {
        let mut partial = Partial::open(self.path, self.listed)?;
        settle(counted, partial.have, progress);
        let is_resumed = partial.have > 0;
        self.complete(&mut partial, progress)?;
        if is_resumed && !partial.is_right() {
            // A crash of the machine or another program may have left a part that was wrong from the start.
            progress.lose(partial.have);
            partial.restart()?;
            self.complete(&mut partial, progress)?;
        }
        if !partial.is_right() {
            std::fs::remove_file(self.path).map_err(Error::writing(self.path))?;
            let (expected, found) = (self.listed.hash.etag().to_owned(), partial.hasher.finish());
            return Err(Error::Checksum { file: self.listed.name.clone(), url: self.url.clone(), expected, found });
        }
        partial.file.sync_all().map_err(Error::writing(self.path))
    }

    fn complete(&self, partial: &mut Partial, progress: &mut dyn Progress) -> Result<()> {
        let mut tries = Tries::new(self.remote.patience());
        while partial.have < self.listed.bytes {
            let before = partial.have;
            if let Err(failure) = self.once(partial, progress) {
                if partial.have > before {
                    tries.progressed();
                }
                tries.wait(failure, progress)?;
            }
        }
        Ok(())
    }

    /// One request, and as many bytes as it brings.
    fn once(&self, partial: &mut Partial, progress: &mut dyn Progress) -> Result<(), Failure> {
        let (response, url) = self.remote.get(&self.asked, &self.url, partial.have)?;
        let sent = sent(&response, &url)?;
        if sent.total.is_some_and(|total| total != self.listed.bytes) {
            return Err(self.other_length(&response, &url, sent.total.unwrap_or_default()).into());
        }
        if sent.from == 0 && partial.have > 0 {
            // The server does not send parts of files.
            progress.lose(partial.have);
            partial.restart()?;
        } else if sent.from != partial.have {
            let cause = format!("asked for the bytes from {}, it sends those from {}", partial.have, sent.from);
            return Err(Error::Answer { url, cause }.into());
        }
        self.copy(response, &url, partial, progress)
    }

    fn copy(
        &self,
        response: Response<Body>,
        url: &str,
        partial: &mut Partial,
        progress: &mut dyn Progress,
    ) -> Result<(), Failure> {
        let expected = self.listed.bytes;
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) if partial.have < expected => {
                    return Err(lost(url, format!("{} of {expected} bytes came", partial.have)));
                }
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(cause) if cause.kind() == ErrorKind::Interrupted => continue,
                Err(cause) => return Err(self.remote.broken(cause, url)),
            };
            let found = partial.have.saturating_add(count as u64);
            if found > expected {
                let (file, url) = (self.listed.name.clone(), url.to_owned());
                return Err(Error::Length { file, url, expected, found }.into());
            }
            partial.write(&buffer[..count])?;
            progress.advance(count as u64);
        }
    }

    fn other_length(&self, response: &Response<Body>, url: &str, found: u64) -> Error {
        let (file, url, expected) = (self.listed.name.clone(), url.to_owned(), self.listed.bytes);
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok());
        if kind.is_some_and(|kind| kind.contains("html")) && !file.ends_with(".html") {
            return Error::NotHub { url, found: "a page (HTML)".into(), expected: "a file" };
        }
        Error::Length { file, url, expected, found }
    }
}

/// Corrects what was told before the lock of the file was held.
pub(crate) fn settle(counted: u64, have: u64, progress: &mut dyn Progress) {
    if have > counted {
        progress.advance(have - counted);
    } else if have < counted {
        progress.lose(counted - have);
    }
}

/// What a server says it sends: from where on, and the size of the whole file if it tells.
struct Sent {
    from: u64,
    total: Option<u64>,
}

fn sent(response: &Response<Body>, url: &str) -> Result<Sent> {
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    if response.status() != StatusCode::PARTIAL_CONTENT {
        let total = header("content-length").and_then(|length| length.parse().ok());
        return Ok(Sent { from: 0, total });
    }
    let range = header("content-range").unwrap_or_default();
    let parsed = range.strip_prefix("bytes ").and_then(|range| range.split_once('/')).and_then(|(range, total)| {
        let (from, _) = range.split_once('-')?;
        Some(Sent { from: from.parse().ok()?, total: total.parse().ok() })
    });
    parsed.ok_or_else(|| Error::Answer { url: url.to_owned(), cause: format!("Content-Range is {range:?}") })
}

/// A file that is not complete, with the hash of what it has.
struct Partial<'a> {
    path: &'a Path,
    listed: &'a Listed,
    file: File,
    hasher: Hasher,
    have: u64,
}

impl<'a> Partial<'a> {
    /// Opens what an earlier download has left, or an empty file. What is longer than the whole file is of no use.
    fn open(path: &'a Path, listed: &'a Listed) -> Result<Partial<'a>> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(Error::writing(path))?;
        let hasher = Hasher::new(&listed.hash, listed.bytes);
        let mut partial = Partial { path, listed, file, hasher, have: 0 };
        if partial.file.metadata().map_err(Error::reading(path))?.len() > listed.bytes {
            partial.restart()?;
        }
        partial.read()?;
        Ok(partial)
    }

    fn read(&mut self) -> Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    self.hasher.update(&buffer[..count]);
                    self.have += count as u64;
                }
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Err(cause) => return Err(Error::reading(self.path)(cause)),
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::writing(self.path))?;
        self.hasher.update(bytes);
        self.have += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(Error::writing(self.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(Error::writing(self.path))?;
        self.hasher = Hasher::new(&self.listed.hash, self.listed.bytes);
        self.have = 0;
        Ok(())
    }

    fn is_right(&self) -> bool {
        self.hasher.clone().finish() == self.listed.hash.etag()
    }
}

/// Whether a file has the size and the hash that are listed.
pub(crate) fn is_right(path: &Path, listed: &Listed) -> Result<bool> {
    let mut file = File::open(path).map_err(Error::reading(path))?;
    if file.metadata().map_err(Error::reading(path))?.len() != listed.bytes {
        return Ok(false);
    }
    let mut hasher = Hasher::new(&listed.hash, listed.bytes);
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish() == listed.hash.etag()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            Err(cause) => return Err(Error::reading(path)(cause)),
        }
    }
}
