//! The trait `Runtime`: pod sandboxes and containers, whatever runs them.
//!
//! Shaped like CRI: a sandbox holds a pod's network, containers run in it. Verbs are idempotent and keyed by
//! (cluster, node, pod uid, attempt, container). Decisions are made in `node`; a runtime only does as told.
//! Numbered clauses (`RT…`) are the contract; the suite in `testkit` has one test for each.

mod session;

use std::fmt::{self, Debug};
use std::net::IpAddr;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::{Protocol, Time, Uid};
use crate::store::BoxError;

pub use session::{
    AttachOptions, Session, SessionEvent, SessionInput, SessionOptions, SessionOutput,
};

/// Whose pods a call concerns: one node of one cluster. Others' pods are invisible (RT12).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// The cluster's id, a DNS label.
    pub cluster: String,
    /// The node's name.
    pub node: String,
}

/// Identifies a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SandboxKey {
    /// Whose it is.
    pub scope: Scope,
    /// The pod.
    pub pod: Uid,
    /// Counts the sandboxes of the pod, from 0.
    pub attempt: u32,
}

/// Identifies a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerKey {
    /// The sandbox it runs in.
    pub sandbox: SandboxKey,
    /// The container's name in the pod.
    pub name: String,
    /// Counts the runs of the container in its pod, from 0.
    pub attempt: u32,
}

impl fmt::Display for ContainerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}#{}", self.sandbox.pod, self.name, self.attempt)
    }
}

/// What a sandbox is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxSpec {
    /// Its identity.
    pub key: SandboxKey,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name; also its host name.
    pub name: String,
    /// Ports of the host that lead to the pod.
    pub ports: Vec<PortMapping>,
}

/// A port of the host that leads to a port of the pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortMapping {
    /// The address of the host; all when `None`.
    pub host_ip: Option<IpAddr>,
    /// The port of the host.
    pub host_port: u16,
    /// The port of the pod.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// What a container is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Its identity.
    pub key: ContainerKey,
    /// The image; runtimes without images ignore it.
    pub image: String,
    /// The program; the image's when empty.
    pub command: Vec<String>,
    /// Its arguments; the image's when empty and `command` is empty too.
    pub args: Vec<String>,
    /// The working directory; the image's when empty.
    pub working_dir: String,
    /// Environment variables, expanded.
    pub env: Vec<(String, String)>,
    /// Limits.
    pub limits: Limits,
    /// How its standard streams are tied.
    pub stdio: StandardStreams,
}

/// How the standard streams of a container's program are tied; nothing is set for one that takes no input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandardStreams {
    /// Whether it reads what attached clients send; else its standard input is at its end from the start.
    pub stdin: bool,
    /// Whether its standard input ends with the first attached client that sends it any.
    pub stdin_once: bool,
    /// Whether it runs at a terminal, through which all of its output comes as standard output.
    pub terminal: bool,
}

/// Upper bounds of a container; a runtime that cannot enforce one says so in [`Runtime::describe`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Thousandths of a CPU; none when 0.
    pub cpu_milli: u64,
    /// Bytes of memory; none when 0.
    pub memory_bytes: u64,
    /// The share of CPU under contention, from the request, in thousandths; the default when 0.
    pub cpu_request_milli: u64,
}

/// A sandbox as the runtime finds it, with its containers in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxObservation {
    /// Its identity.
    pub key: SandboxKey,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// Whether it holds its network; a sandbox that does not is dead and never comes back.
    pub ready: bool,
    /// The pod's address.
    pub ip: Option<IpAddr>,
    /// When it was made.
    pub created_at: Option<Time>,
    /// Its containers.
    pub containers: Vec<ContainerObservation>,
}

/// A container as the runtime finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerObservation {
    /// Its identity.
    pub key: ContainerKey,
    /// The runtime's id with its scheme, such as `docker://4c01…`.
    pub id: String,
    /// The image it was made from, as it was asked for.
    pub image: String,
    /// That image's id.
    pub image_id: String,
    /// What it does.
    pub state: ContainerRunState,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerRunState {
    /// Made, never started.
    Created,
    /// Running.
    Running {
        /// Since when.
        started_at: Option<Time>,
    },
    /// Ended.
    Exited(Exit),
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; 128 + the signal's number when a signal ended it. 255 if nobody could tell.
    pub code: i32,
    /// Whether it ran out of memory.
    pub oom_killed: bool,
    /// When it began.
    pub started_at: Option<Time>,
    /// When it ended.
    pub finished_at: Option<Time>,
    /// The runtime's explanation, such as why it could not start.
    pub message: String,
}

