//! Nodes: shown, cordoned, tainted, drained.

use std::sync::Arc;

use orchestrator_tests::rig::Rig;

use super::{manifest, with_kubectl};

pub(super) async fn nodes_are_cordoned_tainted_and_drained(rig: Arc<Rig>) {
    with_kubectl(rig, |kubectl| async move {
        let k = &*kubectl;
        k.says("get nodes -o wide", &["local", "Ready"]).await;
        k.says("describe node local", &["Allocatable:", "Ready"]).await;
        k.says("cordon local", &["node/local cordoned"]).await;
        k.says("get nodes", &["SchedulingDisabled"]).await;
        k.write("web.yaml", &manifest("web", 1, "1"));
        k.ok("apply -f web.yaml").await;
        k.ok("wait --for=create pod -l app=web --timeout=60s").await;
        let scheduled = "--for=jsonpath={.status.conditions[0].reason}=Unschedulable";
        k.ok(&format!("wait {scheduled} pod -l app=web --timeout=60s")).await;
        k.says("uncordon local", &["uncordoned"]).await;
        k.ok("rollout status deployment/web --timeout=90s").await;
        k.says("taint nodes local key=value:NoSchedule", &["tainted"]).await;
        k.says("describe node local", &["key=value:NoSchedule"]).await;
        k.says("taint nodes local key-", &["untainted"]).await;
        k.says("drain local --timeout=90s", &["drained"]).await;
        k.ok("uncordon local").await;
        k.ok("rollout status deployment/web --timeout=90s").await;
    })
    .await;
}
