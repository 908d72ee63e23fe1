//! The conformance suite of [`Scheduler`]: one property test per clause SC1…SC10.
//!
//! An implementer writes one line; the expression makes the scheduler anew in each test:
//!
//! ```
//! use orchestrator_core::scheduler::RoundRobin;
//! orchestrator_core::scheduler_conformance!(RoundRobin);
//! ```
//!
//! Cases come from [`strategies`](super::strategies) and are judged by an oracle written for clarity that shares no
//! code with [`feasible`](crate::scheduler::feasible). A clause takes
//! a quarter of `PROPTEST_CASES` (64 by default): a case asks for many placements.

pub mod clauses;
pub mod oracle;

use std::fmt;

use proptest::test_runner::{Config, TestCaseResult, TestRunner};

use super::strategies::{Scenario, scenario};
use crate::scheduler::Scheduler;

/// A broken clause: what was expected, and the smallest case found that breaks it.
pub struct Broken(String);

/// Prints as text, so that a test that returns it shows the case as it is.
impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

/// One clause of the suite.
pub type Clause = fn(&dyn Scheduler) -> Result<(), Broken>;

/// Checks one property of a scheduler on many scenarios, and finds the smallest that breaks it.
///
/// # Errors
/// The smallest case found, with the reason. A panic counts as breaking it.
pub fn check(property: impl Fn(&Scenario) -> TestCaseResult) -> Result<(), Broken> {
    let default = Config::default();
    let cases = default.cases.div_ceil(4);
    let config = Config { cases, failure_persistence: None, ..default };
    let outcome = TestRunner::new(config).run(&scenario(0..9), |case| property(&case));
    outcome.map_err(|error| Broken(error.to_string()))
}

/// Expands to one `#[test]` per clause of [`Scheduler`].
#[macro_export]
macro_rules! scheduler_conformance {
    ($make:expr) => {
        $crate::scheduler_conformance! { @each $make;
            sc1_placements_never_over_commit
            sc2_unready_cordoned_and_tainted_nodes_get_nothing
            sc3_selector_host_ports_and_named_node_are_kept
            sc4_equal_questions_get_equal_answers
            sc5_the_order_of_arrival_does_not_matter
            sc6_unfit_counts_what_stands_in_the_way
            sc7_explain_agrees_with_place
            sc8_a_batch_holds_step_by_step
            sc9_a_pod_does_not_stand_in_its_own_way
            sc10_an_empty_cluster_is_no_error
        }
    };
    (@each $make:expr; $($clause:ident)*) => {$(
        #[test]
        fn $clause() -> ::std::result::Result<(), $crate::testkit::scheduler::Broken> {
            $crate::testkit::scheduler::clauses::$clause(&$make)
        }
    )*};
}
