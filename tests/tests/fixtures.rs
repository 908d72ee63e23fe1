//! Databases written by earlier versions (and this one): opening them restarts nothing and rewrites nothing.
//!
//! `cargo run -p orchestrator-tests --bin make-fixture` writes that of the present version.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orchestrator_core::driver::{Cluster, SystemClock};
use orchestrator_core::model::{Key, Kind, Namespace, Pod, Resource, Revision};
use orchestrator_core::runtime::{
    ContainerKey, ContainerSpec, Limits, Runtime, SandboxKey, SandboxSpec, Scope, StandardStreams,
};
use orchestrator_core::store::{Page, StateStore};
use orchestrator_core::testkit::sim_runtime::{SimRuntime, SimVerb};
use orchestrator_core::world::World;
use orchestrator_sqlite::SqliteStore;
use orchestrator_tests::rig::{NODE, cluster_id, until};
use orchestrator_tests::workload::sleepers;

fn fixtures() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let versions = std::fs::read_dir(&dir).expect("there are fixtures").flatten();
    let mut found: Vec<_> = versions.map(|version| version.path().join("cluster.db")).collect();
    found.sort();
    assert!(!found.is_empty(), "{} holds no fixtures", dir.display());
    found
}

async fn load(store: &SqliteStore) -> World {
    let mut pages: Vec<Page> = Vec::new();
    loop {
        let token = pages.last().and_then(|page| page.next.clone());
        if !pages.is_empty() && token.is_none() {
            return World::from_pages(pages);
        }
        pages.push(store.load(token).await.expect("it loads"));
    }
}

/// Has a runtime run what the pods say that runs, as it did when the database was closed.
async fn run_pods(runtime: &SimRuntime, world: &World, scope: &Scope) {
    for pod in world.pods_on(NODE) {
        let key = SandboxKey { scope: scope.clone(), pod: pod.metadata.uid, attempt: 0 };
        let sandbox = SandboxSpec {
            key: key.clone(),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            ports: Vec::new(),
        };
        runtime.create_sandbox(&sandbox).await.expect("made");
        for container in &pod.spec.containers {
            let key =
                ContainerKey { sandbox: key.clone(), name: container.name.clone(), attempt: 0 };
            let spec = ContainerSpec {
                key: key.clone(),
                image: container.image.clone(),
                command: container.command.clone(),
                args: container.args.clone(),
                working_dir: container.working_dir.clone(),
                env: Vec::new(),
                limits: Limits::default(),
                stdio: StandardStreams::default(),
            };
            runtime.create_container(&spec).await.expect("made");
            runtime.start_container(&key).await.expect("started");
        }
    }
}

/// Every object but events and nodes, which a start touches, with the revision of its main record.
fn kept(world: &World) -> BTreeMap<Key, (serde_json::Value, Revision)> {
    let lasting = world.iter().filter(|(key, _)| !matches!(key.kind, Kind::Event | Kind::Node));
    lasting
        .map(|(key, stored)| {
            let mut value = stored.object.without_status().to_value();
            value["metadata"]["resourceVersion"].take();
            (key.clone(), (value, stored.main))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_an_earlier_versions_database_restarts_and_rewrites_nothing() {
    for fixture in fixtures() {
        let shown = fixture.display();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("cluster.db");
        std::fs::copy(&fixture, &path).expect("copied");
        let store = Arc::new(SqliteStore::open(&path).await.expect("an old database opens"));
        let before = load(&store).await;
        assert_eq!(before.quarantined().count(), 0, "{shown}");
        let pods: Vec<Arc<Pod>> = before.pods_on(NODE).cloned().collect();
        assert_eq!(pods.len(), 5, "{shown}");
        assert!(pods.iter().all(|pod| pod.is_ready()), "{shown}");

        let system = before.find::<Namespace>("", "kube-system").expect("every cluster has it");
        let cluster = cluster_id(&system.metadata.uid.to_string());
        let scope = Scope { cluster, node: NODE.to_owned() };
        let runtime = SimRuntime::new(Arc::new(SystemClock));
        run_pods(&runtime, &before, &scope).await;
        let run_before = runtime.observe(&scope);

        let cluster = Cluster::builder()
            .shared_store(Arc::clone(&store) as Arc<dyn StateStore>)
            .runtime(runtime.clone())
            .node_name(NODE)
            .start()
            .await
            .expect("it starts");
        assert_eq!(cluster.id(), scope.cluster, "{shown}");
        // When a new deployment has made its whole way, everything old has been looked at on the way.
        cluster.apply(sleepers("later", "1", 1)).await.expect("applied");
        let after = until(&cluster, "a later deployment is available", |world| {
            let ready =
                |pod: &Arc<Pod>| world.at::<Pod>(&pod.key()).is_some_and(|it| it.is_ready());
            world.deployment("later").is_available() && pods.iter().all(ready)
        })
        .await;

        let before = kept(&before);
        let (kept_after, new): (BTreeMap<_, _>, BTreeMap<_, _>) =
            kept(&after).into_iter().partition(|(key, _)| before.contains_key(key));
        assert_eq!(kept_after, before, "{shown}: specs and metadata, their revisions too");
        for key in new.keys().filter(|key| !key.name.starts_with("later")) {
            // What every cluster has, and clusters of earlier versions had not.
            let is_built_in = matches!(
                key.kind,
                Kind::ClusterRole | Kind::ClusterRoleBinding | Kind::ServiceAccount
            );
            assert!(is_built_in, "{shown}: {key} is new");
        }
        let later = after.all::<Pod>(None).find(|pod| pod.metadata.name.starts_with("later"));
        let later = later.expect("its pod").metadata.uid;
        let mut run_after = runtime.observe(&scope);
        run_after.retain(|sandbox| sandbox.key.pod != later);
        assert_eq!(run_after, run_before, "{shown}: containers");
        for verb in [SimVerb::StopContainer, SimVerb::RemoveContainer, SimVerb::RemoveSandbox] {
            assert_eq!(runtime.calls(verb), 0, "{shown}: {verb:?}");
        }
        for pod in after.pods_on(NODE) {
            let restarts = pod.status.container_statuses.iter().map(|it| it.restart_count);
            assert_eq!(restarts.sum::<i32>(), 0, "{shown}: {}", pod.metadata.name);
        }
        cluster.shutdown(false).await;
        store.close().await;
    }
}
