//! `LocalLink`: the link of an agent in the same process, or of one whose calls somebody carries here, acting as its node.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::watch;

use super::control::Command;
use super::history::Compacted;
use super::submit::{Submitter, not_leading};
use super::transfer::epoch;
use crate::api::{Caller, DeleteOptions, Preconditions, Rejection, Request, WriteOptions};
use crate::model::{Key, Kind, Node, Object, Part, Pod, PodStatus, Resource, Revision, Uid};
use crate::node::{Assignments, LinkError, NetworkAt, NodeLink, StatusOutcome};
use crate::world::{EventNote, NodeUsage, Signal, World};

/// Lets an agent reach the control plane. Every write goes through the verbs, with the
/// rights of the node and no others.
#[derive(Debug)]
pub(super) struct LocalLink {
    submitter: Submitter,
    node: String,
    /// The node that it must be; without one the node is recorded when it registers.
    uid: Option<Uid>,
    registered: Arc<watch::Sender<bool>>,
}

impl LocalLink {
    pub(super) fn new(
        submitter: Submitter,
        node: &str,
        registered: Arc<watch::Sender<bool>>,
    ) -> Self {
        Self { submitter, node: node.to_owned(), uid: None, registered }
    }

    /// The link of an agent elsewhere, whose node has been recorded when it joined.
    pub(super) fn of_remote(submitter: Submitter, node: &str, uid: Uid) -> Self {
        let registered = Arc::new(watch::Sender::new(false));
        Self { submitter, node: node.to_owned(), uid: Some(uid), registered }
    }

    /// Refuses a node that has been deleted.
    async fn known(&self) -> Result<(), LinkError> {
        let Some(uid) = self.uid else { return Ok(()) };
        let node = Key::node(&self.node);
        let found = |world: &World| {
            world.at::<Node>(&node).is_some_and(|node| node.metadata.uid == uid).then_some(())
        };
        self.find(found).await?.ok_or_else(|| LinkError::Refused {
            message: format!("node {:?} has been removed; it must join anew", self.node),
        })
    }

    /// Finds something in the newest world. That it is not there is believed of a world alone that shows whatever another
    /// server has answered.
    async fn find<T>(&self, find: impl Fn(&World) -> Option<T>) -> Result<Option<T>, LinkError> {
        if let Some(found) = find(&self.submitter.history.world()) {
            return Ok(Some(found));
        }
        Ok(find(&self.submitter.catch_up().await.map_err(link_error)?))
    }

    async fn submit(&self, request: &Request) -> Result<Object, Rejection> {
        let caller = Caller::Node { name: self.node.clone() };
        self.submitter.submit_of_node(&caller, request).await.map(|effect| effect.reply)
    }

    /// Every pod of the node. What another server has told its agent must be in it: what is not, is taken for gone (S19). While there
    /// are pods that cannot be read nobody knows whether that is all, and nothing is said to be (S11).
    async fn snapshot(&self) -> Result<Assignments, LinkError> {
        let world = self.submitter.catch_up().await.map_err(link_error)?;
        let (revision, pods) = (world.revision(), world.pods_on(&self.node).cloned().collect());
        Ok(match world.unreadable_pods().next() {
            None => Assignments::Complete { epoch: epoch(&world), revision, pods },
            Some(_) => Assignments::Changes { revision, changed: pods, removed: Vec::new() },
        })
    }

    /// Gathers what has changed for this node; `None` if nothing has.
    fn gather(&self, after: Revision) -> Result<Option<Assignments>, Compacted> {
        let (revision, changes) = self.submitter.history.changes_of(&self.node, after)?;
        let (mut changed, mut removed): (Vec<Arc<Pod>>, Vec<(Key, Uid)>) = (Vec::new(), Vec::new());
        let ours = |object: &Option<Object>| match object {
            Some(Object::Pod(pod)) if pod.node_name == self.node => Some(Arc::clone(pod)),
            Some(_) | None => None,
        };
        for change in changes {
            match (ours(&change.before), ours(&change.after)) {
                (_, Some(pod)) => {
                    changed.retain(|known| known.key() != change.key);
                    changed.push(pod);
                }
                (Some(pod), None) => {
                    changed.retain(|known| known.key() != change.key);
                    removed.push((change.key.clone(), pod.metadata.uid));
                }
                (None, None) => {}
            }
        }
        let has_changed = !changed.is_empty() || !removed.is_empty();
        Ok(has_changed.then_some(Assignments::Changes { revision, changed, removed }))
    }
}

fn link_error(rejection: Rejection) -> LinkError {
    match rejection {
        Rejection::Unavailable { .. } => LinkError::Unreachable(Box::new(rejection)),
        other => LinkError::Refused { message: other.to_string() },
    }
}

#[async_trait]
impl NodeLink for LocalLink {
    async fn register(&self, node: Node) -> Result<(), LinkError> {
        self.known().await?;
        let key = Key::node(&self.node);
        let options = WriteOptions::default();
        let wanted = Object::from(node);
        if self.uid.is_none() && self.submitter.history.world().get(&key).is_none() {
            let object = wanted.to_value();
            let request = Request::Create {
                kind: Kind::Node,
                namespace: String::new(),
                object,
                options: options.clone(),
            };
            match self.submit(&request).await {
                Ok(_) | Err(Rejection::AlreadyExists { .. }) => {}
                Err(rejection) => return Err(link_error(rejection)),
            }
        }
        let meta = wanted.meta();
        let metadata = json!({ "labels": meta.labels, "annotations": meta.annotations });
        let request = Request::Patch {
            key: key.clone(),
            part: Part::Main,
            patch: crate::api::Patch::Merge(json!({ "metadata": metadata })),
            preconditions: Preconditions { revision: None, uid: self.uid },
            options: options.clone(),
        };
        self.submit(&request).await.map_err(link_error)?;
        let request =
            Request::Update { key, part: Part::Status, object: wanted.to_value(), options };
        self.submit(&request).await.map_err(link_error)?;
        self.registered.send_replace(true);
        Ok(())
    }

