//! What tests a cluster or an adapter: conformance suites, models, simulation, and parts that fail on purpose.
//!
//! Feature `testkit`. The rules of the core on clocks and threads hold here only where a file says so.

pub mod clock;
pub mod controller;
pub mod fake_link;
pub mod fault_store;
pub mod link;
pub mod objects;
pub mod runtime;
pub mod sandbox;
pub mod scheduler;
pub mod sim;
pub mod sim_runtime;
pub mod store;
mod store_clauses;
pub mod store_model;
pub mod strategies;
pub mod uids;
