//! A [`Runtime`](orchestrator_core::runtime::Runtime) on the Docker Engine.
//!
//! A pod is a *sandbox container* that runs a tiny pause program (embedded, so no registry is needed) and holds the
//! pod's network namespace, and one container per container of the pod that joins it. Pods of a cluster share
//! one bridge network. Everything is found again by its labels alone, so nothing is kept on our side: another process can go
//! on where this one ended.
//!
//! | file | what |
//! |---|---|
//! | `runtime` | [`DockerRuntime`], the verbs; `inner` has what they share |
//! | `engine` | every call of the engine's API, its timeouts and the API version |
//! | `translate`, `observe` | specs to requests, answers to observations; pure |
//! | `network` | the cluster's bridge network, made at the first sandbox and removed with the last |
//! | `ties`, `tied`, `files` | sandboxes that somebody else ties to the network ([`DockerRuntime::tie_with`]): addresses, labels, files |
//! | `image` | images from files: the pause image, and any other through [`DockerRuntime::import_image`] |
//! | `exec`, `logs`, `usage`, `events` | what their names say |
//!
//! Works with engines from 20.10 (API 1.41) on. Usage is read from the kernel's files, so it is empty for an engine on
//! another machine.
//!
//! ```no_run
//! # async fn run() -> Result<(), orchestrator_core::runtime::RuntimeError> {
//! use orchestrator_core::runtime::{Runtime, Scope};
//! use orchestrator_docker::DockerRuntime;
//!
//! let docker = DockerRuntime::connect().await?; // $DOCKER_HOST, or the usual socket
//! let scope = Scope { cluster: "home".into(), node: "n1".into() };
//! for sandbox in docker.list(&scope).await? {
//!     println!("{} {:?}", sandbox.name, sandbox.ip);
//! }
//! # Ok(())
//! # }
//! ```

mod attach;
mod engine;
mod error;
mod events;
mod exec;
mod files;
mod image;
mod inner;
mod logs;
mod network;
mod observe;
mod runtime;
mod session;
mod tied;
mod ties;
mod translate;
mod usage;

pub use image::ImageFile;
pub use network::PodBridge;
pub use runtime::DockerRuntime;
