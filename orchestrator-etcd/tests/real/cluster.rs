//! A whole cluster whose state lies in etcd: it goes on when etcd was away, and a cluster started anew finds everything.

use std::sync::Arc;

use orchestrator_core::driver::{Cluster, SystemClock};
use orchestrator_core::model::{Deployment, Key, Kind, Pod, Uid};
use orchestrator_core::runtime::Runtime;
use orchestrator_core::testkit::sim_runtime::SimRuntime;
use orchestrator_core::world::World;

use crate::etcd::{Etcd, Program};
use crate::patience::within;
use crate::with_each_etcd;

with_each_etcd! {
    a_cluster_goes_on_when_etcd_was_away
}

async fn a_cluster_goes_on_when_etcd_was_away(program: Program) {
    let etcd = Etcd::start(program);
    let runtime: Arc<dyn Runtime> = Arc::new(SimRuntime::new(Arc::new(SystemClock)));
    let web = Key::new(Kind::Deployment, "default", "web");
    let cluster = start(&etcd, &runtime).await;
    cluster.apply(Deployment::new("web", "nginx").replicas(3)).await.expect("applied");
    until(&cluster, |world| world.deployment("web").is_available()).await;
    etcd.kill_member(0);
    etcd.start_member(0);
    // Whether it is told or not: a request in the way of a kill may have to be made again.
    let scaled = async { while cluster.scale(&web, 5).await.is_err() {} };
    within("scaling", scaled).await;
    let world = until(&cluster, |world| running(world).len() == 5).await;
    let before = running(&world);
    cluster.shutdown(false).await;
    drop(cluster);

    let cluster = start(&etcd, &runtime).await;
    let world = until(&cluster, |world| world.deployment("web").is_available()).await;
    assert_eq!(running(&world), before, "the pods are the same ones");
    cluster.shutdown(true).await;
}

async fn start(etcd: &Etcd, runtime: &Arc<dyn Runtime>) -> Cluster {
    let builder = Cluster::builder().store(etcd.open().await).shared_runtime(Arc::clone(runtime));
    builder.node_name("n1").start().await.expect("the cluster starts")
}

async fn until(cluster: &Cluster, is_true: impl FnMut(&World) -> bool + Send) -> World {
    within("it", cluster.wait_for(is_true)).await.expect("the cluster runs")
}

/// The uids of the pods that are ready, in order.
fn running(world: &World) -> Vec<Uid> {
    let ready = world.all::<Pod>(None).filter(|pod| pod.is_ready());
    let mut uids: Vec<_> = ready.map(|pod| pod.metadata.uid).collect();
    uids.sort();
    uids
}
