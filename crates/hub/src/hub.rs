//! The hub and its cache.

use crate::fetch::{Fetch, chosen};
use crate::list::{CachedRepo, list};
use crate::listing::{Listed, Listing};
use crate::names::Revision;
use crate::progress::Progress;
use crate::remote::Remote;
use crate::retry::until_done;
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::{Error, Id, Result, Settings};
use std::path::{Path, PathBuf};

/// Says which of a model's files are needed, by their names.
pub type Choose<'a, E> = dyn FnMut(&[Listed]) -> Result<Vec<String>, E> + 'a;

/// The hub, and the cache on this machine.
pub struct Hub {
    cache: PathBuf,
    /// None if offline.
    remote: Option<Remote>,
}

impl Hub {
    /// A hub with these settings. Opens no connection and writes nothing.
    ///
    /// # Errors
    /// If the address or the token cannot be one.
    pub fn new(settings: &Settings) -> Result<Hub> {
        let cache = std::path::absolute(&settings.cache).map_err(Error::reading(&settings.cache))?;
        let remote = if settings.offline { None } else { Some(Remote::new(settings)?) };
        Ok(Hub { cache, remote })
    }

    /// A hub with the settings of the environment, as [`Settings::from_env`] reads them. It is offline if `offline` or the
    /// environment says so.
    ///
    /// # Errors
    /// Those of [`Settings::from_env`] and [`Hub::new`].
    pub fn from_env(offline: bool) -> Result<Hub> {
        let mut settings = Settings::from_env(|name| std::env::var_os(name))?;
        settings.offline |= offline;
        Hub::new(&settings)
    }

    /// The folder of the cache.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Whether only the cache is used.
    pub fn is_offline(&self) -> bool {
        self.remote.is_none()
    }

    /// A model in the cache, at a branch or tag as it was when it was last downloaded, or at a whole commit. Asks nobody
    /// and writes nothing.
    ///
    /// # Errors
    /// If the revision cannot be one, or the cache cannot be read.
    pub fn cached(&self, id: &Id, revision: &str) -> Result<Option<Snapshot>> {
        Store::new(&self.cache, id).find(&Revision::parse(revision)?)
    }

    /// The models in the cache, sorted. None if there is no cache yet.
    ///
    /// # Errors
    /// If a folder of the cache cannot be read.
    pub fn list(&self) -> Result<Vec<CachedRepo>> {
        list(&self.cache)
    }

    /// Brings files of a model into the cache: asks the hub for the list of files, asks `choose` for the names of those
    /// that are needed, downloads what the cache lacks, verifies it, and returns the folder. A download that was stopped
    /// continues.
    ///
    /// Offline, `choose` is given the files that the cache has, and what it returns must be among them.
    ///
    /// # Errors
    /// Those of `choose`, and every [`Error`] but [`Error::Id`].
    pub fn fetch<E: From<Error>>(
        &self,
        id: &Id,
        revision: &str,
        choose: &mut Choose<'_, E>,
        progress: &mut dyn Progress,
    ) -> Result<Snapshot, E> {
        let revision = Revision::parse(revision)?;
        let store = Store::new(&self.cache, id);
        let Some(remote) = &self.remote else { return self.found(id, &revision, &store, choose) };
        let listing = until_done(remote.patience(), progress, || remote.listing(id, &revision))?;
        let names = choose(&listing.files)?;
        let files = chosen(&listing, &names, id, &revision)?;
        let fetch = Fetch { remote, store: &store, id, revision: &revision, commit: &listing.commit };
        Ok(fetch.run(&files, progress)?)
    }

    fn found<E: From<Error>>(
        &self,
        id: &Id,
        revision: &Revision,
        store: &Store,
        choose: &mut Choose<'_, E>,
    ) -> Result<Snapshot, E> {
        let snapshot = store.find(revision)?.ok_or_else(|| Error::Offline {
            id: id.to_string(),
            revision: revision.as_str().to_owned(),
            folder: self.cache.clone(),
        })?;
        let listing = Listing { commit: snapshot.commit().to_owned(), files: snapshot.files()? };
        let names = choose(&listing.files)?;
        chosen(&listing, &names, id, revision)?;
        Ok(snapshot)
    }
}
