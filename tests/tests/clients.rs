//! Clients that were written for Kubernetes, against real orchd: the Python client, and kube-rs.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{
    Api, AttachParams, DeleteParams, EvictParams, ListParams, LogParams, Patch, PatchParams,
    PostParams, WatchEvent, WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::discovery::Discovery;
use orchestrator_tests::engine::IMAGE;
use orchestrator_tests::orchd::Orchd;
use orchestrator_tests::rig::{Rig, poll};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

super::on_every_runtime! {
    the_python_client_finds_everything_as_it_expects
    kube_rs_finds_everything_as_it_expects
}

async fn the_python_client_finds_everything_as_it_expects(rig: Arc<Rig>) {
    let orchd = Orchd::start(&rig).await;
    rig.know(&orchd.scope().await);
    let python = std::env::var_os("ORCH_TEST_PYTHON").expect("run the tests by tests/run");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python_client.py");
    let mut command = tokio::process::Command::new(python);
    command.arg(script).arg(rig.data_dir().join("kubeconfig")).arg(IMAGE).arg(pages(&rig));
    command.stdin(Stdio::null());
    let output = command.output().await.expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    rig.assert_no_pods().await;
    assert_eq!(orchd.stop().await.code(), Some(0));
}

/// Where pods put their pages: gone with the rig, or with their containers.
fn pages(rig: &Rig) -> PathBuf {
    rig.dir.path().join("pages")
}

/// The manifest of pods that serve a page.
fn deployment(replicas: i32, pages: &Path) -> Deployment {
    let dir = format!("{}/$POD_IP", pages.display());
    let serve = format!(
        "mkdir -p {dir}; echo page > {dir}/index.html; echo started; trap 'exit 0' TERM; \
         busybox httpd -f -p $POD_IP:9000 -h {dir} & wait"
    );
    let manifest = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": {
                    "terminationGracePeriodSeconds": 2,
                    "containers": [{
                        "name": "main", "image": IMAGE, "imagePullPolicy": "Never",
                        "command": ["/bin/sh", "-c", serve],
                    }],
                },
            },
        },
    });
    serde_json::from_value(manifest).expect("a deployment")
}

fn config_map(name: &str) -> ConfigMap {
    let manifest =
        json!({ "metadata": { "name": name, "labels": { "set": "m" } }, "data": { "n": name } });
    serde_json::from_value(manifest).expect("a config map")
}

async fn kube_rs_finds_everything_as_it_expects(rig: Arc<Rig>) {
    let orchd = Orchd::start(&rig).await;
    rig.know(&orchd.scope().await);
    let kubeconfig = Kubeconfig::read_from(rig.data_dir().join("kubeconfig")).expect("readable");
    let options = KubeConfigOptions::default();
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("complete");
    let client = kube::Client::try_from(config).expect("a client");

    assert_eq!(client.apiserver_version().await.expect("answered").major, "1");
    let discovery = Discovery::new(client.clone()).run().await.expect("discovered");
    assert!(discovery.groups().any(|group| group.name() == "apps"));

    crud(&client).await;
    watches(&client).await;
    workload(&client, &pages(&rig)).await;
    rig.assert_no_pods().await;
    assert_eq!(orchd.stop().await.code(), Some(0));
}

async fn crud(client: &kube::Client) {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let post = PostParams::default();
    for name in ["m0", "m1", "m2", "m3", "m4"] {
        maps.create(&post, &config_map(name)).await.expect("created");
    }
    let taken = maps.create(&post, &config_map("m0")).await.expect_err("there already");
    assert!(matches!(taken, kube::Error::Api(status) if status.code == 409));
    let mut names = Vec::new();
    let mut list = ListParams::default().labels("set=m").limit(2);
    loop {
        let page = maps.list(&list).await.expect("listed");
        names.extend(page.items.into_iter().filter_map(|map| map.metadata.name));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => list = list.continue_token(&token),
            None => break,
        }
    }
    assert_eq!(names, ["m0", "m1", "m2", "m3", "m4"]);
    assert_eq!(maps.list_metadata(&ListParams::default()).await.expect("listed").items.len(), 5);

    let params = PatchParams::default();
    let merged = maps.patch("m0", &params, &Patch::Merge(json!({ "data": { "a": "b" } }))).await;
    assert_eq!(merged.expect("patched").data.expect("data")["a"], "b");
    let strategic = Patch::Strategic(json!({ "data": { "a": null } }));
    let patched = maps.patch("m0", &params, &strategic).await.expect("patched");
    assert!(!patched.data.expect("data").contains_key("a"));
    let operations = json!([{ "op": "add", "path": "/data/c", "value": "d" }]);
    let operations = serde_json::from_value(operations).expect("operations");
    let patched = maps.patch("m0", &params, &Patch::Json::<()>(operations)).await.expect("patched");
    assert_eq!(patched.data.expect("data")["c"], "d");
    let mut replaced = maps.get("m0").await.expect("there");
    replaced.data = None;
    maps.replace("m0", &post, &replaced).await.expect("replaced");
    let stale = maps.replace("m0", &post, &replaced).await.expect_err("its revision is old");
    assert!(matches!(stale, kube::Error::Api(status) if status.code == 409));
    let nobody = maps.get_opt("nobody").await.expect("answered");
    assert!(nobody.is_none());
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("set=m"))
        .await
        .expect("deleted");
    assert!(maps.list(&ListParams::default()).await.expect("listed").items.is_empty());
}

