//! Keeping a number of pods, step by step.

use super::*;
use crate::model::{
    Container, LabelSelector, PodPhase, PodSpec, PodTemplate, ReplicaSetSpec, StringMap,
};
use crate::testkit::sandbox::Sandbox;

fn key() -> Key {
    Key::new(Kind::ReplicaSet, "default", "web")
}

fn labels(value: &str) -> StringMap {
    [("app".to_owned(), value.to_owned())].into()
}

fn web(replicas: i32) -> ReplicaSet {
    let spec = PodSpec { containers: vec![Container::new("web", "nginx")], ..PodSpec::default() };
    let template = PodTemplate {
        metadata: ObjectMeta { labels: labels("web"), ..ObjectMeta::default() },
        spec: spec.into(),
    };
    ReplicaSet {
        metadata: ObjectMeta {
            uid: Uid::from_uuid(uuid::Uuid::from_u128(7)),
            generation: 1,
            ..ObjectMeta::named("default", "web")
        },
        spec: ReplicaSetSpec {
            replicas: Some(replicas),
            selector: LabelSelector::from_labels(labels("web")),
            template,
            ..ReplicaSetSpec::default()
        },
        ..ReplicaSet::default()
    }
}

fn sandbox(set: ReplicaSet) -> Sandbox {
    let mut sandbox = Sandbox::new(vec![Box::new(ReplicaSetController)]);
    sandbox.put(set);
    sandbox.settle().expect("settled");
    sandbox
}

fn scale(sandbox: &mut Sandbox, replicas: i32) {
    sandbox.change(&key(), |set: &mut ReplicaSet| {
        set.spec.replicas = Some(replicas);
        set.metadata.generation += 1;
    });
    sandbox.settle().expect("settled");
}

fn slots(sandbox: &Sandbox) -> Vec<u32> {
    let pods = sandbox.world().all::<Pod>(None).filter(|pod| pod.is_active());
    let mut slots: Vec<_> = pods.filter_map(|pod| slot_of(pod)).collect();
    slots.sort_unstable();
    slots
}

#[test]
fn pods_get_their_names_slots_and_one_shared_spec() {
    let sandbox = sandbox(web(3));
    assert_eq!(slots(&sandbox), [0, 1, 2]);
    let set = sandbox.world().at::<ReplicaSet>(&key()).expect("set");
    for pod in sandbox.world().all::<Pod>(None) {
        assert!(pod.metadata.name.starts_with("web-") && pod.metadata.name.len() == 9);
        assert!(std::sync::Arc::ptr_eq(&pod.spec, &set.spec.template.spec));
        assert_eq!(pod.metadata.controller().map(|owner| owner.uid), Some(set.metadata.uid));
        assert_eq!(pod.metadata.creation_timestamp, Some(sandbox.now.to_time()));
    }
    assert_eq!(set.status.replicas, 3);
    assert_eq!(sandbox.events.len(), 1, "one event for all: {:?}", sandbox.events);
}

#[test]
fn a_deleted_pod_is_replaced_in_its_slot_under_another_name() {
    let mut sandbox = sandbox(web(2));
    sandbox.complete().expect("settled");
    let first = sandbox.active_pods("default")[0].clone();
    let slot = slot_of(sandbox.world().at::<Pod>(&first).expect("pod"));
    let now = sandbox.now;
    let stored = sandbox.world().get(&first).expect("pod").clone();
    let deletion = graceful_delete(&stored, None, now).expect("a change");
    sandbox.commit(&deletion).expect("no conflict");
    sandbox.settle().expect("settled");
    let active = sandbox.active_pods("default");
    assert!(active.len() == 2 && !active.contains(&first), "{active:?}");
    assert_eq!(slots(&sandbox), [0, 1]);
    let status = sandbox.world().at::<ReplicaSet>(&key()).expect("set").status.clone();
    assert_eq!((status.replicas, status.terminating_replicas), (2, 1));
    assert!(slot.is_some());
}

#[test]
fn pods_that_are_worth_least_go_first() {
    let mut sandbox = sandbox(web(4));
    let keys = sandbox.active_pods("default");
    for (key, node) in keys.iter().zip(["n1", "n1", "n2", ""]) {
        sandbox.change(key, |pod: &mut Pod| pod.node_name = node.to_owned());
    }
    for key in &keys[..3] {
        sandbox.set_ready(key, true);
    }
    scale(&mut sandbox, 3);
    assert!(!sandbox.active_pods("default").contains(&keys[3]), "the one without a node");
    scale(&mut sandbox, 2);
    let left = sandbox.active_pods("default");
    assert!(left.contains(&keys[2]), "the one alone on its node stays");
    sandbox.set_ready(&left[0], false);
    scale(&mut sandbox, 1);
    assert_eq!(sandbox.active_pods("default"), left[1..], "the one that is not ready goes");
    scale(&mut sandbox, 0);
    assert_eq!(sandbox.active_pods("default"), []);
}

