//! `EtcdWatch`: follows commits, over whatever connection there is.
//!
//! A watch that loses its connection, or its member the leader, goes on at another one where it was. Invariant: a call of `next` that
//! is dropped changes nothing but how far an answer or a connection has come.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use orchestrator_core::model::Revision;
use orchestrator_core::store::{Batch, StoreError, Watch};
use tokio::sync::watch;

use crate::assembly::{Assembly, Gap};
use crate::client::Watching;
use crate::failure::Failure;
use crate::store::Shared;
use crate::wire::{WatchCreateRequest, WatchRequest, WatchResponse};

/// A watch on an `EtcdStore`.
pub(crate) struct EtcdWatch {
    assembly: Assembly,
    closed: watch::Receiver<bool>,
    gap: Option<Gap>,
    ready: VecDeque<Batch>,
    shared: Arc<Shared>,
    stage: Stage,
}

enum Stage {
    Open(Box<Watching>),
    Opening(Pin<Box<dyn Future<Output = Result<Opened, StoreError>> + Send>>),
}

/// A watch of etcd's, and the revision of etcd's after which it tells everything.
struct Opened {
    after: i64,
    watching: Watching,
}

impl EtcdWatch {
    /// Follows every commit after `after`.
    pub(crate) async fn open(shared: Arc<Shared>, after: Revision) -> Result<Self, StoreError> {
        let after = shared.layout.of_etcd(after);
        if after < 0 {
            return Err(StoreError::Compacted { oldest: shared.layout.revision(0) });
        }
        let Opened { after, watching } = open(&shared, after).await?;
        Ok(Self {
            assembly: Assembly::new(shared.layout.clone(), after),
            closed: shared.closed.subscribe(),
            gap: None,
            ready: VecDeque::new(),
            shared,
            stage: Stage::Open(Box::new(watching)),
        })
    }

    /// Gets one step further. Cancel-safe.
    async fn advance(&mut self) -> Result<(), StoreError> {
        match &mut self.stage {
            Stage::Opening(opening) => match opening.await {
                Ok(Opened { after, watching }) => {
                    self.assembly = Assembly::new(self.shared.layout.clone(), after);
                    self.stage = Stage::Open(Box::new(watching));
                }
                Err(error) => {
                    self.reopen();
                    return Err(error);
                }
            },
            Stage::Open(watching) => match watching.responses.message().await {
                Ok(Some(response)) => self.handle(response),
                ended => {
                    tracing::debug!(?ended, "the watch of etcd ended; opening another");
                    // A stream that has ended says so again if this is dropped here.
                    self.shared.client.abandon(&watching.link).await;
                    self.reopen();
                }
            },
        }
        Ok(())
    }

    fn handle(&mut self, response: WatchResponse) {
        if response.compact_revision > 0 {
            self.gap = Some(Gap { oldest: self.shared.layout.revision(response.compact_revision) });
        } else if response.canceled {
            tracing::debug!(response.cancel_reason, "etcd ended the watch; opening another");
            self.reopen();
        } else if let Err(gap) = self.assembly.handle_response(response, &mut self.ready) {
            self.gap = Some(gap);
        }
    }

    fn reopen(&mut self) {
        let (shared, after) = (Arc::clone(&self.shared), self.assembly.after());
        self.stage = Stage::Opening(Box::pin(async move {
            shared.client.rest().await;
            open(&shared, after).await
        }));
    }
}

#[async_trait]
impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<Batch, StoreError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            if let Some(Gap { oldest }) = self.gap {
                return Err(StoreError::Compacted { oldest });
            }
            let mut closed = self.closed.clone();
            tokio::select! {
                biased;
                _ = closed.wait_for(|closed| *closed) => return Err(StoreError::Closed),
                advanced = self.advance() => advanced?,
            }
        }
    }
}

impl fmt::Debug for EtcdWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdWatch")
            .field("after", &self.assembly.after())
            .field("ready", &self.ready.len())
            .finish_non_exhaustive()
    }
}

/// Opens a watch at some member, until the patience with etcd is at its end.
async fn open(shared: &Shared, after: i64) -> Result<Opened, StoreError> {
    let deadline = shared.client.deadline();
    loop {
        let failure = match open_once(shared, after).await {
            Ok(opened) => return Ok(opened),
            Err(failure) => failure,
        };
        let again = matches!(failure, Failure::Elsewhere(_) | Failure::Unknown(_));
        if !again || !shared.client.pause(deadline).await {
            return Err(failure.into());
        }
    }
}

async fn open_once(shared: &Shared, after: i64) -> Result<Opened, Failure> {
    let (now, newest) = shared.head().await?;
    let (after, start_revision) = if newest <= after {
        // There was no commit since: nothing is missed by beginning now, and what others have compacted meanwhile does not matter.
        let after = after.max(now);
        (after, after + 1)
    } else {
        // One revision early. If the revision after has just been compacted, etcd tells it without its deletions; of this one it
        // says that it is compacted. (It would take 0 for now.)
        (after, after.max(1))
    };
    let create = WatchCreateRequest {
        key: shared.layout.head(),
        range_end: shared.layout.end(),
        start_revision,
        progress_notify: true,
        fragment: true,
    };
    let watching = shared.client.watch(WatchRequest { create: Some(create) }).await?;
    Ok(Opened { after, watching })
}
