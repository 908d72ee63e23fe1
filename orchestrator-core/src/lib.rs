//! Container orchestration as a library: a pure, deterministic engine, and traits for everything around it.
//!
//! ```
//! use orchestrator_core::driver::Cluster;
//! use orchestrator_core::mem::MemStore;
//! use orchestrator_core::model::{Deployment, Key, Kind, Pod};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // Without a runtime the cluster has no node: everything is decided, and nothing runs.
//!     let cluster = Cluster::builder().store(MemStore::new()).start().await?;
//!     cluster.apply(Deployment::new("web", "nginx:1.27").replicas(3)).await?;
//!     let world = cluster.wait_for(|world| world.all::<Pod>(None).count() == 3).await?;
//!     for pod in world.all::<Pod>(None) {
//!         let why = cluster.explain(&Key::pod("default", &pod.metadata.name))?;
//!         assert_eq!(why.message, "no nodes available to schedule pods");
//!     }
//!     cluster.delete(&Key::new(Kind::Deployment, "default", "web")).await?;
//!     cluster.wait_for(|world| world.all::<Pod>(None).next().is_none()).await?;
//!     cluster.shutdown(false).await;
//!     Ok(())
//! }
//! ```
//!
//! # A tour
//!
//! - [`driver::Cluster`] is what a program holds: it wires a store, a runtime, a scheduler and controllers together.
//! - What you can bring: a [`store::StateStore`] (state), a [`runtime::Runtime`] (containers), a [`scheduler::Scheduler`], a
//!   [`controller::Controller`]. Each trait states its contract in numbered clauses, and `testkit` has a test for each.
//! - [`model`] has the objects. They are Kubernetes' objects, and their serde form is Kubernetes' JSON.
//! - [`world::World`] is all of them at one revision; a snapshot costs nothing.
//! - [`api::decide`] says what a request comes to: a transaction or a rejection. The HTTP server, the command line, agents and
//!   [`driver::Cluster`] all go through it.
//! - [`engine::Engine`] runs controllers and the scheduler. It reads no clock and waits for nothing: inputs are `handle_*`,
//!   outputs are `poll_*`, and `now` is a parameter.
//! - [`node::plan`](node::plan()) is the brain of a node's agent: from a pod and what the runtime shows to what must be done next.
//! - [`manifest`] reads Kubernetes YAML, strictly, and knows the line of every field.
//! - [`dump`] has the form of a backup; [`driver::Dumper`] and [`driver::Filler`] move what a store holds.
//! - [`mem::MemStore`] keeps state in memory; [`history::History`] helps implementers of stores.
//!
//! # Features
//!
//! `driver` (default): the tokio shell. `manifest` (default): YAML. `testkit`: conformance suites, a simulator of whole clusters, and
//! proptest strategies. Without features the crate has no tokio and no clock.

pub mod api;
pub mod controller;
#[cfg(feature = "driver")]
#[allow(clippy::disallowed_methods)] // the shell is where clock and environment are
pub mod driver;
pub mod dump;
pub mod election;
pub mod engine;
mod hash;
pub mod history;
#[cfg(feature = "manifest")]
pub mod manifest;
pub mod mem;
pub mod model;
#[doc(hidden)]
pub mod mutants;
pub mod node;
mod ownership;
pub mod runtime;
pub mod scheduler;
pub mod schema;
pub mod soundness;
pub mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod world;
