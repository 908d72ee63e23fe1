//! Uids that are the same in each run of a test.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::driver::Clock;
use crate::model::Uid;

/// Makes UUIDv7s from a clock and a count, for [`ClusterBuilder::uids`](crate::driver::ClusterBuilder::uids).
pub fn counted(clock: impl Clock) -> impl Fn() -> Uid + Send + Sync + 'static {
    let made = AtomicU64::new(0);
    move || {
        let count = made.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut unique = [0; 10];
        unique[2..].copy_from_slice(&count);
        let millis = u64::try_from(clock.now().as_millis()).unwrap_or(0);
        Uid::from_uuid(uuid::Builder::from_unix_timestamp_millis(millis, &unique).into_uuid())
    }
}