    async fn assignments(&self, after: Option<Revision>) -> Result<Assignments, LinkError> {
        self.known().await?;
        let Some(after) = after else { return self.snapshot().await };
        let agent = self.submitter.history.agent_of(&self.node);
        loop {
            // From here on nothing is missed.
            let told = agent.told();
            match self.gather(after) {
                Ok(Some(difference)) => return Ok(difference),
                Ok(None) => told.await,
                Err(Compacted { .. }) => return self.snapshot().await,
            }
            self.known().await?;
        }
    }

    async fn write_status(
        &self,
        key: &Key,
        uid: Uid,
        status: PodStatus,
    ) -> Result<StatusOutcome, LinkError> {
        self.known().await?;
        let found = |world: &World| {
            let pod = world.at::<Pod>(key).filter(|pod| pod.metadata.uid == uid);
            pod.map(|pod| (**pod).clone())
        };
        let Some(mut pod) = self.find(found).await? else { return Ok(StatusOutcome::Gone) };
        pod.status = status;
        // The uid is the precondition; another agent's report cannot be in the way.
        pod.metadata.resource_version = Revision::ZERO;
        let object = Object::from(pod).to_value();
        let request = Request::Update {
            key: key.clone(),
            part: Part::Status,
            object,
            options: WriteOptions::default(),
        };
        match self.submit(&request).await {
            Ok(_) => Ok(StatusOutcome::Recorded),
            Err(Rejection::NotFound { .. } | Rejection::Conflict { .. }) => Ok(StatusOutcome::Gone),
            Err(rejection) => Err(link_error(rejection)),
        }
    }

    async fn confirm_deleted(&self, key: &Key, uid: Uid) -> Result<(), LinkError> {
        self.known().await?;
        let options = DeleteOptions {
            grace_seconds: Some(0),
            preconditions: Preconditions { revision: None, uid: Some(uid) },
            ..DeleteOptions::default()
        };
        match self.submit(&Request::Delete { key: key.clone(), options }).await {
            Ok(_) | Err(Rejection::NotFound { .. } | Rejection::Conflict { .. }) => Ok(()),
            Err(rejection) => Err(link_error(rejection)),
        }
    }

    async fn event(&self, note: EventNote) -> Result<(), LinkError> {
        self.known().await?;
        match self.may_tell(&note)? {
            true => self.command(Command::Note(note)).await,
            false => Ok(()),
        }
    }

    async fn network(&self, after: Option<Revision>) -> Result<NetworkAt, LinkError> {
        self.known().await?;
        if let Some(after) = after {
            let history = &self.submitter.history;
            loop {
                // From here on nothing is missed.
                let told = history.networked();
                if history.network() > after {
                    break;
                }
                told.await;
                self.known().await?;
            }
        }
        Ok(NetworkAt::of(&self.submitter.history.world(), &self.node))
    }

    async fn report(&self, usage: Option<NodeUsage>) -> Result<(), LinkError> {
        self.known().await?;
        let node = Key::node(&self.node);
        // One whose status cannot be read is to be told anew what the node is.
        let is_known =
            |world: &World| world.get(&node).filter(|_| !world.has_unread_status(&node)).map(drop);
        if self.find(is_known).await?.is_none() {
            let message = format!("node {:?} is not registered", self.node);
            return Err(LinkError::Refused { message });
        }
        let (node, at) = (self.node.clone(), self.submitter.clock.now());
        let signal = match usage {
            Some(sample) => Signal::Usage { node, at, sample: Arc::new(sample) },
            None => Signal::Heartbeat { node, at },
        };
        self.command(Command::Signal(signal)).await
    }
}

impl LocalLink {
    /// Whether something is to be told; not of a pod that is gone meanwhile.
    fn may_tell(&self, note: &EventNote) -> Result<bool, LinkError> {
        let (world, about) = (self.submitter.history.world(), &note.about);
        let pod = world.at::<Pod>(about).filter(|pod| pod.metadata.uid == note.uid);
        match about.kind {
            Kind::Node if *about.name == *self.node => Ok(true),
            Kind::Pod => match pod {
                Some(pod) if pod.node_name != self.node => Err(self.forbidden(about)),
                pod => Ok(pod.is_some()),
            },
            _ => Err(self.forbidden(about)),
        }
    }

    fn forbidden(&self, about: &Key) -> LinkError {
        let message = format!("node {:?} may not tell events about {about}", self.node);
        LinkError::Refused { message }
    }

    /// Tells the engine something, if it is this control plane's that decides.
    async fn command(&self, command: Command) -> Result<(), LinkError> {
        if !self.submitter.standing.leads() {
            return Err(link_error(not_leading()));
        }
        self.submitter
            .commands
            .send(command)
            .await
            .map_err(|error| LinkError::Unreachable(Box::new(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Cluster;
    use crate::testkit::link::LinkFixture;

    struct Local;

    #[async_trait]
    impl LinkFixture for Local {
        async fn link(&self, cluster: &Cluster, node: &str, uid: Uid) -> Arc<dyn NodeLink> {
            cluster.node_link(node, uid)
        }
    }

    crate::link_conformance!(Local);
}
