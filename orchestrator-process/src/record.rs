//! The small files of the state directory: what we write down (JSON), and what the supervisor does (one line each).

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use orchestrator_core::model::Time;
use orchestrator_core::runtime::StandardStreams;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::if_present;

/// The file that makes a directory a sandbox.
pub(crate) const SANDBOX_FILE: &str = "sandbox.json";
/// The file that makes a directory a container.
pub(crate) const CONTAINER_FILE: &str = "container.json";

/// What is kept of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) ip: Ipv4Addr,
    pub(crate) created_at: Time,
    /// The boot in which it was made: a sandbox does not outlive the machine.
    pub(crate) boot_id: String,
    /// Whether a forwarder of host ports belongs to it.
    #[serde(default)]
    pub(crate) forwards: bool,
}

/// What is kept of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) image: String,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    pub(crate) working_dir: String,
    pub(crate) env: Vec<(String, String)>,
    #[serde(default)]
    pub(crate) stdio: StandardStreams,
}

/// The supervisor's `started`: the command as a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) pid: i32,
    /// In clock ticks since boot; together with the pid and the boot it names one process for ever.
    pub(crate) start_ticks: u64,
    pub(crate) boot_id: String,
    pub(crate) at: Time,
}

impl Started {
    pub(crate) fn read(container: &Path) -> io::Result<Option<Self>> {
        Ok(if_present(fs::read_to_string(container.join("started")))?.and_then(|it| parse(&it)))
    }
}

fn parse(text: &str) -> Option<Started> {
    let mut words = text.split_whitespace();
    Some(Started {
        pid: words.next()?.parse().ok().filter(|pid| *pid > 1)?,
        start_ticks: words.next()?.parse().ok()?,
        boot_id: words.next()?.to_owned(),
        at: Time::from_seconds(words.next()?.parse().ok()?),
    })
}

/// The supervisor's `exited`: how the command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exited {
    pub(crate) code: i32,
    pub(crate) at: Time,
    /// Why it could not start; empty if it could.
    pub(crate) message: String,
}

impl Exited {
    pub(crate) fn read(container: &Path) -> io::Result<Option<Self>> {
        let text = if_present(fs::read(container.join("exited")))?;
        Ok(text.map(|text| Self::parse(&String::from_utf8_lossy(&text))))
    }

    /// A file that says nothing, as after a loss of power, still says that it ended.
    fn parse(text: &str) -> Self {
        let mut words = text.trim_end().splitn(3, ' ');
        let mut number = || words.next().and_then(|word| word.parse::<i64>().ok());
        let (code, at) = (number(), number());
        Self {
            code: code.and_then(|code| i32::try_from(code).ok()).unwrap_or(255),
            at: Time::from_seconds(at.unwrap_or(0)),
            message: words.next().unwrap_or_default().to_owned(),
        }
    }

    pub(crate) fn write(&self, container: &Path) -> io::Result<()> {
        let text = format!("{} {} {}\n", self.code, self.at.as_seconds(), self.message);
        replace(&container.join("exited"), text.as_bytes(), 0o600)
    }
}

/// Reads a JSON file; `None` if it is not there.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let Some(bytes) = if_present(fs::read(path))? else { return Ok(None) };
    let value = serde_json::from_slice(&bytes).map_err(io::Error::other)?;
    Ok(Some(value))
}

/// Writes a JSON file at once.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
    replace(path, &bytes, 0o600)
}

/// Replaces a file at once: readers see the old or the new one, whole.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", unique()));
    let temporary = path.with_file_name(name);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Returns a file name that no other thread or process uses: our pid and a serial number.
pub(crate) fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_reads_back_whole_or_not_at_all() {
        let started = parse("4711 99 boot 1793000000\n").expect("a whole line");
        assert_eq!((started.pid, started.start_ticks), (4711, 99));
        for bad in ["", "4711", "4711 99 boot", "x 99 boot 1", "1 99 boot 1", "0 99 boot 1"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_exit_that_says_nothing_counts_as_unknown() {
        let exited = Exited::parse("3 1793000000 \n");
        assert_eq!((exited.code, exited.message.as_str()), (3, ""));
        let exited = Exited::parse("127 1793000000 cannot run x: No such file\n");
        assert_eq!((exited.code, exited.message.as_str()), (127, "cannot run x: No such file"));
        assert_eq!(Exited::parse("").code, 255);
    }
}
