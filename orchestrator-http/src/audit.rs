//! The audit log: a line of JSON for each call that changes something or runs a program, written before its answer.
//!
//! It says who wanted what and how it ended, and holds no body: what was written, the objects tell, and a secret is in none
//! of its fields. Invariant: no call that changed something has been answered before its line was handed to the operating
//! system.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

/// When a file has this many bytes, it is put aside and a new one begun.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// How many files that were put aside are kept.
const FILES_KEPT_MAX: usize = 4;

/// A log of calls in a file.
#[derive(Debug)]
pub(crate) struct AuditLog {
    path: PathBuf,
    file: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
}

impl AuditLog {
    /// Opens the log, of mode 0600, to be continued.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: Mutex::new(open(path)?) })
    }

    /// Writes a line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, entry: &Value) -> io::Result<()> {
        let line = format!("{entry}\n");
        let mut open_file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if open_file.bytes >= FILE_BYTES_MAX {
            match self.put_aside().and_then(|()| open(&self.path)) {
                Ok(new) => *open_file = new,
                Err(error) => {
                    // Better a long file than no line; it is tried again when as much has come again.
                    tracing::error!(%error, "a full audit log cannot be put aside");
                    open_file.bytes = 0;
                }
            }
        }
        open_file.file.write_all(line.as_bytes())?;
        open_file.bytes += line.len() as u64;
        Ok(())
    }

    /// Renames `audit.log` to `audit.log.1`, that to `audit.log.2`, and so on; the oldest goes.
    fn put_aside(&self) -> io::Result<()> {
        for number in (1..FILES_KEPT_MAX).rev() {
            match std::fs::rename(self.aside(number), self.aside(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        std::fs::rename(&self.path, self.aside(1))
    }

    fn aside(&self, number: usize) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

fn open(path: &Path) -> io::Result<Open> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let bytes = file.metadata()?.len();
    Ok(Open { file, bytes })
}

/// What a call was about, told by whoever answered it.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// The object's name.
    pub(crate) name: String,
    /// Its uid.
    pub(crate) uid: String,
    /// Whether the body said that nothing is to happen.
    pub(crate) dry_run: bool,
}

/// A call, as it is put down.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) at: String,
    pub(crate) user: &'a str,
    pub(crate) groups: &'a [String],
    pub(crate) impersonated_by: &'a str,
    pub(crate) source: Option<String>,
    pub(crate) user_agent: &'a str,
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) uid: &'a str,
    pub(crate) dry_run: bool,
    pub(crate) code: u16,
}

impl Entry<'_> {
    /// The entry as JSON; what is empty is left out.
    pub(crate) fn to_value(&self) -> Value {
        let mut entry = json!({
            "at": self.at,
            "code": self.code,
            "groups": self.groups,
            "resource": self.resource,
            "user": self.user,
            "verb": self.verb,
        });
        for (field, text) in [
            ("group", self.group),
            ("impersonatedBy", self.impersonated_by),
            ("name", self.name),
            ("namespace", self.namespace),
            ("source", self.source.as_deref().unwrap_or_default()),
            ("subresource", self.subresource),
            ("uid", self.uid),
            ("userAgent", self.user_agent),
        ] {
            if !text.is_empty() {
                entry[field] = text.into();
            }
        }
        if self.dry_run {
            entry["dryRun"] = true.into();
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_log_is_continued_and_private() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audit.log");
        for number in 0..2 {
            let log = AuditLog::open(&path).expect("a log");
            log.write(&json!({ "number": number })).expect("written");
        }
        let text = std::fs::read_to_string(&path).expect("readable");
        assert_eq!(text, "{\"number\":0}\n{\"number\":1}\n");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn full_files_are_put_aside_and_the_oldest_goes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audit.log");
        let log = AuditLog::open(&path).expect("a log");
        for number in 0..FILES_KEPT_MAX + 3 {
            log.write(&json!(number)).expect("written");
            log.file.lock().expect("no panic").bytes = FILE_BYTES_MAX;
        }
        let read = |path: PathBuf| std::fs::read_to_string(path).ok();
        assert_eq!(read(path.clone()), Some(format!("{}\n", FILES_KEPT_MAX + 2)));
        for kept in 1..=FILES_KEPT_MAX {
            assert_eq!(read(log.aside(kept)), Some(format!("{}\n", FILES_KEPT_MAX + 2 - kept)));
        }
        assert_eq!(read(log.aside(FILES_KEPT_MAX + 1)), None);
    }
}
