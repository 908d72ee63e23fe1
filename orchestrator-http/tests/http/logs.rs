//! Logs of containers, on a simulated runtime.

use std::sync::Arc;
use std::time::Duration;

use orchestrator_core::driver::{Cluster, SystemClock};
use orchestrator_core::mem::MemStore;
use orchestrator_core::model::{Key, Pod};
use orchestrator_core::testkit::sim_runtime::{SimProgram, SimRuntime};
use orchestrator_http::{Api, Client, LogParams, Server, ServerConfig};

use crate::fixture::Fixture;

/// A cluster whose node runs a pod `a` that has printed three lines.
pub async fn with_a_pod() -> Fixture {
    let runtime = SimRuntime::new(Arc::new(SystemClock));
    let prints = ["one", "two", "three"].map(str::to_owned).to_vec();
    runtime.set_program("talker", SimProgram { prints, ..SimProgram::default() });
    let started = Cluster::builder().store(MemStore::new()).runtime(runtime).start().await;
    let cluster = started.expect("a cluster in memory starts");
    cluster.apply(Pod::new("a", "talker")).await.expect("a good pod");
    let ready = cluster.wait_for(|world| {
        world.at::<Pod>(&Key::pod("default", "a")).is_some_and(|pod| pod.is_ready())
    });
    tokio::time::timeout(Duration::from_secs(30), ready)
        .await
        .expect("it becomes ready")
        .expect("no shutdown");
    Fixture { api: Api::new(cluster.clone()), cluster }
}

#[tokio::test]
async fn a_log_is_read_whole_or_in_part_with_or_without_times() {
    let f = with_a_pod().await;
    let log = |query: &str| {
        let path = format!("/api/v1/namespaces/default/pods/a/log?{query}");
        let f = &f;
        async move { String::from_utf8_lossy(&f.get(&path).await.bytes).into_owned() }
    };
    assert_eq!(log("").await, "one\ntwo\nthree\n");
    assert_eq!(log("container=main&tailLines=1").await, "three\n");
    assert_eq!(log("limitBytes=5").await, "one\nt");
    let timed = log("timestamps=true").await;
    let lines: Vec<_> =
        timed.lines().map(|line| line.split_once(' ').expect("time and text")).collect();
    assert_eq!(lines.iter().map(|(_, text)| *text).collect::<Vec<_>>(), ["one", "two", "three"]);
    assert!(lines.iter().all(|(time, _)| time.starts_with("20") && time.ends_with('Z')), "{timed}");
    let wrong = f.get("/api/v1/namespaces/default/pods/a/log?container=other").await;
    assert!(wrong.refused(400, "BadRequest").contains("main"));
    f.get("/api/v1/namespaces/default/pods/a/log?previous=true").await.refused(400, "BadRequest");
    f.cluster.shutdown(true).await;
}

#[tokio::test]
async fn a_followed_log_that_the_server_breaks_off_does_not_look_complete() {
    let f = with_a_pod().await;
    let directory = tempfile::tempdir().expect("a directory");
    let config = ServerConfig::loopback(directory.path().join("pki"));
    let server = Server::bind(config, f.cluster.clone()).await.expect("a free port");
    let path = directory.path().join("kubeconfig");
    server.write_kubeconfig(&path).expect("writable");
    let client = Client::from_kubeconfig(&path).expect("own kubeconfig");
    let params = LogParams { follow: true, ..LogParams::default() };
    let mut log = client.logs(&Key::pod("default", "a"), &params).await.expect("a log");
    let mut text = Vec::new();
    while text != b"one\ntwo\nthree\n" {
        text.extend(log.next().await.expect("more to come").expect("no error yet"));
    }
    server.shutdown().await;
    assert!(matches!(log.next().await, Some(Err(_))), "it broke off");
    f.cluster.shutdown(true).await;
}

#[tokio::test]
async fn metrics_tell_what_nodes_use() {
    let f = with_a_pod().await;
    let text = async {
        loop {
            let text = String::from_utf8_lossy(&f.get("/metrics").await.bytes).into_owned();
            if text.contains("orchestrator_node_memory_bytes{node=\"local\"}") {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let text =
        tokio::time::timeout(Duration::from_secs(60), text).await.expect("usage is measured");
    assert!(text.contains("orchestrator_engine_binds_total 1"), "{text}");
    f.cluster.shutdown(true).await;
}
