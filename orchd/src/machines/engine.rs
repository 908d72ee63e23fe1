//! `Engine`: a Docker engine on a machine.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::machine::Machine;
use super::process::Process;

/// The engine's program.
const PROGRAM: &str = "dockerd";
/// From where it gives its networks addresses, unless they say otherwise.
const ADDRESSES: &str = "base=10.208.0.0/12,size=24";
/// How long an engine may take to answer.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often it is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// A Docker engine that runs on a machine, with its data in the machine's directory.
#[derive(Clone, Debug)]
pub struct Engine {
    process: Process,
    socket: PathBuf,
}

impl Engine {
    /// Whether there is a program to start engines with, and if not, what is missing.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn installed() -> anyhow::Result<()> {
        version().map(drop)
    }

    /// Starts an engine; it answers when [`Engine::ready`] has returned.
    ///
    /// # Errors
    /// When the machine is off, or there is no engine to start.
    pub fn start(machine: &mut Machine) -> anyhow::Result<Self> {
        let dir = machine.dir().to_owned();
        let settings = dir.join("docker.json");
        std::fs::write(&settings, settings_of(&version()?, &dir))
            .context("cannot write settings")?;
        let socket = dir.join("docker.sock");
        let log = File::options().create(true).append(true).open(dir.join("docker.log"));
        let log = log.context("cannot write the engine's log")?;
        let mut command = Command::new(PROGRAM);
        command.arg("--config-file").arg(settings);
        command.arg("--data-root").arg(dir.join("docker"));
        // What is in /run a reboot takes away.
        command.args(["--exec-root", "/run/docker", "--pidfile", "/run/docker.pid"]);
        command.args(["--default-address-pool", ADDRESSES]);
        command.args(["--cgroup-parent", &machine.control_group()]);
        command.arg("--host").arg(format!("unix://{}", socket.display()));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = machine.spawn(&mut command)?;
        Ok(Self { process, socket })
    }

    /// Waits until it answers. Blocks the thread.
    ///
    /// # Errors
    /// When it ends, or does not answer in time.
    pub fn ready(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        while !self.answers() {
            if self.process.ended().is_some() || started.elapsed() > READY_WITHIN {
                bail!("the engine at {} does not answer: {}", self.socket.display(), self.log());
            }
            std::thread::sleep(ASK_EVERY);
        }
        Ok(())
    }

    /// Its process.
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn answers(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(READY_WITHIN))?;
            stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.contains(" 200 "))
    }

    /// The end of its log.
    fn log(&self) -> String {
        let text = std::fs::read(self.socket.with_file_name("docker.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().rev().take(10).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

fn version() -> anyhow::Result<String> {
    let output = Command::new(PROGRAM).arg("--version").stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {PROGRAM}; install Docker Engine"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn settings_of(version: &str, dir: &Path) -> String {
    // This one would leave a key in /etc/docker; later ones do not know the setting.
    let key = version
        .contains(" version 20.")
        .then(|| ("deprecated-key-path", dir.join("docker-key.json")));
    serde_json::json!(key.into_iter().collect::<std::collections::BTreeMap<_, _>>()).to_string()
}
