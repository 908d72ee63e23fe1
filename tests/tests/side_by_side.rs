//! Two clusters in one process on one engine do not see each other's containers.

use std::collections::BTreeSet;
use std::sync::Arc;

use orchestrator_core::driver::Cluster;
use orchestrator_core::model::{Key, Kind, Pod, Resource, Uid};
use orchestrator_tests::rig::{Rig, scope, until};
use orchestrator_tests::workload::sleepers;

super::on_every_runtime! { two_clusters_in_one_process_do_not_see_each_other }

fn web() -> Key {
    Key::new(Kind::Deployment, "default", "web")
}

async fn available(cluster: &Cluster, replicas: i32) {
    until(cluster, "the deployment is available, and no more", |world| {
        let web = world.deployment("web");
        let pods = world.all::<Pod>(None).count();
        web.is_available()
            && web.status.available_replicas == replicas
            && i32::try_from(pods) == Ok(replicas)
    })
    .await;
}

/// Asserts that the runtime has exactly the pods of this cluster in its scope.
async fn owns_what_it_sees(rig: &Rig, cluster: &Cluster) -> BTreeSet<Uid> {
    let seen: BTreeSet<_> =
        rig.list(&scope(cluster)).await.iter().map(|sandbox| sandbox.key.pod).collect();
    let world = cluster.world();
    let pods: BTreeSet<_> = world.all::<Pod>(None).map(|pod| pod.metadata.uid).collect();
    assert_eq!(seen, pods);
    pods
}

async fn two_clusters_in_one_process_do_not_see_each_other(rig: Arc<Rig>) {
    // The same node's name, the same deployment's name, so the same pods' names.
    let (one, two) = (rig.start("one").await, rig.start("two").await);
    assert_ne!(one.id(), two.id());
    one.apply(sleepers("web", "1", 2)).await.expect("applied");
    two.apply(sleepers("web", "1", 3)).await.expect("applied");
    available(&one, 2).await;
    available(&two, 3).await;
    let pods_of_one = owns_what_it_sees(&rig, &one).await;
    let pods_of_two = owns_what_it_sees(&rig, &two).await;
    assert!(pods_of_one.is_disjoint(&pods_of_two));
    let untouched = rig.list(&scope(&two)).await;

    let world = one.world();
    let victim = world.all::<Pod>(None).next().expect("a pod");
    rig.kill(&rig.running(&one, victim).await).await;
    until(&one, "the victim heals", |world| {
        world.at::<Pod>(&victim.key()).is_some_and(|pod| {
            pod.is_ready() && pod.status.container_statuses.iter().all(|it| it.restart_count == 1)
        })
    })
    .await;
    one.scale(&web(), 4).await.expect("scaled");
    available(&one, 4).await;
    one.delete(&web()).await.expect("deleted");
    until(&one, "the pods are gone", |world| world.list(Kind::Pod, None).next().is_none()).await;
    assert_eq!(rig.list(&scope(&one)).await, []);
    assert_eq!(rig.list(&scope(&two)).await, untouched, "the other cluster's pods");
    assert_eq!(owns_what_it_sees(&rig, &two).await, pods_of_two);

    // One cluster ends, with its pods; the other goes on.
    one.shutdown(true).await;
    two.scale(&web(), 1).await.expect("scaled");
    available(&two, 1).await;
    assert!(owns_what_it_sees(&rig, &two).await.is_subset(&pods_of_two));
    two.delete(&web()).await.expect("deleted");
    until(&two, "the pods are gone", |world| world.list(Kind::Pod, None).next().is_none()).await;
}
