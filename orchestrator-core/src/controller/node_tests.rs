//! Nodes that fall silent and come back, and what becomes of their pods.

use super::{DEFAULT_TOLERATION_SECONDS, NODE_GRACE_MS, NodeHealth, PodCollector, TaintEviction};
use crate::model::{
    ConditionStatus, Key, Node, NodeCondition, ObjectMeta, Pod, PodSpec, Resource, TAINT_NOT_READY,
    TAINT_UNREACHABLE, TAINT_UNSCHEDULABLE, Taint, TaintEffect, Toleration, TolerationOperator,
};
use crate::testkit::sandbox::Sandbox;
use crate::world::Signal;

const EVICTION_MS: i64 = DEFAULT_TOLERATION_SECONDS * 1000;

fn sandbox(nodes: &[&str]) -> Sandbox {
    let mut sandbox =
        Sandbox::new(vec![Box::new(NodeHealth), Box::new(TaintEviction), Box::new(PodCollector)]);
    for name in nodes {
        let mut node = Node { metadata: ObjectMeta::named("", name), ..Node::default() };
        node.status.conditions.push(NodeCondition {
            kind: "Ready".to_owned(),
            status: ConditionStatus::True,
            ..NodeCondition::default()
        });
        sandbox.put(node);
        sandbox.put(Pod { node_name: (*name).to_owned(), ..Pod::new(name, "nginx") });
        sandbox.set_ready(&Key::pod("default", name), true);
        hear(&mut sandbox, name);
    }
    sandbox.settle().expect("settled");
    sandbox
}

fn hear(sandbox: &mut Sandbox, node: &str) {
    let at = sandbox.now;
    sandbox.hear(Signal::Heartbeat { node: node.to_owned(), at });
}

/// Lets time pass while some nodes are heard every ten seconds.
fn pass(sandbox: &mut Sandbox, millis: i64, heard: &[&str]) {
    for _ in 0..millis / 10_000 {
        sandbox.advance(10_000);
        for node in heard {
            hear(sandbox, node);
        }
        sandbox.settle().expect("settled");
    }
}

/// Taints a node with what nobody tolerates and no controller knows.
fn taint_by_hand(sandbox: &mut Sandbox, node: &str) {
    let taint = Taint {
        key: "example.org/drain".to_owned(),
        effect: TaintEffect::NoExecute,
        ..Taint::default()
    };
    sandbox.change(&Key::node(node), |node: &mut Node| node.spec.taints.push(taint));
    sandbox.settle().expect("settled");
}

fn ready(sandbox: &Sandbox, node: &str) -> ConditionStatus {
    sandbox.world().node(node).expect("node").status.conditions[0].status
}

fn taints(sandbox: &Sandbox, node: &str) -> Vec<(String, TaintEffect)> {
    let node = sandbox.world().node(node).expect("node");
    let mut taints: Vec<_> =
        node.spec.taints.iter().map(|taint| (taint.key.clone(), taint.effect)).collect();
    taints.sort();
    taints
}

fn both(key: &str) -> Vec<(String, TaintEffect)> {
    [TaintEffect::NoExecute, TaintEffect::NoSchedule].map(|effect| (key.to_owned(), effect)).into()
}

fn pod(sandbox: &Sandbox, name: &str) -> Pod {
    Pod::clone(sandbox.world().find::<Pod>("default", name).expect("pod"))
}

fn leaves(sandbox: &Sandbox, name: &str) -> bool {
    pod(sandbox, name).metadata.is_deleting()
}

