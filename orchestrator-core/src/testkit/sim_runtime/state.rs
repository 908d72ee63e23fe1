//! The state of a simulated runtime, and its verbs without waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;

use super::program::{Fault, OnTerm, SimProgram, SimVerb};
use crate::model::{Time, Timestamp};
use crate::runtime::{
    ContainerKey, ContainerObservation, ContainerRunState, ContainerSpec, ExecOutcome, Exit,
    LogLine, LogOptions, LogSource, RuntimeError, SandboxKey, SandboxObservation, SandboxSpec,
    Scope, StandardStreams, Usage,
};

/// All there is.
#[derive(Debug, Default)]
pub(super) struct State {
    pub sandboxes: BTreeMap<SandboxKey, SimSandbox>,
    pub programs: BTreeMap<String, SimProgram>,
    pub program_of: Option<fn(&ContainerSpec) -> SimProgram>,
    /// Images that are present; all when `None`.
    pub present_images: Option<BTreeSet<String>>,
    pub faults: BTreeMap<SimVerb, (Fault, u32)>,
    pub calls: BTreeMap<SimVerb, usize>,
    pub most_runs_at_once: usize,
    made: u32,
}

/// A sandbox.
#[derive(Debug)]
pub(super) struct SimSandbox {
    spec: SandboxSpec,
    pub ready: bool,
    ip: IpAddr,
    created_at: Time,
    /// By name and attempt.
    pub containers: BTreeMap<(String, u32), SimContainer>,
}

/// A container.
#[derive(Debug)]
pub(super) struct SimContainer {
    spec: ContainerSpec,
    id: String,
    program: SimProgram,
    state: ContainerRunState,
    /// When the program started last.
    started_at: Option<Timestamp>,
    /// When the program ends by itself.
    ends_at: Option<Timestamp>,
    log: Vec<LogLine>,
}

impl State {
    /// Counts a call; returns how it fails, if it does.
    pub fn called(&mut self, verb: SimVerb) -> Option<Fault> {
        *self.calls.entry(verb).or_default() += 1;
        let (fault, times) = self.faults.get_mut(&verb)?;
        let fault = fault.clone();
        *times = times.saturating_sub(1);
        if *times == 0 {
            self.faults.remove(&verb);
        }
        Some(fault)
    }

    pub fn list(&mut self, scope: &Scope, now: Timestamp) -> Vec<SandboxObservation> {
        self.pass_time(now);
        let mine = self.sandboxes.iter().filter(|(key, _)| key.scope == *scope);
        mine.map(|(key, sandbox)| SandboxObservation {
            key: key.clone(),
            namespace: sandbox.spec.namespace.clone(),
            name: sandbox.spec.name.clone(),
            ready: sandbox.ready,
            ip: sandbox.ready.then_some(sandbox.ip),
            created_at: Some(sandbox.created_at),
            containers: sandbox.containers.values().map(SimContainer::observe).collect(),
        })
        .collect()
    }

    pub fn image(&self, image: &str) -> Option<String> {
        let present = self.present_images.as_ref().is_none_or(|images| images.contains(image));
        present.then(|| format!("sim-image:{image}"))
    }

    #[allow(clippy::unnecessary_wraps)] // like its siblings
    pub fn pull(&mut self, image: &str) -> Result<(), RuntimeError> {
        if let Some(images) = &mut self.present_images {
            images.insert(image.to_owned());
        }
        Ok(())
    }

    #[allow(clippy::unnecessary_wraps)] // like its siblings
    pub fn create_sandbox(
        &mut self,
        spec: &SandboxSpec,
        now: Timestamp,
    ) -> Result<(), RuntimeError> {
        if !self.sandboxes.contains_key(&spec.key) {
            self.made += 1;
            let [_, a, b, c] = self.made.to_be_bytes();
            let sandbox = SimSandbox {
                spec: spec.clone(),
                ready: true,
                ip: IpAddr::V4(Ipv4Addr::new(10, a, b, c)),
                created_at: now.to_time(),
                containers: BTreeMap::new(),
            };
            self.sandboxes.insert(spec.key.clone(), sandbox);
        }
        Ok(())
    }

    #[allow(clippy::unnecessary_wraps)] // like its siblings
    pub fn remove_sandbox(&mut self, key: &SandboxKey) -> Result<(), RuntimeError> {
        self.sandboxes.remove(key);
        Ok(())
    }

    pub fn create_container(&mut self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        if self.image(&spec.image).is_none() {
            return Err(RuntimeError::ImageMissing { image: spec.image.clone() });
        }
        let of_spec = self.program_of.map(|program_of| program_of(spec));
        let program = self.programs.get(&spec.image).cloned().or(of_spec).unwrap_or_default();
        let id = self.made + 1;
        let sandbox = self.sandboxes.get_mut(&spec.key.sandbox);
        let sandbox = sandbox.ok_or_else(|| missing("sandbox", &spec.key))?;
        let slot = (spec.key.name.clone(), spec.key.attempt);
        sandbox.containers.entry(slot).or_insert_with(|| SimContainer {
            spec: spec.clone(),
            id: format!("sim://{id:08x}"),
            program,
            state: ContainerRunState::Created,
            started_at: None,
            ends_at: None,
            log: Vec::new(),
        });
        self.made = id;
        Ok(())
    }

