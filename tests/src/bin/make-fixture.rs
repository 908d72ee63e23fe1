//! Writes the fixture of this version: the database of a real orchd with a bit of everything in it.
//!
//! `cargo run -p orchestrator-tests --bin make-fixture` makes `tests/fixtures/VERSION/cluster.db`. Done once for each
//! released version and never again: the tests prove that later versions leave such a database alone.

use std::path::PathBuf;
use std::sync::Arc;

use orchestrator_core::model::{Deployment, Key, Kind, Object};
use orchestrator_http::{Client, WriteParams};
use orchestrator_tests::orchd::Orchd;
use orchestrator_tests::rig::{Rig, poll};
use orchestrator_tests::workload::{container, probe, sleepers, with_container};
use serde_json::{Value, json};

#[tokio::main]
async fn main() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let path = dir.join(env!("CARGO_PKG_VERSION")).join("cluster.db");
    assert!(!path.exists(), "{} is there; a fixture is never made anew", path.display());
    std::fs::create_dir_all(path.parent().expect("it has one")).expect("a directory for it");
    Rig::process().run(|rig| async move { make(rig, path).await }).await;
}

async fn make(rig: Arc<Rig>, path: PathBuf) {
    let orchd = Orchd::start(&rig).await;
    rig.know(&orchd.scope().await);
    for object in objects() {
        apply(&orchd.client, object).await;
    }
    available(&orchd.client, "web", 3).await;
    available(&orchd.client, "worker", 2).await;
    // A second replica set, with a history.
    apply(&orchd.client, web("2")).await;
    available(&orchd.client, "web", 3).await;
    assert_eq!(orchd.stop().await.code(), Some(0));
    std::fs::copy(rig.data_dir().join("cluster.db"), &path).expect("the fixture is written");

    let orchd = Orchd::start(&rig).await;
    for name in ["web", "worker"] {
        let key = Key::new(Kind::Deployment, "default", name);
        orchd.client.delete(&key, &Default::default()).await.expect("deleted");
    }
    rig.assert_no_pods().await;
    assert_eq!(orchd.stop().await.code(), Some(0));
}

fn objects() -> Vec<Value> {
    let worker = Object::from(sleepers("worker", "1", 2)).to_value();
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "labels": { "app": "web" } },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    });
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "settings", "annotations": { "example.com/why": "a test" } },
        "data": { "greeting": "hello" },
    });
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "key" },
        "type": "Opaque", "data": { "token": "c2VjcmV0" },
    });
    let team = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "team" } });
    vec![team, config, secret, service, worker, web("1")]
}

fn web(version: &str) -> Value {
    let mut container = container(version).port(8080).requests(50, 32 << 20);
    container.readiness_probe = Some(probe("true"));
    container.liveness_probe = Some(probe("true"));
    let mut web = Object::from(with_container("web", 3, container)).to_value();
    // A field that Kubernetes knows and this version only keeps.
    web["spec"]["template"]["spec"]["automountServiceAccountToken"] = false.into();
    web
}

async fn apply(client: &Client, mut object: Value) {
    let kind = object["kind"].as_str().and_then(Kind::from_name).expect("a kind of ours");
    let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
    let namespace = if kind.is_namespaced() { "default" } else { "" };
    if kind.is_namespaced() {
        object["metadata"]["namespace"] = namespace.into();
    }
    let key = Key::new(kind, namespace, &name);
    client.apply(&key, &object, WriteParams::default()).await.expect("applied");
}

async fn available(client: &Client, name: &str, replicas: i32) {
    poll("the deployment is available", || async {
        let key = Key::new(Kind::Deployment, "default", name);
        let found = client.get(&key).await.expect("it was applied");
        let found: Deployment = serde_json::from_value(found).expect("a deployment");
        let done = found.is_available()
            && found.status.replicas == replicas
            && found.status.terminating_replicas == 0;
        if done { Ok(()) } else { Err(found.status) }
    })
    .await;
}
