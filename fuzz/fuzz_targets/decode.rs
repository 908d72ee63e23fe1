//! The target `decode`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| orchestrator_fuzz::run("decode", input));
