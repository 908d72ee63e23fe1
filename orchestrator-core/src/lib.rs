//! Container orchestration as a library: a pure, deterministic engine, and traits for everything around it.

mod hash;
pub mod history;
pub mod mem;
pub mod model;
pub mod runtime;
pub mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