    pub fn start_container(
        &mut self,
        key: &ContainerKey,
        now: Timestamp,
    ) -> Result<(), RuntimeError> {
        self.pass_time(now);
        let container = self.find(key).ok_or_else(|| missing("container", key))?;
        if let Some(message) = &container.program.broken {
            return Err(RuntimeError::Invalid { message: message.clone() });
        }
        if !matches!(container.state, ContainerRunState::Running { .. }) {
            container.state = ContainerRunState::Running { started_at: Some(now.to_time()) };
            container.started_at = Some(now);
            container.ends_at = container.program.runs_ms.map(|runs_ms| now.plus_millis(runs_ms));
            container.log.extend(container.program.prints.iter().map(|text| LogLine {
                time: now.to_time().to_string(),
                stream: LogSource::Stdout,
                text: format!("{text}\n").into(),
            }));
        }
        self.count_runs(key);
        self.pass_time(now);
        Ok(())
    }

    pub fn remove_container(&mut self, key: &ContainerKey) -> Result<(), RuntimeError> {
        if self.find(key).is_some_and(|container| container.is_running()) {
            return Err(Fault::backend("a running container cannot be removed"));
        }
        if let Some(sandbox) = self.sandboxes.get_mut(&key.sandbox) {
            sandbox.containers.remove(&(key.name.clone(), key.attempt));
        }
        Ok(())
    }

    /// Returns the code with which a running program ends when asked to; `None` if it does not, or does not run.
    pub fn term(&mut self, key: &ContainerKey, now: Timestamp) -> Option<i32> {
        self.pass_time(now);
        let container = self.find(key).filter(|container| container.is_running())?;
        match container.program.on_term {
            OnTerm::Exit(code) => Some(code),
            OnTerm::Ignore => None,
        }
    }

    pub fn is_running(&mut self, key: &ContainerKey, now: Timestamp) -> bool {
        self.pass_time(now);
        self.find(key).is_some_and(|container| container.is_running())
    }

    /// Ends a container if it runs.
    pub fn end(&mut self, key: &ContainerKey, code: i32, now: Timestamp) {
        self.pass_time(now);
        if let Some(container) = self.find(key) {
            container.end(code, now);
        }
    }

    /// Runs a check in a container.
    pub fn exec(
        &mut self,
        key: &ContainerKey,
        command: &[String],
        now: Timestamp,
    ) -> Result<ExecOutcome, RuntimeError> {
        let outcome = self.run(key, command, now)?;
        match self.find(key).is_some_and(|container| container.is_ready(now)) {
            true => Ok(outcome),
            false => Ok(ExecOutcome { code: 1, output: "not ready".to_owned() }),
        }
    }

    /// Runs a program in a container.
    pub fn run(
        &mut self,
        key: &ContainerKey,
        command: &[String],
        now: Timestamp,
    ) -> Result<ExecOutcome, RuntimeError> {
        self.pass_time(now);
        let container = self.find(key).filter(|container| container.is_running());
        let container = container.ok_or_else(|| missing("container", key))?;
        Ok(ExecOutcome { code: container.program.exec_code, output: command.join(" ") })
    }

    /// Returns how the streams of a running program are tied.
    pub fn stdio(
        &mut self,
        key: &ContainerKey,
        now: Timestamp,
    ) -> Result<StandardStreams, RuntimeError> {
        self.pass_time(now);
        let container = self.find(key).filter(|container| container.is_running());
        container.map(|container| container.spec.stdio).ok_or_else(|| missing("container", key))
    }

    /// Has a running program that has input repeat what it reads.
    pub fn feed(&mut self, key: &ContainerKey, bytes: Bytes, now: Timestamp) {
        self.pass_time(now);
        let container = self.find(key).filter(|container| container.is_running());
        if let Some(container) = container.filter(|container| container.spec.stdio.stdin) {
            let time = now.to_time().to_string();
            container.log.push(LogLine { time, stream: LogSource::Stdout, text: bytes });
        }
    }

    /// Ends a running program by the end of its input.
    pub fn end_input(&mut self, key: &ContainerKey, now: Timestamp) {
        if let Some(container) = self.find(key) {
            let code = container.program.exit_code;
            self.end(key, code, now);
        }
    }

    /// Returns the HTTP status with which the pod at an address answers; `None` when nobody listens there.
    pub fn answer(&mut self, address: IpAddr, now: Timestamp) -> Option<u16> {
        self.pass_time(now);
        let mut sandboxes = self.sandboxes.values();
        let sandbox = sandboxes.find(|sandbox| sandbox.ready && sandbox.ip == address)?;
        let mut containers = sandbox.containers.values();
        let ready = containers.find(|container| container.is_ready(now))?;
        Some(ready.program.http_status)
    }

