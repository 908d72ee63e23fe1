//! Kubectls of other versions: each does a day's work, but for streams, which the newer ones alone do here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use orchestrator_tests::kubectl::Kubectl;
use orchestrator_tests::orchd::Orchd;
use orchestrator_tests::rig::Rig;

use super::manifest;

/// What stands in [`VERSIONS`] at least: one of each range of minor versions.
const NEEDED: [std::ops::RangeInclusive<u32>; 2] = [27..=30, 31..=33];
/// Older ones only read: they have no server-side apply, diff or explain that would work with today's servers.
const WRITES_FROM: u32 = 27;
/// Kubectls, with `:` between them; set by `tests/run`.
const VERSIONS: &str = "ORCH_TEST_KUBECTLS";

#[tokio::test(flavor = "multi_thread")]
async fn a_kubectl_of_any_version_does_a_days_work() {
    Rig::process().run(every_version).await;
}

async fn every_version(rig: Arc<Rig>) {
    let programs = std::env::var(VERSIONS).expect("run the tests by tests/run");
    let programs: Vec<PathBuf> = programs.split(':').map(PathBuf::from).collect();
    let minors: Vec<u32> = programs.iter().map(|program| minor(program)).collect();
    for needed in NEEDED {
        let has = minors.iter().any(|minor| needed.contains(minor));
        assert!(has, "a kubectl 1.{} to 1.{} is needed: {minors:?}", needed.start(), needed.end());
    }
    let orchd = Orchd::start(&rig).await;
    rig.know(&orchd.scope().await);
    for (program, minor) in programs.iter().zip(minors) {
        let home = rig.dir.path().join(format!("home-{minor}"));
        std::fs::create_dir_all(&home).expect("a new directory");
        let kubeconfig = home.join("config");
        std::fs::copy(rig.data_dir().join("kubeconfig"), &kubeconfig).expect("copied");
        let kubectl = Kubectl::of(program, &kubeconfig, &home);
        let namespace = format!("minor-{minor}");
        orchd_namespace(&kubectl, &namespace).await;
        kubectl.write("web.yaml", &manifest("web", 1, "1"));
        if minor < WRITES_FROM {
            // Somebody else has made what is read.
            let kubectl_of_today = Kubectl::new(&kubeconfig, &home);
            kubectl_of_today.ok("apply -f web.yaml").await;
            kubectl_of_today.ok("rollout status deployment/web --timeout=90s").await;
        } else {
            writes(&kubectl).await;
        }
        reads(&kubectl, &namespace).await;
        kubectl.ok("delete deployment web").await;
        kubectl.ok(&format!("delete namespace {namespace}")).await;
        kubectl.fails(&format!("get namespace {namespace}"), &["not found"]).await;
    }
    rig.assert_no_pods().await;
    assert_eq!(orchd.stop().await.code(), Some(0));
}

fn minor(program: &Path) -> u32 {
    let mut command = std::process::Command::new(program);
    let output = command.args(["version", "--client", "-o", "json"]).output().expect("it runs");
    let version: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let version = &version["clientVersion"]["gitVersion"];
    let minor = version.as_str().and_then(|version| version.split('.').nth(1));
    minor.and_then(|minor| minor.parse().ok()).unwrap_or_else(|| panic!("no version: {version}"))
}

async fn orchd_namespace(k: &Kubectl, namespace: &str) {
    k.ok(&format!("create namespace {namespace}")).await;
    k.ok(&format!("config set-context --current --namespace={namespace}")).await;
}

