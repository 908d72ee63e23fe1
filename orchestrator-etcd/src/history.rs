//! The compaction that a store makes by itself, so that etcd does not fill up.

use std::sync::Arc;
use std::time::Duration;

use crate::failure::Failure;
use crate::store::Shared;

/// Compacts, every `age`, what was there one `age` before. Runs until it is aborted; several stores may do so side by side.
pub(crate) async fn keep_within(shared: Arc<Shared>, age: Duration) {
    let mut then = None;
    loop {
        tokio::time::sleep(age).await;
        if let Err(failure) = step(&shared, &mut then).await {
            let error = failure.into_error();
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "cannot compact etcd's history");
        }
    }
}

async fn step(shared: &Shared, then: &mut Option<i64>) -> Result<(), Failure> {
    let (now, _) = shared.head().await?;
    match then.replace(now) {
        None => Ok(()),
        Some(then) => compact(shared, then).await,
    }
}

/// Compacts up to a revision of etcd's; that somebody else has done so already is as good.
pub(crate) async fn compact(shared: &Shared, revision: i64) -> Result<(), Failure> {
    match shared.client.compact(revision).await {
        Err(Failure::OutOfRange(_)) => Ok(()),
        other => other,
    }
}
