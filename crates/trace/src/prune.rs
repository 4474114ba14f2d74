//! A record made ready to be continued: what is incomplete is removed, after everything that can fail was checked.

use crate::entry::{Entry, Line};
use crate::error::{Result, changed, file};
use crate::lines::Lines;
use crate::owner::Stamp;
use crate::trace::{Trace, no_link, plain, shard_number};
use latentrace_files::{is_partial, said};
use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

impl Trace {
    /// Removes what is incomplete. Returns the number of the next shard, and the lines of an index that continue this
    /// one. The caller must have [claimed](crate::owner::Claim) the trace.
    ///
    /// # Errors
    /// Another process has changed the record, or a part of it cannot be read or written. Nothing was removed or written
    /// then.
    pub(crate) fn prune(&self) -> Result<(usize, Lines)> {
        let path = self.folder().join("index.jsonl");
        self.check_index(&path)?;
        let mut lines = Lines::new(self.run_crc32());
        self.entries().iter().for_each(|entry| lines.line(&Line::Entry(Box::new(entry.clone()))));
        if let Some(complete) = self.complete().checked_sub(1) {
            lines.line(&Line::Complete { complete, beyond_budget: self.begun().beyond_budget });
        }
        let stored = self.entries().iter().flat_map(Entry::parts);
        let used: HashSet<&str> = stored.map(|stored| stored.shard.as_str()).collect();
        let Leftovers { remove, kept } = Leftovers::of(&self.folder().join("shards"), &used)?;
        latentrace_nn::replace(&path, &lines.take())?;
        for path in remove {
            std::fs::remove_file(&path).map_err(|error| file(&path, error))?;
        }
        let taken = used.into_iter().filter_map(shard_number).chain(kept);
        Ok((taken.max().map_or(0, |last| last as usize + 1), lines))
    }

    /// Checks that the index may be written again: it can be read, and is as it was read.
    fn check_index(&self, path: &Path) -> Result<()> {
        if Stamp::at(path) != self.stamp() {
            return Err(changed(path)); // another process has continued it since it was read
        }
        match self.stamp() {
            Some(_) => readable(path),
            None => Ok(()), // there is none
        }
    }
}

/// What is in the folder of the shards, and no line of the index refers to it.
struct Leftovers {
    /// What this program left there, to be removed.
    remove: Vec<PathBuf>,
    /// The numbers of things that are no shards, but have such a name. No shard can have it.
    kept: Vec<u32>,
}

impl Leftovers {
    /// Looks at everything in the folder, which is created if it is missing. Changes nothing in it.
    fn of(folder: &Path, used: &HashSet<&str>) -> Result<Leftovers> {
        no_link(folder).map_err(|cause| file(folder, cause))?; // nothing outside the folder may be removed
        std::fs::create_dir_all(folder).map_err(|error| file(folder, error))?;
        let mut found = Leftovers { remove: Vec::new(), kept: Vec::new() };
        for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
            let entry = entry.map_err(|error| unreadable(folder, &error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let number = shard_number(&name);
            if used.contains(name.as_str()) || number.is_none() && !is_partial(&name) {
                continue; // other files than ours stay
            }
            let path = entry.path();
            match plain(&path) {
                Ok(_) => {
                    readable(&path)?; // it may be whole
                    found.remove.push(path);
                }
                Err(_) => found.kept.extend(number),
            }
        }
        check_writable(folder)?;
        Ok(found)
    }
}

/// Checks that a file of the record can be read.
fn readable(path: &Path) -> Result<()> {
    plain(path).map_err(|cause| file(path, cause))?;
    File::open(path).map(drop).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, cause: &std::io::Error) -> crate::Error {
    let cause = said(cause);
    file(path, format!("cannot be read: {cause}\nhint: nothing was changed; make it readable, then resume the run"))
}

/// Checks that files can be made in a folder.
fn check_writable(folder: &Path) -> Result<()> {
    let probe = folder.join(format!("{}{}", latentrace_files::PARTIAL, std::process::id()));
    File::create(&probe).and_then(|_| std::fs::remove_file(&probe)).map_err(|error| file(folder, said(&error)))
}
