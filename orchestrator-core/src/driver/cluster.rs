//! `Cluster`: what an embedder holds.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;

use super::agent::AgentHandle;
use super::builder::ClusterBuilder;
use super::control::Command;
use super::history::Changes;
use super::local_link::LocalLink;
use super::nodes::{ConnectedNode, Nodes};
use super::standing::Leader;
use super::streams;
use super::submit::{Submitter, shut_down};
use crate::api::{Caller, Effect, Patch, Preconditions, Rejection, Request, WriteOptions};
use crate::engine::EngineStats;
use crate::model::{Key, Object, Part, Pod, Revision, Timestamp, Uid};
use crate::node::{NodeLink, NodeStreams};
use crate::runtime::{AttachOptions, LogOptions, LogStream, RuntimeError, Session, SessionOptions};
use crate::scheduler::{ClusterView, Explanation, Scheduler};
use crate::world::World;

/// A running cluster. Cloning is cheap; every clone is the same cluster. There are no globals: several live side by
/// side in one process.
///
/// ```
/// use orchestrator_core::{driver::Cluster, mem::MemStore, model::Deployment};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = Cluster::builder().store(MemStore::new()).start().await?;
/// cluster.apply(Deployment::new("web", "nginx:1.27").replicas(3)).await?;
/// cluster.wait_for(|world| world.deployment("web").status.replicas == 3).await?;
/// cluster.shutdown(false).await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub id: String,
    pub submitter: Submitter,
    pub scheduler: Arc<dyn Scheduler>,
    pub nodes: Nodes,
    pub tasks: Mutex<Option<Tasks>>,
}

#[derive(Debug)]
pub(super) struct Tasks {
    pub agents: Vec<AgentHandle>,
    pub control: JoinHandle<()>,
}

/// Counts of what a cluster has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterStats {
    /// The engine's counts; of a control plane that does not lead, nothing.
    pub engine: EngineStats,
    /// Whether this control plane decides.
    pub leads: bool,
    /// How many objects there are.
    pub objects: u64,
    /// How many records cannot be read.
    pub quarantined: u64,
    /// The newest revision.
    pub revision: Revision,
}

