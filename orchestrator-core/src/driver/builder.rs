//! `ClusterBuilder`: wires store, engine and agents together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, watch};

use super::agent::{Agent, AgentConfig, AgentHandle};
use super::clock::{Clock, SystemClock};
use super::cluster::{Cluster, Inner, Tasks};
use super::control::{COMMANDS_MAX, Command, Control, load};
use super::history::History;
use super::local_link::LocalLink;
use super::nodes::{Nodes, OwnNode};
use super::set_up::set_up;
use super::standing::Standing;
use super::submit::{NodeTurns, Submitter, Uids};
use crate::api::Rejection;
use crate::controller::{Controller, built_in};
use crate::model::Uid;
use crate::runtime::{Runtime, Scope};
use crate::scheduler::{FilterScore, Scheduler};
use crate::store::{StateStore, StoreError};

/// Why a cluster did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The builder was given no store.
    #[error("no store was given; call `store` on the builder")]
    NoStore,
    /// What every cluster has from the start could not be recorded.
    #[error("cannot set the cluster up: {0}")]
    Setup(Rejection),
    /// Two nodes have the same name.
    #[error("node {name:?} was given twice; nodes of one cluster need names of their own")]
    NodeTwice {
        /// The name.
        name: String,
    },
    /// The store failed.
    #[error("cannot read the store")]
    Store(#[from] StoreError),
}

type ConfigureNode = Box<dyn Fn(&mut AgentConfig) + Send>;

/// Wires a cluster. Made by [`Cluster::builder`].
#[must_use]
pub struct ClusterBuilder {
    store: Option<Arc<dyn StateStore>>,
    clock: Arc<dyn Clock>,
    identity: Option<String>,
    uids: Uids,
    runtime: Option<Arc<dyn Runtime>>,
    further_nodes: Vec<(String, Arc<dyn Runtime>)>,
    scheduler: Arc<dyn Scheduler>,
    controllers: Vec<Arc<dyn Controller>>,
    node_name: String,
    configure_node: Option<ConfigureNode>,
}

impl ClusterBuilder {
    pub(super) fn new() -> Self {
        Self {
            store: None,
            clock: Arc::new(SystemClock),
            identity: None,
            uids: Uids::default(),
            runtime: None,
            further_nodes: Vec::new(),
            scheduler: Arc::new(FilterScore::default()),
            controllers: Vec::new(),
            node_name: "local".to_owned(),
            configure_node: None,
        }
    }

