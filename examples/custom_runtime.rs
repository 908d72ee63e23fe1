//! A runtime of one's own: pods that exist in memory only and do nothing, and a line for every verb.
//!
//! A real one would also pass the conformance suite, `orchestrator_core::runtime_conformance!`.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use orchestrator_core::driver::Cluster;
use orchestrator_core::mem::MemStore;
use orchestrator_core::model::{Deployment, Pod};
use orchestrator_core::runtime::{
    AttachOptions, ContainerKey, ContainerObservation, ContainerRunState, ContainerSpec,
    ExecOutcome, Exit, LogLine, LogOptions, LogSource, LogStream, Runtime, RuntimeError,
    RuntimeInfo, SandboxKey, SandboxObservation, SandboxSpec, Scope, Session, SessionOptions,
    Usage,
};
use tokio::sync::Notify;

/// Pretends. Clones share everything.
#[derive(Clone, Debug, Default)]
pub struct PretendRuntime(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    sandboxes: Mutex<BTreeMap<SandboxKey, SandboxObservation>>,
    changed: Notify,
}

impl PretendRuntime {
    fn sandboxes(&self) -> MutexGuard<'_, BTreeMap<SandboxKey, SandboxObservation>> {
        self.0.sandboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a container, if it exists.
    fn with_container(
        &self,
        key: &ContainerKey,
        change: impl FnOnce(&mut ContainerRunState),
    ) -> Result<(), RuntimeError> {
        let mut sandboxes = self.sandboxes();
        let containers = sandboxes.get_mut(&key.sandbox).map(|sandbox| &mut sandbox.containers);
        let container = containers.into_iter().flatten().find(|container| container.key == *key);
        let container = container.ok_or_else(|| missing(key))?;
        change(&mut container.state);
        self.0.changed.notify_waiters();
        Ok(())
    }

    /// Ends a container as if its program had failed.
    pub fn fail(&self, key: &ContainerKey) -> Result<(), RuntimeError> {
        println!("fail   {}", key.name);
        self.with_container(key, |state| {
            *state = ContainerRunState::Exited(Exit { code: 1, ..Exit::default() });
        })
    }
}

fn missing(key: &ContainerKey) -> RuntimeError {
    RuntimeError::NotFound { what: format!("container {key}") }
}

#[async_trait]
impl Runtime for PretendRuntime {
    async fn describe(&self) -> Result<RuntimeInfo, RuntimeError> {
        let (name, version) = ("pretend".to_owned(), "1".to_owned());
        Ok(RuntimeInfo { name, version, enforces_limits: false, uses_images: false })
    }

    async fn list(&self, scope: &Scope) -> Result<Vec<SandboxObservation>, RuntimeError> {
        let sandboxes = self.sandboxes();
        Ok(sandboxes.values().filter(|sandbox| sandbox.key.scope == *scope).cloned().collect())
    }

    async fn image(&self, _image: &str) -> Result<Option<String>, RuntimeError> {
        Ok(Some(String::new()))
    }

