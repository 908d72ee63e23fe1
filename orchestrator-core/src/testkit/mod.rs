//! Conformance suites: one named test per contract clause, for whoever implements a trait of the core; and
//! stand-ins for the outside world.

pub mod clock;
pub mod fake_link;
pub mod runtime;
pub mod sim_runtime;
