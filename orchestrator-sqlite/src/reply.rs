//! `Reply`: the answer that whoever asked for a commit waits for.
//!
//! Invariant: there always is one. A transaction that was never begun is `Closed`; one that was begun and not
//! finished, because the writer panicked, is `Unknown`.

use orchestrator_core::store::{CommitOutcome, StoreError};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

pub(crate) type Answer = Result<CommitOutcome, StoreError>;

/// Answers once, at the latest when it is dropped.
pub(crate) struct Reply {
    sender: Option<oneshot::Sender<Answer>>,
    /// Whether the writer has begun with the transaction.
    pub started: bool,
    /// The place in the queue, free once it is answered.
    _place: OwnedSemaphorePermit,
}

impl Reply {
    pub(crate) fn new(place: OwnedSemaphorePermit) -> (Self, oneshot::Receiver<Answer>) {
        let (sender, answer) = oneshot::channel();
        (Self { sender: Some(sender), started: false, _place: place }, answer)
    }

    pub(crate) fn send(mut self, answer: Answer) {
        self.answer(answer);
    }

    fn answer(&mut self, answer: Answer) {
        if let Some(sender) = self.sender.take() {
            // Whoever asked may have given up.
            _ = sender.send(answer);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let unanswered =
            if self.started { Ok(CommitOutcome::Unknown) } else { Err(StoreError::Closed) };
        self.answer(unanswered);
    }
}
