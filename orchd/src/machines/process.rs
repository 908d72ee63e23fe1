//! `Process`: something that runs on a machine.

use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process on a machine. Clones are the same process.
#[derive(Clone, Debug)]
pub struct Process {
    child: Arc<Mutex<Child>>,
    pid: u32,
}

impl Process {
    pub(crate) fn new(child: Child) -> Self {
        let pid = child.id();
        Self { child: Arc::new(Mutex::new(child)), pid }
    }

    /// Its id, as this process sees it.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// Kills it, unless it has ended, and waits for its end.
    pub fn kill(&self) {
        let _ = self.child().kill();
        self.wait();
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let mut child = self.child();
        anyhow::ensure!(child.try_wait()?.is_none(), "process {} has ended", self.pid);
        let pid = Pid::from_raw(i32::try_from(self.pid).context("a process id")?);
        kill(pid, signal).with_context(|| format!("cannot signal process {}", self.pid))
    }

    /// Waits for its end, and says how that was. Blocks the thread.
    pub fn wait(&self) -> Option<ExitStatus> {
        self.child().wait().ok()
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
