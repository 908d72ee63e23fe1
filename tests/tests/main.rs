//! Tests across crates. Those that need more than a Rust toolchain are behind features; `tests/run` turns on all.

#[cfg(feature = "docker")]
mod docker_runtime;
