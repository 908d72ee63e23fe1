//! `Keeper`: wants a pod of one name, at any time, as what keeps an identity does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use orchestrator_core::model::Kind;
use orchestrator_http::{Client, WriteParams};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::rig::POLL;
use crate::rig::poll;

/// Creates a pod of one name again and again, whoever has the name.
#[derive(Debug)]
pub struct Keeper {
    stop: watch::Sender<bool>,
    refused: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Keeper {
    pub(super) fn start(client: Client, pod: Value) -> Self {
        let (stop, told) = watch::channel(false);
        let refused = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&refused);
        let task = tokio::spawn(async move {
            while !*told.borrow() {
                let params = WriteParams::default();
                let created = client.create(Kind::Pod, Some("default"), &pod, params).await;
                if created.is_err_and(|error| error.code() == Some(409)) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                tokio::time::sleep(POLL).await;
            }
        });
        Self { stop, refused, task }
    }

    /// Waits until it has been told so many times more that the name is taken.
    pub async fn until_refused(&self, more: usize) {
        let before = self.refused.load(Ordering::SeqCst);
        poll("the name is taken", || async {
            let refused = self.refused.load(Ordering::SeqCst) - before;
            if refused >= more { Ok(()) } else { Err(refused) }
        })
        .await;
    }

    /// Ends.
    ///
    /// # Panics
    /// When it has failed.
    pub async fn end(self) {
        let _ = self.stop.send(true);
        self.task.await.expect("no panic");
    }
}