#[test]
fn matching_pods_without_an_owner_are_adopted_and_strays_released() {
    let mut sandbox = sandbox(web(2));
    let mut loose = Pod::new("loose", "nginx");
    loose.metadata.labels = labels("web");
    sandbox.put(loose.clone());
    sandbox.settle().expect("settled");
    assert_eq!(sandbox.active_pods("default").len(), 2, "adopted, and one too many");
    let stray = sandbox.active_pods("default")[0].clone();
    sandbox.change(&stray, |pod: &mut Pod| pod.metadata.labels = labels("debug"));
    sandbox.settle().expect("settled");
    let stray = sandbox.world().at::<Pod>(&stray).expect("it lives on");
    assert!(stray.metadata.owner_references.is_empty() && stray.is_active());
    assert_eq!(sandbox.active_pods("default").len(), 3, "and was replaced");
}

#[test]
fn a_finished_pod_is_replaced_at_once_and_cleared_when_made_good() {
    let mut sandbox = sandbox(web(1));
    sandbox.complete().expect("settled");
    let first = sandbox.active_pods("default")[0].clone();
    sandbox.finish(&first, PodPhase::Failed);
    sandbox.settle().expect("settled");
    assert_eq!(sandbox.active_pods("default").len(), 1);
    assert!(sandbox.world().get(&first).is_some(), "kept to be looked at");
    sandbox.complete().expect("settled");
    assert!(sandbox.world().get(&first).is_none());
}

#[test]
fn pods_that_end_again_and_again_are_replaced_ever_more_slowly_and_do_not_pile_up() {
    let mut sandbox = sandbox(web(1));
    let start = sandbox.now;
    for _ in 0..20 {
        while sandbox.active_pods("default").is_empty() {
            let next = sandbox.next_timer().expect("a wish to go on");
            sandbox.advance(next.at.millis_since(sandbox.now).max(1));
            sandbox.settle().expect("settled");
        }
        let pod = sandbox.active_pods("default")[0].clone();
        sandbox.change(&pod, |pod: &mut Pod| pod.node_name = "n1".to_owned());
        sandbox.finish(&pod, PodPhase::Failed);
        sandbox.settle().expect("settled");
    }
    assert!(sandbox.world().all::<Pod>(None).count() <= FINISHED_KEPT_MAX + 1);
    assert!(sandbox.now.millis_since(start) > 10 * 100_000, "{:?}", sandbox.now);
}

#[test]
fn a_place_whose_names_are_all_held_is_told_of() {
    let mut sandbox = sandbox(web(1));
    for _ in 0..SLOT_ATTEMPTS_MAX {
        let pod = sandbox.active_pods("default")[0].clone();
        let now = sandbox.now.to_time();
        sandbox.change(&pod, |pod: &mut Pod| {
            pod.metadata.finalizers.push("example.org/hold".to_owned());
            pod.metadata.deletion_timestamp = Some(now);
        });
        sandbox.settle().expect("settled");
    }
    assert_eq!(sandbox.active_pods("default"), []);
    let condition = |sandbox: &Sandbox| {
        let set = sandbox.world().at::<ReplicaSet>(&key()).expect("set").clone();
        set.status.conditions.first().map(|failure| (failure.kind.clone(), failure.message.clone()))
    };
    let (kind, message) = condition(&sandbox).expect("a condition");
    assert_eq!(kind, "ReplicaFailure");
    assert!(message.contains("finalizers"), "{message}");
    let held = sandbox.world().all::<Pod>(None).next().expect("there").key();
    sandbox.remove(&held);
    sandbox.settle().expect("settled");
    assert_eq!(sandbox.active_pods("default").len(), 1);
    assert_eq!(condition(&sandbox), None);
}

#[test]
fn a_selector_that_misses_its_own_template_makes_nothing() {
    let mut set = web(3);
    set.spec.selector = LabelSelector::from_labels(labels("other"));
    let sandbox = sandbox(set);
    assert_eq!(sandbox.active_pods("default"), []);
    let set = sandbox.world().at::<ReplicaSet>(&key()).expect("set");
    assert_eq!(set.status.conditions[0].kind, "ReplicaFailure");
}

#[test]
fn a_late_decision_does_not_undo_a_scale_down() {
    let mut sandbox = Sandbox::new(vec![Box::new(ReplicaSetController)]);
    sandbox.put(web(5));
    let late = ReplicaSetController.reconcile(&key(), sandbox.world(), sandbox.now);
    scale(&mut sandbox, 2);
    assert_eq!(sandbox.execute(0, &key(), &late), 0);
    assert_eq!(sandbox.active_pods("default").len(), 2);
}
