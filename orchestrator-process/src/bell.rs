//! Bells: whoever waits for a change has a FIFO in the directory `bells`; whoever sees a command end writes a byte to each.
//!
//! A FIFO whose reader is gone is removed by the next who rings.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use orchestrator_core::runtime::Scope;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, OnceCell};

use crate::layout::names;
use crate::record::unique;

/// How long a wait lasts when there can be no bell, in milliseconds.
const BLIND_WAIT_MS: u64 = 500;

/// Tells everybody who waits that something ended. A hint: failures do not matter.
pub(crate) fn ring(bells: &Path) {
    for name in names(bells).unwrap_or_default() {
        if name.as_encoded_bytes().starts_with(b".") {
            continue; // has no reader yet
        }
        let path = bells.join(name);
        let mut options = OpenOptions::new();
        let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
        match options.write(true).custom_flags(flags).open(&path) {
            Ok(mut fifo) => drop(fifo.write(b"!")), // a full one rings already
            Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => {
                let _ = fs::remove_file(&path);
            }
            Err(_) => {}
        }
    }
}

/// Waits for a bell of its own, and remembers what each scope has heard: a ring between two waits ends the next at once.
#[derive(Debug)]
pub(crate) struct Listener {
    bells: PathBuf,
    bell: OnceCell<Bell>,
    heard: Mutex<Heard>,
    rang: Notify,
}

#[derive(Debug, Default)]
struct Heard {
    rings: u64,
    by_scope: BTreeMap<Scope, u64>,
}

impl Listener {
    pub(crate) fn new(bells: PathBuf) -> Self {
        Self { bells, bell: OnceCell::new(), heard: Mutex::default(), rang: Notify::new() }
    }

    /// Returns when the bell has rung since the scope's last wait; at once for the first. Cancel-safe.
    pub(crate) async fn wait(&self, scope: &Scope) {
        let Ok(bell) = self.bell.get_or_try_init(|| async { Bell::hang(&self.bells) }).await else {
            tokio::time::sleep(Duration::from_millis(BLIND_WAIT_MS)).await;
            return;
        };
        loop {
            let rang = self.rang.notified();
            if bell.take_rings() {
                self.heard().rings += 1;
                self.rang.notify_waiters();
            }
            if self.is_news_to(scope) {
                return;
            }
            tokio::select! {
                ready = bell.receiver.readable() => if ready.is_err() {
                    tokio::time::sleep(Duration::from_millis(BLIND_WAIT_MS)).await;
                    return;
                },
                () = rang => {}
            }
        }
    }

    fn is_news_to(&self, scope: &Scope) -> bool {
        let mut heard = self.heard();
        let rings = heard.rings;
        heard.by_scope.insert(scope.clone(), rings) != Some(rings)
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The FIFO of one listener.
#[derive(Debug)]
struct Bell {
    path: PathBuf,
    receiver: pipe::Receiver,
}

impl Bell {
    fn hang(bells: &Path) -> io::Result<Self> {
        let name = unique();
        let hidden = bells.join(format!(".{name}"));
        mkfifo(&hidden, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let path = bells.join(name);
        // Renamed only when it has a reader: one without is taken for abandoned.
        let opened = pipe::OpenOptions::new().read_write(true).open_receiver(&hidden);
        let hung = opened.and_then(|receiver| fs::rename(&hidden, &path).map(|()| receiver));
        if hung.is_err() {
            let _ = fs::remove_file(&hidden);
        }
        Ok(Self { path, receiver: hung? })
    }

    fn take_rings(&self) -> bool {
        let mut bytes = [0; 512];
        let mut any = false;
        while self.receiver.try_read(&mut bytes).is_ok_and(|length| length > 0) {
            any = true;
        }
        any
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
