//! `ProcessRuntime`: the verbs, each a few steps on the state directory.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use orchestrator_core::runtime::{
    AttachOptions, ContainerKey, ContainerSpec, ExecOutcome, LogOptions, LogStream, Runtime,
    RuntimeError, RuntimeInfo, SandboxKey, SandboxObservation, SandboxSpec, Scope, Session,
    SessionOptions, Usage,
};

use crate::attach;
use crate::bell::Listener;
use crate::container::{Container, Phase};
use crate::error::{Result, backend, blocking, if_present, invalid, not_found};
use crate::exec;
use crate::layout::{Layout, is_private_dir, make_dir, names};
use crate::log::ProcessLog;
use crate::proc;
use crate::record::replace;
use crate::sandbox::Sandboxes;
use crate::session;
use crate::supervisor::Supervisor;

/// The file that says whose directory it is, and what that says.
const FORMAT_FILE: &str = "format";
const FORMAT: &str = "orchestrator-process 1\n";
/// Variables of our own environment that containers get.
const INHERITED: [&str; 2] = ["HOME", "PATH"];
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs pods as processes of this machine.
#[derive(Clone, Debug)]
pub struct ProcessRuntime {
    sandboxes: Sandboxes,
    listener: Arc<Listener>,
}

impl ProcessRuntime {
    /// Opens a state directory, making it if it is not there, with access for this user alone.
    ///
    /// Pods that an earlier program left there are there again, whether they run or have ended. Several instances, also
    /// of several programs, may share a directory.
    ///
    /// # Errors
    /// `Invalid` if the directory holds something else, is of a newer version, or is open to others; `Backend` if it
    /// cannot be read or written.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let failed = |error: io::Error| backend(format!("open {}", dir.display()), error);
        let fresh = names(dir).map_err(failed)?.is_empty();
        if fresh {
            make_dir(dir).map_err(failed)?;
        }
        // Processes carry this path as their mark: it must always be spelled alike.
        let root = dir.canonicalize().map_err(failed)?;
        if fresh {
            replace(&root.join(FORMAT_FILE), FORMAT.as_bytes(), 0o600).map_err(failed)?;
        }
        verify(&root)?;
        let layout = Layout::new(root);
        make_dir(&layout.bells()).map_err(failed)?;
        let supervisor = Supervisor::install(&layout).map_err(failed)?;
        let listener = Arc::new(Listener::new(layout.bells()));
        let sandboxes = Sandboxes::new(layout, supervisor, base_env());
        sandboxes.tidy().map_err(failed)?;
        Ok(Self { sandboxes, listener })
    }

    /// Says, changing nothing, whether [`Self::open`] would refuse what a state directory holds.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn check(dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        let names = names(dir);
        if names.map_err(|error| backend(format!("open {}", dir.display()), error))?.is_empty() {
            return Ok(());
        }
        verify(dir)
    }

    /// Returns the process id of a container's command; `None` unless it runs.
    ///
    /// # Errors
    /// `NotFound` if there is no such container.
    pub fn process_id(&self, key: &ContainerKey) -> Result<Option<u32>> {
        let (container, _) = self.sandboxes.existing(key)?;
        Ok(match container.observe()? {
            Phase::Running(started) => u32::try_from(started.pid).ok(),
            Phase::Created | Phase::Exited(..) => None,
        })
    }

    /// Runs a step that blocks on files.
    async fn step<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Sandboxes) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let sandboxes = self.sandboxes.clone();
        blocking(move || work(&sandboxes)).await
    }
}

/// Refuses a directory that is not ours.
fn verify(root: &Path) -> Result<()> {
    let failed = |error: io::Error| backend(format!("open {}", root.display()), error);
    let path = root.join(FORMAT_FILE);
    let found = if_present(std::fs::read_to_string(&path)).map_err(failed)?;
    if found.as_deref() != Some(FORMAT) {
        let expected = FORMAT.trim_end();
        return Err(invalid(format!(
            "{} is not a state directory of this version: its file {FORMAT_FILE:?} holds {found:?} instead of {expected:?}",
            root.display()
        )));
    }
    if !is_private_dir(root).map_err(failed)? {
        return Err(invalid(format!(
            "{} must belong to this user and be closed to others (mode 0700)",
            root.display()
        )));
    }
    Ok(())
}

fn not_running(key: &ContainerKey) -> RuntimeError {
    not_found(format!("running container {key}"))
}

fn base_env() -> Vec<(String, String)> {
    let inherited =
        INHERITED.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    let mut env: Vec<_> = inherited.collect();
    if !env.iter().any(|(name, _)| name == "PATH") {
        env.push(("PATH".to_owned(), DEFAULT_PATH.to_owned()));
    }
    env
}

#[async_trait]
impl Runtime for ProcessRuntime {
    async fn describe(&self) -> Result<RuntimeInfo> {
        Ok(RuntimeInfo {
            name: "process".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            enforces_limits: false,
            uses_images: false,
        })
    }

    async fn list(&self, scope: &Scope) -> Result<Vec<SandboxObservation>> {
        let scope = scope.clone();
        self.step(move |sandboxes| sandboxes.list(&scope)).await
    }

    async fn image(&self, _image: &str) -> Result<Option<String>> {
        Ok(Some(String::new()))
    }

