//! `Events`: wakes those who wait for a change, on one subscription to the engine's events.
//!
//! Only a hint: a lost event costs a delay until the next periodic list, a needless one costs a list. After each gap in the
//! subscription everyone is woken once. The engine tells that a container died before its listings show it, so those that
//! died are remembered until a listing does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::EventMessage;
use futures_util::StreamExt;
use orchestrator_core::runtime::Scope;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::engine::Engine;
use crate::translate::{LABEL_CLUSTER, LABEL_NODE};

/// The events that mean that something changed by itself.
const ACTIONS: [&str; 3] = ["destroy", DIED, "oom"];
/// The event that a container has ended.
const DIED: &str = "die";
/// How many containers of a scope that died are remembered; of more a periodic list tells.
const DIED_MAX: usize = 1_024;
/// How long to wait before subscribing again, in milliseconds; doubled up to the maximum while it fails.
const RETRY_MS_MIN: u64 = 100;
/// See [`RETRY_MS_MIN`].
const RETRY_MS_MAX: u64 = 5_000;

type Waiters = Mutex<BTreeMap<Scope, Waiter>>;

/// Who waits for changes in a scope.
#[derive(Debug, Default)]
struct Waiter {
    notify: Arc<Notify>,
    /// Ids of containers that died, as far as no listing has shown it.
    died: BTreeSet<String>,
}

/// The subscription, begun when first needed; ends with the value.
#[derive(Debug)]
pub(crate) struct Events {
    engine: Engine,
    waiters: Arc<Waiters>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Events {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, waiters: Arc::default(), task: Mutex::default() }
    }

    /// Returns what is notified of changes in the scope from now on; also of those that nobody waited for.
    pub(crate) fn of(&self, scope: &Scope) -> Arc<Notify> {
        self.subscribe();
        let mut waiters = lock(&self.waiters);
        Arc::clone(&waiters.entry(scope.clone()).or_default().notify)
    }

    /// Returns the ids of containers that died, though a listing may still show them running.
    pub(crate) fn died(&self, scope: &Scope) -> BTreeSet<String> {
        died_in(&self.waiters, scope)
    }

    /// Forgets containers of which a listing has shown that they died.
    pub(crate) fn forget_died(&self, scope: &Scope, ids: &BTreeSet<String>) {
        forget(&self.waiters, scope, ids);
    }

    fn subscribe(&self) {
        let mut task = lock(&self.task);
        // The task ends early when the executor it was spawned on does.
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            let (engine, waiters) = (self.engine.clone(), Arc::clone(&self.waiters));
            *task = Some(tokio::spawn(follow(engine, waiters)));
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

async fn follow(engine: Engine, waiters: Arc<Waiters>) {
    let mut since = now();
    let mut retry_ms = RETRY_MS_MIN;
    loop {
        let mut events = engine.events(LABEL_CLUSTER, &ACTIONS, since.clone());
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    retry_ms = RETRY_MS_MIN;
                    wake(&waiters, &event);
                }
                Err(error) => {
                    tracing::debug!(%error, "the engine's events broke off");
                    break;
                }
            }
        }
        // What came before is covered by waking everyone below.
        since = now();
        tokio::time::sleep(Duration::from_millis(retry_ms)).await;
        retry_ms = (retry_ms * 2).min(RETRY_MS_MAX);
        lock(&waiters).values().for_each(|waiter| waiter.notify.notify_one());
    }
}

fn wake(waiters: &Waiters, event: &EventMessage) {
    let labels = event.actor.as_ref().and_then(|actor| actor.attributes.as_ref());
    let label = |name: &str| labels.and_then(|labels| labels.get(name)).cloned();
    let (Some(cluster), Some(node)) = (label(LABEL_CLUSTER), label(LABEL_NODE)) else { return };
    if let Some(waiter) = lock(waiters).get_mut(&Scope { cluster, node }) {
        let id = event.actor.as_ref().and_then(|actor| actor.id.clone());
        if let (Some(DIED), Some(id)) = (event.action.as_deref(), id)
            && waiter.died.len() < DIED_MAX
        {
            waiter.died.insert(id);
        }
        waiter.notify.notify_one();
    }
}

fn died_in(waiters: &Waiters, scope: &Scope) -> BTreeSet<String> {
    lock(waiters).get(scope).map(|waiter| waiter.died.clone()).unwrap_or_default()
}

fn forget(waiters: &Waiters, scope: &Scope, ids: &BTreeSet<String>) {
    if let Some(waiter) = lock(waiters).get_mut(scope) {
        waiter.died.retain(|id| !ids.contains(id));
    }
}

/// Returns the present as the engine wants it, in whole seconds: a few old events too many are harmless.
fn now() -> String {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since_epoch.as_secs().to_string()
}

/// Nothing here can leave the data half changed, so a panic elsewhere does not matter.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use bollard::models::EventActor;

    use super::*;

    fn event(cluster: &str, node: &str) -> EventMessage {
        let attributes = [(LABEL_CLUSTER, cluster), (LABEL_NODE, node)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        EventMessage {
            actor: Some(EventActor { attributes: Some(attributes.into()), ..Default::default() }),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn an_event_wakes_only_its_scope_and_is_kept_for_a_late_waiter() {
        let scope = |node: &str| Scope { cluster: "home".to_owned(), node: node.to_owned() };
        let (mine, other) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let waiters = Waiters::default();
        for (node, notify) in [("n1", &mine), ("n2", &other)] {
            let waiter = Waiter { notify: Arc::clone(notify), ..Waiter::default() };
            lock(&waiters).insert(scope(node), waiter);
        }
        wake(&waiters, &event("home", "n1"));
        wake(&waiters, &event("elsewhere", "n2"));
        mine.notified().await;
        let woken = tokio::time::timeout(Duration::ZERO, other.notified()).await;
        assert!(woken.is_err(), "another scope's event");
    }

    #[tokio::test]
    async fn a_container_that_died_is_remembered_until_a_listing_has_shown_it() {
        let waiters = Waiters::default();
        let scope = Scope { cluster: "home".to_owned(), node: "n1".to_owned() };
        lock(&waiters).insert(scope.clone(), Waiter::default());
        let mut died = event("home", "n1");
        died.action = Some(DIED.to_owned());
        died.actor.as_mut().expect("set").id = Some("4c01".to_owned());
        wake(&waiters, &died);
        died.action = Some("oom".to_owned());
        died.actor.as_mut().expect("set").id = Some("other".to_owned());
        wake(&waiters, &died);
        let ids: BTreeSet<String> = ["4c01".to_owned()].into();
        assert_eq!(died_in(&waiters, &scope), ids);
        forget(&waiters, &scope, &ids);
        assert!(died_in(&waiters, &scope).is_empty());
    }
}
