//! The target `patch_merge`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| orchestrator_fuzz::run("patch_merge", input));