async fn watches(client: &kube::Client) {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let start = maps.list(&ListParams::default()).await.expect("listed").metadata.resource_version;
    let params = WatchParams::default().labels("set=m").timeout(20);
    let watch = maps.watch(&params, &start.expect("a revision")).await.expect("watched");
    let mut watch = watch.boxed();
    maps.create(&PostParams::default(), &config_map("w")).await.expect("created");
    maps.delete("w", &DeleteParams::default()).await.expect("deleted");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match watch.try_next().await.expect("no error").expect("more to come") {
            WatchEvent::Added(map) => seen.push(("added", map.metadata.name)),
            WatchEvent::Deleted(map) => seen.push(("deleted", map.metadata.name)),
            _ => {}
        }
    }
    assert_eq!(seen, ["added", "deleted"].map(|what| (what, Some("w".to_owned()))));

    // A watch that begins with what there is, in one request.
    let nodes: Api<Node> = Api::all(client.clone());
    let initial =
        kube::runtime::watcher(nodes, kube::runtime::watcher::Config::default().streaming_lists());
    let mut initial = kube::runtime::WatchStreamExt::applied_objects(initial).boxed();
    let node = initial.try_next().await.expect("no error").expect("a node");
    assert_eq!(node.metadata.name.as_deref(), Some("local"));
}

async fn workload(client: &kube::Client, pages: &Path) {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let apply = PatchParams::apply("kube-rs");
    deployments.patch("web", &apply, &Patch::Apply(deployment(1, pages))).await.expect("applied");
    let is_available = |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|deployment| deployment.status.as_ref());
        status.is_some_and(|status| status.available_replicas == Some(1))
    };
    let available = kube::runtime::wait::await_condition(deployments.clone(), "web", is_available);
    tokio::time::timeout(std::time::Duration::from_secs(60), available)
        .await
        .expect("available in time")
        .expect("watched");

    // Another manager scales; the next apply of another value is a conflict.
    let scale = Patch::Merge(json!({ "spec": { "replicas": 2 } }));
    let scaled = deployments.patch_scale("web", &PatchParams::default(), &scale).await;
    assert_eq!(scaled.expect("scaled").spec.and_then(|spec| spec.replicas), Some(2));
    let conflict = deployments.patch("web", &apply, &Patch::Apply(deployment(1, pages))).await;
    assert!(matches!(conflict, Err(kube::Error::Api(status)) if status.code == 409));
    let forced =
        deployments.patch("web", &apply.clone().force(), &Patch::Apply(deployment(1, pages))).await;
    assert_eq!(forced.expect("forced").spec.replicas, Some(1));
    assert!(deployments.get_status("web").await.expect("there").status.is_some());
    let nodes: Api<Node> = Api::all(client.clone());
    let seen = json!({ "type": "example.com/SeenByKubeRs", "status": "True" });
    let status = Patch::Strategic(json!({ "status": { "conditions": [seen] } }));
    let written = nodes.patch_status("local", &PatchParams::default(), &status).await;
    let conditions = written.expect("written").status.and_then(|status| status.conditions);
    let conditions = conditions.expect("some");
    for kind in ["Ready", "example.com/SeenByKubeRs"] {
        assert!(conditions.iter().any(|condition| condition.type_ == kind), "{conditions:?}");
    }

    let pod = poll("one pod is left", || async {
        let listed = pods.list(&ListParams::default().labels("app=web")).await;
        match listed.map_err(|error| error.to_string())?.items.as_slice() {
            [only] => Ok(only.metadata.name.clone().unwrap_or_default()),
            many => Err(format!("{} pods", many.len())),
        }
    })
    .await;
    poll("it has printed", || async {
        match pods.logs(&pod, &LogParams::default()).await {
            Ok(log) if log == "started\n" => Ok(()),
            other => Err(other.map_err(|error| error.to_string())),
        }
    })
    .await;
    let script = ["/bin/sh", "-c", "read x; echo got $x; exit 3"];
    let mut shell =
        pods.exec(&pod, script, &AttachParams::default().stdin(true)).await.expect("a session");
    shell.stdin().expect("asked for").write_all(b"this\n").await.expect("taken");
    let mut said = String::new();
    shell.stdout().expect("asked for").read_to_string(&mut said).await.expect("text");
    assert_eq!(said, "got this\n");
    let status = shell.take_status().expect("there is one").await.expect("it ended");
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));

    poll("a page comes through the tunnel", || async {
        let mut tunnel =
            pods.portforward(&pod, &[9000]).await.map_err(|error| error.to_string())?;
        let mut stream = tunnel.take_stream(9000).expect("asked for");
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.map_err(|error| error.to_string())?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await.map_err(|error| error.to_string())?;
        if page.ends_with("page\n") { Ok(()) } else { Err(page) }
    })
    .await;

    pods.evict(&pod, &EvictParams::default()).await.expect("evicted");
    poll("it is gone", || async {
        let found = pods.get_opt(&pod).await.map_err(|error| error.to_string())?;
        if found.is_none() { Ok(()) } else { Err("there".to_owned()) }
    })
    .await;
    deployments.delete("web", &DeleteParams::foreground()).await.expect("deleted");
    poll("its pods are gone", || async {
        let left = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        if left.items.is_empty() { Ok(()) } else { Err(format!("{} pods", left.items.len())) }
    })
    .await;
}
