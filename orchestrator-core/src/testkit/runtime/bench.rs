//! The bench of the runtime suite: a runtime, scopes of its own, and the arranging and waiting that clauses share.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::RuntimeFixture;
use crate::model::Uid;
use crate::runtime::{
    ContainerKey, ContainerObservation, ContainerRunState, ContainerSpec, Exit, Limits, LogLine,
    LogOptions, LogSource, Runtime, SandboxKey, SandboxObservation, SandboxSpec, Scope,
    StandardStreams,
};

/// How long a clause waits for what must happen, in seconds. Far more than any of it takes.
pub const DEADLINE_SECONDS: u64 = 60;

/// How often a wait looks again, in milliseconds.
const POLL_MS: u64 = 20;

/// A runtime under test with two scopes that no other test shares.
#[derive(Debug)]
pub struct Bench {
    /// The fixture.
    pub fixture: Arc<dyn RuntimeFixture>,
    /// The runtime under test.
    pub runtime: Arc<dyn Runtime>,
    /// The scope that clauses use.
    pub scope: Scope,
    /// A second node of the same cluster.
    pub other_node: Scope,
    /// The same node of a second cluster.
    pub other_cluster: Scope,
}

impl Bench {
    /// Makes a bench with fresh scopes.
    pub fn new(fixture: Arc<dyn RuntimeFixture>) -> Self {
        let cluster = || format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        let scope = Scope { cluster: cluster(), node: "n1".to_owned() };
        Self {
            runtime: fixture.runtime(),
            fixture,
            other_node: Scope { node: "n2".to_owned(), ..scope.clone() },
            other_cluster: Scope { cluster: cluster(), ..scope.clone() },
            scope,
        }
    }

    fn scopes(&self) -> [&Scope; 3] {
        [&self.scope, &self.other_node, &self.other_cluster]
    }

    /// Removes all sandboxes of the scopes; errors show in [`Self::assert_nothing_left`].
    pub async fn remove_everything(&self) {
        for scope in self.scopes() {
            for sandbox in self.runtime.list(scope).await.unwrap_or_default() {
                let _ = self.runtime.remove_sandbox(&sandbox.key).await;
            }
        }
    }

    /// Panics unless the scopes are empty, in the runtime's eyes and in the world.
    ///
    /// # Panics
    /// When something is left.
    pub async fn assert_nothing_left(&self) {
        for scope in self.scopes() {
            assert_eq!(self.list(scope).await, [], "sandboxes are left in {scope:?}");
            self.fixture.assert_nothing_left(scope).await;
        }
    }

    /// Describes a new pod's first sandbox.
    pub fn pod(&self) -> SandboxSpec {
        self.pod_in(&self.scope)
    }

    /// Describes a new pod's first sandbox in a scope.
    pub fn pod_in(&self, scope: &Scope) -> SandboxSpec {
        let uuid = uuid::Uuid::new_v4();
        SandboxSpec {
            key: SandboxKey { scope: scope.clone(), pod: Uid::from_uuid(uuid), attempt: 0 },
            namespace: "default".to_owned(),
            name: format!("pod-{}", &uuid.simple().to_string()[..10]),
            ports: Vec::new(),
        }
    }

    /// Describes a container that runs a shell script.
    pub fn container(&self, sandbox: &SandboxKey, name: &str, script: &str) -> ContainerSpec {
        ContainerSpec {
            key: ContainerKey { sandbox: sandbox.clone(), name: name.to_owned(), attempt: 0 },
            image: self.fixture.image(),
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            args: Vec::new(),
            working_dir: String::new(),
            env: Vec::new(),
            limits: Limits::default(),
            stdio: StandardStreams::default(),
        }
    }

    /// Makes a new pod's sandbox.
    ///
    /// # Panics
    /// When the runtime fails.
    pub async fn new_pod(&self) -> SandboxSpec {
        let pod = self.pod();
        self.runtime.create_sandbox(&pod).await.expect("a new sandbox is made");
        pod
    }

    /// Makes and starts a container that runs a shell script.
    ///
    /// # Panics
    /// When the runtime fails.
    pub async fn run(&self, sandbox: &SandboxKey, name: &str, script: &str) -> ContainerKey {
        self.run_spec(&self.container(sandbox, name, script)).await
    }

