//! The conformance suite of `Runtime`.

use crate::fixture::Fixture;

orchestrator_core::runtime_conformance!(Fixture::new());
