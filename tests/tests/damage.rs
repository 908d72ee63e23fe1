//! Records that are damaged on disk: what runs goes on, and what cannot be read is in nobody's way for ever (S11).

use std::sync::Arc;

use orchestrator_core::driver::Cluster;
use orchestrator_core::model::{Key, Kind, Namespace, ObjectMeta, Pod};
use orchestrator_core::runtime::SandboxObservation;
use orchestrator_core::store::StateStore;
use orchestrator_sqlite::SqliteStore;
use orchestrator_tests::rig::{NODE, Rig, poll, scope, until};
use orchestrator_tests::workload::sleepers;

super::on_every_runtime! {
    s11_what_belongs_to_a_record_that_cannot_be_read_runs_on
    s11_what_cannot_be_read_can_be_deleted_and_made_anew
    s11_a_pod_that_cannot_be_read_ends_once_it_is_deleted
    s11_a_status_that_cannot_be_read_is_written_anew
}

const WEB_PODS: usize = 3;

/// A cluster on a database of the rig.
async fn begin(rig: &Rig, name: &str) -> (Cluster, Arc<SqliteStore>) {
    let store = SqliteStore::open(rig.dir.path().join(name)).await.expect("it opens");
    let store = Arc::new(store);
    let cluster = Cluster::builder()
        .shared_store(Arc::clone(&store) as Arc<dyn StateStore>)
        .shared_runtime(rig.another_runtime().await)
        .node_name(NODE)
        .start()
        .await
        .expect("it starts");
    rig.know(&scope(&cluster));
    (cluster, store)
}

async fn deployed(cluster: &Cluster, name: &'static str, replicas: i32) {
    cluster.apply(sleepers(name, "1", replicas)).await.expect("applied");
    until(cluster, &format!("{name} is available"), |world| world.deployment(name).is_available())
        .await;
}

/// A cluster that begins again on a database in which the main record of an object of a kind is damaged; and what ran before.
async fn damaged(rig: &Rig, kind: Kind) -> (Cluster, Arc<SqliteStore>, Vec<SandboxObservation>) {
    let name = format!("{kind}.db");
    let (cluster, store) = begin(rig, &name).await;
    deployed(&cluster, "web", i32::try_from(WEB_PODS).expect("few")).await;
    cluster.shutdown(false).await;
    store.close().await;
    let ran = rig.list(&scope(&cluster)).await;
    assert_eq!(ran.len(), WEB_PODS);
    let names = match kind {
        Kind::ReplicaSet => "name IS NOT NULL",
        Kind::Pod => "name = (SELECT min(name) FROM record WHERE kind = 'Pod')",
        _ => &format!("name IN ('web', 'default', '{NODE}')"),
    };
    let which = format!("kind = '{kind}' AND part = 0 AND {names}");
    assert_eq!(damage(rig, &name, &which), 1, "{kind}");
    let (cluster, store) = begin(rig, &name).await;
    // Its status is one of nothing now.
    assert_eq!(cluster.stats().quarantined, 2, "{kind}");
    (cluster, store, ran)
}

/// Damages records of a database; how many.
fn damage(rig: &Rig, database: &str, which: &str) -> usize {
    let database = rusqlite::Connection::open(rig.dir.path().join(database)).expect("it opens");
    let sql = format!("UPDATE record SET value = x'00' WHERE {which}");
    database.execute(&sql, ()).expect("it runs")
}

/// Waits for a deletion that is done by the same controllers that would make something of the damage.
async fn pass(cluster: &Cluster, kind: Kind) {
    if matches!(kind, Kind::Deployment | Kind::ReplicaSet | Kind::Pod) {
        deployed(cluster, "other", 1).await;
        let other = Key::new(Kind::Deployment, "default", "other");
        cluster.delete(&other).await.expect("deleted");
        let is_other = |pod: &Pod| pod.metadata.labels.get("app").is_some_and(|app| app == "other");
        until(cluster, "its pods are gone", |world| {
            !world.all::<Pod>(None).any(|pod| is_other(pod))
        })
        .await;
    } else {
        let key = Key::cluster(Kind::Namespace, "elsewhere");
        let metadata = ObjectMeta::named("", "elsewhere");
        cluster.apply(Namespace { metadata, ..Namespace::default() }).await.expect("applied");
        cluster.delete(&key).await.expect("deleted");
        until(cluster, "it is gone", |world| world.get(&key).is_none()).await;
    }
}

