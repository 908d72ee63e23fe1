//! Real kubectl against real orchd: what each command prints, and what it does.

mod access;
mod containers;
mod nodes;
mod objects;
mod output;
mod rollouts;
mod versions;

use std::sync::Arc;

use orchestrator_tests::kubectl::Kubectl;
use orchestrator_tests::orchd::Orchd;
use orchestrator_tests::rig::Rig;

use access::{drain_waits_for_the_disruption_budget, users_do_what_their_roles_permit};
use containers::{
    directories_are_copied_and_services_forwarded, pods_are_run_attached_to_and_their_logs_read,
    programs_are_talked_to, programs_run_in_containers_and_ports_are_forwarded,
};
use nodes::nodes_are_cordoned_tainted_and_drained;
use objects::{
    objects_are_applied_pruned_and_edited, objects_are_made_by_generators,
    objects_are_made_shown_changed_and_deleted,
};
use output::{objects_are_shown_in_every_form, what_happens_is_followed};
use rollouts::{
    deployments_go_with_what_they_own, deployments_roll_out_and_back,
    histories_are_shown_and_changes_tried, what_is_applied_is_owned,
};

super::on_every_runtime! {
    deployments_go_with_what_they_own
    deployments_roll_out_and_back
    directories_are_copied_and_services_forwarded
    drain_waits_for_the_disruption_budget
    histories_are_shown_and_changes_tried
    nodes_are_cordoned_tainted_and_drained
    objects_are_applied_pruned_and_edited
    objects_are_made_by_generators
    objects_are_made_shown_changed_and_deleted
    objects_are_shown_in_every_form
    pods_are_run_attached_to_and_their_logs_read
    programs_are_talked_to
    programs_run_in_containers_and_ports_are_forwarded
    users_do_what_their_roles_permit
    what_happens_is_followed
    what_is_applied_is_owned
}

/// A deployment of pods that run on every runtime, and print their version.
fn manifest(name: &str, replicas: i32, version: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: main
        image: {image}
        imagePullPolicy: Never
        command: [/bin/sh, -c, \"echo version $VERSION; trap 'exit 0' TERM; sleep 100000 & wait\"]
        env: [{{name: VERSION, value: '{version}'}}]
",
        image = orchestrator_tests::engine::IMAGE,
    )
}

/// Runs a scenario with a kubectl, and takes orchd and its pods down.
pub(crate) async fn with_kubectl<S, F>(rig: Arc<Rig>, scenario: S)
where
    S: FnOnce(Arc<Kubectl>) -> F,
    F: Future<Output = ()>,
{
    let orchd = Orchd::start(&rig).await;
    rig.know(&orchd.scope().await);
    let home = rig.dir.path().join("home");
    std::fs::create_dir(&home).expect("a new directory");
    let kubectl = Arc::new(Kubectl::new(&rig.data_dir().join("kubeconfig"), &home));
    scenario(Arc::clone(&kubectl)).await;
    kubectl.ok("delete deployments,pods --all --grace-period=1 --timeout=60s").await;
    rig.assert_no_pods().await;
    assert_eq!(orchd.stop().await.code(), Some(0));
}
