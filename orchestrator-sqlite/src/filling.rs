//! `SqliteFilling`: a database that is filled beside its place, and put there once it is whole.
//!
//! Invariant: from beginning to end nobody else opens, makes or fills a database at that place.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::OpenError;
use crate::open::{Taken, beside, rename, take};
use crate::options::SqliteOptions;
use crate::store::SqliteStore;

/// What its files are called beside the place.
const FILLING: &str = ".filling";
const LOCK: &str = ".lock";

/// A database that is being filled. Dropped before it is finished it is left beside its
/// place, where the next that is begun for it takes it away.
#[derive(Debug)]
pub struct SqliteFilling {
    store: Arc<SqliteStore>,
    /// Where it lies until it is whole.
    new: PathBuf,
    path: PathBuf,
    /// That of its place.
    _lock: File,
}

impl SqliteFilling {
    /// Begins a database that is to be at `path`, where none is. What somebody else has begun there and not finished is gone.
    ///
    /// # Errors
    /// [`OpenError`] when there is a database, when somebody else is about to fill it, or when it cannot be made.
    pub async fn begin(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, OpenError> {
        let Taken { lock, path } = take(path.as_ref())?;
        let new = beside(&path, FILLING);
        let store = make(&new, options).await;
        if store.is_err() {
            // It guards nothing; what failed is the error worth telling.
            let _ = remove(&beside(&path, LOCK));
        }
        Ok(Self { store: store?, new, path, _lock: lock })
    }

    /// Whether one was begun for `path` and is not finished: it is being filled, or that was interrupted.
    ///
    /// # Errors
    /// When that cannot be looked for.
    pub fn is_begun(path: impl AsRef<Path>) -> io::Result<bool> {
        beside(path.as_ref(), FILLING).try_exists()
    }

    /// Gives up: nothing is left of it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn abandon(self) -> io::Result<()> {
        self.store.close().await;
        remove_all(&self.new)?;
        remove(&beside(&self.new, LOCK))?;
        remove(&beside(&self.path, LOCK))
    }

    /// The database, to be filled.
    pub const fn store(&self) -> &Arc<SqliteStore> {
        &self.store
    }

    /// Closes it and puts it in its place: from now on it can be opened.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn finish(self) -> io::Result<()> {
        self.store.close().await;
        rename(&self.new, &self.path)?;
        remove(&beside(&self.new, LOCK))
    }
}

/// Makes a database where perhaps half of one is.
async fn make(new: &Path, options: SqliteOptions) -> Result<Arc<SqliteStore>, OpenError> {
    remove_all(new).map_err(|error| OpenError::from_io(new, error))?;
    Ok(Arc::new(SqliteStore::open_with(new, options).await?))
}

/// Removes the files of a database.
fn remove_all(path: &Path) -> io::Result<()> {
    ["", "-wal", "-shm"].iter().try_for_each(|end| remove(&beside(path, end)))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
