//! The clock: the one place where time comes from.
#![allow(clippy::disallowed_methods)] // this is where the clock is read

use std::fmt::Debug;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use crate::model::Timestamp;

/// The system's clock is looked at this often while it is waited on, for it may be set.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Tells the time of day, and can be waited on; tests bring their own.
///
/// It says when things happened and when timers of controllers are due. Intervals in between (limits of calls, how often a
/// node reports) are tokio's, which no administrator sets; a clock that should move both is made from tokio's, as
/// `testkit::clock::TokioClock` is.
#[async_trait]
pub trait Clock: Debug + Send + Sync + 'static {
    /// Returns the time.
    fn now(&self) -> Timestamp;

    /// Waits until the clock shows a time, or a later one. Cancel-safe.
    async fn sleep_until(&self, at: Timestamp);
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
    }

    async fn sleep_until(&self, at: Timestamp) {
        loop {
            let wait = u64::try_from(at.millis_since(self.now())).unwrap_or(0);
            if wait == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(wait).min(LOOK_AGAIN)).await;
        }
    }
}
