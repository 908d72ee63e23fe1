//! A cluster on machines made of namespaces: `orchd server` on one, and on each other a Docker engine of its own and `orchd agent`.
//!
//! A test gets a [`ClusterRig`] and does to it what can happen to machines: kills, pauses, cuts and losses on the network, power
//! cuts, and an engine that hangs or lies ([`EngineProxy`]). What happens to containers is recorded meanwhile, and judged at the end ([`judge`]). When the rig is
//! gone nothing is left of it; after a crash of the test the next rig removes what is.

mod capture;
mod engine_proxy;
mod image;
mod keeper;
mod node;
mod oracle;
mod record;
mod rest;
mod rig;
mod server;
mod stage;
mod wire;

pub use capture::Capture;
pub use engine_proxy::{EngineFault, EngineProxy};
pub use keeper::Keeper;
pub use node::Node;
pub use oracle::{Writer, judge, lost, overwritten, unseen};
pub use record::{Happened, Record, Run};
pub use rest::{strays, unsettled};
pub use rig::{ClusterRig, Running};
pub use server::ServerMachine;
pub use wire::Way;
