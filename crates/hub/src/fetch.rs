//! From the name of a model to its files on the disk.

use crate::listing::{Listed, Listing};
use crate::lock;
use crate::names::Revision;
use crate::progress::Progress;
use crate::refusal::Asked;
use crate::remote::Remote;
use crate::snapshot::Snapshot;
use crate::store::{Held, Store};
use crate::transfer::{Transfer, settle};
use crate::{Error, Id, Result, space};
use std::collections::HashSet;

/// One download of one commit.
pub(crate) struct Fetch<'a> {
    pub(crate) remote: &'a Remote,
    pub(crate) store: &'a Store,
    pub(crate) id: &'a Id,
    pub(crate) revision: &'a Revision,
    pub(crate) commit: &'a str,
}

/// The listed files that were chosen, each once, in the order of the list.
pub(crate) fn chosen(listing: &Listing, names: &[String], id: &Id, revision: &Revision) -> Result<Vec<Listed>> {
    let listed = || listing.files.iter().map(|file| file.name.as_str());
    let known: HashSet<&str> = listed().collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name.as_str())) {
        let (id, revision, file) = (id.to_string(), revision.as_str().to_owned(), unknown.clone());
        let hint = latentrace_files::hint(&file, listed());
        return Err(Error::NotListed { id, revision, file, hint });
    }
    let names: HashSet<&str> = names.iter().map(String::as_str).collect();
    Ok(listing.files.iter().filter(|file| names.contains(file.name.as_str())).cloned().collect())
}

impl Fetch<'_> {
    /// Brings the files into the cache. If all of them are there, nothing is written.
    pub(crate) fn run(&self, files: &[Listed], progress: &mut dyn Progress) -> Result<Snapshot> {
        let held = files.iter().map(|file| Ok((file, self.store.held(file, self.commit)?)));
        let held: Vec<(&Listed, Held)> = held.collect::<Result<_>>()?;
        space::check(&self.store.folder(), needed(&held))?;
        let total = sum(files.iter().map(|file| file.bytes));
        progress.begin(total, sum(held.iter().map(|(file, held)| present(file, *held))));
        let done = self.download(&held, progress);
        progress.end();
        done
    }

    fn download(&self, held: &[(&Listed, Held)], progress: &mut dyn Progress) -> Result<Snapshot> {
        for (file, held) in held {
            if let Held::Part(counted) = *held {
                self.obtain(file, counted, progress)?;
            }
        }
        for (file, held) in held {
            if *held != Held::Whole {
                self.store.link(file, self.commit)?;
            }
        }
        self.store.refer(self.revision, self.commit)
    }

    /// Downloads one blob, unless another process has done that while this one waited for it.
    fn obtain(&self, listed: &Listed, counted: u64, progress: &mut dyn Progress) -> Result<()> {
        self.store.prepare(listed)?;
        let lock = lock::take(&self.store.lock(listed), &mut || progress.waiting(&listed.name))?;
        if self.store.has_blob(listed) {
            settle(counted, listed.bytes, progress);
            return Ok(());
        }
        let path = if lock.is_some() { self.store.partial(listed) } else { self.store.unshared(listed) };
        progress.file(&listed.name, listed.bytes);
        let asked = Asked { id: self.id, revision: self.revision.as_str(), file: Some(&listed.name) };
        let url = self.remote.url(self.id, self.commit, &listed.name);
        Transfer { remote: self.remote, asked, url, listed, path: &path }.run(counted, progress)?;
        self.store.keep(&path, listed)
    }
}

fn present(file: &Listed, held: Held) -> u64 {
    match held {
        Held::Whole | Held::Blob => file.bytes,
        Held::Part(bytes) => bytes,
    }
}

/// The bytes that must come onto the disk; a blob that two files share comes once.
fn needed(held: &[(&Listed, Held)]) -> u64 {
    let mut seen = HashSet::new();
    let new = held.iter().filter(|(file, _)| seen.insert(file.hash.etag()));
    sum(new.map(|(file, held)| file.bytes - present(file, *held)))
}

/// Sizes come from the server, and their sum may be more than any disk has.
fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}