impl Cluster {
    /// Begins to wire a cluster.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::new()
    }

    /// The cluster's id: stays the same for the life of its store. Runtimes label what they make with it.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// The time of day, as the cluster's clock shows it.
    pub fn now(&self) -> Timestamp {
        self.inner.submitter.clock.now()
    }

    /// Whether the control plane runs, and has not been shut down.
    pub fn is_running(&self) -> bool {
        !self.inner.submitter.history.is_closed()
    }

    /// Returns the newest world as a snapshot.
    pub fn world(&self) -> World {
        self.inner.submitter.history.world()
    }

    /// Waits until the world has reached a revision, and returns it.
    ///
    /// # Errors
    /// [`Rejection::Unavailable`] when that takes longer than 30 s, or the cluster was shut down.
    pub async fn world_at(&self, at_least: Revision) -> Result<World, Rejection> {
        self.inner.submitter.reach(at_least).await
    }

    /// Who decides: where binds are made, and where reports of nodes are taken in.
    pub fn leader(&self) -> Leader {
        self.inner.submitter.standing.leader()
    }

    /// What this control plane is called among those that share its store; `None` when it has the store to itself.
    pub fn identity(&self) -> Option<&str> {
        self.inner.submitter.standing.identity()
    }

    /// Whether other control planes may write to the same store.
    pub fn is_shared(&self) -> bool {
        self.inner.submitter.is_shared()
    }

    /// Returns a world that shows everything that was answered before this was called, by this control plane or by others on
    /// the same store.
    ///
    /// # Errors
    /// [`Rejection::Unavailable`] when the store does not answer, or the cluster was shut down.
    pub async fn catch_up(&self) -> Result<World, Rejection> {
        self.inner.submitter.catch_up().await
    }

    /// Whether a node's streams can be reached from here.
    pub fn reaches(&self, node: &str) -> bool {
        self.inner.nodes.streams(node).is_some()
    }

    /// Asks for a write; when this returns, it is durable and the world shows it.
    ///
    /// # Errors
    /// The rejection says why nothing was written.
    pub async fn submit(&self, caller: &Caller, request: Request) -> Result<Effect, Rejection> {
        self.inner.submitter.submit(caller, &request).await
    }

    /// Applies an object as a manifest: creates it, or changes what differs.
    ///
    /// # Errors
    /// The rejection says why nothing was written.
    pub async fn apply(&self, object: impl Into<Object>) -> Result<Object, Rejection> {
        let mut object: Object = object.into();
        if object.kind().is_namespaced() && object.meta().namespace.is_empty() {
            object.meta_mut().namespace = "default".to_owned();
        }
        let request = Request::Patch {
            key: object.key(),
            part: Part::Main,
            patch: Patch::Apply(object.to_value()),
            preconditions: Preconditions::default(),
            options: WriteOptions::default(),
        };
        self.submit(&embedder(), request).await.map(|effect| effect.reply)
    }

    /// Deletes an object with its defaults: a pod's own grace, dependents afterwards.
    ///
    /// # Errors
    /// The rejection says why nothing was written.
    pub async fn delete(&self, key: &Key) -> Result<(), Rejection> {
        let request =
            Request::Delete { key: key.clone(), options: crate::api::DeleteOptions::default() };
        self.submit(&embedder(), request).await.map(|_| ())
    }

    /// Sets the number of replicas of a deployment or replica set.
    ///
    /// # Errors
    /// The rejection says why nothing was written.
    pub async fn scale(&self, key: &Key, replicas: i32) -> Result<(), Rejection> {
        let request = Request::Scale {
            key: key.clone(),
            replicas,
            preconditions: Preconditions::default(),
            options: WriteOptions::default(),
        };
        self.submit(&embedder(), request).await.map(|_| ())
    }

    /// Waits until something is true of the world, and returns that world. Put a timeout around it.
    ///
    /// # Errors
    /// [`Rejection::Unavailable`] when the cluster is shut down meanwhile.
    pub async fn wait_for(
        &self,
        is_true: impl FnMut(&World) -> bool + Send,
    ) -> Result<World, Rejection> {
        self.inner.submitter.history.wait_for(is_true).await.ok_or_else(shut_down)
    }

    /// Waits until this process's own nodes have registered and are Ready; at once if there is none.
    ///
    /// # Errors
    /// [`Rejection::Unavailable`] when the cluster is shut down meanwhile.
    pub async fn node_ready(&self) -> Result<(), Rejection> {
        for (name, node) in &self.inner.nodes.own {
            // A node recorded by an earlier process may say Ready before this one has looked at anything.
            if node.registered.subscribe().wait_for(|registered| *registered).await.is_err() {
                return Err(shut_down());
            }
            self.wait_for(|world| world.node(name).is_some_and(|node| node.is_ready())).await?;
        }
        Ok(())
    }

    /// Follows every change after a revision.
    pub fn changes(&self, after: Revision) -> Changes {
        Changes::new(Arc::clone(&self.inner.submitter.history), after)
    }

    /// Says where a pod could run and why not elsewhere: every node, every failing filter, every score.
    ///
    /// # Errors
    /// [`Rejection::NotFound`] when there is no such pod.
    pub fn explain(&self, pod: &Key) -> Result<Explanation, Rejection> {
        let world = self.world();
        let found = world.at::<Pod>(pod).ok_or_else(|| Rejection::NotFound { key: pod.clone() })?;
        Ok(self.inner.scheduler.explain(found, &ClusterView::from_world(&world)))
    }

    /// Reads the log of a container; of the pod's only one when `container` is `None`.
    ///
    /// # Errors
    /// The rejection names what is missing.
    pub async fn logs(
        &self,
        pod: &Key,
        container: Option<&str>,
        previous: bool,
        options: &LogOptions,
    ) -> Result<Box<dyn LogStream>, Rejection> {
        let world = self.world();
        let found = streams::pod(&world, pod)?;
        let container = streams::container(found, container)?;
        let streams = self.streams_of(found)?;
        let opened = streams.logs(found.metadata.uid, container, previous, options).await;
        opened.map_err(|error| match error {
            RuntimeError::NotFound { .. } => streams::no_run(found, container, previous),
            error => streams::failed(&error),
        })
    }

    /// Runs a program in a container of a pod; the only one if none is named.
    ///
    /// # Errors
    /// [`Rejection`] when there is no such pod or container, it does not run, or the program cannot be run.
    pub async fn session(
        &self,
        pod: &Key,
        container: Option<&str>,
        options: &SessionOptions,
    ) -> Result<Session, Rejection> {
        let world = self.world();
        let found = streams::pod(&world, pod)?;
        let container = streams::container(found, container)?;
        let opened = self.streams_of(found)?.session(found.metadata.uid, container, options).await;
        opened.map_err(|error| streams::not_opened(found, container, &error))
    }

    /// Ties a client to the program of a container of a pod, from now on; of the only one if none is named.
    ///
    /// # Errors
    /// [`Rejection`] when there is no such pod or container, it does not run, or nobody can be attached to it.
    pub async fn attach(
        &self,
        pod: &Key,
        container: Option<&str>,
        options: &AttachOptions,
    ) -> Result<Session, Rejection> {
        let world = self.world();
        let found = streams::pod(&world, pod)?;
        let container = streams::container(found, container)?;
        let opened = self.streams_of(found)?.attach(found.metadata.uid, container, options).await;
        opened.map_err(|error| streams::not_opened(found, container, &error))
    }

    /// Says whether a container of a pod could run a program, as far as its status tells.
    ///
    /// # Errors
    /// [`Rejection`] says why not.
    pub fn may_run(&self, pod: &Key, container: Option<&str>) -> Result<(), Rejection> {
        let world = self.world();
        let found = streams::pod(&world, pod)?;
        let container = streams::container(found, container)?;
        self.streams_of(found)?;
        let mut statuses = found.status.container_statuses.iter();
        let status = statuses.find(|status| status.name == container);
        match status.is_some_and(|status| status.state.running.is_some()) {
            true => Ok(()),
            false => Err(streams::not_running(found, container)),
        }
    }

    /// Connects to a port of a pod; see [`NodeStreams::connect`].
    ///
    /// # Errors
    /// [`Rejection`] when there is no such pod, it does not run, or nobody listens there.
    pub async fn connect(&self, pod: &Key, port: u16) -> Result<Session, Rejection> {
        let world = self.world();
        let found = streams::pod(&world, pod)?;
        let opened = self.streams_of(found)?.connect(found.metadata.uid, port).await;
        opened.map_err(|error| streams::failed(&error))
    }

    fn streams_of(&self, pod: &Pod) -> Result<Arc<dyn NodeStreams>, Rejection> {
        self.inner.nodes.streams(&pod.node_name).ok_or_else(|| streams::unreachable(pod))
    }

    /// Returns the link of an agent that is elsewhere, for whoever carries its calls: it acts as the node of this name and
    /// uid, with that node's rights and no others. A node that was deleted is refused everything, also when it has been made
    /// anew under the same name.
    pub fn node_link(&self, name: &str, uid: Uid) -> Arc<dyn NodeLink> {
        Arc::new(LocalLink::of_remote(self.inner.submitter.clone(), name, uid))
    }

    /// Makes the streams of a node whose agent is elsewhere reachable, until what is returned is dropped. A later connection
    /// of the same node takes its place.
    pub fn connect_node(&self, name: &str, streams: Arc<dyn NodeStreams>) -> ConnectedNode {
        let Submitter { clock, commands, .. } = &self.inner.submitter;
        self.inner.nodes.connect(name, streams, Arc::clone(clock), commands.clone())
    }

    /// Counts of what was done.
    pub fn stats(&self) -> ClusterStats {
        let world = self.world();
        ClusterStats {
            engine: self.inner.submitter.history.stats(),
            leads: self.inner.submitter.standing.leads(),
            objects: world.len() as u64,
            quarantined: world.quarantined().count() as u64,
            revision: world.revision(),
        }
    }

    /// Stops agent and control plane and waits for every task. Pods keep running, unless `stop_pods`; a cluster started
    /// later on the same store and runtime adopts them. Stopping twice is fine.
    pub async fn shutdown(&self, stop_pods: bool) {
        let tasks = self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(tasks) = tasks else { return };
        for agent in tasks.agents {
            agent.shutdown(stop_pods).await;
        }
        // If the loop has ended already there is nothing to stop.
        let _ = self.inner.submitter.commands.send(Command::Stop).await;
        if let Err(error) = tasks.control.await {
            tracing::error!(%error, "the control loop did not end well");
        }
    }
}

fn embedder() -> Caller {
    Caller::Admin { name: "embedder".to_owned() }
}