async fn s11_what_belongs_to_a_record_that_cannot_be_read_runs_on(rig: Arc<Rig>) {
    for kind in [Kind::Deployment, Kind::ReplicaSet, Kind::Pod, Kind::Node, Kind::Namespace] {
        let (cluster, store, ran) = damaged(&rig, kind).await;
        pass(&cluster, kind).await;
        let world = cluster.world();
        assert!(world.all::<Pod>(None).all(|pod| !pod.metadata.is_deleting()), "{kind}");
        let runs = rig.list(&scope(&cluster)).await;
        assert!(ran.iter().all(|pod| runs.contains(pod)), "{kind}: {ran:?} became {runs:?}");
        cluster.shutdown(true).await;
        store.close().await;
    }
}

async fn s11_what_cannot_be_read_can_be_deleted_and_made_anew(rig: Arc<Rig>) {
    let (cluster, store, _) = damaged(&rig, Kind::Deployment).await;
    let web = Key::new(Kind::Deployment, "default", "web");
    let refused = cluster.apply(sleepers("web", "1", 1)).await.expect_err("it is in the way");
    assert!(refused.to_string().contains("\"web\" cannot be read"), "{refused}");
    cluster.delete(&web).await.expect("deleted");
    poll("its pods are gone", || async {
        match rig.list(&scope(&cluster)).await.len() {
            0 => Ok(()),
            left => Err(left),
        }
    })
    .await;
    deployed(&cluster, "web", 1).await;
    assert_eq!(cluster.stats().quarantined, 0);
    cluster.shutdown(true).await;
    store.close().await;
}

async fn s11_a_pod_that_cannot_be_read_ends_once_it_is_deleted(rig: Arc<Rig>) {
    let (cluster, store, ran) = damaged(&rig, Kind::Pod).await;
    // Another one has its place; nobody knows that it still runs.
    poll("one more", || async {
        let runs = rig.list(&scope(&cluster)).await;
        assert!(ran.iter().all(|pod| runs.contains(pod)), "{ran:?} became {runs:?}");
        if runs.len() == WEB_PODS + 1 { Ok(()) } else { Err(runs.len()) }
    })
    .await;
    let unread = cluster.world().unreadable_pods().next().expect("it is set aside");
    cluster.delete(&unread).await.expect("deleted");
    poll("it has ended", || async {
        let left = rig.list(&scope(&cluster)).await;
        let left: Vec<_> = ran.iter().filter(|pod| left.contains(pod)).collect();
        if left.len() == WEB_PODS - 1 { Ok(()) } else { Err(left.len()) }
    })
    .await;
    cluster.shutdown(true).await;
    store.close().await;
}

async fn s11_a_status_that_cannot_be_read_is_written_anew(rig: Arc<Rig>) {
    let (cluster, store) = begin(&rig, "status.db").await;
    deployed(&cluster, "web", i32::try_from(WEB_PODS).expect("few")).await;
    cluster.shutdown(false).await;
    store.close().await;
    let ran = rig.list(&scope(&cluster)).await;
    let damaged = damage(&rig, "status.db", "part = 1 AND kind <> 'Namespace'");
    assert_eq!(damaged, WEB_PODS + 3, "those of the pods, the set, the deployment and the node");
    let (cluster, store) = begin(&rig, "status.db").await;
    until(&cluster, "all is well again", |world| {
        world.deployment("web").is_available() && world.quarantined().count() == 0
    })
    .await;
    let runs = rig.list(&scope(&cluster)).await;
    assert!(ran.iter().all(|pod| runs.contains(pod)), "{ran:?} became {runs:?}");
    cluster.shutdown(true).await;
    store.close().await;
}
