//! Tests across crates. Those that need more than a Rust toolchain are behind features; `tests/run` turns on all.

mod bad_input;
#[cfg(feature = "clients")]
mod clients;
#[cfg(feature = "cluster")]
mod cluster;
#[cfg(feature = "kubectl")]
mod custom;
#[cfg(feature = "clients")]
mod custom_kube_rs;
mod damage;
mod demo;
#[cfg(feature = "docker")]
mod docker_runtime;
mod embedding;
mod fixtures;
mod fuzz;
mod healing;
mod kills;
#[cfg(feature = "kubectl")]
mod kubectl;
mod policy;
mod probes;
mod refusals;
mod rollout;
mod runtime_choice;
#[cfg(feature = "etcd")]
mod servers;
mod side_by_side;
#[cfg(feature = "clients")]
mod testing_a_controller;
mod tidy;
#[cfg(feature = "clients")]
mod wire;

/// Runs scenarios on every runtime, a test each.
macro_rules! on_every_runtime {
    ($($scenario:ident)*) => {
        mod process {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                orchestrator_tests::rig::Rig::process().run(super::$scenario).await;
            })*
        }

        #[cfg(feature = "docker")]
        mod docker {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                orchestrator_tests::rig::Rig::docker().await.run(super::$scenario).await;
            })*
        }
    };
}
use on_every_runtime;
