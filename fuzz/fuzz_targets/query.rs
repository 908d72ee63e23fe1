//! The target `query`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| orchestrator_fuzz::run("query", input));
