//! A cluster of machines with Docker engines under faults, by the numbers of the fault catalogue.

mod death;

/// How often each fault is done to a cluster; `tests/run --long` says more.
const RUNS_VARIABLE: &str = "ORCH_TEST_FAULT_RUNS";

/// How often each fault is to be done.
fn runs() -> u32 {
    match std::env::var(RUNS_VARIABLE) {
        Ok(text) => text.parse().expect("a number of runs"),
        Err(_) => 1,
    }
}
