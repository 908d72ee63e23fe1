//! What an embedder may rely on: a clean shutdown joins every task, and a cluster started again adopts its pods.

use std::sync::Arc;

use orchestrator_core::driver::Cluster;
use orchestrator_core::mem::MemStore;
use orchestrator_core::model::{Key, Kind, Pod, Quantity, ResourceMap};
use orchestrator_core::runtime::{SandboxObservation, Scope};
use orchestrator_core::store::StateStore;
use orchestrator_http::{Client, Selector, Server, ServerConfig, read_kubeconfig};
use orchestrator_sqlite::SqliteStore;
use orchestrator_tests::rig::{NODE, Rig, poll, scope, until};
use orchestrator_tests::workload::{container, probe, with_container};

super::on_every_runtime! {
    a_clean_shutdown_joins_every_task_and_the_next_start_adopts
    stopping_with_the_pods_leaves_none
    the_node_is_as_the_embedder_says
}

fn probed() -> orchestrator_core::model::Deployment {
    let mut container = container("1");
    container.readiness_probe = Some(probe("true"));
    container.liveness_probe = Some(probe("true"));
    with_container("web", 3, container)
}

/// A cluster with everything: store, runtime, probes, server, a client with a watch. Each time it is the only thing on
/// an executor of its own, whose tasks are counted.
async fn a_clean_shutdown_joins_every_task_and_the_next_start_adopts(rig: Arc<Rig>) {
    let mut containers = Vec::new();
    for round in 0..3 {
        let executor = tokio::runtime::Runtime::new().expect("an executor");
        let known = std::mem::take(&mut containers);
        let (scope, listed) =
            executor.spawn(live(Arc::clone(&rig), round, known)).await.expect("no panic");
        containers = listed;
        let left = rig.list(&scope).await.len();
        assert_eq!(left, if round == 2 { 0 } else { 3 }, "pods outlive their cluster's process");
        // The connections of client and runtime end on being dropped, which tokio does at its next opportunity.
        poll("every task is joined", || async {
            match executor.metrics().num_alive_tasks() {
                0 => Ok(()),
                alive => Err(format!("{alive} tasks")),
            }
        })
        .await;
        executor.shutdown_background();
    }
}

/// One life of an embedding program. Returns its scope and the pods it had.
async fn live(
    rig: Arc<Rig>,
    round: usize,
    known: Vec<SandboxObservation>,
) -> (Scope, Vec<SandboxObservation>) {
    let database = rig.dir.path().join("embedded.db");
    let store = Arc::new(SqliteStore::open(&database).await.expect("it opens"));
    let cluster = Cluster::builder()
        .shared_store(Arc::clone(&store) as Arc<dyn StateStore>)
        .shared_runtime(rig.another_runtime().await)
        .node_name(NODE)
        .start()
        .await
        .expect("it starts");
    let scope = scope(&cluster);
    rig.know(&scope);
    let config = ServerConfig::loopback(rig.dir.path().join("pki"));
    let server = Server::bind(config, cluster.clone()).await.expect("a free port");
    let kubeconfig = rig.dir.path().join("kubeconfig");
    server.write_kubeconfig(&kubeconfig).expect("written");
    let client = Client::from_config(&read_kubeconfig(&kubeconfig).expect("read")).expect("made");
    let mut watch =
        client.watch(Kind::Pod, None, &Selector::default(), None).await.expect("a watch begins");
    cluster.apply(probed()).await.expect("applied");
    until(&cluster, "it is available", |world| world.deployment("web").is_available()).await;
    watch.next().await.expect("an event").expect("a good one");
    let runtime = rig.another_runtime().await;
    let listed = runtime.list(&scope).await.expect("a scope is listed");
    assert_eq!(listed.len(), 3);
    if round > 0 {
        assert_eq!(listed, known, "adopted, not started anew");
    }
    let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(alive > 1, "there is something to join");
    if round == 2 {
        let web = Key::new(Kind::Deployment, "default", "web");
        cluster.delete(&web).await.expect("deleted");
        until(&cluster, "the pods are gone", |world| world.all::<Pod>(None).next().is_none()).await;
    }
    server.shutdown().await;
    cluster.shutdown(false).await;
    store.close().await;
    (scope, listed)
}

async fn stopping_with_the_pods_leaves_none(rig: Arc<Rig>) {
    let cluster = rig.start("a").await;
    cluster.apply(probed()).await.expect("applied");
    until(&cluster, "it is available", |world| world.deployment("web").is_available()).await;
    cluster.shutdown(true).await;
    assert_eq!(rig.list(&scope(&cluster)).await, []);
    rig.assert_nothing_left().await;
}

async fn the_node_is_as_the_embedder_says(rig: Arc<Rig>) {
    let builder = Cluster::builder().store(MemStore::new()).shared_runtime(rig.runtime());
    let builder = builder.node_name("mine").configure_node(|node| {
        node.reserve.insert("memory".to_owned(), Quantity::from_bytes(64 << 20));
        node.pods_max = 3;
    });
    let cluster = builder.start().await.expect("it starts");
    cluster.node_ready().await.expect("it becomes ready");
    let world = cluster.world();
    let node = world.node("mine").expect("it has registered");
    assert_eq!(node.status.allocatable["pods"], Quantity::from_units(3));
    let memory = |map: &ResourceMap| map["memory"].units_ceil();
    assert_eq!(memory(&node.status.capacity) - memory(&node.status.allocatable), 64 << 20);
    cluster.shutdown(true).await;
}
