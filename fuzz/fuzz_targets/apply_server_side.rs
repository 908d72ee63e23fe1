//! The target `apply_server_side`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| orchestrator_fuzz::run("apply_server_side", input));
