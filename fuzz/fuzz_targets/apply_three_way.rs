//! The target `apply_three_way`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| orchestrator_fuzz::run("apply_three_way", input));
