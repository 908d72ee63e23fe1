//! A process of ours, and what it takes of the machine.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::daemon::{Failure, Memory};

/// How much CPU the kernel counts as one tick (the same on every Linux).
const TICKS_PER_SECOND: f64 = 100.0;

/// A running process. Dropping it kills it.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts it; returns with it what it says behind `ready`.
    pub fn start(command: &mut Command) -> Result<(Self, String), Failure> {
        let child = command.stdout(Stdio::piped()).spawn()?;
        let mut process = Self { child };
        let mut line = String::new();
        let output = process.child.stdout.take().ok_or("no output")?;
        BufReader::new(output).read_line(&mut line)?;
        match line.strip_prefix("ready ") {
            Some(rest) => Ok((process, rest.trim_end().to_owned())),
            None => Err(format!("{command:?} printed {line:?} instead of ready").into()),
        }
    }

    /// Kills it.
    pub fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
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

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
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