    async fn pull(&self, _image: &str) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn create_sandbox(&self, spec: &SandboxSpec) -> Result<(), RuntimeError> {
        let mut sandboxes = self.sandboxes();
        // Verbs are idempotent: what exists already is left as it is.
        if !sandboxes.contains_key(&spec.key) {
            println!("pod    {}", spec.name);
            let number = u8::try_from(sandboxes.len() + 1).unwrap_or(u8::MAX);
            let observation = SandboxObservation {
                key: spec.key.clone(),
                namespace: spec.namespace.clone(),
                name: spec.name.clone(),
                ready: true,
                ip: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, number))),
                created_at: None,
                containers: Vec::new(),
            };
            sandboxes.insert(spec.key.clone(), observation);
        }
        Ok(())
    }

    async fn remove_sandbox(&self, key: &SandboxKey) -> Result<(), RuntimeError> {
        if let Some(sandbox) = self.sandboxes().remove(key) {
            println!("remove {}", sandbox.name);
        }
        self.0.changed.notify_waiters();
        Ok(())
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        let mut sandboxes = self.sandboxes();
        let sandbox = sandboxes.get_mut(&spec.key.sandbox).ok_or_else(|| missing(&spec.key))?;
        if sandbox.containers.iter().all(|container| container.key != spec.key) {
            sandbox.containers.push(ContainerObservation {
                key: spec.key.clone(),
                id: format!("pretend://{}", spec.key),
                image: spec.image.clone(),
                image_id: String::new(),
                state: ContainerRunState::Created,
            });
            sandbox.containers.sort_by(|a, b| a.key.cmp(&b.key));
        }
        Ok(())
    }

    async fn start_container(&self, key: &ContainerKey) -> Result<(), RuntimeError> {
        println!("start  {} (run {})", key.name, key.attempt);
        self.with_container(key, |state| {
            if *state == ContainerRunState::Created {
                *state = ContainerRunState::Running { started_at: None };
            }
        })
    }

    async fn stop_container(&self, key: &ContainerKey, _grace_ms: u64) -> Result<(), RuntimeError> {
        println!("stop   {}", key.name);
        let stopped = self.with_container(key, |state| {
            if matches!(state, ContainerRunState::Running { .. }) {
                *state = ContainerRunState::Exited(Exit { code: 143, ..Exit::default() });
            }
        });
        match stopped {
            Err(RuntimeError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    async fn remove_container(&self, key: &ContainerKey) -> Result<(), RuntimeError> {
        if let Some(sandbox) = self.sandboxes().get_mut(&key.sandbox) {
            sandbox.containers.retain(|container| container.key != *key);
        }
        Ok(())
    }

    async fn logs(
        &self,
        key: &ContainerKey,
        _options: &LogOptions,
    ) -> Result<Box<dyn LogStream>, RuntimeError> {
        let text = format!("{} does nothing\n", key.name).into();
        let line = LogLine { time: String::new(), stream: LogSource::Stdout, text };
        Ok(Box::new(OneLine(Some(line))))
    }

    async fn exec(
        &self,
        _key: &ContainerKey,
        _command: &[String],
        _timeout_ms: u64,
    ) -> Result<ExecOutcome, RuntimeError> {
        Ok(ExecOutcome { code: 0, output: String::new() })
    }

    async fn session(
        &self,
        key: &ContainerKey,
        _options: &SessionOptions,
    ) -> Result<Session, RuntimeError> {
        let message = format!("container {:?} only pretends to run", key.name);
        Err(RuntimeError::Invalid { message })
    }

    async fn attach(
        &self,
        key: &ContainerKey,
        _options: &AttachOptions,
    ) -> Result<Session, RuntimeError> {
        let message = format!("container {:?} only pretends to run", key.name);
        Err(RuntimeError::Invalid { message })
    }

    async fn usage(&self, _scope: &Scope) -> Result<Vec<Usage>, RuntimeError> {
        Ok(Vec::new())
    }

    async fn changed(&self, _scope: &Scope) {
        self.0.changed.notified().await;
    }
}

/// A log of one line.
#[derive(Debug)]
struct OneLine(Option<LogLine>);

#[async_trait]
impl LogStream for OneLine {
    async fn next(&mut self) -> Option<Result<LogLine, RuntimeError>> {
        self.0.take().map(Ok)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let runtime = PretendRuntime::default();
    let cluster =
        Cluster::builder().store(MemStore::new()).runtime(runtime.clone()).start().await?;
    cluster.apply(Deployment::new("web", "nginx:1.27").replicas(2)).await?;
    let world = cluster.wait_for(|world| world.deployment("web").is_available()).await?;
    for pod in world.all::<Pod>(None) {
        println!("{} is ready", pod.status.pod_ip);
    }

    // A container that fails is started again in its pod.
    let scope = Scope { cluster: cluster.id().to_owned(), node: "local".to_owned() };
    let observed = runtime.list(&scope).await?;
    runtime.fail(&observed[0].containers[0].key)?;
    let restarted =
        |pod: &Pod| pod.status.container_statuses.iter().any(|status| status.restart_count > 0);
    cluster.wait_for(|world| world.all::<Pod>(None).any(|pod| restarted(pod))).await?;
    println!("restarted");

    let stop_pods = true;
    cluster.shutdown(stop_pods).await;
    println!("{} pods are left", runtime.list(&scope).await?.len());
    Ok(())
}