/// Leaves a deployment `web` of one pod, in its third version.
async fn writes(k: &Kubectl) {
    k.says("create -f web.yaml", &["created"]).await;
    k.ok("delete -f web.yaml").await;
    k.says("apply -f web.yaml", &["created"]).await;
    k.ok("rollout status deployment/web --timeout=90s").await;
    k.says("apply -f web.yaml", &["unchanged"]).await;
    k.says("apply --server-side -f web.yaml --force-conflicts", &["serverside-applied"]).await;
    k.write("more.yaml", &manifest("web", 2, "1"));
    assert_eq!(k.run("diff -f more.yaml").await.code, 1);
    k.ok("scale deployment web --replicas=2").await;
    k.fails("apply --server-side -f web.yaml", &["conflict", ".spec.replicas"]).await;
    k.ok("patch deployment web -p '{\"spec\":{\"replicas\":0}}'").await;
    let json = "[{\"op\":\"replace\",\"path\":\"/spec/replicas\",\"value\":1}]";
    k.ok(&format!("patch deployment web --type=json -p '{json}'")).await;
    k.ok("patch deployment web --type=merge -p '{\"metadata\":{\"labels\":{\"a\":\"b\"}}}'").await;
    k.ok("set env deployment/web VERSION=2").await;
    k.says("rollout history deployment/web", &["1", "2"]).await;
    k.ok("rollout undo deployment/web").await;
    let version = "get deployment web -o jsonpath={.spec.template.spec.containers[0].env[0].value}";
    assert_eq!(k.ok(version).await, "1");
    k.ok("rollout restart deployment/web").await;
    k.ok("rollout status deployment/web --timeout=90s").await;
    k.write("editor", "sed -i 's/revisionHistoryLimit: 10/revisionHistoryLimit: 3/' \"$1\"\n");
    k.says("edit deployment web", &["edited"]).await;
    // Bodies in protobuf for the newest, in JSON for older ones.
    k.ok("create configmap settings --from-literal=a=b").await;
    k.ok("create deployment none --image=x --replicas=0").await;
    k.fails("create job once --image=x", &["jobs.batch is not implemented by this server"]).await;
    k.ok("label configmap settings tier=front").await;
    k.ok("annotate configmap settings why=because").await;
    k.ok("expose deployment web --port=80").await;
    k.ok_despite_conflicts("replace -f web.yaml").await;
    k.ok("apply --prune --all -f web.yaml").await;
    k.ok("taint nodes local key=value:PreferNoSchedule").await;
    k.ok("taint nodes local key-").await;
    k.ok("drain local --force --timeout=90s").await;
    k.ok("uncordon local").await;
    k.ok("rollout status deployment/web --timeout=90s").await;
    k.says("explain deployment.spec.replicas", &["replicas", "integer"]).await;
    k.says("auth whoami", &["admin", "system:masters"]).await;
}

async fn reads(k: &Kubectl, namespace: &str) {
    k.says("version", &["Server Version"]).await;
    k.says("api-resources", &["deployments", "deploy", "apps/v1", "jobs"]).await;
    k.says("api-versions", &["apps/v1", "batch/v1"]).await;
    k.says("cluster-info", &["is running at"]).await;
    k.says("get all -A", &["deployment.apps/web", "replicaset.apps/web-", "pod/web-"]).await;
    k.says("get nodes -o wide", &["local", "Ready"]).await;
    k.says("get deployment web -o yaml", &["readyReplicas: 1"]).await;
    k.says("get deployment web -o wide", &["1/1", "app=web"]).await;
    k.says("get pods -l app=web --field-selector=status.phase=Running -o name", &["pod/web-"])
        .await;
    let sorted = "get pods --sort-by=.metadata.name --chunk-size=1 --show-labels";
    k.says(sorted, &["app=web"]).await;
    for (what, words) in [
        ("deployment web", ["1 desired", "app=web"]),
        ("replicaset", ["1 current / 1 desired", "Controlled By"]),
        ("pods -l app=web", ["Ready:          True", "Controlled By"]),
        ("node local", ["Allocatable:", "web-"]),
        (&format!("namespace {namespace}"), ["Active", "No resource quota."]),
    ] {
        k.says(&format!("describe {what}"), &words).await;
    }
    k.says("logs deployment/web", &["version"]).await;
    k.says("logs -l app=web --tail=1 --timestamps", &["version"]).await;
    k.says("get events", &["ScalingReplicaSet"]).await;
    k.says("rollout history deployment/web", &["REVISION"]).await;
    k.says("wait --for=condition=Available deployment/web --timeout=60s", &["condition met"]).await;
    k.says("auth can-i get pods", &["yes"]).await;
    k.says("auth can-i --list", &["*.*"]).await;
    let mut watch = k.start("get deployments -w");
    watch.until(&["web"]).await;
    watch.stop().await;
}
