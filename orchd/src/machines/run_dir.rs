//! `RunDir`: the directory of a set of machines, and the removal of those whose owner has died.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// How the names of these directories begin.
const PREFIX: &str = "orch-machines-";
/// The file that whoever uses a directory keeps locked.
const LOCK: &str = "lock";
/// Where control groups are.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// A directory of which everything goes when it is dropped, or when the next one is made.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    /// Its lock says that the directory is in use.
    _lock: File,
}

impl RunDir {
    pub(crate) fn create() -> anyhow::Result<Self> {
        let parent = std::env::temp_dir();
        remove_dead(&parent);
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&parent);
        let dir =
            dir.with_context(|| format!("cannot make a directory in {}", parent.display()))?;
        let lock = File::create(dir.path().join(LOCK)).context("cannot make a lock")?;
        lock.lock().context("cannot lock a new directory")?;
        Ok(Self { path: dir.keep(), _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The control group under which engines put theirs.
    pub(crate) fn control_group(&self) -> String {
        format!("/{}", name(&self.path))
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes the directories whose owners are gone. A directory that is just being made has no lock yet, and is left alone.
fn remove_dead(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        if !name(&path).starts_with(PREFIX) {
            continue;
        }
        let Ok(lock) = File::open(path.join(LOCK)) else { continue };
        match lock.try_lock() {
            Ok(()) => remove(&path),
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

fn remove(path: &Path) {
    let groups = Path::new(CONTROL_GROUPS);
    remove_group(&groups.join(name(path)));
    for hierarchy in std::fs::read_dir(groups).into_iter().flatten().flatten() {
        remove_group(&hierarchy.path().join(name(path)));
    }
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::warn!(%error, path = %path.display(), "a directory of machines is left");
    }
}

/// Removes a control group and those in it; the kernel refuses one that has processes.
fn remove_group(path: &Path) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(path);
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
