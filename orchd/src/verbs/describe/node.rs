//! A node, with what runs on it.

use anyhow::Context as _;
use orchestrator_core::model::{Condition, Kind, Node, Pod, Quantity, TaintEffect};
use orchestrator_core::scheduler::Demand;
use orchestrator_http::Selector;
use serde_json::Value;

use super::page::Page;
use super::{age, conditions, metadata};
use crate::verbs::session::Session;

/// Describes a node.
pub async fn node(page: &mut Page, session: &Session, object: &Value) -> anyhow::Result<()> {
    let node: Node = serde_json::from_value(object.clone()).context("cannot read the node")?;
    metadata(page, Kind::Node, &node.metadata);
    page.field("Takes new pods", if node.spec.unschedulable { "no (cordoned)" } else { "yes" });
    let taints = node.spec.taints.iter().map(|taint| {
        let effect = match taint.effect {
            TaintEffect::NoExecute => "NoExecute",
            TaintEffect::NoSchedule => "NoSchedule",
            TaintEffect::PreferNoSchedule => "PreferNoSchedule",
        };
        let value = if taint.value.is_empty() { "" } else { "=" };
        format!("{}{value}{}:{effect}", taint.key, taint.value)
    });
    page.lines(0, "Taints", taints);
    let status = &node.status;
    let addresses =
        status.addresses.iter().map(|address| format!("{} {}", address.kind, address.address));
    page.lines(0, "Addresses", addresses);
    let info = &status.node_info;
    page.field(
        "System",
        format_args!("{}, kernel {}, {}", info.os_image, info.kernel_version, info.architecture),
    );
    page.field("Agent", &info.kubelet_version);
    page.field("Runtime", &info.container_runtime_version);
    let all = status.conditions.iter().cloned().map(|condition| Condition {
        kind: condition.kind,
        last_transition_time: condition.last_transition_time,
        message: condition.message,
        reason: condition.reason,
        status: condition.status,
        ..Condition::default()
    });
    conditions(page, all);

    let selector =
        Selector { fields: format!("spec.nodeName={}", node.metadata.name), ..Selector::default() };
    let list = session.client.list(Kind::Pod, None, &selector).await?;
    let pods: Vec<Pod> =
        serde_json::from_value(list["items"].clone()).context("cannot read the pods")?;
    resources(page, &node, &pods);
    let rows = pods.iter().map(|pod| {
        let requests = Demand::of(pod).to_resources();
        let request = |name: &str| requests.get(name).map(Quantity::to_string).unwrap_or_default();
        vec![
            pod.metadata.namespace.clone(),
            pod.metadata.name.clone(),
            format!("{:?}", pod.status.phase),
            request("cpu"),
            request("memory"),
            pod.metadata.creation_timestamp.map(age).unwrap_or_default(),
        ]
    });
    page.table("Pods", &["Namespace", "Name", "Phase", "CPU", "Memory", "Age"], rows);
    Ok(())
}

/// What the node has, and what its pods ask of it.
fn resources(page: &mut Page, node: &Node, pods: &[Pod]) {
    let active = || pods.iter().filter(|pod| !pod.is_finished());
    let rows = node.status.capacity.iter().map(|(name, capacity)| {
        let requested = match name.as_str() {
            "pods" => active().count().to_string(),
            name => sum(name, active()).to_string(),
        };
        let available = node.status.allocatable.get(name);
        vec![
            name.clone(),
            capacity.to_string(),
            available.map(Quantity::to_string).unwrap_or_default(),
            requested,
        ]
    });
    page.table("Resources", &["Resource", "Has", "For pods", "Requested"], rows);
}

/// What pods ask of one resource, together.
fn sum<'p>(resource: &str, pods: impl Iterator<Item = &'p Pod>) -> Quantity {
    let amounts = pods.filter_map(|pod| Demand::of(pod).to_resources().get(resource).copied());
    match resource {
        "cpu" => Quantity::from_milli(amounts.map(Quantity::milli).sum()),
        "ephemeral-storage" | "memory" => {
            Quantity::from_bytes(amounts.map(Quantity::units_ceil).sum())
        }
        _ => Quantity::from_units(amounts.map(Quantity::units_ceil).sum()),
    }
}
