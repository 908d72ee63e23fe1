//! A controller written with kube-rs, tested against the real control plane in the same process: no socket, no daemon, a
//! simulated runtime.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use orchestrator_core::driver::{Cluster, SystemClock};
use orchestrator_core::mem::MemStore;
use orchestrator_core::testkit::sim_runtime::SimRuntime;
use serde_json::json;

/// A small controller: every deployment has a config map that says how many replicas it wants.
async fn keep_notes(client: kube::Client) -> Result<(), watcher::Error> {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let mut changes = watcher(deployments, watcher::Config::default()).applied_objects().boxed();
    while let Some(deployment) = changes.try_next().await? {
        let name = deployment.metadata.name.unwrap_or_default();
        let note = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name },
            "data": { "replicas": deployment.spec.replicas.unwrap_or(1).to_string() },
        });
        // What fails is tried again with the next change.
        let _ = maps.patch(&name, &PatchParams::apply("notes").force(), &Patch::Apply(note)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_controller_written_with_kube_rs_runs_against_the_real_engine() {
    let runtime = SimRuntime::new(Arc::new(SystemClock));
    let started = Cluster::builder().store(MemStore::new()).runtime(runtime).start().await;
    let cluster = started.expect("a cluster in memory starts");
    let api = orchestrator_http::Api::new(cluster.clone());
    let client = kube::Client::new(api, "default");
    let controller = tokio::spawn(keep_notes(client.clone()));

    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let manifest = json!({
        "metadata": { "name": "web" },
        "spec": {
            "replicas": 3,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "main", "image": "nginx" }] },
            },
        },
    });
    let web: Deployment = serde_json::from_value(manifest).expect("a deployment");
    deployments.create(&PostParams::default(), &web).await.expect("created");

    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let noted = |wanted: &'static str| {
        let is = move |map: Option<&ConfigMap>| {
            let data = map.and_then(|map| map.data.as_ref());
            data.is_some_and(|data| data.get("replicas").is_some_and(|found| found == wanted))
        };
        let waited = kube::runtime::wait::await_condition(maps.clone(), "web", is);
        tokio::time::timeout(Duration::from_secs(60), waited)
    };
    noted("3").await.expect("in time").expect("watched");
    let scale = Patch::Merge(json!({ "spec": { "replicas": 1 } }));
    deployments.patch_scale("web", &PatchParams::default(), &scale).await.expect("scaled");
    noted("1").await.expect("in time").expect("watched");

    let pods: Api<Pod> = Api::default_namespaced(client);
    let listed = pods.list(&ListParams::default()).await.expect("listed");
    assert!(!listed.items.is_empty(), "the engine runs beside the controller");
    controller.abort();
    cluster.shutdown(true).await;
}
