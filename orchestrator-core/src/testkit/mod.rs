//! What tests a cluster or an adapter: conformance suites, models, and parts that fail on purpose.
//!
//! Feature `testkit`. The rules of the core on clocks and threads hold here only where a file says so.

pub mod controller;
pub mod objects;
pub mod sandbox;