    pub fn usage(&mut self, scope: &Scope, now: Timestamp) -> Vec<Usage> {
        self.pass_time(now);
        let mine = self.sandboxes.iter().filter(|(key, _)| key.scope == *scope);
        let containers = mine.flat_map(|(_, sandbox)| sandbox.containers.values());
        let used = containers.filter_map(|container| match &container.state {
            ContainerRunState::Running { started_at: Some(started_at) } => {
                let ran_ms = now.millis_since(started_at.to_timestamp());
                Some(Usage {
                    key: container.spec.key.clone(),
                    // A tenth of a core.
                    cpu_nanos: u64::try_from(ran_ms).unwrap_or(0) * 100_000,
                    memory_bytes: 1 << 20,
                    disk_bytes: 0,
                    network_received_bytes: 0,
                    network_sent_bytes: 0,
                })
            }
            ContainerRunState::Running { started_at: None }
            | ContainerRunState::Created
            | ContainerRunState::Exited(_) => None,
        });
        used.collect()
    }

    /// Returns when the next program of a scope ends by itself.
    pub fn next_end(&self, scope: &Scope) -> Option<Timestamp> {
        let mine = self.sandboxes.iter().filter(|(key, _)| key.scope == *scope);
        let containers = mine.flat_map(|(_, sandbox)| sandbox.containers.values());
        containers
            .filter(|container| container.is_running())
            .filter_map(|container| container.ends_at)
            .min()
    }

    /// Returns the index of the first line of a log that is wanted.
    pub fn log_start(
        &mut self,
        key: &ContainerKey,
        options: &LogOptions,
        now: Timestamp,
    ) -> Result<usize, RuntimeError> {
        self.pass_time(now);
        let container = self.find(key).ok_or_else(|| missing("container", key))?;
        let since = options.since.map_or(0, |since| {
            let older = |line: &&LogLine| line.time.parse().is_ok_and(|time: Time| time < since);
            container.log.iter().take_while(older).count()
        });
        let tail = options.tail_lines.map_or(0, |tail| container.log.len().saturating_sub(tail));
        Ok(since.max(tail))
    }

    /// Returns a line of a log, and whether more may come.
    pub fn log_line(
        &mut self,
        key: &ContainerKey,
        index: usize,
        now: Timestamp,
    ) -> (Option<LogLine>, bool) {
        self.pass_time(now);
        match self.find(key) {
            Some(container) => (container.log.get(index).cloned(), container.is_running()),
            None => (None, false),
        }
    }

    fn find(&mut self, key: &ContainerKey) -> Option<&mut SimContainer> {
        let sandbox = self.sandboxes.get_mut(&key.sandbox)?;
        sandbox.containers.get_mut(&(key.name.clone(), key.attempt))
    }

    /// Lets programs end whose time has come.
    fn pass_time(&mut self, now: Timestamp) {
        for sandbox in self.sandboxes.values_mut() {
            for container in sandbox.containers.values_mut() {
                if let Some(at) = container.ends_at.filter(|at| *at <= now) {
                    let code = container.program.exit_code;
                    container.end(code, at);
                }
            }
        }
    }

    fn count_runs(&mut self, key: &ContainerKey) {
        let pod = self.sandboxes.iter().filter(|(sandbox, _)| {
            sandbox.scope == key.sandbox.scope && sandbox.pod == key.sandbox.pod
        });
        let containers = pod.flat_map(|(_, sandbox)| sandbox.containers.values());
        let runs = containers
            .filter(|container| container.spec.key.name == key.name && container.is_running())
            .count();
        self.most_runs_at_once = self.most_runs_at_once.max(runs);
    }
}

impl SimContainer {
    fn is_running(&self) -> bool {
        matches!(self.state, ContainerRunState::Running { .. })
    }

    /// Whether it runs, and long enough for checks to succeed.
    fn is_ready(&self, now: Timestamp) -> bool {
        match (&self.state, self.program.ready_ms, self.started_at) {
            (ContainerRunState::Running { .. }, Some(after), Some(started_at)) => {
                started_at.plus_millis(after) <= now
            }
            _ => false,
        }
    }

    fn end(&mut self, code: i32, now: Timestamp) {
        if let ContainerRunState::Running { started_at } = self.state {
            let finished_at = Some(now.to_time());
            self.state = ContainerRunState::Exited(Exit {
                code,
                started_at,
                finished_at,
                ..Exit::default()
            });
        }
    }

    fn observe(&self) -> ContainerObservation {
        ContainerObservation {
            key: self.spec.key.clone(),
            id: self.id.clone(),
            image: self.spec.image.clone(),
            image_id: format!("sim-image:{}", self.spec.image),
            state: self.state.clone(),
        }
    }
}

fn missing(what: &str, key: &ContainerKey) -> RuntimeError {
    RuntimeError::NotFound { what: format!("{what} of {key}") }
}