#[test]
fn a_silent_node_becomes_unreachable_and_is_believed_again_when_it_is_heard() {
    let mut sandbox = sandbox(&["n1", "n2"]);
    pass(&mut sandbox, NODE_GRACE_MS - 10_000, &["n2"]);
    assert_eq!(ready(&sandbox, "n1"), ConditionStatus::True);
    pass(&mut sandbox, 10_000, &["n2"]);
    assert_eq!(ready(&sandbox, "n1"), ConditionStatus::Unknown);
    assert_eq!(taints(&sandbox, "n1"), both(TAINT_UNREACHABLE));
    assert!(!pod(&sandbox, "n1").is_ready(), "nobody should be sent there");
    assert!(taints(&sandbox, "n2").is_empty() && pod(&sandbox, "n2").is_ready());
    hear(&mut sandbox, "n1");
    sandbox.settle().expect("settled");
    assert_eq!(ready(&sandbox, "n1"), ConditionStatus::True);
    assert_eq!(taints(&sandbox, "n1"), []);
    assert!(!leaves(&sandbox, "n1"));
}

#[test]
fn a_node_never_heard_is_not_condemned() {
    let mut sandbox = sandbox(&["n1"]);
    let mut restarted = Sandbox::new(vec![Box::new(NodeHealth), Box::new(TaintEviction)]);
    sandbox.put(Pod::new("other", "nginx"));
    for (_, stored) in sandbox.world().iter() {
        restarted.put(stored.object.clone());
    }
    restarted.advance(10 * NODE_GRACE_MS);
    restarted.restart();
    restarted.settle().expect("settled");
    assert_eq!(ready(&restarted, "n1"), ConditionStatus::True);
}

#[test]
fn pods_leave_a_lost_node_soon_unless_they_say_otherwise() {
    let mut sandbox = sandbox(&["n1", "n2", "n3"]);
    let toleration = |seconds| Toleration {
        key: TAINT_UNREACHABLE.to_owned(),
        operator: Some(TolerationOperator::Exists),
        toleration_seconds: seconds,
        ..Toleration::default()
    };
    // Of several the shortest counts.
    let patient = [Some(600), Some(20), None];
    for (name, seconds) in [("patient", &patient[..]), ("loyal", &[None])] {
        let mut pod = Pod { node_name: "n1".to_owned(), ..Pod::new(name, "nginx") };
        let tolerations = seconds.iter().copied().map(toleration).collect();
        pod.spec = PodSpec { tolerations, ..PodSpec::clone(&pod.spec) }.into();
        sandbox.put(pod);
    }
    pass(&mut sandbox, NODE_GRACE_MS, &["n2", "n3"]);
    sandbox.advance(EVICTION_MS - 1);
    sandbox.settle().expect("settled");
    assert!(!leaves(&sandbox, "n1"), "it may come back");
    sandbox.advance(1);
    sandbox.settle().expect("settled");
    assert!(leaves(&sandbox, "n1") && !leaves(&sandbox, "patient"));
    pass(&mut sandbox, 20_000, &["n2", "n3"]);
    assert!(leaves(&sandbox, "patient") && !leaves(&sandbox, "loyal") && !leaves(&sandbox, "n2"));
}

/// Lets seconds pass, in each of which some nodes are heard.
fn seconds(sandbox: &mut Sandbox, seconds: usize, heard: &[&str]) {
    for _ in 0..seconds {
        sandbox.advance(1_000);
        for node in heard {
            hear(sandbox, node);
        }
        sandbox.settle().expect("settled");
    }
}

#[test]
fn a_node_that_was_heard_each_second_is_given_up_within_five() {
    let mut sandbox = sandbox(&["n1", "n2", "n3"]);
    seconds(&mut sandbox, 30, &["n1", "n2", "n3"]);
    seconds(&mut sandbox, 1, &["n2", "n3"]);
    assert_eq!(ready(&sandbox, "n1"), ConditionStatus::True, "one report may be lost");
    seconds(&mut sandbox, 2, &["n2", "n3"]);
    assert_eq!(ready(&sandbox, "n1"), ConditionStatus::Unknown);
    seconds(&mut sandbox, 2, &["n2", "n3"]);
    assert!(leaves(&sandbox, "n1") && !leaves(&sandbox, "n2"));
}

