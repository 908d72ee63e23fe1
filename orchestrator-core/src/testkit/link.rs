//! The suite for links of nodes: what an agent may do over one, and that it can do no more, however its calls are carried.
//!
//! Each function is a promise of [`NodeLink`]; a carrier names how it makes a link in
//! [`link_conformance!`](crate::link_conformance).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::driver::Cluster;
use crate::mem::MemStore;
use crate::model::{
    ClusterNetwork, Event, EventType, Key, NETWORK_KEY_ANNOTATION, Node, NodeAddress, NodeStatus,
    Object, ObjectMeta, Part, Pod, PodPhase, PodStatus, Resource, Revision, Taint, TaintEffect,
    Uid,
};
use crate::node::{Assignments, LinkError, NodeLink, NodeNetwork, StatusOutcome};
use crate::store::{CommitOutcome, Expect, RecordKey, StateStore as _, Txn, Write};
use crate::world::{EventNote, NodeUsage, World};

/// How long a call may take before the suite calls it stuck; no promise depends on it.
const STUCK: Duration = Duration::from_secs(60);
/// The node whose link is looked at, and another one.
const OWN: &str = "n1";
const OTHER: &str = "n2";

/// Makes links to a cluster.
#[async_trait]
pub trait LinkFixture: Send + Sync {
    /// Makes the link of a node that is recorded with this uid.
    async fn link(&self, cluster: &Cluster, node: &str, uid: Uid) -> Arc<dyn NodeLink>;
}

/// Expands to a module `link_conformance` with one test per promise; `$make` is an expression that makes a
/// [`LinkFixture`](crate::testkit::link::LinkFixture). The crate that uses it needs tokio.
#[macro_export]
macro_rules! link_conformance {
    ($make:expr) => {
        mod link_conformance {
            use super::*;
            $crate::link_conformance! { $make;
                a_node_records_itself_and_keeps_what_others_gave_it
                pods_are_listed_whole_and_then_by_what_changes
                a_status_is_written_of_own_pods_alone
                a_deletion_is_confirmed_of_pods_that_are_to_go
                events_are_told_of_oneself_and_own_pods
                a_report_is_heard
                the_network_is_told_at_once_and_then_when_it_changes
                a_node_that_was_removed_is_refused_everything
                s11_no_list_is_whole_while_a_pod_cannot_be_read
                s11_a_node_whose_status_cannot_be_read_is_to_register
            }
        }
    };
    ($make:expr; $($name:ident)*) => {
        $(#[tokio::test]
        async fn $name() {
            $crate::testkit::link::$name(&$make).await;
        })*
    };
}

/// A cluster with two nodes, and the link of the first.
struct Setting {
    cluster: Cluster,
    link: Arc<dyn NodeLink>,
    store: MemStore,
}

async fn setting(fixture: &dyn LinkFixture) -> Setting {
    let store = MemStore::new();
    let cluster = Cluster::builder().store(store.clone()).start().await.expect("started");
    let mut uids = Vec::new();
    for name in [OWN, OTHER] {
        let node = Node { metadata: ObjectMeta::named("", name), ..Node::default() };
        uids.push(cluster.apply(node).await.expect("a good node").meta().uid);
    }
    let link = fixture.link(&cluster, OWN, uids[0]).await;
    Setting { cluster, link, store }
}

impl Setting {
    /// Records a pod on a node, and returns its key and uid.
    async fn pod(&self, name: &str, node: &str) -> (Key, Uid) {
        let mut pod = Pod::new(name, "image");
        pod.node_name = node.to_owned();
        let made = self.cluster.apply(pod).await.expect("a good pod");
        (made.key(), made.meta().uid)
    }

    /// Makes a record one that cannot be read.
    async fn damage(&self, record: RecordKey) {
        let name = record.to_string();
        let world = self.cluster.world();
        let stored = world.get(&record.object).expect("there");
        let revision = match record.part {
            Part::Main => stored.main,
            Part::Status => stored.status.expect("it has one"),
        };
        let value = Bytes::from_static(b"damaged");
        let write = Write::Put { key: record, expect: Expect::At(revision), value };
        let txn = Txn { guards: Vec::new(), writes: vec![write] };
        let outcome = self.store.commit(txn).await.expect("the store is there");
        assert!(matches!(outcome, CommitOutcome::Committed(_)), "{outcome:?}");
        let is_unread = |world: &World| world.quarantined().any(|(found, _)| *found == name);
        within(self.cluster.wait_for(is_unread)).await.expect("no shutdown");
    }

