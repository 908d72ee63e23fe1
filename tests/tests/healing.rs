//! A deployment becomes available, heals, scales and goes, on real containers.

use std::collections::BTreeSet;
use std::sync::Arc;

use orchestrator_core::driver::Cluster;
use orchestrator_core::model::{Key, Kind, Node, Pod, Resource, Uid};
use orchestrator_core::world::World;
use orchestrator_tests::rig::{Rig, is_running, scope, until};
use orchestrator_tests::workload::sleepers;

super::on_every_runtime! {
    containers_that_are_removed_or_killed_from_outside_start_again_in_their_pods
    a_deployment_scales_to_twenty_and_to_none
    deleting_a_deployment_leaves_nothing
    a_node_that_was_deleted_registers_again_and_runs_pods
}

fn web() -> Key {
    Key::new(Kind::Deployment, "default", "web")
}

fn pods(world: &World) -> Vec<Arc<Pod>> {
    world.all::<Pod>(Some("default")).cloned().collect()
}

fn uids(world: &World) -> BTreeSet<Uid> {
    pods(world).iter().map(|pod| pod.metadata.uid).collect()
}

fn restarts(pod: &Pod) -> i32 {
    pod.status.container_statuses.iter().map(|status| status.restart_count).sum()
}

async fn available(cluster: &Cluster, replicas: i32) -> World {
    until(cluster, &format!("{replicas} replicas are available"), |world| {
        let web = world.deployment("web");
        web.is_available() && web.status.available_replicas == replicas
    })
    .await
}

async fn containers_that_are_removed_or_killed_from_outside_start_again_in_their_pods(
    rig: Arc<Rig>,
) {
    let cluster = rig.start("a").await;
    cluster.apply(sleepers("web", "1", 3)).await.expect("applied");
    let before = available(&cluster, 3).await;
    let pods = pods(&before);
    let [removed, killed, spared] = pods.as_slice() else { panic!("three pods: {pods:#?}") };
    let spared_container = rig.running(&cluster, spared).await;

    rig.remove(&rig.running(&cluster, removed).await).await;
    rig.kill(&rig.running(&cluster, killed).await).await;

    for hurt in [removed, killed] {
        until(&cluster, &format!("{} heals", hurt.metadata.name), |world| {
            world.at::<Pod>(&hurt.key()).is_some_and(|pod| pod.is_ready() && restarts(pod) == 1)
        })
        .await;
    }
    let after = available(&cluster, 3).await;
    assert_eq!(uids(&after), uids(&before), "no pod was replaced");
    for pod in self::pods(&after) {
        let before = pods.iter().find(|it| it.metadata.uid == pod.metadata.uid).expect("the same");
        assert_eq!(pod.status.pod_ip, before.status.pod_ip, "a pod keeps its address");
        rig.running(&cluster, &pod).await;
    }
    assert_eq!(rig.running(&cluster, spared).await, spared_container, "nobody touched it");

    cluster.delete(&web()).await.expect("deleted");
    until(&cluster, "the pods are gone", |world| uids(world).is_empty()).await;
}

async fn a_node_that_was_deleted_registers_again_and_runs_pods(rig: Arc<Rig>) {
    let cluster = rig.start("a").await;
    cluster.apply(sleepers("web", "1", 2)).await.expect("applied");
    let before = available(&cluster, 2).await;
    let node = before.all::<Node>(None).next().expect("one node").clone();
    cluster.delete(&node.key()).await.expect("deleted");
    let is_new = |world: &World| {
        let found = world.at::<Node>(&node.key());
        found.is_some_and(|found| found.metadata.uid != node.metadata.uid && found.is_ready())
    };
    until(&cluster, "the node is back", is_new).await;
    available(&cluster, 2).await;
    cluster.delete(&web()).await.expect("deleted");
    until(&cluster, "the pods are gone", |world| uids(world).is_empty()).await;
}

async fn a_deployment_scales_to_twenty_and_to_none(rig: Arc<Rig>) {
    let cluster = rig.start("a").await;
    cluster.apply(sleepers("web", "1", 2)).await.expect("applied");
    let few = available(&cluster, 2).await;
    cluster.scale(&web(), 20).await.expect("scaled");
    let many = available(&cluster, 20).await;
    assert_eq!(uids(&many).len(), 20);
    assert!(uids(&few).is_subset(&uids(&many)), "the first pods stay");
    let sandboxes = rig.list(&scope(&cluster)).await;
    let running =
        sandboxes.iter().flat_map(|sandbox| &sandbox.containers).filter(|it| is_running(it));
    assert_eq!((sandboxes.len(), running.count()), (20, 20));
    let addresses: BTreeSet<_> = sandboxes.iter().map(|sandbox| sandbox.ip).collect();
    assert_eq!(addresses.len(), 20, "each pod has its own address");

    cluster.scale(&web(), 0).await.expect("scaled");
    until(&cluster, "the pods are gone", |world| {
        uids(world).is_empty() && world.deployment("web").status.replicas == 0
    })
    .await;
    // The deployment is still there; its containers are not.
    rig.assert_nothing_left().await;
}

async fn deleting_a_deployment_leaves_nothing(rig: Arc<Rig>) {
    let cluster = rig.start("a").await;
    cluster.apply(sleepers("web", "1", 3)).await.expect("applied");
    available(&cluster, 3).await;
    cluster.delete(&web()).await.expect("deleted");
    until(&cluster, "deployment, replica set and pods are gone", |world| {
        let kinds = [Kind::Deployment, Kind::Pod, Kind::ReplicaSet];
        kinds.into_iter().all(|kind| world.list(kind, None).next().is_none())
    })
    .await;
    rig.assert_nothing_left().await;
}
