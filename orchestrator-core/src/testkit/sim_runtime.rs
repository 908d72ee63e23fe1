//! `SimRuntime`: a runtime in memory. Programs, failures and losses are what a test says they are.
//!
//! Time is the clock it is given: a program that ends after a while ends when the clock gets there, also
//! when nobody looks. Clones share everything, as two connections to one engine would.

mod attach;
mod network;
mod program;
mod session;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

pub use self::program::{Fault, OnTerm, SimProgram, SimVerb};
use self::state::State;
use crate::driver::Clock;
use crate::model::Timestamp;
use crate::node::{OpFailure, RuntimeOp};
use crate::runtime::{
    AttachOptions, ContainerKey, ContainerSpec, ExecOutcome, LogLine, LogOptions, LogStream,
    Runtime, RuntimeError, RuntimeInfo, SandboxKey, SandboxObservation, SandboxSpec, Scope,
    Session, SessionOptions, Usage,
};

/// A runtime in memory.
#[derive(Clone, Debug)]
pub struct SimRuntime(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    changed: Notify,
}

impl SimRuntime {
    /// Makes an empty runtime on which every program runs until it is told to end.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let state = Mutex::new(State::default());
        Self(Arc::new(Inner { state, clock, changed: Notify::new() }))
    }

    /// Decides what containers of an image do from their next start on.
    pub fn set_program(&self, image: &str, program: SimProgram) {
        self.lock().programs.insert(image.to_owned(), program);
    }

    /// Decides what containers do from what they are made of, where no program is set for their image.
    pub fn set_program_of(&self, program_of: fn(&ContainerSpec) -> SimProgram) {
        self.lock().program_of = Some(program_of);
    }

    /// Makes images missing until they are pulled; without this call every image is present.
    pub fn require_pulls(&self) {
        self.lock().present_images = Some(std::collections::BTreeSet::new());
    }

    /// Makes the next `times` calls of a verb fail.
    pub fn fail(&self, verb: SimVerb, fault: Fault, times: u32) {
        self.lock().faults.insert(verb, (fault, times));
        self.0.changed.notify_waiters();
    }

    /// Makes calls of a verb work again.
    pub fn heal(&self, verb: SimVerb) {
        self.lock().faults.remove(&verb);
    }

    /// How often a verb was called.
    pub fn calls(&self, verb: SimVerb) -> usize {
        self.lock().calls.get(&verb).copied().unwrap_or(0)
    }

    /// Ends a running container as a signal from outside would.
    pub fn kill(&self, key: &ContainerKey, code: i32) {
        let now = self.now();
        self.lock().end(key, code, now);
        self.0.changed.notify_waiters();
    }

    /// Takes a container away, as if somebody had removed it behind the agent's back.
    pub fn lose_container(&self, key: &ContainerKey) {
        if let Some(sandbox) = self.lock().sandboxes.get_mut(&key.sandbox) {
            sandbox.containers.remove(&(key.name.clone(), key.attempt));
        }
        self.0.changed.notify_waiters();
    }

    /// Ends a sandbox's network; its containers go on in it.
    pub fn lose_sandbox(&self, key: &SandboxKey) {
        if let Some(sandbox) = self.lock().sandboxes.get_mut(key) {
            sandbox.ready = false;
        }
        self.0.changed.notify_waiters();
    }

    /// Lists a scope at once.
    pub fn observe(&self, scope: &Scope) -> Vec<SandboxObservation> {
        let now = self.now();
        self.lock().list(scope, now)
    }

    /// The most containers of one name that ever ran at once in one pod (1 unless something is wrong, S17).
    pub fn most_runs_at_once(&self) -> usize {
        self.lock().most_runs_at_once
    }

    /// Executes a verb at once, whatever its grace: for simulations without tokio.
    ///
    /// # Errors
    /// What the verb failed with; a fault that hangs counts as failed.
    pub fn execute(&self, op: &RuntimeOp) -> Result<(), OpFailure> {
        let now = self.now();
        let mut state = self.lock();
        let failure = |error: RuntimeError| OpFailure::from(&error);
        if let Some(fault) = state.called(SimVerb::of(op)) {
            return Err(failure(fault.error().unwrap_or_else(|| Fault::backend("it hangs"))));
        }
        let outcome = match op {
            RuntimeOp::CreateContainer(spec) => state.create_container(spec),
            RuntimeOp::CreateSandbox(spec) => state.create_sandbox(spec, now),
            RuntimeOp::Pull { image, .. } => state.pull(image),
            RuntimeOp::RemoveContainer(key) => state.remove_container(key),
            RuntimeOp::RemoveSandbox(key) => state.remove_sandbox(key),
            RuntimeOp::StartContainer(key) => state.start_container(key, now),
            RuntimeOp::Stop { containers, .. } => {
                for key in containers {
                    let code = state.term(key, now).unwrap_or(137);
                    state.end(key, code, now);
                }
                Ok(())
            }
        };
        outcome.map_err(failure)
    }

    /// Sends input to a container's program, which repeats it.
    fn feed(&self, key: &ContainerKey, bytes: bytes::Bytes) {
        let now = self.now();
        self.lock().feed(key, bytes, now);
        self.0.changed.notify_waiters();
    }

    /// Ends the input of a container's program, which ends with it.
    fn end_input(&self, key: &ContainerKey) {
        let now = self.now();
        self.lock().end_input(key, now);
        self.0.changed.notify_waiters();
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call, and fails or hangs if a test wants it to.
    async fn called(&self, verb: SimVerb) -> Result<(), RuntimeError> {
        let fault = self.lock().called(verb);
        match fault.map(|fault| fault.error()) {
            None => Ok(()),
            Some(Some(error)) => Err(error),
            Some(None) => std::future::pending().await,
        }
    }

    /// Lets the time of the next programmed end pass, then tells whoever waits.
    async fn next_end(&self, scope: &Scope) {
        let at = self.lock().next_end(scope);
        match at {
            None => std::future::pending().await,
            Some(at) => self.0.clock.sleep_until(at).await,
        }
    }
}

