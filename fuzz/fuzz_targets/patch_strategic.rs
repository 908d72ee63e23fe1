//! The target `patch_strategic`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| orchestrator_fuzz::run("patch_strategic", input));
