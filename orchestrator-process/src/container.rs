//! A container's directory: observing the command in it, ending it, and cleaning up after a supervisor that was killed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use orchestrator_core::model::Time;
use orchestrator_core::runtime::{ContainerRunState, Exit};

use crate::bell;
use crate::error::{Result, backend, if_present};
use crate::layout::remove_tree;
use crate::proc::{self, Process};
use crate::record::{Exited, Started};

/// The variable by which a container's processes are recognised; its value is the container's directory.
pub(crate) const MARKER: &str = "ORCHESTRATOR_CONTAINER";

/// How often leftovers are killed before a clean-up fails, 10 ms each.
const KILL_ROUNDS_MAX: u32 = 500;
/// How long a supervisor has to clean up after its command was killed, in milliseconds.
const CLEANUP_MS: u64 = 10_000;

/// A container's directory.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) dir: PathBuf,
    pub(crate) bells: PathBuf,
}

/// What is known of a container's command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Never started.
    Created,
    /// Its supervisor lives.
    Running(Started),
    /// It ended.
    Exited(Option<Started>, Exited),
}

impl Phase {
    pub(crate) fn into_state(self) -> ContainerRunState {
        match self {
            Self::Created => ContainerRunState::Created,
            Self::Running(started) => ContainerRunState::Running { started_at: Some(started.at) },
            Self::Exited(started, exited) => ContainerRunState::Exited(Exit {
                code: exited.code,
                oom_killed: false,
                started_at: started.map(|started| started.at),
                finished_at: Some(exited.at),
                message: exited.message,
            }),
        }
    }
}

impl Container {
    /// Looks at the container; one whose supervisor was killed is cleaned up and counts as ended.
    pub(crate) fn observe(&self) -> Result<Phase> {
        self.look().map_err(|error| backend(format!("look at {}", self.dir.display()), error))
    }

    fn look(&self) -> io::Result<Phase> {
        if let Some(exited) = Exited::read(&self.dir)? {
            return Ok(Phase::Exited(Started::read(&self.dir)?, exited));
        }
        // In this order: a supervisor that ends writes `exited`, then loses its lock.
        let supervisor = self.supervisor()?;
        let started = Started::read(&self.dir)?;
        match (Exited::read(&self.dir)?, started, supervisor) {
            (Some(exited), started, _) => Ok(Phase::Exited(started, exited)),
            (None, Some(started), Some(_)) => Ok(Phase::Running(started)),
            (None, Some(started), None) => self.bury(started),
            (None, None, _) => Ok(Phase::Created),
        }
    }

    /// Returns the pid of the supervisor, if it lives.
    pub(crate) fn supervisor(&self) -> io::Result<Option<i32>> {
        lock_holder(&self.dir)
    }

    /// Ends what a killed supervisor left, and writes down what it could not.
    fn bury(&self, started: Started) -> io::Result<Phase> {
        let same_boot = started.boot_id == proc::boot_id();
        if same_boot {
            self.kill_leftovers(&started)?;
        }
        // The kernel kills the command together with its supervisor; what a dead machine's command came to, nobody can tell.
        let (code, message) = if same_boot {
            (137, "its supervisor was killed")
        } else {
            (255, "the machine went down")
        };
        let exited = Exited { code, at: now(), message: message.to_owned() };
        exited.write(&self.dir)?;
        bell::ring(&self.bells);
        Ok(Phase::Exited(Some(started), exited))
    }

    /// Removes the container's files from `moved`, where its directory was moved to, and what a start that came in between
    /// has set going.
    pub(crate) fn discard(&self, moved: &Path) -> io::Result<()> {
        if kill_lock_holder(moved)?
            && let Some(started) = Started::read(moved)?
        {
            self.kill_leftovers(&started)?;
        }
        remove_tree(moved)
    }

