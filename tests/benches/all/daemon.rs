//! The daemon from outside: an empty directory until the line `ready`, and its memory when idle.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Outcome;
use crate::engine::RawEngine;
use crate::report::{Report, Unit};

pub const READY_DOCKER: &str = "empty directory until ready, docker";
pub const MEMORY_DOCKER: &str = "idle resident memory, docker";

/// How long an empty directory may take to `ready`, in milliseconds.
const READY_MS_MAX: f64 = 100.0;
/// How much memory may be resident when idle, in MiB (25 MB).
const RESIDENT_MEBIBYTES_MAX: f64 = 25e6 / (1 << 20) as f64;
/// How long a daemon idles before its memory is read.
pub const IDLE: Duration = Duration::from_secs(5);
/// How many of the starts are read for memory.
const MEMORY_READINGS: usize = 2;

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures start and memory of `orchd dev`.
pub fn run(report: &mut Report, engine: Option<&RawEngine>) -> Outcome {
    let mut runtimes = vec!["process"];
    runtimes.extend(engine.map(|_| "docker"));
    let mut program = None;
    for runtime in runtimes {
        let ready = format!("empty directory until ready, {runtime}");
        let memory = format!("idle resident memory, {runtime}");
        if report.wants(&ready) {
            let program = built(&mut program)?;
            // The first start reads the program from disk.
            Daemon::start(program, runtime, engine)?.stop()?;
            let mut figures = Vec::new();
            for _ in 0..report.options.pairs {
                let daemon = Daemon::start(program, runtime, engine)?;
                figures.push(daemon.ready_ms);
                daemon.stop()?;
            }
            report.against(&ready, Unit::Milliseconds, READY_MS_MAX, &figures);
        }
        if report.wants(&memory) {
            let program = built(&mut program)?;
            let mut figures = Vec::new();
            for _ in 0..MEMORY_READINGS {
                let daemon = Daemon::start(program, runtime, engine)?;
                std::thread::sleep(IDLE);
                figures.push(daemon.memory()?.resident);
                daemon.stop()?;
            }
            report.against(&memory, Unit::Mebibytes, RESIDENT_MEBIBYTES_MAX, &figures);
        }
    }
    Ok(())
}

/// Builds the daemon as users do, once, and says where it is.
pub fn built(program: &mut Option<PathBuf>) -> Result<&Path, Failure> {
    if program.is_none() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let status = Command::new(env!("CARGO"))
            .args(["build", "--release", "--bin", "orchd"])
            .current_dir(&workspace)
            .status()?;
        if !status.success() {
            return Err("orchd does not build".into());
        }
        // The directory for temporary files lies in the target directory.
        let target =
            Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("no target directory")?;
        *program = Some(target.join("release/orchd"));
    }
    program.as_deref().ok_or_else(|| "orchd is not built".into())
}

/// A running `orchd dev`, in a directory of its own.
pub struct Daemon {
    command: Command,
    child: Child,
    dir: tempfile::TempDir,
    ready_ms: f64,
}

impl Daemon {
    pub fn start(
        program: &Path,
        runtime: &str,
        engine: Option<&RawEngine>,
    ) -> Result<Self, Failure> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let mut command = Command::new(program);
        command
            .args(["dev", "--listen", "127.0.0.1:0", "--runtime", runtime, "--data-dir"])
            .arg(dir.path())
            .stdout(Stdio::piped());
        if let Some(engine) = engine {
            command.env("DOCKER_HOST", engine.host());
        }
        let (child, ready_ms) = spawn(&mut command)?;
        Ok(Self { command, child, dir, ready_ms })
    }

    /// Ends it and starts it anew in the same directory.
    pub fn restart(mut self) -> Result<Self, Failure> {
        self.end()?;
        (self.child, self.ready_ms) = spawn(&mut self.command)?;
        Ok(self)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The memory of the process.
    pub fn memory(&self) -> Result<Memory, Failure> {
        Memory::of(self.child.id())
    }

    pub fn stop(mut self) -> Outcome {
        self.end()?;
        self.dir.close()?;
        Ok(())
    }

    fn end(&mut self) -> Outcome {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        self.child.wait()?;
        Ok(())
    }
}

/// Starts it, and returns with it how long it took to say that it is ready, in milliseconds.
fn spawn(command: &mut Command) -> Result<(Child, f64), Failure> {
    let start = Instant::now();
    let mut child = command.spawn()?;
    let mut line = String::new();
    let output = child.stdout.take().ok_or("no output")?;
    BufReader::new(output).read_line(&mut line)?;
    let ready_ms = start.elapsed().as_secs_f64() * 1000.0;
    if !line.starts_with("ready") {
        child.kill()?;
        child.wait()?;
        return Err(format!("orchd dev printed {line:?} instead of ready").into());
    }
    Ok((child, ready_ms))
}

/// What a process has in memory, in mebibytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// All that is resident.
    pub resident: f64,
    /// What of it is no file's: it cannot be read again from anywhere.
    pub anonymous: f64,
}

impl Memory {
    pub fn of(pid: u32) -> Result<Self, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let mebibytes = |name: &str| -> Result<f64, Failure> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kibibytes = line.and_then(|line| line.split_whitespace().next());
            Ok(kibibytes.ok_or_else(|| format!("no {name}"))?.parse::<f64>()? / 1024.0)
        };
        Ok(Self { resident: mebibytes("VmRSS:")?, anonymous: mebibytes("RssAnon:")? })
    }
}