#[async_trait]
impl Runtime for SimRuntime {
    async fn describe(&self) -> Result<RuntimeInfo, RuntimeError> {
        self.called(SimVerb::Describe).await?;
        Ok(RuntimeInfo {
            name: "sim".to_owned(),
            version: "1".to_owned(),
            enforces_limits: false,
            uses_images: true,
        })
    }

    async fn list(&self, scope: &Scope) -> Result<Vec<SandboxObservation>, RuntimeError> {
        self.called(SimVerb::List).await?;
        Ok(self.observe(scope))
    }

    async fn image(&self, image: &str) -> Result<Option<String>, RuntimeError> {
        self.called(SimVerb::Image).await?;
        Ok(self.lock().image(image))
    }

    async fn pull(&self, image: &str) -> Result<(), RuntimeError> {
        self.called(SimVerb::Pull).await?;
        self.lock().pull(image)
    }

    async fn create_sandbox(&self, spec: &SandboxSpec) -> Result<(), RuntimeError> {
        self.called(SimVerb::CreateSandbox).await?;
        let now = self.now();
        self.lock().create_sandbox(spec, now)
    }

    async fn remove_sandbox(&self, key: &SandboxKey) -> Result<(), RuntimeError> {
        self.called(SimVerb::RemoveSandbox).await?;
        let outcome = self.lock().remove_sandbox(key);
        self.0.changed.notify_waiters();
        outcome
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        self.called(SimVerb::CreateContainer).await?;
        self.lock().create_container(spec)
    }

    async fn start_container(&self, key: &ContainerKey) -> Result<(), RuntimeError> {
        self.called(SimVerb::StartContainer).await?;
        let now = self.now();
        let outcome = self.lock().start_container(key, now);
        self.0.changed.notify_waiters();
        outcome
    }

