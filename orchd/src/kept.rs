//! `FileKeep`: a file of an agent's data directory that holds the pods of its node.

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use orchestrator_core::driver::Keep;

/// The file.
pub const PODS: &str = "pods.json";

/// Keeps the pods of a node in a file that only its owner may read.
#[derive(Debug)]
pub struct FileKeep {
    path: PathBuf,
}

impl FileKeep {
    /// Keeps them in a directory.
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join(PODS) }
    }

    /// Forgets them: they were of a node that this is no more.
    ///
    /// # Errors
    /// When the file is there and stays.
    pub fn forget(&self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.told(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn told(&self, error: Error) -> Error {
        Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }
}

impl Keep for FileKeep {
    fn read(&self) -> Result<Option<Vec<u8>>> {
        match std::fs::read(&self.path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.told(error)),
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        orchestrator_http::write_private(&self.path, bytes).map_err(|error| self.told(error))
    }
}
