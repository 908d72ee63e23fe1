//! `FakeLink`: a control plane in memory that does as a test says, for trying agents.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::model::{Key, Node, Pod, PodStatus, Revision, Time, Uid};
use crate::node::{Assignments, LinkError, NetworkAt, NodeLink, StatusOutcome};
use crate::world::{EventNote, NodeUsage};

/// The most changes remembered; an agent that is further behind gets a complete list.
pub const CHANGES_MAX: usize = 1024;

/// A control plane with the pods of one node. Clones share everything.
#[derive(Clone, Debug, Default)]
pub struct FakeLink(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    epoch: u64,
    revision: u64,
    pods: BTreeMap<Key, Arc<Pod>>,
    changes: Vec<(u64, Key, Uid)>,
    node: Option<Node>,
    registrations: usize,
    reports: usize,
    usage: Option<NodeUsage>,
    events: Vec<EventNote>,
    status_writes: usize,
    cut: bool,
    /// How long after a status was recorded its writer hears of it.
    status_answer: Duration,
}

impl State {
    fn note(&mut self, key: &Key, uid: Uid) {
        self.revision += 1;
        self.changes.push((self.revision, key.clone(), uid));
        if self.changes.len() > CHANGES_MAX {
            self.changes.remove(0);
        }
    }

    fn check(&self) -> Result<(), LinkError> {
        if self.cut {
            return Err(LinkError::Unreachable("the test cut the link".into()));
        }
        Ok(())
    }

    fn complete(&self) -> Assignments {
        Assignments::Complete {
            epoch: self.epoch,
            revision: Revision(self.revision),
            pods: self.pods.values().cloned().collect(),
        }
    }

    fn since(&self, after: Revision) -> Assignments {
        let oldest = self.changes.first().map_or(self.revision, |(revision, ..)| *revision);
        if after.0 + 1 < oldest || after.0 > self.revision {
            return self.complete();
        }
        let (mut changed, mut removed) = (BTreeMap::new(), BTreeMap::new());
        for (_, key, uid) in self.changes.iter().filter(|(revision, ..)| *revision > after.0) {
            match self.pods.get(key).filter(|pod| pod.metadata.uid == *uid) {
                Some(pod) => drop(changed.insert(key.clone(), Arc::clone(pod))),
                None => drop(removed.insert(*uid, (key.clone(), *uid))),
            }
        }
        Assignments::Changes {
            revision: Revision(self.revision),
            changed: changed.into_values().collect(),
            removed: removed.into_values().collect(),
        }
    }
}

impl FakeLink {
    /// Records a pod of the node, new or changed; its status is taken along.
    pub fn put(&self, pod: Pod) {
        let key = Key::pod(&pod.metadata.namespace, &pod.metadata.name);
        self.change(|state| {
            state.note(&key, pod.metadata.uid);
            state.pods.insert(key, Arc::new(pod));
        });
    }

    /// Asks for a pod's deletion, with a grace from `now`.
    pub fn delete(&self, name: &str, now: Time, grace_seconds: i64) {
        self.edit(name, |pod| {
            let at = Time::from_seconds(now.as_seconds() + grace_seconds);
            pod.metadata.deletion_timestamp = Some(at);
            pod.metadata.deletion_grace_period_seconds = Some(grace_seconds);
        });
    }

    /// Changes a pod of the namespace `default`, if it is there.
    pub fn edit(&self, name: &str, edit: impl FnOnce(&mut Pod)) {
        let key = Key::pod("default", name);
        self.change(|state| {
            let Some(mut pod) = state.pods.get(&key).cloned() else { return };
            edit(Arc::make_mut(&mut pod));
            state.note(&key, pod.metadata.uid);
            state.pods.insert(key, pod);
        });
    }

    /// Takes a pod away at once, as a forced deletion does.
    pub fn forget(&self, name: &str) {
        let key = Key::pod("default", name);
        self.change(|state| {
            if let Some(pod) = state.pods.remove(&key) {
                state.note(&key, pod.metadata.uid);
            }
        });
    }

