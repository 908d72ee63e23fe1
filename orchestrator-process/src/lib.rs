//! Pods as operating system processes: [`ProcessRuntime`], a [`Runtime`](orchestrator_core::runtime::Runtime) that needs no engine.
//!
//! A container is a command in a session of its own under a tiny supervisor, a daemon that outlives the program that started
//! it: it keeps the log, writes down how the command ended, and leaves no process behind. Each pod has an address of its own
//! in 127.64.0.0/10; a program that binds to `$POD_IP` shares its port with nobody.
//!
//! A port of the host is forwarded (TCP) to the pod's address by another such daemon: from the addresses that the host has
//! when the pod is made, IPv4 unless the port names an address itself.
//!
//! Everything known lives in one directory (see [`ProcessRuntime::open`]); a second instance on it sees the same.
//!
//! ```no_run
//! use orchestrator_core::{driver::Cluster, mem::MemStore};
//! use orchestrator_process::ProcessRuntime;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = ProcessRuntime::open("/var/lib/my-program/pods")?;
//! let cluster = Cluster::builder().store(MemStore::new()).runtime(runtime).start().await?;
//! # Ok(()) }
//! ```
//!
//! # What a container gets
//! - Environment: its own variables, `POD_IP`, `POD_NAME`, `POD_NAMESPACE`, `ORCHESTRATOR_CONTAINER` (its directory; this
//!   is how its processes are recognised), and, of the program that opened the runtime, `PATH` and `HOME`.
//! - Working directory `/` unless it names one; no other descriptor than standard input, output and error.
//! - Standard input `/dev/null`, unless it takes input: then a pipe, or a terminal of its own. The supervisor holds the other
//!   ends, so that clients attach to it whichever program opened the runtime, and sees to it that neither side runs ahead of
//!   the other: a command whose output an attached client does not take waits for that client.
//! - The user, file system, network and limits of the program that opened the runtime: there is no isolation, and limits
//!   on CPU and memory are not enforced.
//! - A log of at most [`LOG_BYTES_MAX`] bytes, and one older of the same size.
//!
//! On systemd, set `KillMode=process` for the service: otherwise a stop of it ends the pods, too.

mod address;
mod attach;
mod bell;
mod container;
mod error;
mod exec;
mod layout;
mod log;
mod proc;
mod record;
mod runtime;
mod sandbox;
mod session;
mod supervisor;

pub use self::runtime::ProcessRuntime;
pub use self::supervisor::LOG_BYTES_MAX;