    async fn pull(&self, _image: &str) -> Result<()> {
        Ok(())
    }

    async fn create_sandbox(&self, spec: &SandboxSpec) -> Result<()> {
        let spec = spec.clone();
        self.step(move |sandboxes| sandboxes.create(&spec)).await
    }

    async fn remove_sandbox(&self, key: &SandboxKey) -> Result<()> {
        loop {
            let sandbox = key.clone();
            let containers = self.step(move |sandboxes| sandboxes.containers(&sandbox)).await?;
            for container in containers {
                container.stop(0).await?;
            }
            let sandbox = key.clone();
            // A start that was under way may have come in between.
            if self.step(move |sandboxes| sandboxes.remove(&sandbox)).await? {
                return Ok(());
            }
        }
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<()> {
        let spec = spec.clone();
        self.step(move |sandboxes| sandboxes.create_container(&spec)).await
    }

    async fn start_container(&self, key: &ContainerKey) -> Result<()> {
        let key = key.clone();
        self.step(move |sandboxes| sandboxes.start_container(&key)).await
    }

    async fn stop_container(&self, key: &ContainerKey, grace_ms: u64) -> Result<()> {
        self.sandboxes.container(key)?.stop(grace_ms).await
    }

    async fn remove_container(&self, key: &ContainerKey) -> Result<()> {
        let key = key.clone();
        self.step(move |sandboxes| sandboxes.remove_container(&key)).await
    }

    async fn logs(&self, key: &ContainerKey, options: &LogOptions) -> Result<Box<dyn LogStream>> {
        let (container, _) = self.sandboxes.existing(key)?;
        Ok(Box::new(ProcessLog::open(container, options.clone()).await?))
    }

    async fn exec(
        &self,
        key: &ContainerKey,
        command: &[String],
        timeout_ms: u64,
    ) -> Result<ExecOutcome> {
        let (container, record) = self.sandboxes.existing(key)?;
        if command.is_empty() {
            return Err(invalid("a program to run is missing"));
        }
        match container.observe()? {
            Phase::Running(_) => {
                exec::exec(self.sandboxes.supervisor(), &record, command, timeout_ms).await
            }
            Phase::Created | Phase::Exited(..) => {
                Err(invalid(format!("container {key} does not run")))
            }
        }
    }

    async fn session(&self, key: &ContainerKey, options: &SessionOptions) -> Result<Session> {
        let (container, record) = self.sandboxes.existing(key)?;
        if options.command.is_empty() {
            return Err(invalid("a program to run is missing"));
        }
        match container.observe()? {
            Phase::Running(_) => {
                session::open(self.sandboxes.supervisor(), container, &record, options)
            }
            Phase::Created | Phase::Exited(..) => Err(not_running(key)),
        }
    }

    async fn attach(&self, key: &ContainerKey, options: &AttachOptions) -> Result<Session> {
        let (container, record) = self.sandboxes.existing(key)?;
        match container.observe()? {
            Phase::Running(_) => {
                attach::open(&container, &key.to_string(), &record, *options).await
            }
            Phase::Created | Phase::Exited(..) => Err(not_running(key)),
        }
    }

    async fn usage(&self, scope: &Scope) -> Result<Vec<Usage>> {
        let scope = scope.clone();
        self.step(move |sandboxes| usage(sandboxes, &scope)).await
    }

    async fn changed(&self, scope: &Scope) {
        self.listener.wait(scope).await;
    }
}

/// Adds up what the descendants of each supervisor use, and what is kept of the container, its log above all. Processes
/// share the machine's network, where the kernel does not count by process: that stays 0.
fn usage(sandboxes: &Sandboxes, scope: &Scope) -> Result<Vec<Usage>> {
    let listed = sandboxes.list(scope)?;
    let processes = proc::processes();
    let (tick_nanos, page_bytes) = (proc::tick_nanos(), proc::page_bytes());
    let mut found = Vec::new();
    for observed in listed.into_iter().flat_map(|sandbox| sandbox.containers) {
        let container = sandboxes.container(&observed.key)?;
        let Some(members) = members(&container, &processes)? else { continue };
        let sum = |of: fn(&proc::Process) -> u64| members.iter().map(|it| of(it)).sum::<u64>();
        found.push(Usage {
            key: observed.key,
            cpu_nanos: sum(|it| it.cpu_ticks).saturating_mul(tick_nanos),
            memory_bytes: sum(|it| it.pages).saturating_mul(page_bytes),
            disk_bytes: files_bytes(&container.dir),
            network_received_bytes: 0,
            network_sent_bytes: 0,
        });
    }
    Ok(found)
}

/// The bytes of the files in a directory. One that goes meanwhile counts as empty.
fn files_bytes(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| entry.metadata().ok());
    files.filter(std::fs::Metadata::is_file).map(|file| file.len()).sum()
}

/// Returns the processes of a running container.
fn members<'a>(
    container: &Container,
    processes: &'a BTreeMap<i32, proc::Process>,
) -> Result<Option<Vec<&'a proc::Process>>> {
    let supervisor = container.supervisor().map_err(|it| backend("find a supervisor", it))?;
    let pids = supervisor.map(|pid| proc::descendants(processes, pid));
    Ok(pids.map(|pids| pids.iter().filter_map(|pid| processes.get(pid)).collect()))
}