#[test]
fn s15_a_pod_of_a_lost_node_keeps_its_name_until_its_node_is_deleted() {
    let mut sandbox = sandbox(&["n1", "n2", "n3"]);
    pass(&mut sandbox, NODE_GRACE_MS + EVICTION_MS + 10_000, &["n2", "n3"]);
    assert!(leaves(&sandbox, "n1"));
    let uid = pod(&sandbox, "n1").metadata.uid;
    // Long after its grace: nobody knows whether it still runs.
    pass(&mut sandbox, 3_600_000, &["n2", "n3"]);
    assert_eq!(pod(&sandbox, "n1").metadata.uid, uid);
    sandbox.remove(&Key::node("n1"));
    sandbox.settle().expect("settled");
    assert!(sandbox.world().find::<Pod>("default", "n1").is_none(), "its machine is gone for good");
}

#[test]
fn a_node_whose_connection_ends_is_missed_sooner_unless_it_is_heard_again() {
    let names = ["n1", "n2", "n3"];
    let mut sandbox = sandbox(&names);
    seconds(&mut sandbox, 30, &names);
    let cut = |sandbox: &mut Sandbox| {
        let at = sandbox.now;
        sandbox.hear(Signal::Cut { node: "n1".to_owned(), at });
    };
    cut(&mut sandbox);
    seconds(&mut sandbox, 2, &names);
    assert_eq!(ready(&sandbox, "n1"), ConditionStatus::True, "it has connected anew");
    cut(&mut sandbox);
    seconds(&mut sandbox, 1, &["n2", "n3"]);
    assert_eq!(ready(&sandbox, "n1"), ConditionStatus::True, "it may yet");
    sandbox.advance(500);
    sandbox.settle().expect("settled");
    assert_eq!(ready(&sandbox, "n1"), ConditionStatus::Unknown);
    hear(&mut sandbox, "n1");
    sandbox.settle().expect("settled");
    assert_eq!(ready(&sandbox, "n1"), ConditionStatus::True);
}

