//! `orchd server` as a child process, and what it takes of the machine.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::daemon::{Failure, Memory};

/// How much CPU the kernel counts as one tick (the same on every Linux).
const TICKS_PER_SECOND: f64 = 100.0;

/// A running server in a directory of its own. Dropping it kills it.
pub struct Server {
    child: Child,
    program: PathBuf,
    dir: tempfile::TempDir,
    address: String,
}

impl Server {
    pub fn start(program: &Path) -> Result<Self, Failure> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let (child, url) = spawn(program, "127.0.0.1:0", dir.path())?;
        let address = url.trim_start_matches("https://").to_owned();
        Ok(Self { child, program: program.to_owned(), dir, address })
    }

    /// Kills it and starts it anew at the same address; returns when it is ready.
    pub fn crash_and_start(&mut self, away: Duration) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        std::thread::sleep(away);
        (self.child, _) = spawn(&self.program, &self.address, self.dir.path())?;
        Ok(())
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    pub fn memory(&self) -> Result<Memory, Failure> {
        Memory::of(self.child.id())
    }

    /// The share of one core that it uses during a time, in percent.
    pub async fn cpu_percent(&self, during: Duration) -> Result<f64, Failure> {
        let (before, start) = (ticks(self.child.id())?, Instant::now());
        tokio::time::sleep(during).await;
        let used = (ticks(self.child.id())? - before) / TICKS_PER_SECOND;
        Ok(100.0 * used / start.elapsed().as_secs_f64())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path, listen: &str, dir: &Path) -> Result<(Child, String), Failure> {
    let mut command = Command::new(program);
    command.args(["server", "--listen", listen, "--data-dir"]).arg(dir);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    match line.strip_prefix("ready ").and_then(|rest| rest.split_whitespace().next()) {
        Some(url) => Ok((child, url.to_owned())),
        None => {
            child.kill()?;
            child.wait()?;
            Err(format!("orchd server printed {line:?} instead of ready").into())
        }
    }
}

/// The CPU time of a process so far, in ticks.
fn ticks(pid: u32) -> Result<f64, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything; behind it user and system time are the 12th and 13th field.
    let (_, fields) = text.rsplit_once(')').ok_or("no process name")?;
    let mut times = fields.split_whitespace().skip(11);
    let mut next = || times.next().ok_or("too few fields");
    Ok(next()?.parse::<f64>()? + next()?.parse::<f64>()?)
}
