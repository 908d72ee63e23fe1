//! The files that belong to a state and lie beside it in the data directory: the cluster's keys, those of its secrets among them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path};

use anyhow::{Context as _, bail};
use orchestrator_core::dump::DumpItem;
use orchestrator_http::write_private;

use crate::data_dir::{PKI, RUNTIME};

/// The most bytes of such a file.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// The most such files.
const FILES_MAX: usize = 64;

/// Reads the files of a data directory.
pub fn read(dir: &Path) -> anyhow::Result<Vec<DumpItem>> {
    let mut paths = vec![RUNTIME.to_owned()];
    match fs::read_dir(dir.join(PKI)) {
        Ok(entries) => {
            for entry in entries {
                let name = entry?.file_name();
                paths.push(format!("{PKI}/{}", name.to_string_lossy()));
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", dir.display())),
    }
    if paths.len() > FILES_MAX {
        bail!("{}/{PKI} holds {} files: at most {FILES_MAX}", dir.display(), paths.len());
    }
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let whole = dir.join(&path);
        match fs::metadata(&whole) {
            Ok(found) if found.is_file() && found.len() <= FILE_BYTES_MAX => {
                let content = fs::read(&whole);
                let content =
                    content.with_context(|| format!("cannot read {}", whole.display()))?;
                files.push(DumpItem::File { path, content: content.into() });
            }
            Ok(found) => bail!(
                "{} is no file of at most {FILE_BYTES_MAX} bytes ({} bytes); take it away",
                whole.display(),
                found.len()
            ),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", whole.display()));
            }
        }
    }
    Ok(files)
}

/// Looks whether a file of a dump may be written: one of those that are read, and no other.
pub fn check(path: &str) -> anyhow::Result<()> {
    let is_plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    let below_pki = path.strip_prefix(PKI).and_then(|rest| rest.strip_prefix('/'));
    let is_known =
        path == RUNTIME || below_pki.is_some_and(|name| !name.is_empty() && !name.contains('/'));
    match is_plain && is_known {
        true => Ok(()),
        false => bail!("the dump has a file {path:?}, which is none of a data directory's"),
    }
}

/// Writes a file of a dump into a data directory. One that is there already must be the same.
pub fn write(dir: &Path, path: &str, content: &[u8]) -> anyhow::Result<()> {
    check(path)?;
    let whole = dir.join(path);
    match fs::read(&whole) {
        Ok(found) if found == content => return Ok(()),
        Ok(_) => bail!(
            "{} is there already and is another one; restore into an empty data directory",
            whole.display()
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", whole.display()));
        }
    }
    if let Some(parent) = whole.parent() {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .with_context(|| format!("cannot make {}", parent.display()))?;
    }
    write_private(&whole, content).with_context(|| format!("cannot write {}", whole.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_back_and_none_can_climb_out() {
        let (from, to) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        fs::create_dir(from.path().join(PKI)).expect("made");
        for name in ["pki/root.key", "runtime", "other"] {
            fs::write(from.path().join(name), name).expect("written");
        }
        for item in read(from.path()).expect("readable") {
            let DumpItem::File { path, content } = item else { panic!("{item:?}") };
            write(to.path(), &path, &content).expect("written");
            write(to.path(), &path, &content).expect("the same again is fine");
            assert!(write(to.path(), &path, b"x").is_err());
        }
        assert_eq!(fs::read(to.path().join("pki/root.key")).expect("there"), b"pki/root.key");
        assert!(!to.path().join("other").exists());
        for path in ["../x", "/etc/passwd", "pki/../../x", "pki/", "pki/a/b", "cluster.db", ""] {
            assert!(write(to.path(), path, b"x").is_err(), "{path}");
        }
    }
}