/// What a runtime is and can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeInfo {
    /// Its scheme, such as `docker`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether it enforces CPU and memory limits.
    pub enforces_limits: bool,
    /// Whether containers are made from images.
    pub uses_images: bool,
}

/// What a container uses; a signal, never stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The container.
    pub key: ContainerKey,
    /// CPU time used since it started, in nanoseconds.
    pub cpu_nanos: u64,
    /// Working-set memory, in bytes.
    pub memory_bytes: u64,
    /// Bytes on disk written by it and kept; 0 when unknown.
    pub disk_bytes: u64,
    /// Bytes its pod received.
    pub network_received_bytes: u64,
    /// Bytes its pod sent.
    pub network_sent_bytes: u64,
}

/// Which part of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Whether to wait for more until the container ends.
    pub follow: bool,
    /// Only this many lines from the end; all when `None`.
    pub tail_lines: Option<usize>,
    /// Only lines from this time on.
    pub since: Option<Time>,
}

/// A line of a log (or a piece of a very long one; see [`LOG_LINE_BYTES_MAX`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written, RFC 3339 with fractions; empty when unknown.
    pub time: String,
    /// Where it was written.
    pub stream: LogSource,
    /// The text with its line end, if it had one.
    pub text: Bytes,
}

/// The longest piece of a log handed on at once, in bytes.
pub const LOG_LINE_BYTES_MAX: usize = 64 * 1024;

/// Where a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSource {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
}

/// A log being read.
#[async_trait]
pub trait LogStream: Debug + Send {
    /// Waits for the next line; `None` at the end. Cancel-safe.
    async fn next(&mut self) -> Option<Result<LogLine, RuntimeError>>;
}

/// What a program run in a container came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutcome {
    /// Its exit code.
    pub code: i32,
    /// The beginning of what it printed, at most 1 KiB, for the event that tells of a failure.
    pub output: String,
}

/// What went wrong in a runtime; the variant says what the caller does next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The runtime failed; try again later.
    #[error("runtime failed: {action}")]
    Backend {
        /// What was being done.
        action: String,
        /// Why it failed.
        #[source]
        source: BoxError,
    },
    /// The image is not there and was not pulled; pull or give up.
    #[error("image {image:?} is not present")]
    ImageMissing {
        /// The image.
        image: String,
    },
    /// What was asked for can never work (a program that does not exist, a taken port); tell the user.
    #[error("{message}")]
    Invalid {
        /// Why not.
        message: String,
    },
    /// There is no such sandbox or container; look again.
    #[error("{what} does not exist")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// The engine does not answer; wait for it.
    #[error("runtime is unreachable")]
    Unreachable(#[source] BoxError),
}

