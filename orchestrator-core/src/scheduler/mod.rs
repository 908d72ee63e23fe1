//! The trait `Scheduler`: where a pod should run, and why not elsewhere.
//!
//! Pure and synchronous. The view is the engine's, kept incrementally in columns; a scheduler proposes, the
//! engine's commit gate checks with the same `feasible`. Depends on `model` and `world`.