    /// Begins another history in which there are no pods, as a wrong or emptied store would show it.
    pub fn lose_history(&self) {
        self.change(|state| {
            state.epoch += 1;
            // More than one: nobody can take it for the next change.
            state.revision += 2;
            state.pods.clear();
            state.changes.clear();
        });
    }

    /// Makes every call fail until it is called with `false`.
    pub fn cut(&self, cut: bool) {
        self.change(|state| state.cut = cut);
    }

    /// Lets the answer to each written status take this long from when it is recorded.
    pub fn answer_statuses_after(&self, after: Duration) {
        self.lock().status_answer = after;
    }

    /// The pod's status, as last written; `None` when there is no such pod in the namespace `default`.
    pub fn status(&self, name: &str) -> Option<PodStatus> {
        let key = Key::pod("default", name);
        self.lock().pods.get(&key).map(|pod| pod.status.clone())
    }

    /// The node, as last registered.
    pub fn node(&self) -> Option<Node> {
        self.lock().node.clone()
    }

    /// How often the node was registered.
    pub fn registrations(&self) -> usize {
        self.lock().registrations
    }

    /// How often the agent said it is alive.
    pub fn reports(&self) -> usize {
        self.lock().reports
    }

    /// How often a status was written.
    pub fn status_writes(&self) -> usize {
        self.lock().status_writes
    }

    /// The newest usage sample.
    pub fn usage(&self) -> Option<NodeUsage> {
        self.lock().usage.clone()
    }

    /// What was told to people.
    pub fn events(&self) -> Vec<EventNote> {
        self.lock().events.clone()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.0.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl NodeLink for FakeLink {
    async fn register(&self, node: Node) -> Result<(), LinkError> {
        let mut state = self.lock();
        state.check()?;
        state.node = Some(node);
        state.registrations += 1;
        Ok(())
    }

    async fn assignments(&self, after: Option<Revision>) -> Result<Assignments, LinkError> {
        loop {
            let notified = self.0.changed.notified();
            {
                let state = self.lock();
                state.check()?;
                match after {
                    None => return Ok(state.complete()),
                    Some(after) if state.revision != after.0 => return Ok(state.since(after)),
                    Some(_) => {}
                }
            }
            notified.await;
        }
    }

    async fn write_status(
        &self,
        key: &Key,
        uid: Uid,
        status: PodStatus,
    ) -> Result<StatusOutcome, LinkError> {
        self.lock().check()?;
        let (mut outcome, mut answer) = (StatusOutcome::Gone, Duration::ZERO);
        self.change(|state| {
            answer = state.status_answer;
            state.status_writes += 1;
            let pod = state.pods.get(key).filter(|pod| pod.metadata.uid == uid).cloned();
            if let Some(mut pod) = pod {
                outcome = StatusOutcome::Recorded;
                if pod.status != status {
                    Arc::make_mut(&mut pod).status = status;
                    state.note(key, uid);
                    state.pods.insert(key.clone(), pod);
                }
            }
        });
        if !answer.is_zero() {
            tokio::time::sleep(answer).await;
        }
        Ok(outcome)
    }

    async fn confirm_deleted(&self, key: &Key, uid: Uid) -> Result<(), LinkError> {
        self.lock().check()?;
        self.change(|state| {
            if state.pods.get(key).is_some_and(|pod| pod.metadata.uid == uid) {
                state.pods.remove(key);
                state.note(key, uid);
            }
        });
        Ok(())
    }

    async fn event(&self, note: EventNote) -> Result<(), LinkError> {
        let mut state = self.lock();
        state.check()?;
        state.events.push(note);
        Ok(())
    }

    /// There is no network between pods, ever.
    async fn network(&self, after: Option<Revision>) -> Result<NetworkAt, LinkError> {
        match after {
            None => {
                let revision = Revision(self.lock().revision);
                Ok(NetworkAt { revision, network: None, is_expected: false })
            }
            Some(_) => std::future::pending().await,
        }
    }

    async fn report(&self, usage: Option<NodeUsage>) -> Result<(), LinkError> {
        let mut state = self.lock();
        state.check()?;
        state.reports += 1;
        state.usage = usage.or_else(|| state.usage.take());
        Ok(())
    }
}