    /// Kills all processes of the container while no supervisor does.
    fn kill_leftovers(&self, started: &Started) -> io::Result<()> {
        let marker = self.marker();
        for _ in 0..KILL_ROUNDS_MAX {
            let all = proc::processes();
            // A pid that is used again proves that nothing of the session is left: the kernel keeps a session's id until then.
            let reused =
                all.get(&started.pid).is_some_and(|it| it.start_ticks != started.start_ticks);
            let ours = |process: &&Process| {
                let in_session =
                    process.session == started.pid && process.start_ticks >= started.start_ticks;
                !process.ended && ((in_session && !reused) || process.began_with(&marker))
            };
            let leftovers: Vec<i32> = all.values().filter(ours).map(|it| it.pid).collect();
            if leftovers.is_empty() {
                return Ok(());
            }
            for pid in leftovers {
                ignore_gone(kill(Pid::from_raw(pid), Signal::SIGKILL))?;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(io::Error::other("processes of the container do not end"))
    }

    /// Returns the variable that its processes began with.
    pub(crate) fn marker(&self) -> String {
        format!("{MARKER}={}", self.dir.display())
    }

    /// Ends the command: TERM to its process group, then KILL after `grace_ms`. Returns when it has ended.
    pub(crate) async fn stop(&self, grace_ms: u64) -> Result<()> {
        if grace_ms > 0 && !self.signal(Signal::SIGTERM)? {
            return Ok(());
        }
        if grace_ms > 0 && self.ended_within(grace_ms).await? {
            return Ok(());
        }
        if !self.signal(Signal::SIGKILL)? || self.ended_within(CLEANUP_MS).await? {
            return Ok(());
        }
        // A supervisor that does not do its work, as when somebody froze it, is ended itself.
        let supervisor = self.supervisor().map_err(|error| backend("find a supervisor", error))?;
        if let Some(pid) = supervisor {
            ignore_gone(kill(Pid::from_raw(pid), Signal::SIGKILL))
                .map_err(|error| backend("kill a supervisor", error))?;
        }
        if self.ended_within(CLEANUP_MS).await? {
            return Ok(());
        }
        let text = format!("it still runs {CLEANUP_MS} ms after KILL");
        Err(backend(format!("stop {}", self.dir.display()), text))
    }

    /// Sends a signal to the command's process group. Returns whether there is something to wait for.
    fn signal(&self, signal: Signal) -> Result<bool> {
        let Phase::Running(started) = self.observe()? else { return Ok(false) };
        if proc::is_running(started.pid, started.start_ticks) {
            ignore_gone(killpg(Pid::from_raw(started.pid), signal))
                .map_err(|error| backend(format!("send {signal}"), error))?;
        }
        Ok(true)
    }

    async fn ended_within(&self, wait_ms: u64) -> Result<bool> {
        let ended = async {
            let mut pause_ms = 1;
            while matches!(self.observe()?, Phase::Running(_)) {
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                pause_ms = (pause_ms * 2).min(50);
            }
            Ok(())
        };
        match tokio::time::timeout(Duration::from_millis(wait_ms), ended).await {
            Ok(outcome) => outcome.map(|()| true),
            Err(_) => Ok(false),
        }
    }
}

/// Returns the pid of the supervisor that holds the lock in `dir`, if one lives: the kernel knows.
pub(crate) fn lock_holder(dir: &Path) -> io::Result<Option<i32>> {
    let Some(file) = if_present(File::open(dir.join("lock")))? else { return Ok(None) };
    let short = |number: libc::c_int| i16::try_from(number).expect("kinds of locks are small");
    let mut lock = libc::flock {
        l_type: short(libc::F_WRLCK),
        l_whence: short(libc::SEEK_SET),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_GETLK(&mut lock))?;
    Ok((lock.l_type != short(libc::F_UNLCK)).then_some(lock.l_pid))
}

/// Kills the supervisor that holds the lock in `dir`, and waits until it is gone. Returns whether there was one.
pub(crate) fn kill_lock_holder(dir: &Path) -> io::Result<bool> {
    for round in 0..KILL_ROUNDS_MAX {
        let Some(pid) = lock_holder(dir)? else { return Ok(round > 0) };
        ignore_gone(kill(Pid::from_raw(pid), Signal::SIGKILL))?;
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(io::Error::other(format!("the supervisor of {} does not end", dir.display())))
}

fn ignore_gone(outcome: nix::Result<()>) -> io::Result<()> {
    match outcome {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Reads the clock.
pub(crate) fn now() -> Time {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_seconds(i64::try_from(passed.as_secs()).unwrap_or(i64::MAX))
}

/// Whether a path is a container's directory.
pub(crate) fn is_container(dir: &Path) -> bool {
    dir.join(crate::record::CONTAINER_FILE).exists()
}