/// Runs pods. Cheap to share; holds no state that the outside world does not.
///
/// # Guarantees (each is a test of the conformance suite)
/// - **RT1** Creating a sandbox or container that exists already changes nothing and succeeds; so does starting a
///   running container, stopping an ended one, and removing what is gone.
/// - **RT2** `list` shows every sandbox and container of the scope, with the keys and, letter by letter, the images they were
///   made with (an image that differs from the pod's makes the container begin again), also those made by an earlier
///   process (adoption, S20).
/// - **RT3** A created container does not run before it is started.
/// - **RT4** A container that ends by itself is listed as exited with its code, and stays listed until removed.
/// - **RT5** Stop sends TERM, waits at most the grace period, then sends KILL; when it returns the container has ended.
/// - **RT6** Removing a sandbox ends and removes all of its containers; afterwards nothing of it is left (S18).
/// - **RT7** All containers of a sandbox share its address, reach each other on localhost, and find it in `$POD_IP`; restarting a container keeps it.
/// - **RT8** Sandboxes of different pods have different addresses and can reach each other by them.
/// - **RT9** Logs hold what a container printed, of both streams, in order; `tail_lines`, `since` and `follow` work, and `follow` ends with the container.
/// - **RT10** Environment, working directory, command and arguments arrive exactly.
/// - **RT11** A container that cannot start fails with `Invalid` or is listed as exited; nothing is left running.
/// - **RT12** Scopes do not see each other.
/// - **RT13** `changed` returns soon after a container ends by itself (a hint: callers list anyway).
/// - **RT14** A container killed from outside is listed as exited with code 137.
/// - **RT15** Verbs on what does not exist fail with `NotFound` (except removing and stopping).
/// - **RT16** `exec` returns the program's exit code and output, and ends at its timeout.
/// - **RT17** `session`, where there is one, carries standard input, output, error and the exit code, with a terminal and
///   without.
/// - **RT18** `attach`, where there is one, shows what the container's own program prints from then on, to every client alike, and
///   hands it what they send, also through another instance; a program with a terminal has it, and its log has what it printed there.
/// - **RT19** Standard input of a program that has none is at its end; with `stdin_once` it ends with the first client that
///   sends it any (at a terminal when that says so, for one that left can come back), and else stays open when one leaves.
#[async_trait]
pub trait Runtime: Debug + Send + Sync + 'static {
    /// Says what this runtime is.
    async fn describe(&self) -> Result<RuntimeInfo, RuntimeError>;

    /// Lists all sandboxes of the scope, by key, newest attempt last.
    async fn list(&self, scope: &Scope) -> Result<Vec<SandboxObservation>, RuntimeError>;

    /// Returns the id of an image, if it is present. A runtime without images answers with the empty id.
    async fn image(&self, image: &str) -> Result<Option<String>, RuntimeError>;

    /// Pulls an image.
    async fn pull(&self, image: &str) -> Result<(), RuntimeError>;

    /// Makes and starts a sandbox.
    async fn create_sandbox(&self, spec: &SandboxSpec) -> Result<(), RuntimeError>;

    /// Ends and removes a sandbox and its containers, at once.
    async fn remove_sandbox(&self, key: &SandboxKey) -> Result<(), RuntimeError>;

    /// Makes a container in a sandbox.
    async fn create_container(&self, spec: &ContainerSpec) -> Result<(), RuntimeError>;

    /// Starts a container.
    async fn start_container(&self, key: &ContainerKey) -> Result<(), RuntimeError>;

    /// Ends a container: TERM, then KILL after `grace_ms`.
    async fn stop_container(&self, key: &ContainerKey, grace_ms: u64) -> Result<(), RuntimeError>;

    /// Removes an ended or never started container and its log.
    async fn remove_container(&self, key: &ContainerKey) -> Result<(), RuntimeError>;

    /// Reads a container's log.
    async fn logs(
        &self,
        key: &ContainerKey,
        options: &LogOptions,
    ) -> Result<Box<dyn LogStream>, RuntimeError>;

    /// Runs a program in a container (for exec probes).
    async fn exec(
        &self,
        key: &ContainerKey,
        command: &[String],
        timeout_ms: u64,
    ) -> Result<ExecOutcome, RuntimeError>;

    /// Runs a program in a running container for somebody at the other end (`kubectl exec`).
    ///
    /// # Errors
    /// `NotFound` when the container does not run, `Invalid` when the program cannot be run, or none at all by this runtime.
    async fn session(
        &self,
        key: &ContainerKey,
        options: &SessionOptions,
    ) -> Result<Session, RuntimeError>;

    /// Ties a client to the program of a running container (`kubectl attach`), from now on. When the program or the
    /// container ends, the output ends without an [`SessionEvent::Exited`]: the listing tells how. Dropping the session
    /// leaves the program running.
    ///
    /// # Errors
    /// `NotFound` when the container does not run, `Invalid` when nobody can be attached to it (any more).
    async fn attach(
        &self,
        key: &ContainerKey,
        options: &AttachOptions,
    ) -> Result<Session, RuntimeError>;

    /// Reads what the scope's running containers use.
    async fn usage(&self, scope: &Scope) -> Result<Vec<Usage>, RuntimeError>;

    /// Waits until something of the scope may have changed. A hint: it may return too often, and callers list
    /// periodically too. Cancel-safe.
    async fn changed(&self, scope: &Scope);
}
