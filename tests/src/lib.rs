//! What tests across crates share: an engine, a rig with a runtime to run clusters on, orchd as a child process.

pub mod cluster;
pub mod engine;
pub mod faults;
pub mod kubectl;
pub mod machine;
pub mod orchd;
pub mod rig;
pub mod servers;
pub mod tied;
pub mod workload;