    /// Sets where state is kept. Needed.
    pub fn store(mut self, store: impl StateStore) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Sets a store that is shared with others (to close it in the end, say).
    pub fn shared_store(mut self, store: Arc<dyn StateStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Shares the store with other control planes: one at a time decides, and all answer. `identity` is what this one is
    /// called among them, and must be nobody else's, not even an earlier process's. Without this the store must be this
    /// control plane's alone. Nodes of this process are heard only while it leads.
    pub fn elect_as(mut self, identity: &str) -> Self {
        self.identity = Some(identity.to_owned());
        self
    }

    /// Sets what runs pods on this machine. Without one the cluster has no node of its own.
    pub fn runtime(mut self, runtime: impl Runtime) -> Self {
        self.runtime = Some(Arc::new(runtime));
        self
    }

    /// Sets a runtime that is shared with others.
    pub fn shared_runtime(mut self, runtime: Arc<dyn Runtime>) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Sets who places pods; [`FilterScore::default`] otherwise.
    pub fn scheduler(mut self, scheduler: impl Scheduler) -> Self {
        self.scheduler = Arc::new(scheduler);
        self
    }

    /// Adds a controller to the built-in ones.
    pub fn controller(mut self, controller: impl Controller) -> Self {
        self.controllers.push(Arc::new(controller));
        self
    }

    /// Names this machine's node; `local` otherwise.
    pub fn node_name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.node_name);
        self
    }

    /// Adds a node to this machine's own, with an agent in this process: a simulated machine, say. Nodes may share a runtime.
    pub fn further_node(mut self, name: &str, runtime: Arc<dyn Runtime>) -> Self {
        self.further_nodes.push((name.to_owned(), runtime));
        self
    }

    /// Sets where the time of day comes from; [`SystemClock`] otherwise.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets where uids of new objects come from; random ones otherwise. No two may be the same.
    pub fn uids(mut self, uids: impl Fn() -> Uid + Send + Sync + 'static) -> Self {
        self.uids = Uids(Arc::new(uids));
        self
    }

    /// Changes what this process's nodes are like before they register: what is kept from pods, how many pods they take, address
    /// and disk. The scope stays what it is. Labels are for administrators to give: apply the Node.
    ///
    /// ```
    /// # use orchestrator_core::{driver::Cluster, model::Quantity};
    /// let builder = Cluster::builder().configure_node(|node| {
    ///     node.reserve.insert("memory".to_owned(), Quantity::from_bytes(1 << 30));
    ///     node.pods_max = 20;
    /// });
    /// ```
    pub fn configure_node(mut self, configure: impl Fn(&mut AgentConfig) + Send + 'static) -> Self {
        self.configure_node = Some(Box::new(configure));
        self
    }

    /// Starts the cluster. When this returns it takes requests; its nodes register in the background.
    ///
    /// # Errors
    /// [`StartError`] says what is missing or failed.
    pub async fn start(mut self) -> Result<Cluster, StartError> {
        let store = self.store.take().ok_or(StartError::NoStore)?;
        let own = self.own_nodes()?;
        let history = Arc::new(History::new(load(&*store).await?));
        let standing = Arc::new(Standing::new(self.identity.take()));
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let controllers = built_in()
            .into_iter()
            .map(Arc::from)
            .chain(std::mem::take(&mut self.controllers))
            .collect();
        let control = Control::new(
            Arc::clone(&self.clock),
            Arc::clone(&store),
            Arc::clone(&history),
            Arc::clone(&self.scheduler),
            controllers,
            receiver,
            Arc::clone(&standing),
        );
        let control = tokio::spawn(control.run());
        let (clock, uids) = (Arc::clone(&self.clock), self.uids.clone());
        let node_turns = NodeTurns::default();
        let submitter = Submitter { clock, uids, store, history, commands, standing, node_turns };
        let id = match set_up(&submitter).await {
            Ok(id) => id,
            Err(rejection) => {
                let _ = submitter.commands.send(Command::Stop).await;
                let _ = control.await;
                return Err(StartError::Setup(rejection));
            }
        };
        let (mut nodes, mut agents) = (BTreeMap::new(), Vec::new());
        for (name, runtime) in own {
            let (node, agent) = self.spawn_agent(&id, &name, runtime, &submitter);
            nodes.insert(name, node);
            agents.push(agent);
        }
        let tasks = Mutex::new(Some(Tasks { agents, control }));
        let nodes = Nodes::new(nodes);
        let inner = Inner { id, submitter, scheduler: self.scheduler, nodes, tasks };
        Ok(Cluster { inner: Arc::new(inner) })
    }

    /// Returns the nodes of this process with their runtimes.
    fn own_nodes(&mut self) -> Result<BTreeMap<String, Arc<dyn Runtime>>, StartError> {
        let first = self.runtime.take().map(|runtime| (self.node_name.clone(), runtime));
        let mut nodes = BTreeMap::new();
        for (name, runtime) in first.into_iter().chain(std::mem::take(&mut self.further_nodes)) {
            if nodes.insert(name.clone(), runtime).is_some() {
                return Err(StartError::NodeTwice { name });
            }
        }
        Ok(nodes)
    }

    fn spawn_agent(
        &self,
        cluster: &str,
        name: &str,
        runtime: Arc<dyn Runtime>,
        submitter: &Submitter,
    ) -> (OwnNode, AgentHandle) {
        let registered = Arc::new(watch::Sender::new(false));
        let link = Arc::new(LocalLink::new(submitter.clone(), name, Arc::clone(&registered)));
        let scope = Scope { cluster: cluster.to_owned(), node: name.to_owned() };
        let mut config = AgentConfig::new(scope.clone());
        config.clock = Arc::clone(&self.clock);
        if let Some(configure) = &self.configure_node {
            configure(&mut config);
        }
        let agent = Agent::spawn(AgentConfig { scope, ..config }, runtime, link);
        (OwnNode { streams: agent.streams(), registered }, agent)
    }
}
