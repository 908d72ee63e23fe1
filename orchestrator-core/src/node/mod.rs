//! The agent's brain: what to do next about each pod of a node.
//!
//! Pure: from the pod, what the runtime shows and what is remembered, `plan` gives runtime verbs and a
//! status. Depends on `model` and `runtime`; the shell that executes verbs is `driver::agent`.

mod link;

pub use link::{Assignments, LinkError, NodeLink, StatusOutcome};
