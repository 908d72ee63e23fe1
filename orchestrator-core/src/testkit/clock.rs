//! Clocks for tests: one set by hand, one that follows tokio's (which a test may pause).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::driver::Clock;
use crate::model::Timestamp;

/// A clock that stands still until it is set. Clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<watch::Sender<Timestamp>>);

impl ManualClock {
    /// Makes a clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(watch::Sender::new(now)))
    }

    /// Moves the clock forward (back when negative).
    pub fn advance_millis(&self, millis: i64) {
        self.0.send_modify(|now| *now = now.plus_millis(millis));
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.borrow()
    }

    async fn sleep_until(&self, at: Timestamp) {
        // The sender is ours: it does not go away meanwhile.
        let _ = self.0.subscribe().wait_for(|now| *now >= at).await;
    }
}

/// A clock that follows tokio's from a fixed start, so that it stands still with a paused one. It belongs to the tokio runtime
/// in which it was made, and shows that one's time wherever it is read or waited on.
#[derive(Clone, Debug)]
pub struct TokioClock {
    tokio: Handle,
    start: Timestamp,
    since: Instant,
}

impl TokioClock {
    /// Makes a clock that shows `start` now.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(start: Timestamp) -> Self {
        Self { tokio: Handle::current(), start, since: Instant::now() }
    }
}

#[async_trait]
impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        let _time_of = self.tokio.enter();
        let elapsed = self.since.elapsed().as_millis();
        self.start.plus_millis(i64::try_from(elapsed).unwrap_or(i64::MAX))
    }

    async fn sleep_until(&self, at: Timestamp) {
        let after = u64::try_from(at.millis_since(self.start)).unwrap_or(0);
        let sleep = {
            let _time_of = self.tokio.enter();
            tokio::time::sleep_until(self.since + Duration::from_millis(after))
        };
        sleep.await;
    }
}
