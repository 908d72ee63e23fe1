//! Container orchestration as a library: a pure, deterministic engine, and traits for everything around it.

pub mod api;
pub mod controller;
mod hash;
pub mod history;
pub mod mem;
pub mod model;
pub mod node;
pub mod runtime;
pub mod scheduler;
pub mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod world;
