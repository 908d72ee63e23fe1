//! `SqliteWatch`: follows commits, from memory if they are recent and from the log if not.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use orchestrator_core::history::Cursor;
use orchestrator_core::store::{Batch, StoreError, Watch};

use crate::store::{Shared, blocking};

/// A watch on a `SqliteStore`.
#[derive(Debug)]
pub(crate) struct SqliteWatch {
    cursor: Cursor,
    /// Commits read from the log; all of them lie after the cursor and without gap.
    replay: VecDeque<Batch>,
    shared: Arc<Shared>,
}

impl SqliteWatch {
    pub(crate) const fn new(cursor: Cursor, shared: Arc<Shared>) -> Self {
        Self { cursor, replay: VecDeque::new(), shared }
    }

    /// Reads on in the log, or fails if that part of the history is gone.
    pub(crate) async fn catch_up(&mut self) -> Result<(), StoreError> {
        let (after, newest) = (self.cursor.after(), self.shared.history.newest());
        let shared = self.shared.clone();
        let batches = blocking(move || shared.readers.replay(after, newest)).await?;
        if batches.is_empty() {
            // Revisions may have gaps: there is nothing between the cursor and the newest commit.
            self.cursor.seek(newest.max(after));
        }
        self.replay = batches.into();
        Ok(())
    }
}

#[async_trait]
impl Watch for SqliteWatch {
    async fn next(&mut self) -> Result<Batch, StoreError> {
        loop {
            if let Some(batch) = self.replay.pop_front() {
                self.cursor.seek(batch.revision);
                return Ok(batch);
            }
            match self.cursor.next().await {
                Err(StoreError::Compacted { .. }) => self.catch_up().await?,
                other => return other,
            }
        }
    }
}