    async fn end(self) {
        self.cluster.shutdown(false).await;
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(STUCK, future).await.expect("it is stuck")
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, LinkError>) {
    assert!(matches!(outcome, Err(LinkError::Refused { .. })), "{outcome:?}");
}

fn record(labels: &[(&str, &str)]) -> Node {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let metadata = ObjectMeta { labels: labels.collect(), ..ObjectMeta::named("", OWN) };
    Node { metadata, ..Node::default() }
}

/// A node records its labels and status; what others gave it stays, and it gives itself no label that is theirs to give.
pub async fn a_node_records_itself_and_keeps_what_others_gave_it(fixture: &dyn LinkFixture) {
    let s = setting(fixture).await;
    let mut marked = record(&[("disk", "ssd")]);
    let effect = TaintEffect::NoSchedule;
    marked.spec.taints.push(Taint { key: "keep".to_owned(), effect, ..Taint::default() });
    s.cluster.apply(marked).await.expect("a good node");
    let mut own = record(&[("kubernetes.io/arch", "amd64")]);
    own.status.node_info.kernel_version = "6.1".to_owned();
    within(s.link.register(own)).await.expect("its own");
    let world = s.cluster.world();
    let node = world.node(OWN).expect("recorded");
    assert_eq!(node.metadata.labels.get("disk").map(String::as_str), Some("ssd"));
    assert_eq!(node.metadata.labels.get("kubernetes.io/arch").map(String::as_str), Some("amd64"));
    assert_eq!(node.spec.taints.len(), 1, "{:?}", node.spec.taints);
    assert_eq!(node.status.node_info.kernel_version, "6.1");
    refused(within(s.link.register(record(&[("disk", "nvme")]))).await);
    s.end().await;
}

/// Without a revision the list is complete and there at once; after one, what changed since comes when there is something.
pub async fn pods_are_listed_whole_and_then_by_what_changes(fixture: &dyn LinkFixture) {
    let s = setting(fixture).await;
    let (first, first_uid) = s.pod("a", OWN).await;
    s.pod("b", OTHER).await;
    let Assignments::Complete { revision, pods, .. } =
        within(s.link.assignments(None)).await.expect("a list")
    else {
        panic!("a complete list")
    };
    let [only] = pods.as_slice() else { panic!("its own alone: {pods:?}") };
    assert_eq!(only.key(), first);
    let whole = &s.cluster.world();
    assert_eq!(Some(only), whole.at::<Pod>(&first), "letter by letter");

    let waiting = s.link.assignments(Some(revision));
    let (changes, (second, _)) = tokio::join!(within(waiting), s.pod("c", OWN));
    let Ok(Assignments::Changes { revision, changed, removed }) = changes else {
        panic!("changes: {changes:?}")
    };
    assert_eq!(changed.iter().map(|pod| pod.key()).collect::<Vec<_>>(), [second]);
    assert_eq!(removed, []);

    s.cluster.delete(&first).await.expect("there");
    let mut after = revision;
    within(s.link.confirm_deleted(&first, first_uid)).await.expect("it was to go");
    loop {
        match within(s.link.assignments(Some(after))).await.expect("changes") {
            Assignments::Changes { removed, .. } if removed == [(first.clone(), first_uid)] => {
                break;
            }
            Assignments::Changes { revision, removed, .. } if removed.is_empty() => {
                after = revision
            }
            other => panic!("{other:?}"),
        }
    }
    s.end().await;
}

/// While a pod cannot be read nobody says that a list is whole, and once that one is gone a whole one comes without being asked for.
pub async fn s11_no_list_is_whole_while_a_pod_cannot_be_read(fixture: &dyn LinkFixture) {
    let s = setting(fixture).await;
    let (unread, _) = s.pod("a", OTHER).await;
    s.damage(RecordKey::main(unread.clone())).await;
    let told = within(s.link.assignments(None)).await.expect("what can be read");
    let Assignments::Changes { revision, changed, removed } = told else { panic!("{told:?}") };
    assert!(changed.is_empty() && removed.is_empty(), "{changed:?}, {removed:?}");
    let (own, uid) = s.pod("b", OWN).await;
    let told = within(s.link.assignments(Some(revision))).await.expect("changes");
    let Assignments::Changes { revision, changed, .. } = told else { panic!("{told:?}") };
    assert_eq!(changed.iter().map(|pod| pod.key()).collect::<Vec<_>>(), std::slice::from_ref(&own));

    let waiting = s.link.assignments(Some(revision));
    let (told, deleted) = tokio::join!(within(waiting), s.cluster.delete(&unread));
    deleted.expect("by name");
    let Ok(Assignments::Complete { pods, .. }) = told else { panic!("{told:?}") };
    assert_eq!(pods.iter().map(|pod| pod.key()).collect::<Vec<_>>(), std::slice::from_ref(&own));

    // What is wrong with a status alone hides no pod.
    let status = PodStatus { phase: PodPhase::Running, ..PodStatus::default() };
    within(s.link.write_status(&own, uid, status)).await.expect("its own");
    s.damage(RecordKey::status(own)).await;
    let told = within(s.link.assignments(None)).await;
    assert!(matches!(told, Ok(Assignments::Complete { .. })), "{told:?}");
    s.end().await;
}

/// A node whose status cannot be read is not heard before it has said anew what it is.
pub async fn s11_a_node_whose_status_cannot_be_read_is_to_register(fixture: &dyn LinkFixture) {
    let s = setting(fixture).await;
    let mut own = record(&[]);
    own.status.node_info.kernel_version = "6.1".to_owned();
    within(s.link.register(own.clone())).await.expect("its own");
    within(s.link.report(None)).await.expect("alive");
    s.damage(RecordKey::status(Key::node(OWN))).await;
    refused(within(s.link.report(None)).await);
    within(s.link.register(own)).await.expect("anew");
    within(s.link.report(None)).await.expect("alive");
    assert_eq!(s.cluster.world().quarantined().count(), 0);
    s.end().await;
}

/// The status of the node's own pods is recorded; of another's it is refused, of one that is gone there is nothing to do.
pub async fn a_status_is_written_of_own_pods_alone(fixture: &dyn LinkFixture) {
    let s = setting(fixture).await;
    let ((own, own_uid), (other, other_uid)) = (s.pod("a", OWN).await, s.pod("b", OTHER).await);
    let status = PodStatus { phase: PodPhase::Running, ..PodStatus::default() };
    let write = |key: Key, uid: Uid| {
        let (link, status) = (Arc::clone(&s.link), status.clone());
        async move { within(link.write_status(&key, uid, status)).await }
    };
    assert_eq!(write(own.clone(), own_uid).await.expect("its own"), StatusOutcome::Recorded);
    let world = s.cluster.world();
    assert_eq!(world.at::<Pod>(&own).map(|pod| pod.status.phase), Some(PodPhase::Running));
    refused(write(other.clone(), other_uid).await);
    let phase = s.cluster.world().at::<Pod>(&other).map(|pod| pod.status.phase);
    assert_eq!(phase, Some(PodPhase::Pending));
    assert_eq!(write(own, other_uid).await.expect("another's uid"), StatusOutcome::Gone);
    let nobody = Key::pod("default", "nobody");
    assert_eq!(write(nobody, own_uid).await.expect("no pod"), StatusOutcome::Gone);
    s.end().await;
}

/// A pod goes by its node's word only when somebody has asked for that.
pub async fn a_deletion_is_confirmed_of_pods_that_are_to_go(fixture: &dyn LinkFixture) {
    let s = setting(fixture).await;
    let ((own, own_uid), (other, other_uid)) = (s.pod("a", OWN).await, s.pod("b", OTHER).await);
    refused(within(s.link.confirm_deleted(&own, own_uid)).await);
    s.cluster.delete(&own).await.expect("there");
    s.cluster.delete(&other).await.expect("there");
    within(s.link.confirm_deleted(&own, other_uid)).await.expect("that one is gone");
    assert!(s.cluster.world().get(&own).is_some(), "the uid is another's");
    within(s.link.confirm_deleted(&own, own_uid)).await.expect("it was to go");
    assert!(s.cluster.world().get(&own).is_none());
    within(s.link.confirm_deleted(&own, own_uid)).await.expect("again");
    refused(within(s.link.confirm_deleted(&other, other_uid)).await);
    s.end().await;
}

/// A node tells events about itself and its pods, and about nobody else's.
pub async fn events_are_told_of_oneself_and_own_pods(fixture: &dyn LinkFixture) {
    let s = setting(fixture).await;
    let ((own, own_uid), (other, other_uid)) = (s.pod("a", OWN).await, s.pod("b", OTHER).await);
    let tell = |about: Key, uid: Uid| {
        let reason = "Told".to_owned();
        let message = format!("of {}", about.name);
        let note = EventNote { about, uid, kind: EventType::Normal, reason, message };
        within(s.link.event(note))
    };
    tell(own.clone(), own_uid).await.expect("its own");
    refused(tell(other, other_uid).await);
    refused(tell(Key::node(OTHER), Uid::default()).await);
    let told = s.cluster.wait_for(|world| {
        let mut events = world.all::<Event>(None);
        events.any(|event| event.involved_object.uid == own_uid && event.reason == "Told")
    });
    within(told).await.expect("no shutdown");
    s.end().await;
}

/// What a node reports is heard.
pub async fn a_report_is_heard(fixture: &dyn LinkFixture) {
    let s = setting(fixture).await;
    within(s.link.report(None)).await.expect("alive");
    let usage = NodeUsage { cpu_milli: 1_500, memory_bytes: 7, ..NodeUsage::default() };
    within(s.link.report(Some(usage.clone()))).await.expect("alive");
    let heard = s.cluster.wait_for(|world| world.signal(OWN).usage.as_deref() == Some(&usage));
    within(heard).await.expect("no shutdown");
    assert_eq!(s.cluster.world().signal(OTHER).usage, None);
    s.end().await;
}

/// A node is told of the network between pods: its slice and the other nodes, and again when one of these changes. Its own
/// key it tells itself.
pub async fn the_network_is_told_at_once_and_then_when_it_changes(fixture: &dyn LinkFixture) {
    let s = setting(fixture).await;
    let at = within(s.link.network(None)).await.expect("told");
    assert_eq!((at.network, at.is_expected), (None, false), "nobody asked for one");
    let mut revision = at.revision;
    let addressed = |name: &str, address: &str| {
        let kind = "InternalIP".to_owned();
        let status = NodeStatus {
            addresses: vec![NodeAddress { address: address.to_owned(), kind }],
            ..NodeStatus::default()
        };
        Node { metadata: ObjectMeta::named("", name), status, ..Node::default() }
    };
    let mut own = addressed(OWN, "192.0.2.1");
    own.metadata.annotations.insert(NETWORK_KEY_ANNOTATION.to_owned(), "key".to_owned());
    within(s.link.register(own)).await.expect("its own");
    let recorded = s.cluster.world().node(OWN).cloned().expect("there");
    let key = recorded.metadata.annotations.get(NETWORK_KEY_ANNOTATION);
    assert_eq!(key.map(String::as_str), Some("key"));
    let key = Key::node(OTHER);
    let object = addressed(OTHER, "192.0.2.2").into();
    let status = crate::api::Request::Update {
        key,
        part: Part::Status,
        object: Object::to_value(&object),
        options: crate::api::WriteOptions::default(),
    };
    let caller = crate::api::Caller::Admin { name: "suite".to_owned() };
    s.cluster.submit(&caller, status).await.expect("its status");
    let range = "10.9.0.0/16".parse().expect("a range");
    let setting = ClusterNetwork { encrypted: false, range };
    s.cluster.apply(setting.to_config_map()).await.expect("a good setting");
    let told = loop {
        let at = within(s.link.network(Some(revision))).await.expect("told");
        assert!(at.is_expected || at.network.is_none(), "{at:?}");
        revision = at.revision;
        match at.network {
            Some(network) if !network.peers.is_empty() => break network,
            Some(_) | None => {}
        }
    };
    assert_eq!((told.range, told.address.to_string()), (range, "192.0.2.1".to_owned()));
    let [peer] = told.peers.as_slice() else { panic!("one other: {told:?}") };
    assert_eq!((&*peer.node, peer.address.to_string()), (OTHER, "192.0.2.2".to_owned()));
    assert!(range.covers(peer.slice) && !peer.slice.overlaps(told.slice), "{told:?}");
    s.cluster.delete(&Key::node(OTHER)).await.expect("there");
    let at = within(s.link.network(Some(revision))).await.expect("told");
    assert_eq!(at.network, Some(NodeNetwork { peers: Vec::new(), ..told }));
    s.end().await;
}

/// A node that was removed is refused everything, also under a record of the same name, and what waits is told so.
pub async fn a_node_that_was_removed_is_refused_everything(fixture: &dyn LinkFixture) {
    let s = setting(fixture).await;
    let (pod, uid) = s.pod("a", OWN).await;
    let (link, newest) = (Arc::clone(&s.link), s.cluster.world().revision());
    let waiting = tokio::spawn(async move {
        let mut after: Revision = newest;
        loop {
            match within(link.assignments(Some(after))).await {
                Ok(Assignments::Changes { revision, .. }) => after = revision,
                Ok(Assignments::Complete { revision, .. }) => after = revision,
                Err(error) => return error,
            }
        }
    });
    s.cluster.delete(&Key::node(OWN)).await.expect("there");
    let error = within(waiting).await.expect("no panic");
    assert!(matches!(error, LinkError::Refused { .. }), "{error:?}");
    s.cluster.apply(record(&[])).await.expect("made anew");
    refused(within(s.link.register(record(&[]))).await);
    refused(within(s.link.assignments(None)).await);
    refused(within(s.link.write_status(&pod, uid, PodStatus::default())).await);
    refused(within(s.link.confirm_deleted(&pod, uid)).await);
    refused(within(s.link.report(None)).await);
    refused(within(s.link.network(None)).await);
    s.end().await;
}
