//! The nodes that can be reached: those of this process, and those whose agents have connected from elsewhere.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};

use super::clock::Clock;
use super::control::Command;
use crate::node::NodeStreams;
use crate::world::Signal;

/// Every node that can be reached, by name.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) own: BTreeMap<String, OwnNode>,
    remote: Arc<Mutex<Remotes>>,
}

/// A node of this process.
#[derive(Debug)]
pub(super) struct OwnNode {
    pub streams: Arc<dyn NodeStreams>,
    /// Whether it has registered.
    pub registered: Arc<watch::Sender<bool>>,
}

#[derive(Debug, Default)]
struct Remotes {
    /// The newest connection of each node, with its number.
    nodes: BTreeMap<String, (u64, Arc<dyn NodeStreams>)>,
    /// How many connections there have been.
    connections: u64,
}

fn lock(remote: &Mutex<Remotes>) -> MutexGuard<'_, Remotes> {
    remote.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Nodes {
    pub(super) fn new(own: BTreeMap<String, OwnNode>) -> Self {
        Self { own, remote: Arc::default() }
    }

    pub(super) fn streams(&self, node: &str) -> Option<Arc<dyn NodeStreams>> {
        if let Some(own) = self.own.get(node) {
            return Some(Arc::clone(&own.streams));
        }
        lock(&self.remote).nodes.get(node).map(|(_, streams)| Arc::clone(streams))
    }

    /// Reaches a node by a connection; that it has ended is told to the control loop, unless the node has another by then.
    pub(super) fn connect(
        &self,
        node: &str,
        streams: Arc<dyn NodeStreams>,
        clock: Arc<dyn Clock>,
        commands: mpsc::Sender<Command>,
    ) -> ConnectedNode {
        let mut remote = lock(&self.remote);
        remote.connections += 1;
        let number = remote.connections;
        remote.nodes.insert(node.to_owned(), (number, streams));
        let remote = Arc::clone(&self.remote);
        ConnectedNode { node: node.to_owned(), number, remote, clock, commands }
    }
}

/// The connection of a node whose agent is elsewhere. Dropping it makes the node unreachable, unless it has connected anew
/// meanwhile.
#[derive(Debug)]
#[must_use = "the node can be reached only as long as this is held"]
pub struct ConnectedNode {
    node: String,
    number: u64,
    remote: Arc<Mutex<Remotes>>,
    clock: Arc<dyn Clock>,
    commands: mpsc::Sender<Command>,
}

impl Drop for ConnectedNode {
    fn drop(&mut self) {
        let mut remote = lock(&self.remote);
        if remote.nodes.get(&self.node).is_some_and(|(number, _)| *number == self.number) {
            remote.nodes.remove(&self.node);
            // Only a hint: without it the node is missed a little later.
            let signal = Signal::Cut { node: self.node.clone(), at: self.clock.now() };
            let _ = self.commands.try_send(Command::Signal(signal));
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::driver::SystemClock;
    use crate::model::Uid;
    use crate::runtime::{
        AttachOptions, LogOptions, LogStream, RuntimeError, Session, SessionOptions,
    };

    #[derive(Debug)]
    struct Nothing;

    fn nothing<T>() -> Result<T, RuntimeError> {
        Err(RuntimeError::NotFound { what: "anything".to_owned() })
    }

    #[async_trait]
    impl NodeStreams for Nothing {
        async fn logs(
            &self,
            _pod: Uid,
            _container: &str,
            _previous: bool,
            _options: &LogOptions,
        ) -> Result<Box<dyn LogStream>, RuntimeError> {
            nothing()
        }

        async fn session(
            &self,
            _pod: Uid,
            _container: &str,
            _options: &SessionOptions,
        ) -> Result<Session, RuntimeError> {
            nothing()
        }

        async fn attach(
            &self,
            _pod: Uid,
            _container: &str,
            _options: &AttachOptions,
        ) -> Result<Session, RuntimeError> {
            nothing()
        }

        async fn connect(&self, _pod: Uid, _port: u16) -> Result<Session, RuntimeError> {
            nothing()
        }
    }

    #[test]
    fn a_node_is_reached_by_its_newest_connection_until_that_ends() {
        let nodes = Nodes::new(BTreeMap::new());
        let (commands, mut told) = mpsc::channel(4);
        let connect =
            || nodes.connect("n1", Arc::new(Nothing), Arc::new(SystemClock), commands.clone());
        assert!(nodes.streams("n1").is_none());
        let (first, second) = (connect(), connect());
        drop(first);
        assert!(nodes.streams("n1").is_some(), "the first's end is not the second's");
        assert!(told.try_recv().is_err(), "and no hint that the node is dead");
        assert!(nodes.streams("n2").is_none());
        drop(second);
        assert!(nodes.streams("n1").is_none());
        let hint = told.try_recv();
        assert!(
            matches!(&hint, Ok(Command::Signal(Signal::Cut { node, .. })) if node == "n1"),
            "{hint:?}"
        );
    }
}
