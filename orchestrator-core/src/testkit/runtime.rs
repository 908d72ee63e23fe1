//! The conformance suite of [`Runtime`]: one test per clause RT1…RT19.
//!
//! An implementer writes a [`RuntimeFixture`] and one line:
//!
//! ```text
//! orchestrator_core::runtime_conformance!(MyFixture::new().await);
//! ```
//!
//! The expression is evaluated in each test, inside an async function; the crate that uses the macro needs tokio with
//! `macros` and `rt-multi-thread`. Programs of the tests are written in POSIX shell and use what busybox and
//! coreutils share. Nothing here asserts how long anything takes: waits poll, with a generous deadline.

pub mod bench;
pub mod clauses;

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;

pub use self::bench::Bench;
use crate::runtime::{ContainerObservation, Runtime, Scope};

/// What the suite needs to know of a runtime under test.
#[async_trait]
pub trait RuntimeFixture: Debug + Send + Sync + 'static {
    /// Returns the runtime under test.
    fn runtime(&self) -> Arc<dyn Runtime>;

    /// Returns a second instance on the same containers, as a restarted program would open it.
    async fn another(&self) -> Arc<dyn Runtime>;

    /// Returns an image with `/bin/sh`, `sleep`, `printf`, `env`, `head`, `tr`, `cat` and `stty`; anything if the runtime has no images.
    fn image(&self) -> String;

    /// Returns a port that nothing listens on. No two calls in one program return the same.
    fn port(&self) -> u16;

    /// Returns a shell command that accepts TCP connections until it is killed. `address` may be a shell expression
    /// such as `$POD_IP`.
    fn listen(&self, address: &str, port: u16) -> String;

    /// Returns a shell command that ends with 0 if a TCP connection can be made, and with another code if not.
    fn connect(&self, address: &str, port: u16) -> String;

    /// Kills the program of a running container with KILL, behind the runtime's back.
    async fn kill_outside(&self, container: &ContainerObservation);

    /// Whether the runtime runs programs for others (RT17), and attaches them to its containers' (RT18, RT19). One that does
    /// not must say so.
    fn has_sessions(&self) -> bool {
        true
    }

    /// Panics unless the outside world is free of processes, networks, files and addresses of the scope.
    async fn assert_nothing_left(&self, scope: &Scope);
}

/// Runs one clause against a fixture, removes what it made (also when it fails), and checks that nothing is left.
///
/// # Panics
/// When the clause is broken, or something is left behind.
pub async fn check<Clause, Run>(fixture: impl RuntimeFixture, clause: Clause)
where
    Clause: FnOnce(Arc<Bench>) -> Run,
    Run: Future<Output = ()> + Send + 'static,
{
    let bench = Arc::new(Bench::new(Arc::new(fixture)));
    let outcome = tokio::spawn(clause(Arc::clone(&bench))).await;
    bench.remove_everything().await;
    match outcome {
        Ok(()) => bench.assert_nothing_left().await,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => panic!("the clause did not run: {error}"),
        },
    }
}

/// Expands to one `#[tokio::test]` per clause of [`Runtime`], each on a fixture of its own.
#[macro_export]
macro_rules! runtime_conformance {
    ($fixture:expr) => {
        $crate::runtime_conformance! { @each $fixture;
            rt1_repeated_verbs_change_nothing
            rt2_another_instance_lists_everything_with_its_keys
            rt3_a_created_container_does_not_run
            rt4_an_ended_container_stays_listed_with_its_code
            rt5_stop_sends_term_then_kill_after_the_grace
            rt6_removing_a_sandbox_leaves_nothing
            rt7_containers_of_a_pod_share_an_address_that_outlives_them
            rt8_pods_reach_each_other_by_different_addresses
            rt9_logs_hold_both_streams_in_order
            rt9_logs_are_cut_by_tail_and_since
            rt9_following_a_log_ends_with_the_container
            rt9_a_log_keeps_every_byte
            rt10_environment_directory_and_arguments_arrive_exactly
            rt11_what_cannot_start_does_not_run
            rt12_scopes_do_not_see_each_other
            rt13_changed_returns_after_a_container_ends
            rt14_a_container_killed_from_outside_exits_with_137
            rt15_verbs_on_what_does_not_exist_say_so
            rt16_exec_returns_code_and_output_and_ends_at_its_timeout
            rt17_a_session_carries_input_output_and_the_code
            rt17_a_session_has_a_terminal_of_the_size_it_is_told
            rt18_clients_hear_a_program_and_are_heard
            rt18_a_program_has_a_terminal_of_the_size_it_is_told
            rt19_input_for_one_client_ends_with_it
            rt19_a_program_without_input_is_at_its_end
        }
    };
    (@each $fixture:expr; $($clause:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $clause() {
            $crate::testkit::runtime::check(
                $fixture,
                $crate::testkit::runtime::clauses::$clause,
            )
            .await;
        }
    )*};
}
