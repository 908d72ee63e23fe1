//! Conformance suites: one named test per contract clause, for whoever implements a trait of the core.

pub mod scheduler;
pub mod strategies;
