//! The supervisor program (`supervisor.c`): embedded, written to the state directory, and spawned from there.

use std::fs;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use orchestrator_core::runtime::{PortMapping, RuntimeError, StandardStreams};

use crate::error::{Result, backend, invalid};
use crate::layout::Layout;
use crate::record::{ContainerRecord, replace};

/// The largest size of a container's log, in bytes; one older log of the same size is kept.
pub const LOG_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// How often a start is repeated while the program file is busy; 10 ms each.
const BUSY_RETRIES_MAX: u32 = 200;

const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/supervisor"));

/// The installed program.
#[derive(Clone, Debug)]
pub(crate) struct Supervisor {
    program: PathBuf,
    bells: PathBuf,
}

impl Supervisor {
    /// Writes the program, unless it is there. Its name holds a hash, so that another version never touches one that runs.
    pub(crate) fn install(layout: &Layout) -> io::Result<Self> {
        let program = layout.root().join(format!("supervisor-{:016x}", fnv64(PROGRAM)));
        let size = u64::try_from(PROGRAM.len()).unwrap_or(u64::MAX);
        if !fs::symlink_metadata(&program).is_ok_and(|it| it.is_file() && it.len() == size) {
            replace(&program, PROGRAM, 0o700)?;
        }
        Ok(Self { program, bells: layout.bells() })
    }

    /// Starts the command of the container in `dir`; returns when it runs.
    pub(crate) fn run(&self, dir: &Path, record: &ContainerRecord) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.arg("run").arg(dir).arg(&self.bells).arg(LOG_BYTES_MAX.to_string());
        command.arg(stdio_word(record.stdio)).arg(working_dir(record)).args(&record.command);
        command.env_clear().envs(record.env.iter().map(|(name, value)| (name, value)));
        start(command, &record.command[0])
    }

    /// Starts to forward ports of the host to a pod's address, until the holder of the lock in `dir` is killed.
    pub(crate) fn forward(&self, dir: &Path, ip: Ipv4Addr, ports: &[PortMapping]) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.arg("forward").arg(dir).env_clear();
        for port in ports {
            command.arg(port.host_ip.map_or_else(|| "*".to_owned(), |ip| ip.to_string()));
            command.arg(port.host_port.to_string());
            command.arg(ip.to_string()).arg(port.container_port.to_string());
        }
        start(command, "a port forwarder")
    }

    /// Prepares a run of `program` beside a container, which ends when its standard input does.
    pub(crate) fn exec(&self, record: &ContainerRecord, program: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("exec").arg(working_dir(record)).args(program);
        command.env_clear().envs(record.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Prepares a run of `program` beside a container, with the input and output that the command is given.
    pub(crate) fn session(&self, record: &ContainerRecord, program: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("session").arg(working_dir(record)).args(program);
        command.env_clear().envs(record.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Spawns a supervisor that becomes a daemon, and hears how that went.
fn start(mut command: Command, what: &str) -> Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = retry_busy(|| command.spawn()).map_err(|error| refused(what, error))?;
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut said).map_err(|it| backend("read from a supervisor", it))?;
    }
    child.wait().map_err(|error| backend("wait for a supervisor's first process", error))?;
    match said.split_once(' ').unwrap_or((&said, "")) {
        ("ok", _) => Ok(()),
        ("invalid", message) => Err(invalid(message)),
        (_, message) => Err(backend(format!("start {what}"), message.to_owned())),
    }
}

/// Says how streams are tied, as the supervisor reads it.
fn stdio_word(stdio: StandardStreams) -> String {
    let letters = [(stdio.stdin, 'i'), (stdio.stdin_once, 'o'), (stdio.terminal, 't')];
    let word: String = letters.iter().filter(|(set, _)| *set).map(|(_, letter)| *letter).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

fn working_dir(record: &ContainerRecord) -> &str {
    if record.working_dir.is_empty() { "/" } else { &record.working_dir }
}

/// Repeats a spawn while another thread, between its own fork and exec, still holds the program file open for writing.
pub(crate) fn retry_busy<T>(mut spawn: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut tries = 0;
    loop {
        match spawn() {
            Err(error) if tries < BUSY_RETRIES_MAX && is_busy(&error) => tries += 1,
            outcome => return outcome,
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ETXTBSY as i32)
}

/// Says why a supervisor could not be spawned for `program`.
pub(crate) fn refused(program: &str, error: io::Error) -> RuntimeError {
    match error.kind() {
        io::ErrorKind::InvalidInput => {
            invalid(format!("cannot run {program}: a NUL byte in its arguments or environment"))
        }
        io::ErrorKind::ArgumentListTooLong => {
            invalid(format!("cannot run {program}: its arguments and environment are too long"))
        }
        _ => backend(format!("spawn a supervisor for {program}"), error),
    }
}

/// FNV-1a; names one version of the program.
pub(crate) fn fnv64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
