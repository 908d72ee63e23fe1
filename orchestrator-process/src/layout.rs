//! Where things lie: `pods/CLUSTER/NODE/UID.ATTEMPT/NAME.ATTEMPT` under the state directory.
//!
//! Keys become path components only after a check of their form, so no key leads out of the directory.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use orchestrator_core::model::{Uid, is_dns_label, is_dns_subdomain};
use orchestrator_core::runtime::{ContainerKey, SandboxKey, Scope};

use crate::error::{Result, if_present, invalid};

const TRANSIENT: &str = "tmp-";

/// The state directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    pub(crate) fn bells(&self) -> PathBuf {
        self.root.join("bells")
    }

    pub(crate) fn scope(&self, scope: &Scope) -> Result<PathBuf> {
        if !is_dns_label(&scope.cluster) {
            return Err(invalid(format!("cluster {:?} is not a DNS label", scope.cluster)));
        }
        if !is_dns_subdomain(&scope.node) {
            return Err(invalid(format!("node {:?} is not a DNS subdomain", scope.node)));
        }
        Ok(self.pods().join(&scope.cluster).join(&scope.node))
    }

    pub(crate) fn sandbox(&self, key: &SandboxKey) -> Result<PathBuf> {
        Ok(self.scope(&key.scope)?.join(format!("{}.{}", key.pod, key.attempt)))
    }

    pub(crate) fn container(&self, key: &ContainerKey) -> Result<PathBuf> {
        if !is_dns_label(&key.name) {
            return Err(invalid(format!("container {:?} is not a DNS label", key.name)));
        }
        Ok(self.sandbox(&key.sandbox)?.join(format!("{}.{}", key.name, key.attempt)))
    }
}

/// Reads a sandbox's directory name back.
pub(crate) fn parse_sandbox(name: &OsStr) -> Option<(Uid, u32)> {
    let (uid, attempt) = name.to_str()?.rsplit_once('.')?;
    Some((uid.parse().ok()?, attempt.parse().ok()?))
}

/// Reads a container's directory name back.
pub(crate) fn parse_container(name: &OsStr) -> Option<(String, u32)> {
    let (name, attempt) = name.to_str()?.rsplit_once('.')?;
    is_dns_label(name).then_some(())?;
    Some((name.to_owned(), attempt.parse().ok()?))
}

/// The name that a directory bears while it is made or taken down; no key spells it.
pub(crate) fn transient(path: &Path) -> PathBuf {
    let mut name = OsStr::new(TRANSIENT).to_owned();
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

/// Returns the path of which a path is the transient one, if it is.
pub(crate) fn original(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_prefix(TRANSIENT)?;
    Some(path.with_file_name(name))
}

/// Lists the names in a directory; none if there is no such directory.
pub(crate) fn names(path: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let Some(entries) = if_present(fs::read_dir(path))? else { return Ok(Vec::new()) };
    entries.map(|entry| entry.map(|entry| entry.file_name())).collect()
}

/// Makes a directory with its parents, for this user alone.
pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Removes a directory with all in it, if it is there.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    if_present(fs::remove_dir_all(path)).map(drop)
}

/// Whether a directory is a real one, ours, and closed to others.
pub(crate) fn is_private_dir(path: &Path) -> io::Result<bool> {
    let meta = fs::symlink_metadata(path)?;
    Ok(meta.is_dir() && meta.uid() == geteuid().as_raw() && meta.mode() & 0o077 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_paths_are_refused() {
        let layout = Layout::new("/state".into());
        let scope =
            |cluster: &str, node: &str| Scope { cluster: cluster.into(), node: node.into() };
        for (cluster, node) in [("..", "n"), ("a/b", "n"), ("", "n"), ("c", ".."), ("c", "a/../b")]
        {
            assert!(layout.scope(&scope(cluster, node)).is_err(), "{cluster:?} {node:?}");
        }
        let sandbox =
            SandboxKey { scope: scope("c", "n.example"), pod: Uid::default(), attempt: 3 };
        let uid = Uid::default();
        let path = layout.sandbox(&sandbox).expect("valid names");
        assert_eq!(path, Path::new(&format!("/state/pods/c/n.example/{uid}.3")));
        for name in ["..", "../../x", "", "a.b", "x/y"] {
            let key = ContainerKey { sandbox: sandbox.clone(), name: name.into(), attempt: 0 };
            assert!(layout.container(&key).is_err(), "{name:?}");
        }
    }

    #[test]
    fn directory_names_read_back_and_transient_ones_do_not() {
        let uid = Uid::default();
        let path = PathBuf::from(format!("/state/{uid}.7"));
        assert_eq!(parse_sandbox(path.file_name().expect("a name")), Some((uid, 7)));
        assert_eq!(parse_sandbox(transient(&path).file_name().expect("a name")), None);
        assert_eq!(original(&transient(&path)), Some(path.clone()));
        assert_eq!(original(&path), None);
        assert_eq!(parse_container(OsStr::new("web.2")), Some(("web".into(), 2)));
        for other in ["started", "sandbox.json", "web", "a.b.2"] {
            assert_eq!(parse_container(OsStr::new(other)), None, "{other}");
        }
    }
}
