//! Container orchestration as a library: a pure, deterministic engine, and traits for everything around it.

pub mod api;
pub mod controller;
#[cfg(feature = "driver")]
#[allow(clippy::disallowed_methods)] // the shell is where clock and environment are
pub mod driver;
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
pub mod runtime;
pub mod scheduler;
pub mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod world;
