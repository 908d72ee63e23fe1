//! Following the control plane: which pods are this node's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::core::{Core, Retry};
use super::pods::Slot;
use super::tasks::{Event, contained};
use crate::model::{Pod, Revision, Uid};
use crate::node::{Assignments, CompleteList, LinkError};

/// A complete list is asked for at most this often to settle what unknown sandboxes are.
const COMPLETE_LIST_INTERVAL: Duration = Duration::from_secs(1);

/// How far the control plane was followed.
#[derive(Debug, Default)]
pub(super) struct Following {
    epoch: Option<u64>,
    revision: Option<Revision>,
    in_flight: Option<AbortHandle>,
    retry: Retry,
    /// Whether a complete list is wanted, and from when on it may be asked for.
    wants_complete: Option<Instant>,
    /// When one was last asked for.
    last_complete: Option<Instant>,
    /// A list that waits for the runtime to be listed before it can prove anything.
    unjudged: Option<CompleteList>,
}

impl Following {
    /// Whether the node's pods are known.
    pub const fn has_heard(&self) -> bool {
        self.revision.is_some()
    }
}

impl Core {
    pub(super) fn act_following(&mut self) -> Option<Instant> {
        if !self.registration.is_accepted() {
            return None;
        }
        let following = &mut self.following;
        let wanted = following.wants_complete.filter(|at| *at <= Instant::now()).is_some();
        if wanted && let Some(waiting) = following.in_flight.take() {
            waiting.abort();
        }
        if following.in_flight.is_some() {
            return following.wants_complete;
        }
        if !following.retry.is_due() {
            return following.retry.at();
        }
        let after = if wanted { None } else { following.revision };
        if after.is_none() {
            following.wants_complete = None;
            following.last_complete = Some(Instant::now());
        }
        let link = Arc::clone(&self.link);
        // No time limit: with nothing to tell it waits, and the link knows when its peer is gone.
        let task = self.tasks.spawn(async move {
            let outcome = contained(link.assignments(after)).await;
            Event::Assigned(
                outcome.unwrap_or_else(|| Err(LinkError::Unreachable("the link panicked".into()))),
            )
        });
        self.following.in_flight = Some(task);
        self.following.wants_complete
    }

    pub(super) fn handle_assigned(&mut self, outcome: Result<Assignments, LinkError>) {
        self.following.in_flight = None;
        match outcome {
            Err(error) => {
                tracing::debug!(%error, "pods of the node are not heard");
                self.following.retry.failed(&self.config.scope.node);
                self.heard_refusal(&error);
            }
            Ok(Assignments::Changes { revision, changed, removed }) => {
                self.following.retry = Retry::default();
                self.following.revision = Some(revision);
                self.kept.changed();
                for pod in changed {
                    self.assign(pod);
                }
                for (_, uid) in removed {
                    self.slots.remove(&uid);
                }
            }
            Ok(Assignments::Complete { epoch, revision, pods }) => {
                self.following.retry = Retry::default();
                self.handle_complete(epoch, revision, pods);
            }
        }
    }

    fn handle_complete(&mut self, epoch: u64, revision: Revision, pods: Vec<Arc<Pod>>) {
        let following = &mut self.following;
        let stale = following.epoch == Some(epoch)
            && following.revision.is_some_and(|known| revision < known);
        if stale {
            // Somebody who is behind answered; believe nothing and ask again.
            following.retry.failed(&self.config.scope.node);
            following.wants_complete = Some(Instant::now());
            return;
        }
        following.epoch = Some(epoch);
        following.revision = Some(revision);
        self.kept.changed();
        let uids: BTreeSet<Uid> = pods.iter().map(|pod| pod.metadata.uid).collect();
        following.unjudged = Some(CompleteList { epoch, revision, pods: uids.clone() });
        self.slots.retain(|uid, _| uids.contains(uid));
        for pod in pods {
            self.assign(pod);
        }
        self.judge_orphans();
    }

    pub(super) fn assign(&mut self, pod: Arc<Pod>) {
        let uid = pod.metadata.uid;
        self.orphans.remove(&uid);
        if let Some(busy) = self.busy.get(&uid) {
            busy.heed_deletion(&pod);
        }
        match self.slots.get_mut(&uid) {
            Some(slot) => slot.replace(pod),
            None => {
                self.slots.insert(uid, Slot::new(pod));
            }
        }
    }

    /// Decides which sandboxes belong to pods that are gone, once both sides were listed.
    pub(super) fn judge_orphans(&mut self) {
        if !self.listing.has_listed() {
            return;
        }
        let Some(list) = self.following.unjudged.take() else { return };
        let gone = self.guard.gone(self.listing.observed(), &list);
        // A pod assigned since the list was made is not gone.
        self.orphans.extend(gone.into_iter().filter(|uid| !self.slots.contains_key(uid)));
    }

    /// Asks for a complete list when the runtime shows pods that nobody has spoken of.
    pub(super) fn question_strangers(&mut self) {
        let stranger = self.listing.observed().iter().any(|sandbox| {
            let uid = &sandbox.key.pod;
            !self.slots.contains_key(uid)
                && !self.orphans.contains(uid)
                && !self.busy.contains_key(uid)
        });
        let following = &mut self.following;
        if stranger && following.has_heard() && following.wants_complete.is_none() {
            let at = following.last_complete.map_or_else(Instant::now, |last| {
                (last + COMPLETE_LIST_INTERVAL).max(Instant::now())
            });
            following.wants_complete = Some(at);
        }
    }

    /// A control plane that does not know the node gets it registered again.
    pub(super) fn heard_refusal(&mut self, error: &LinkError) {
        if let LinkError::Refused { .. } = error {
            self.registration.forget();
        }
    }
}
