//! `Awake`: whether the control loop runs, or did not for a while.

use std::time::Duration;

use tokio::time::Instant;

/// The loop looks around at least this often.
pub(super) const LOOK_AROUND: Duration = Duration::from_millis(500);
/// When it did not for longer than this, its process was stopped, or had no time to listen.
const PAUSE_MIN: Duration = Duration::from_millis(1_500);

/// Knows when the loop ran last.
#[derive(Debug)]
pub(super) struct Awake {
    at: Instant,
}

impl Default for Awake {
    fn default() -> Self {
        Self { at: Instant::now() }
    }
}

impl Awake {
    /// Says that the loop runs; returns how long it did not, if that was a pause.
    pub(super) fn pause(&mut self) -> Option<Duration> {
        let slept = std::mem::replace(&mut self.at, Instant::now()).elapsed();
        (slept > PAUSE_MIN).then_some(slept)
    }
}
