//! Several control planes on one store, and one that is paused, in tokio's paused time.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span;

use super::{Cluster, Leader};
use crate::api::{Caller, Request};
use crate::election::LEASE_MS;
use crate::mem::MemStore;
use crate::model::{
    Deployment, Event, Key, Kind, Node, NodeCondition, ObjectMeta, Pod, ReplicaSet, Timestamp,
};
use crate::node::{LinkError, NodeLink};
use crate::store::Txn;
use crate::testkit::clock::TokioClock;
use crate::testkit::fault_store::{CommitFault, FaultPlan, FaultStore};

async fn start(store: &MemStore, identity: &str) -> Cluster {
    let builder = Cluster::builder().store(store.clone()).elect_as(identity);
    builder
        .clock(TokioClock::new(Timestamp::from_millis(1_800_000_000_000)))
        .start()
        .await
        .expect("it starts")
}

/// Two control planes on one store, of which the first leads and the second knows it.
async fn leader_and_follower() -> (Cluster, Cluster) {
    let store = MemStore::new();
    let first = start(&store, "a").await;
    until_led_by(&first, &Leader::Here).await;
    let second = start(&store, "b").await;
    until_led_by(&second, &elsewhere("a")).await;
    (first, second)
}

async fn until_led_by(cluster: &Cluster, leader: &Leader) {
    while cluster.leader() != *leader {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Ends a control plane in the middle of whatever it does.
fn kill(cluster: &Cluster) {
    let tasks = cluster.inner.tasks.lock().expect("no panic").take().expect("it runs");
    tasks.control.abort();
}

fn elsewhere(identity: &str) -> Leader {
    Leader::Elsewhere(identity.to_owned())
}

#[tokio::test(start_paused = true)]
async fn one_of_several_decides_and_all_answer() {
    let store = MemStore::new();
    let first = start(&store, "a").await;
    until_led_by(&first, &Leader::Here).await;
    let second = start(&store, "b").await;
    until_led_by(&second, &elsewhere("a")).await;
    second.apply(Deployment::new("web", "nginx").replicas(2)).await.expect("anybody writes");
    let world = second.wait_for(|world| world.all::<Pod>(None).count() == 2).await.expect("made");
    assert_eq!(second.stats().engine.reconciles, 0, "only the leader decides");
    // What one answered the other shows, however far behind it is.
    let pod = world.all::<Pod>(None).next().expect("one of two").clone();
    let key = Key::pod("default", &pod.metadata.name);
    second.delete(&key).await.expect("deleted");
    let shown = first.catch_up().await.expect("the store answers");
    assert!(shown.at::<Pod>(&key).is_none_or(|it| it.metadata.uid != pod.metadata.uid));
    for cluster in [first, second] {
        cluster.shutdown(false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_only_the_leader_does_another_refuses() {
    let store = MemStore::new();
    let first = start(&store, "a").await;
    until_led_by(&first, &Leader::Here).await;
    let second = start(&store, "b").await;
    let node = Node { metadata: ObjectMeta::named("", "n1"), ..Node::default() };
    let node = second.apply(node).await.expect("recorded");
    let uid = node.meta().uid;
    first.node_link("n1", uid).report(None).await.expect("the leader hears it");
    let refused = second.node_link("n1", uid).report(None).await.expect_err("it hears nobody");
    assert!(matches!(refused, LinkError::Unreachable(_)), "{refused:?}");
    let bind = Request::Bind { pod: Key::pod("default", "web"), node: "n1".to_owned() };
    second.apply(Pod::new("web", "nginx")).await.expect("a pod");
    let admin = Caller::Admin { name: "admin".to_owned() };
    let refused = second.submit(&admin, bind).await.expect_err("it binds nothing");
    assert!(refused.to_string().contains("does not lead"), "{refused}");
    for cluster in [first, second] {
        cluster.shutdown(false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_lets_another_lead_at_once() {
    let (first, second) = leader_and_follower().await;
    let before = tokio::time::Instant::now();
    first.shutdown(false).await;
    until_led_by(&second, &Leader::Here).await;
    // The time is the test's own: nothing passes but what is waited for.
    let passed = before.elapsed().as_millis();
    assert!(
        i128::try_from(passed).is_ok_and(|passed| passed < i128::from(LEASE_MS) / 2),
        "{passed}"
    );
    second.shutdown(false).await;
}

#[tokio::test(start_paused = true)]
async fn l7_a_leader_that_dies_is_followed_once_its_lease_is_over() {
    let (first, second) = leader_and_follower().await;
    let before = tokio::time::Instant::now();
    kill(&first);
    second.apply(Deployment::new("web", "nginx")).await.expect("recorded without a leader too");
    until_led_by(&second, &Leader::Here).await;
    second.wait_for(|world| world.all::<Pod>(None).count() == 1).await.expect("it decides");
    let passed = i64::try_from(before.elapsed().as_millis()).expect("not long");
    assert!(passed <= LEASE_MS + 2_000, "{passed}");
    second.shutdown(false).await;
}

/// Lets a node say that it is alive each second.
async fn report(link: &dyn NodeLink, seconds: usize) {
    for _ in 0..seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        link.report(None).await.expect("it is known");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_the_control_plane_is_no_silence_of_nodes() {
    let clock = TokioClock::new(Timestamp::from_millis(1_800_000_000_000));
    let cluster = Cluster::builder().store(MemStore::new()).clock(clock).start().await;
    let cluster = cluster.expect("it starts");
    let node = Node { metadata: ObjectMeta::named("", "n1"), ..Node::default() };
    let uid = cluster.apply(node.clone()).await.expect("a good node").meta().uid;
    let link = cluster.node_link("n1", uid);
    let mut ready = node;
    ready.status.conditions.push(NodeCondition {
        kind: "Ready".to_owned(),
        status: true.into(),
        ..NodeCondition::default()
    });
    link.register(ready).await.expect("its own");
    report(&*link, 20).await;
    let missed = |cluster: &Cluster| {
        let world = cluster.world();
        world.all::<Event>(None).filter(|event| event.reason == "NodeNotReady").count()
    };
    for _ in 0..3 {
        // As when the process is stopped, and goes on.
        tokio::time::advance(Duration::from_secs(20)).await;
        report(&*link, 20).await;
    }
    assert_eq!(missed(&cluster), 0);
    assert!(cluster.world().node("n1").is_some_and(|node| node.is_ready()));
    // The same silence while it runs is one.
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(missed(&cluster), 1);
    assert!(cluster.world().node("n1").is_some_and(|node| node.is_missed()));
    cluster.shutdown(false).await;
}

/// The first commit of a ReplicaSet fails.
struct FailsOnce(bool);

impl FaultPlan for FailsOnce {
    fn commit(&mut self, txn: &Txn) -> CommitFault {
        let is_it = txn.writes.iter().any(|write| write.key().object.kind == Kind::ReplicaSet);
        match is_it && std::mem::take(&mut self.0) {
            true => CommitFault::Error,
            false => CommitFault::None,
        }
    }
}

/// Puts down every line of the log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.lock().expect("no panic").push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_failed_is_tried_again_and_the_log_says_why() {
    let log = Log::default();
    let _listening = tracing::subscriber::set_default(log.clone());
    let store = FaultStore::new(Arc::new(MemStore::new()), FailsOnce(true));
    let cluster = Cluster::builder().store(store).start().await.expect("it starts");
    cluster.apply(Deployment::new("web", "nginx")).await.expect("recorded");
    let made = cluster.wait_for(|world| world.all::<ReplicaSet>(None).next().is_some()).await;
    made.expect("made");
    let lines = log.0.lock().expect("no panic").clone();
    let failed = lines.iter().find(|line| line.contains("commit failed")).expect("it is said");
    assert!(failed.contains("fault injected"), "{failed}");
    cluster.shutdown(false).await;
}