    /// Makes and starts a container.
    ///
    /// # Panics
    /// When the runtime fails.
    pub async fn run_spec(&self, spec: &ContainerSpec) -> ContainerKey {
        self.runtime.create_container(spec).await.expect("a new container is made");
        self.runtime.start_container(&spec.key).await.expect("a new container starts");
        spec.key.clone()
    }

    /// Makes a pod with one container, starts it, and waits until it has printed `ready`.
    ///
    /// # Panics
    /// When the runtime fails.
    pub async fn run_ready(&self, script: &str) -> ContainerKey {
        let pod = self.new_pod().await;
        let key = self.run(&pod.key, "main", script).await;
        self.until_printed(&key, "ready").await;
        key
    }

    /// Lists a scope.
    ///
    /// # Panics
    /// When the runtime fails.
    pub async fn list(&self, scope: &Scope) -> Vec<SandboxObservation> {
        self.runtime.list(scope).await.expect("a scope is listed")
    }

    /// Looks for a sandbox.
    pub async fn sandbox(&self, key: &SandboxKey) -> Option<SandboxObservation> {
        self.list(&key.scope).await.into_iter().find(|sandbox| sandbox.key == *key)
    }

    /// Looks for a container.
    pub async fn find(&self, key: &ContainerKey) -> Option<ContainerObservation> {
        let sandbox = self.sandbox(&key.sandbox).await?;
        sandbox.containers.into_iter().find(|container| container.key == *key)
    }

    /// Returns a container that must be there.
    ///
    /// # Panics
    /// When it is not.
    pub async fn observe(&self, key: &ContainerKey) -> ContainerObservation {
        self.find(key).await.unwrap_or_else(|| panic!("container {key} is not listed"))
    }

    /// Returns how a container ended, without waiting.
    ///
    /// # Panics
    /// When it has not ended.
    pub async fn exit_now(&self, key: &ContainerKey) -> Exit {
        match self.observe(key).await.state {
            ContainerRunState::Exited(exit) => exit,
            state @ (ContainerRunState::Created | ContainerRunState::Running { .. }) => {
                panic!("container {key} has not ended: {state:?}")
            }
        }
    }

    /// Waits until a container has ended.
    pub async fn exit(&self, key: &ContainerKey) -> Exit {
        eventually("a container ends", || async {
            match self.observe(key).await.state {
                ContainerRunState::Exited(exit) => Some(exit),
                ContainerRunState::Created | ContainerRunState::Running { .. } => None,
            }
        })
        .await
    }

    /// Waits until a container has printed a line of standard output that is `text`.
    pub async fn until_printed(&self, key: &ContainerKey, text: &str) {
        eventually("a container prints", || async {
            let printed = self.printed(key, LogSource::Stdout).await;
            printed.lines().any(|line| line == text).then_some(())
        })
        .await;
    }

    /// Returns what a container printed to one stream so far.
    pub async fn printed(&self, key: &ContainerKey, source: LogSource) -> String {
        text_of(&self.log(key, &LogOptions::default()).await, source)
    }

    /// Reads a log to its end.
    ///
    /// # Panics
    /// When the runtime fails, or the end does not come.
    pub async fn log(&self, key: &ContainerKey, options: &LogOptions) -> Vec<LogLine> {
        let mut stream = self.runtime.logs(key, options).await.expect("a log opens");
        let read = async {
            let mut lines = Vec::new();
            while let Some(line) = stream.next().await {
                lines.push(line.expect("a log reads"));
            }
            lines
        };
        in_time("a log ends", read).await
    }
}

/// Joins what lines of one stream say.
pub fn text_of(lines: &[LogLine], source: LogSource) -> String {
    let of_source = lines.iter().filter(|line| line.stream == source);
    let bytes: Vec<u8> = of_source.flat_map(|line| line.text.iter().copied()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for a future, at most [`DEADLINE_SECONDS`].
///
/// # Panics
/// When the deadline passes.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let deadline = Duration::from_secs(DEADLINE_SECONDS);
    let outcome = tokio::time::timeout(deadline, future).await;
    outcome.unwrap_or_else(|_| panic!("waited {DEADLINE_SECONDS} s in vain until {what}"))
}

/// Asks again and again until there is an answer, at most [`DEADLINE_SECONDS`].
///
/// # Panics
/// When the deadline passes.
pub async fn eventually<T: Debug, Ask, Answer>(what: &str, mut ask: Ask) -> T
where
    Ask: FnMut() -> Answer,
    Answer: Future<Output = Option<T>>,
{
    let poll = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
        }
    };
    in_time(what, poll).await
}
