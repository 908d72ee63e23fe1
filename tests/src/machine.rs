//! The machine as an outsider sees it: processes and files, without asking any of our crates.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the processes, other than this one, that have `text` in their arguments or environment, with their arguments.
pub fn processes_with(text: &str) -> Vec<(u32, String)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let read = |pid: u32, what: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    };
    pids.filter(|pid| *pid != std::process::id())
        .filter(|pid| read(*pid, "cmdline").contains(text) || read(*pid, "environ").contains(text))
        .map(|pid| (pid, read(pid, "cmdline")))
        .collect()
}

/// Returns the parent of a process.
pub fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Kills a process.
///
/// # Panics
/// When there is none.
pub fn kill(pid: u32) {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(status.expect("kill runs").success(), "process {pid} is not there");
}

/// Returns the claims of pod addresses by sandboxes below `dir`.
pub fn claims_below(dir: &Path) -> Vec<PathBuf> {
    let places = fs::read_dir("/tmp").into_iter().flatten().flatten().map(|entry| entry.path());
    let claims = places.filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("orchestrator-process-")
    });
    claims
        .flat_map(|place| fs::read_dir(place).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| {
            let owner = fs::read_to_string(path).unwrap_or_default();
            owner.starts_with(&dir.display().to_string())
        })
        .collect()
}

/// Every file below a directory: its path from there, its mode, and its bytes (for a link, where it leads).
pub fn contents(dir: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::PermissionsExt as _;
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            let bytes = if metadata.is_symlink() {
                fs::read_link(&path).map(|to| to.as_os_str().as_bytes().to_vec())
            } else if metadata.is_file() {
                fs::read(&path)
            } else {
                Ok(Vec::new())
            };
            if metadata.is_dir() {
                dirs.push(path.clone());
            }
            let inner = path.strip_prefix(dir).map(Path::to_owned).unwrap_or(path);
            found.push((inner, metadata.permissions().mode(), bytes.unwrap_or_default()));
        }
    }
    found.sort();
    found
}
