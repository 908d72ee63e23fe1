//! Deployments and replica sets, with what they made.

use anyhow::Context as _;
use orchestrator_core::model::{
    CountOrPercent, Deployment, Kind, ObjectMeta, PodTemplate, ReplicaSet, StrategyType,
};
use orchestrator_http::Selector;
use serde_json::Value;

use super::page::Page;
use super::{conditions, metadata, pod, table_of};
use crate::verbs::session::Session;

/// Describes a deployment.
pub async fn deployment(page: &mut Page, session: &Session, object: &Value) -> anyhow::Result<()> {
    let deployment: Deployment =
        serde_json::from_value(object.clone()).context("cannot read the deployment")?;
    let (spec, status) = (&deployment.spec, &deployment.status);
    metadata(page, Kind::Deployment, &deployment.metadata);
    page.field("Selector", spec.selector.to_string());
    page.field(
        "Replicas",
        format_args!(
            "{} wanted; {} there, {} of the newest version, {} ready, {} available",
            spec.replicas.unwrap_or(1),
            status.replicas,
            status.updated_replicas,
            status.ready_replicas,
            status.available_replicas
        ),
    );
    if spec.paused {
        page.field("Paused", "yes");
    }
    match (spec.strategy.kind, &spec.strategy.rolling_update) {
        (Some(StrategyType::Recreate), _) => page.field("Strategy", "Recreate"),
        (_, None) => page.field("Strategy", "RollingUpdate"),
        (_, Some(bounds)) => {
            let bound = |bound: Option<CountOrPercent>| {
                bound.map_or_else(|| "25%".to_owned(), |bound| bound.to_string())
            };
            page.field(
                "Strategy",
                format_args!(
                    "RollingUpdate, at most {} more and {} fewer",
                    bound(bounds.max_surge),
                    bound(bounds.max_unavailable)
                ),
            );
        }
    }
    template(page, &spec.template);
    conditions(page, status.conditions.clone());
    let selector = Selector::labels(spec.selector.to_string());
    let uid = deployment.metadata.uid.to_string();
    let namespace = Some(deployment.metadata.namespace.as_str());
    let sets = table_of(session, Kind::ReplicaSet, namespace, &selector, Some(&uid)).await?;
    // The server's columns: name, desired, current, ready, age.
    let rows = sets.into_iter().map(|cells| cells.into_iter().take(5).collect());
    page.table("Replica sets", &["Name", "Desired", "Current", "Ready", "Age"], rows);
    pods(page, session, &deployment.metadata, &selector, None).await
}

/// Describes a replica set.
pub async fn replica_set(page: &mut Page, session: &Session, object: &Value) -> anyhow::Result<()> {
    let set: ReplicaSet =
        serde_json::from_value(object.clone()).context("cannot read the replica set")?;
    let (spec, status) = (&set.spec, &set.status);
    metadata(page, Kind::ReplicaSet, &set.metadata);
    page.field("Selector", spec.selector.to_string());
    page.field(
        "Replicas",
        format_args!(
            "{} wanted; {} there, {} ready, {} available",
            spec.replicas.unwrap_or(1),
            status.replicas,
            status.ready_replicas,
            status.available_replicas
        ),
    );
    template(page, &spec.template);
    conditions(page, status.conditions.clone());
    let selector = Selector::labels(spec.selector.to_string());
    let uid = set.metadata.uid.to_string();
    pods(page, session, &set.metadata, &selector, Some(&uid)).await
}

fn template(page: &mut Page, template: &PodTemplate) {
    pod::spec(page, &template.spec);
    page.title("Containers");
    for container in &template.spec.containers {
        page.item(1, &container.name);
        pod::program(page, container);
    }
}

/// The pods that are selected; only those of an owner if there is one.
async fn pods(
    page: &mut Page,
    session: &Session,
    meta: &ObjectMeta,
    selector: &Selector,
    owner: Option<&str>,
) -> anyhow::Result<()> {
    let namespace = Some(meta.namespace.as_str());
    let pods = table_of(session, Kind::Pod, namespace, selector, owner).await?;
    // The server's columns: name, ready, status, restarts, age, address, node.
    let rows = pods.into_iter().map(|cells| cells.into_iter().take(7).collect());
    let header = ["Name", "Ready", "Status", "Restarts", "Age", "Address", "Node"];
    page.table("Pods", &header, rows);
    Ok(())
}
