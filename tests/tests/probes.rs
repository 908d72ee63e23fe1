//! Probes on real containers: liveness restarts with back-off, readiness shows in status.

use std::sync::Arc;

use orchestrator_core::model::{
    ConditionStatus, ContainerStatus, Event, Key, Kind, Pod, Resource, condition_status,
};
use orchestrator_core::world::World;
use orchestrator_tests::rig::{Rig, until};
use orchestrator_tests::workload::{container, probe, with_container};

super::on_every_runtime! {
    a_failing_liveness_probe_restarts_with_back_off
    a_failing_readiness_probe_shows_in_status_and_restarts_nothing
}

fn web() -> Key {
    Key::new(Kind::Deployment, "default", "web")
}

fn the_container(world: &World) -> Option<ContainerStatus> {
    let pod = world.all::<Pod>(Some("default")).next()?;
    pod.status.container_statuses.first().cloned()
}

async fn a_failing_liveness_probe_restarts_with_back_off(rig: Arc<Rig>) {
    let cluster = rig.start("a").await;
    let mut container = container("1");
    container.liveness_probe = Some(probe("exit 1"));
    cluster.apply(with_container("web", 1, container)).await.expect("applied");
    let first = until(&cluster, "it runs", |world| {
        the_container(world).is_some_and(|it| it.state.running.is_some())
    })
    .await;
    until(&cluster, "the first restart, which is immediate", |world| {
        the_container(world).is_some_and(|it| it.restart_count == 1 && it.state.running.is_some())
    })
    .await;
    until(&cluster, "the second restart is held back", |world| {
        the_container(world).is_some_and(|it| {
            let waiting = it.state.waiting.as_ref();
            it.restart_count == 1
                && waiting.is_some_and(|waiting| waiting.reason == "CrashLoopBackOff")
                && it.last_state.terminated.is_some()
        })
    })
    .await;
    let last = until(&cluster, "the second restart comes in the end", |world| {
        the_container(world).is_some_and(|it| it.restart_count == 2)
    })
    .await;
    let uid =
        |world: &World| world.all::<Pod>(None).map(|pod| pod.metadata.uid).collect::<Vec<_>>();
    assert_eq!(uid(&last), uid(&first), "the pod stays the same");
    until(&cluster, "an event tells why", |world| {
        let about = |event: &&Arc<Event>| event.reason == "Unhealthy";
        world.all::<Event>(Some("default")).any(|event| about(&event))
    })
    .await;
    cluster.delete(&web()).await.expect("deleted");
    until(&cluster, "the pod is gone", |world| uid(world).is_empty()).await;
}

async fn a_failing_readiness_probe_shows_in_status_and_restarts_nothing(rig: Arc<Rig>) {
    let cluster = rig.start("a").await;
    let state = rig.state_dir().display().to_string();
    let marker = format!("{state}/$POD_IP.unready");
    let mut container = container("1");
    container.readiness_probe = Some(probe(&format!("test ! -e {marker}")));
    let mut deployment = with_container("web", 2, container);
    deployment.spec.strategy = orchestrator_core::model::DeploymentStrategy::default();
    cluster.apply(deployment).await.expect("applied");
    let ready = until(&cluster, "both are ready", |world| {
        world.deployment("web").is_available() && world.deployment("web").status.ready_replicas == 2
    })
    .await;
    let pod = Arc::clone(ready.all::<Pod>(Some("default")).next().expect("a pod"));
    let container = rig.running(&cluster, &pod).await;

    rig.exec(&cluster, &pod, &format!("touch {marker}")).await;
    until(&cluster, "the failure shows", |world| {
        let web = world.deployment("web");
        let found = world.at::<Pod>(&pod.key()).expect("the pod stays");
        let available = condition_status(&web.status.conditions, "Available");
        let condition = |kind| condition_status(&found.status.conditions, kind);
        condition("Ready") == ConditionStatus::False
            && condition("ContainersReady") == ConditionStatus::False
            && found
                .status
                .container_statuses
                .iter()
                .all(|it| !it.ready && it.state.running.is_some())
            && web.status.ready_replicas == 1
            && web.status.unavailable_replicas == 1
            && available == ConditionStatus::False
    })
    .await;

    rig.exec(&cluster, &pod, &format!("rm {marker}")).await;
    let healed =
        until(&cluster, "it is ready again", |world| world.deployment("web").is_available()).await;
    let found = healed.at::<Pod>(&pod.key()).expect("the pod stays");
    assert_eq!(found.metadata.uid, pod.metadata.uid);
    assert_eq!(rig.running(&cluster, &pod).await, container, "it was not restarted");

    cluster.delete(&web()).await.expect("deleted");
    until(&cluster, "the pods are gone", |world| world.list(Kind::Pod, None).next().is_none())
        .await;
}