#[test]
fn nodes_that_fall_silent_together_are_given_up_one_after_the_other() {
    let names: Vec<String> = (0..10).map(|n| format!("n{n}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut sandbox = sandbox(&all);
    seconds(&mut sandbox, 30, &all);
    let left = |sandbox: &Sandbox| all[..4].iter().filter(|name| leaves(sandbox, name)).count();
    let mut seen = Vec::new();
    for _ in 0..4 {
        seconds(&mut sandbox, 10, &all[4..]);
        seen.push(left(&sandbox));
    }
    assert!(all[..4].iter().all(|name| ready(&sandbox, name) == ConditionStatus::Unknown));
    assert_eq!(seen, [1, 2, 3, 4], "each ten seconds a tenth of ten nodes");
    assert!(!all[4..].iter().any(|name| leaves(&sandbox, name)));
}

#[test]
fn of_lost_nodes_the_one_lost_longest_is_given_up_first_whichever_is_asked_about_first() {
    let names = ["n1", "n2", "n3", "n4", "n5"];
    let mut sandbox = sandbox(&names);
    seconds(&mut sandbox, 30, &names);
    seconds(&mut sandbox, 1, &names[..4]);
    seconds(&mut sandbox, 1, &names[1..4]);
    // Nobody has looked yet when both are lost: n5 two seconds ago, n1 one second ago.
    sandbox.now = sandbox.now.plus_millis(8_000);
    for heard in &names[1..4] {
        sandbox.hear(Signal::Heartbeat { node: (*heard).to_owned(), at: sandbox.now });
    }
    let given_up = |sandbox: &Sandbox, name| {
        taints(sandbox, name).contains(&(TAINT_UNREACHABLE.to_owned(), TaintEffect::NoExecute))
    };
    sandbox.run(0, &Key::node("n1"));
    assert!(!given_up(&sandbox, "n1"), "n5 is before it");
    sandbox.run(0, &Key::node("n5"));
    assert!(given_up(&sandbox, "n5"));
    seconds(&mut sandbox, 12, &names[1..4]);
    assert!(given_up(&sandbox, "n1"), "its turn has come");
}

#[test]
fn a_node_that_is_not_ready_and_then_falls_silent_was_given_up_once() {
    let mut sandbox = sandbox(&["n1", "n2", "n3"]);
    sandbox.change(&Key::node("n1"), |node: &mut Node| {
        node.status.conditions[0].status = ConditionStatus::False;
    });
    sandbox.settle().expect("settled");
    let given_up_at = |sandbox: &Sandbox, key: &str| {
        let node = sandbox.world().node("n1").expect("node");
        let is_it = |taint: &&Taint| taint.key == key && taint.effect == TaintEffect::NoExecute;
        node.spec.taints.iter().find(is_it).and_then(|taint| taint.time_added)
    };
    let first = given_up_at(&sandbox, TAINT_NOT_READY);
    assert!(first.is_some());
    pass(&mut sandbox, NODE_GRACE_MS + 20_000, &["n2", "n3"]);
    assert_eq!(taints(&sandbox, "n1"), both(TAINT_UNREACHABLE));
    assert_eq!(given_up_at(&sandbox, TAINT_UNREACHABLE), first);
}

#[test]
fn nobody_is_evicted_when_most_nodes_seem_lost() {
    let mut sandbox = sandbox(&["n1", "n2", "n3"]);
    pass(&mut sandbox, NODE_GRACE_MS + EVICTION_MS + 60_000, &["n3"]);
    assert!(!leaves(&sandbox, "n1") && !leaves(&sandbox, "n2"));
    pass(&mut sandbox, 20_000, &["n2", "n3"]);
    assert!(leaves(&sandbox, "n1"), "one lost node is a lost node");
    assert!(!leaves(&sandbox, "n2"));
}

#[test]
fn while_most_nodes_seem_lost_a_taint_of_somebody_elses_evicts_as_ever() {
    let mut sandbox = sandbox(&["n1", "n2", "n3"]);
    pass(&mut sandbox, NODE_GRACE_MS + EVICTION_MS + 60_000, &["n3"]);
    taint_by_hand(&mut sandbox, "n1");
    assert!(leaves(&sandbox, "n1") && !leaves(&sandbox, "n2"));
}

#[test]
fn the_only_node_keeps_its_pods() {
    let mut sandbox = sandbox(&["n1"]);
    pass(&mut sandbox, NODE_GRACE_MS + EVICTION_MS + 60_000, &[]);
    assert_eq!(ready(&sandbox, "n1"), ConditionStatus::Unknown);
    assert!(!leaves(&sandbox, "n1"));
}

#[test]
fn a_node_that_is_not_ready_or_cordoned_is_tainted() {
    let mut sandbox = sandbox(&["n1", "n2"]);
    sandbox.change(&Key::node("n1"), |node: &mut Node| {
        node.status.conditions[0].status = ConditionStatus::False;
        node.spec.unschedulable = true;
    });
    sandbox.settle().expect("settled");
    let mut expected = both(TAINT_NOT_READY);
    expected.push((TAINT_UNSCHEDULABLE.to_owned(), TaintEffect::NoSchedule));
    assert_eq!(taints(&sandbox, "n1"), expected);
    sandbox.change(&Key::node("n1"), |node: &mut Node| {
        node.status.conditions[0].status = ConditionStatus::True;
        node.spec.unschedulable = false;
    });
    sandbox.settle().expect("settled");
    assert_eq!(taints(&sandbox, "n1"), []);
}

#[test]
fn a_taint_that_is_not_tolerated_evicts_at_once_and_stays() {
    let mut sandbox = sandbox(&["n1", "n2"]);
    taint_by_hand(&mut sandbox, "n1");
    assert!(leaves(&sandbox, "n1") && !leaves(&sandbox, "n2"));
    assert_eq!(taints(&sandbox, "n1").len(), 1);
    let late = Pod { node_name: "n1".to_owned(), ..Pod::new("late", "nginx") };
    sandbox.put(late.clone());
    sandbox.settle().expect("settled");
    assert!(leaves(&sandbox, "late"), "{}", late.key());
}
