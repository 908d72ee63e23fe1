//! What an embedder may rely on: a clean shutdown joins every task, and a cluster started again adopts its pods.

use std::sync::Arc;

use orchestrator_core::driver::Cluster;
use orchestrator_core::model::{Key, Kind, Pod};
use orchestrator_core::store::StateStore;
use orchestrator_http::{Client, Selector, Server, ServerConfig, read_kubeconfig};
use orchestrator_sqlite::SqliteStore;
use orchestrator_tests::rig::{NODE, Rig, poll, scope, until};
use orchestrator_tests::workload::{container, probe, with_container};

super::on_every_runtime! {
    a_clean_shutdown_joins_every_task_and_the_next_start_adopts
    stopping_with_the_pods_leaves_none
}

fn alive_tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

fn probed() -> orchestrator_core::model::Deployment {
    let mut container = container("1");
    container.readiness_probe = Some(probe("true"));
    container.liveness_probe = Some(probe("true"));
    with_container("web", 3, container)
}

/// A cluster with everything: store, runtime, probes, server, a client with a watch.
async fn a_clean_shutdown_joins_every_task_and_the_next_start_adopts(rig: Arc<Rig>) {
    let before = alive_tasks();
    let database = rig.dir.path().join("embedded.db");
    let mut containers = Vec::new();
    for round in 0..3 {
        let store = Arc::new(SqliteStore::open(&database).await.expect("it opens"));
        let cluster = Cluster::builder()
            .shared_store(Arc::clone(&store) as Arc<dyn StateStore>)
            .shared_runtime(rig.another_runtime().await)
            .node_name(NODE)
            .start()
            .await
            .expect("it starts");
        rig.know(&scope(&cluster));
        let config = ServerConfig::loopback(rig.dir.path().join("pki"));
        let server = Server::bind(config, cluster.clone()).await.expect("a free port");
        let kubeconfig = rig.dir.path().join("kubeconfig");
        server.write_kubeconfig(&kubeconfig).expect("written");
        let config = read_kubeconfig(&kubeconfig).expect("read");
        let client = Client::from_config(&config).expect("made");
        let selector = Selector::default();
        let mut watch =
            client.watch(Kind::Pod, None, &selector, None).await.expect("a watch begins");
        cluster.apply(probed()).await.expect("applied");
        until(&cluster, "it is available", |world| world.deployment("web").is_available()).await;
        watch.next().await.expect("an event").expect("a good one");
        let listed = rig.list(&scope(&cluster)).await;
        assert_eq!(listed.len(), 3);
        if round == 0 {
            containers = listed;
        } else {
            assert_eq!(listed, containers, "adopted, not started anew");
        }
        assert!(alive_tasks() > before, "there is something to join");
        if round == 2 {
            let web = Key::new(Kind::Deployment, "default", "web");
            cluster.delete(&web).await.expect("deleted");
            until(&cluster, "the pods are gone", |world| world.all::<Pod>(None).next().is_none())
                .await;
        }
        let scope = scope(&cluster);
        drop(watch);
        drop(client);
        server.shutdown().await;
        cluster.shutdown(false).await;
        store.close().await;
        drop(cluster);
        let lists = rig.list(&scope).await.len();
        assert_eq!(lists, if round == 2 { 0 } else { 3 }, "pods outlive their cluster's process");
        // The connections of client and runtime end on being dropped, which tokio does at its next opportunity.
        poll("every task is joined", || async {
            let now = alive_tasks();
            if now <= before { Ok(()) } else { Err(format!("{now} tasks, {before} before")) }
        })
        .await;
    }
}

async fn stopping_with_the_pods_leaves_none(rig: Arc<Rig>) {
    let cluster = rig.start("a").await;
    cluster.apply(probed()).await.expect("applied");
    until(&cluster, "it is available", |world| world.deployment("web").is_available()).await;
    cluster.shutdown(true).await;
    assert_eq!(rig.list(&scope(&cluster)).await, []);
    rig.assert_nothing_left().await;
}
