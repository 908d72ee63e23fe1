//! The signals by which orchd is told to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// TERM, an interrupt and a hang-up.
pub struct Signals {
    term: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Begins to take them; from then on they end nothing by themselves.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for any of them, and says what has happened. Cancel-safe.
    pub async fn any(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "interrupted",
            _ = self.interrupt.recv() => "interrupted",
            _ = self.hangup.recv() => "the terminal was closed",
        }
    }

    /// Waits for an interrupt: somebody is impatient. Cancel-safe.
    pub async fn interrupted(&mut self) {
        self.interrupt.recv().await;
    }
}