    async fn stop_container(&self, key: &ContainerKey, grace_ms: u64) -> Result<(), RuntimeError> {
        self.called(SimVerb::StopContainer).await?;
        let now = self.now();
        let code = self.lock().term(key, now);
        if let Some(code) = code {
            self.kill(key, code);
        } else if self.lock().is_running(key, now) {
            let grace_ms = i64::try_from(grace_ms).unwrap_or(i64::MAX);
            self.0.clock.sleep_until(now.plus_millis(grace_ms)).await;
            self.kill(key, 137);
        }
        Ok(())
    }

    async fn remove_container(&self, key: &ContainerKey) -> Result<(), RuntimeError> {
        self.called(SimVerb::RemoveContainer).await?;
        self.lock().remove_container(key)
    }

    async fn logs(
        &self,
        key: &ContainerKey,
        options: &LogOptions,
    ) -> Result<Box<dyn LogStream>, RuntimeError> {
        self.called(SimVerb::Logs).await?;
        let now = self.now();
        let start = self.lock().log_start(key, options, now)?;
        let (runtime, key) = (self.clone(), key.clone());
        Ok(Box::new(SimLog { runtime, key, next: start, follow: options.follow }))
    }

    async fn exec(
        &self,
        key: &ContainerKey,
        command: &[String],
        timeout_ms: u64,
    ) -> Result<ExecOutcome, RuntimeError> {
        let limit = Duration::from_millis(timeout_ms);
        match tokio::time::timeout(limit, self.called(SimVerb::Exec)).await {
            Ok(outcome) => outcome?,
            Err(_) => return Ok(ExecOutcome { code: 137, output: "timed out".to_owned() }),
        }
        let now = self.now();
        self.lock().exec(key, command, now)
    }

    async fn session(
        &self,
        key: &ContainerKey,
        options: &SessionOptions,
    ) -> Result<Session, RuntimeError> {
        self.called(SimVerb::Exec).await?;
        let now = self.now();
        let outcome = self.lock().run(key, &options.command, now)?;
        Ok(session::open(outcome, options))
    }

    async fn attach(
        &self,
        key: &ContainerKey,
        options: &AttachOptions,
    ) -> Result<Session, RuntimeError> {
        self.called(SimVerb::Attach).await?;
        let now = self.now();
        let stdio = self.lock().stdio(key, now)?;
        let from_now = LogOptions { follow: true, tail_lines: Some(0), since: None };
        let next = self.lock().log_start(key, &from_now, now)?;
        let log = SimLog { runtime: self.clone(), key: key.clone(), next, follow: true };
        Ok(attach::open(log, stdio, *options))
    }

    async fn usage(&self, scope: &Scope) -> Result<Vec<Usage>, RuntimeError> {
        self.called(SimVerb::Usage).await?;
        let now = self.now();
        Ok(self.lock().usage(scope, now))
    }

    async fn changed(&self, scope: &Scope) {
        tokio::select! {
            biased;
            () = self.0.changed.notified() => {}
            () = self.next_end(scope) => {}
        }
    }
}

/// A log being read.
#[derive(Debug)]
struct SimLog {
    runtime: SimRuntime,
    key: ContainerKey,
    next: usize,
    follow: bool,
}

#[async_trait]
impl LogStream for SimLog {
    async fn next(&mut self) -> Option<Result<LogLine, RuntimeError>> {
        loop {
            let notified = self.runtime.0.changed.notified();
            let now = self.runtime.now();
            let (line, running) = self.runtime.lock().log_line(&self.key, self.next, now);
            if let Some(line) = line {
                self.next += 1;
                return Some(Ok(line));
            }
            if !self.follow || !running {
                return None;
            }
            tokio::select! {
                biased;
                () = notified => {}
                () = self.runtime.next_end(&self.key.sandbox.scope) => {}
            }
        }
    }
}
