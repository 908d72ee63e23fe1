//! Container orchestration as a library: a pure, deterministic engine, and traits for everything around it.

pub mod api;
pub mod controller;
mod hash;
#[cfg(feature = "manifest")]
pub mod manifest;
pub mod model;
pub mod node;
pub mod runtime;
pub mod scheduler;
pub mod store;
pub mod world;
