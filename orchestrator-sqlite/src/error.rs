//! `OpenError`: why a database is refused, and what to do about it. A refused file is left as it was.

use std::io;
use std::path::{Path, PathBuf};

use orchestrator_core::store::BoxError;
use rusqlite::ErrorCode;

/// Why a database was not opened; the file has not been changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// SQLite failed in a way that no other variant names.
    #[error("{path}: sqlite cannot open the database")]
    Backend {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: BoxError,
    },
    /// The file is damaged.
    #[error("{path}: the database is damaged: restore it from a backup, or choose another path")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: BoxError,
    },
    /// The file is a database of another program.
    #[error(
        "{path}: is a database of another program (application id {found:#010x}, ours is {:#010x}): choose another path",
        crate::APPLICATION_ID
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The application id it bears.
        found: u32,
    },
    /// There is no space left for the database to work with.
    #[error("{path}: the disk is full or a quota is used up: free some space")]
    Full {
        /// The database.
        path: PathBuf,
    },
    /// Another process, or another store of this process, has it open.
    #[error("{path}: is in use by {holder}: stop it first, or choose another path")]
    InUse {
        /// The database.
        path: PathBuf,
        /// Who holds it, as far as known.
        holder: String,
    },
    /// The operating system refused.
    #[error("{path}: cannot be opened")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A newer version of this program wrote it.
    #[error(
        "{path}: has format version {found}, this program reads up to {supported}: run the newer program"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// The version it has.
        found: u32,
        /// The newest version this program knows.
        supported: u32,
    },
    /// The file is no SQLite database.
    #[error("{path}: is not a database: choose another path")]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// There is something where a new database is to be.
    #[error("{path}: there is a state already: choose another place")]
    NotEmpty {
        /// The place.
        path: PathBuf,
    },
    /// What SQLite keeps beside a database is where a new database is to be, and would be taken for part of it.
    #[error(
        "{path}: is left of a database that is not there any more: move it, and what else begins like that one's name, to where it is, or choose another place"
    )]
    Orphaned {
        /// The file.
        path: PathBuf,
    },
    /// The file, or the directory it lies in, may not be written.
    #[error("{path}: is read-only: allow this user to write it, or choose another path")]
    ReadOnly {
        /// The file or directory.
        path: PathBuf,
    },
}

impl OpenError {
    /// Says what an error of the operating system means for opening `path`.
    pub(crate) fn from_io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { path }
            }
            _ => Self::Io { path, source },
        }
    }

    /// Says what an error of SQLite means for opening `path`.
    pub(crate) fn from_sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::InUse { path, holder: "another sqlite program".to_owned() }
            }
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { path, source: source.into() },
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::NotADatabase) => Self::NotADatabase { path },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly { path },
            _ => Self::Backend { path, source: source.into() },
        }
    }
}
