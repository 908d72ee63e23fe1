//! Rollouts, step by step.

use super::*;
use crate::controller::ReplicaSetController;
use crate::model::{
    ConditionStatus, Container, DeploymentStrategy, Pod, TEMPLATE_HASH_LABEL, Uid, condition_status,
};
use crate::testkit::sandbox::Sandbox;

fn sandbox(mut deployment: Deployment) -> Sandbox {
    let mut sandbox =
        Sandbox::new(vec![Box::new(DeploymentController), Box::new(ReplicaSetController)]);
    deployment.metadata.uid = Uid::from_uuid(uuid::Uuid::from_u128(7));
    deployment.metadata.generation = 1;
    sandbox.put(deployment);
    sandbox
}

fn key() -> Key {
    Key::new(Kind::Deployment, "default", "web")
}

fn web(replicas: i32) -> Deployment {
    let mut web = Deployment::new("web", "nginx").replicas(replicas);
    set_image(&mut web, "v1");
    web
}

fn bounded(replicas: i32, surge: i32, unavailable: i32) -> Deployment {
    let mut web = web(replicas);
    web.spec.strategy.rolling_update = Some(RollingUpdate {
        max_surge: Some(CountOrPercent::Count(surge)),
        max_unavailable: Some(CountOrPercent::Count(unavailable)),
    });
    web
}

fn edit(sandbox: &mut Sandbox, edit: impl FnOnce(&mut Deployment)) {
    sandbox.change(&key(), |deployment: &mut Deployment| {
        edit(deployment);
        deployment.metadata.generation += 1;
    });
}

fn set_image(deployment: &mut Deployment, image: &str) {
    let spec = std::sync::Arc::make_mut(&mut deployment.spec.template.spec);
    spec.containers = vec![Container::new("web", image)];
}

/// Images and sizes of the replica sets, the oldest revision first.
fn sizes(sandbox: &Sandbox) -> Vec<(String, i32)> {
    let mut sets: Vec<_> = sandbox.world().all::<ReplicaSet>(None).collect();
    sets.sort_by_key(|set| set.metadata.annotations[REVISION_ANNOTATION].parse::<i64>().ok());
    let image = |set: &ReplicaSet| set.spec.template.spec.containers[0].image.clone();
    sets.into_iter().map(|set| (image(set), size(set))).collect()
}

fn size_of(sandbox: &Sandbox, image: &str) -> i32 {
    sizes(sandbox).into_iter().find(|(found, _)| found == image).map_or(0, |(_, size)| size)
}

fn progress(sandbox: &Sandbox) -> (ConditionStatus, String) {
    let deployment = sandbox.world().at::<Deployment>(&key()).expect("deployment");
    let conditions = &deployment.status.conditions;
    let reason = conditions.iter().find(|condition| condition.kind == "Progressing");
    let reason = reason.map(|condition| condition.reason.clone()).unwrap_or_default();
    (condition_status(conditions, "Progressing"), reason)
}

/// Makes the first pod of an image that is not ready run and be ready; returns whether there was one.
fn ready_one(sandbox: &mut Sandbox, image: &str) -> bool {
    let pods: Vec<_> = sandbox.world().all::<Pod>(None).cloned().collect();
    let next = pods
        .iter()
        .find(|pod| pod.is_active() && !pod.is_ready() && pod.spec.containers[0].image == image);
    if let Some(pod) = next {
        sandbox.change(&pod.key(), |pod: &mut Pod| pod.node_name = "n1".to_owned());
        sandbox.set_ready(&pod.key(), true);
    }
    next.is_some()
}

#[test]
fn a_new_deployment_becomes_available() {
    let mut sandbox = sandbox(web(3));
    sandbox.complete().expect("settled");
    assert!(sandbox.world().deployment("web").is_available());
    assert_eq!(sandbox.active_pods("default").len(), 3);
    assert_eq!(progress(&sandbox), (ConditionStatus::True, "NewReplicaSetAvailable".to_owned()));
    let deployment = sandbox.world().deployment("web");
    assert_eq!(deployment.metadata.annotations[REVISION_ANNOTATION], "1");
    let set = sandbox.world().all::<ReplicaSet>(None).next().expect("replica set");
    let hash = &set.metadata.labels[TEMPLATE_HASH_LABEL];
    assert_eq!(set.metadata.name, format!("web-{hash}"));
    assert_eq!(set.spec.selector.match_labels[TEMPLATE_HASH_LABEL], *hash);
}

#[test]
fn a_new_template_rolls_within_its_bounds() {
    let mut sandbox = sandbox(bounded(3, 1, 0));
    sandbox.complete().expect("settled");
    edit(&mut sandbox, |deployment| set_image(deployment, "v2"));
    let mut steps = Vec::new();
    loop {
        sandbox.settle().expect("settled");
        steps.push((size_of(&sandbox, "v1"), size_of(&sandbox, "v2")));
        let pods: Vec<_> = sandbox.world().all::<Pod>(None).cloned().collect();
        for pod in pods.iter().filter(|pod| pod.metadata.is_deleting()) {
            sandbox.remove(&pod.key());
        }
        sandbox.settle().expect("settled");
        if !ready_one(&mut sandbox, "v2") {
            break;
        }
    }
    assert_eq!(steps, [(3, 1), (2, 2), (1, 3), (0, 3)]);
    assert!(sandbox.world().deployment("web").is_available());
    assert_eq!(sandbox.world().deployment("web").metadata.annotations[REVISION_ANNOTATION], "2");
}

#[test]
fn a_bad_template_never_takes_the_old_pods_below_the_bound_and_a_good_one_frees_it() {
    let mut sandbox = sandbox(bounded(4, 1, 1));
    sandbox.complete().expect("settled");
    edit(&mut sandbox, |deployment| set_image(deployment, "bad"));
    sandbox.settle().expect("settled");
    assert_eq!(sizes(&sandbox), [("v1".to_owned(), 3), ("bad".to_owned(), 2)]);
    sandbox.advance(600_000);
    sandbox.settle().expect("settled");
    let failed = (ConditionStatus::False, "ProgressDeadlineExceeded".to_owned());
    assert_eq!(progress(&sandbox), failed);
    assert_eq!(size_of(&sandbox, "v1"), 3, "the old pods keep running");

    edit(&mut sandbox, |deployment| set_image(deployment, "v3"));
    sandbox.settle().expect("settled");
    assert_eq!(progress(&sandbox), (ConditionStatus::True, "ReplicaSetUpdated".to_owned()));
    sandbox.complete().expect("settled");
    assert!(sandbox.world().deployment("web").is_available());
    assert_eq!(size_of(&sandbox, "bad"), 0);
}

#[test]
fn rolling_back_uses_the_old_replica_set_again() {
    let mut sandbox = sandbox(web(2));
    sandbox.complete().expect("settled");
    let first = sandbox.world().all::<ReplicaSet>(None).next().expect("one").metadata.uid;
    edit(&mut sandbox, |deployment| set_image(deployment, "v2"));
    sandbox.complete().expect("settled");
    edit(&mut sandbox, |deployment| set_image(deployment, "v1"));
    sandbox.complete().expect("settled");
    assert_eq!(sizes(&sandbox), [("v2".to_owned(), 0), ("v1".to_owned(), 2)]);
    let set = sandbox.world().by_uid(first).expect("still there").object.meta().clone();
    assert_eq!(set.annotations[REVISION_ANNOTATION], "3");
    assert_eq!(set.annotations[history::HISTORY_ANNOTATION], "1");
    assert_eq!(sandbox.world().deployment("web").metadata.annotations[REVISION_ANNOTATION], "3");
}

#[test]
fn a_default_written_out_by_a_newer_version_replaces_nothing() {
    let mut sandbox = sandbox(web(2));
    sandbox.complete().expect("settled");
    edit(&mut sandbox, |deployment| {
        let spec = std::sync::Arc::make_mut(&mut deployment.spec.template.spec);
        crate::model::admit::complete_pod_spec(spec);
    });
    sandbox.complete().expect("settled");
    assert_eq!(sandbox.world().all::<ReplicaSet>(None).count(), 1);
}

#[test]
fn recreate_waits_until_the_last_old_pod_is_really_gone() {
    let mut deployment = web(2);
    deployment.spec.strategy =
        DeploymentStrategy { kind: Some(StrategyType::Recreate), rolling_update: None };
    let mut sandbox = sandbox(deployment);
    sandbox.complete().expect("settled");
    edit(&mut sandbox, |deployment| set_image(deployment, "v2"));
    sandbox.settle().expect("settled");
    assert_eq!(sizes(&sandbox), [("v1".to_owned(), 0)]);
    let old: Vec<_> = sandbox.world().all::<Pod>(None).map(|pod| pod.key()).collect();
    assert_eq!(old.len(), 2, "still being stopped");
    sandbox.remove(&old[0]);
    sandbox.settle().expect("settled");
    assert_eq!(sizes(&sandbox).len(), 1, "one is left");
    sandbox.remove(&old[1]);
    sandbox.settle().expect("settled");
    assert_eq!(sizes(&sandbox), [("v1".to_owned(), 0), ("v2".to_owned(), 2)]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut sandbox = sandbox(web(2));
    sandbox.complete().expect("settled");
    edit(&mut sandbox, |deployment| {
        deployment.spec.paused = true;
        deployment.spec.replicas = Some(4);
        set_image(deployment, "v2");
    });
    sandbox.complete().expect("settled");
    assert_eq!(sizes(&sandbox), [("v1".to_owned(), 4)]);
    assert_eq!(progress(&sandbox), (ConditionStatus::Unknown, "DeploymentPaused".to_owned()));
    edit(&mut sandbox, |deployment| deployment.spec.paused = false);
    sandbox.complete().expect("settled");
    assert_eq!(sizes(&sandbox), [("v1".to_owned(), 0), ("v2".to_owned(), 4)]);
}

#[test]
fn scaling_in_the_middle_of_a_rollout_keeps_the_proportions() {
    let mut sandbox = sandbox(bounded(10, 3, 2));
    sandbox.complete().expect("settled");
    edit(&mut sandbox, |deployment| set_image(deployment, "bad"));
    sandbox.settle().expect("settled");
    assert_eq!(sizes(&sandbox), [("v1".to_owned(), 8), ("bad".to_owned(), 5)]);
    edit(&mut sandbox, |deployment| deployment.spec.replicas = Some(15));
    sandbox.settle().expect("settled");
    // Kubernetes' documented example: of 15 + 3 places, 11 and 7.
    assert_eq!(sizes(&sandbox), [("v1".to_owned(), 11), ("bad".to_owned(), 7)]);
    edit(&mut sandbox, |deployment| deployment.spec.replicas = Some(4));
    sandbox.settle().expect("settled");
    // And the rollout goes on within the new bounds.
    assert_eq!(sizes(&sandbox), [("v1".to_owned(), 2), ("bad".to_owned(), 4)]);
    let ready = sandbox.world().all::<Pod>(None).filter(|pod| pod.is_ready() && pod.is_active());
    assert!(ready.count() >= 2);
}

#[test]
fn only_so_many_old_replica_sets_are_kept() {
    let mut deployment = web(1);
    deployment.spec.revision_history_limit = Some(2);
    let mut sandbox = sandbox(deployment);
    for image in ["v1", "v2", "v3", "v4", "v5"] {
        edit(&mut sandbox, |deployment| set_image(deployment, image));
        sandbox.complete().expect("settled");
    }
    let kept: Vec<_> = sizes(&sandbox).into_iter().map(|(image, _)| image).collect();
    assert_eq!(kept, ["v3", "v4", "v5"]);
}

#[test]
fn a_taken_name_is_not_taken_over() {
    let mut sandbox = sandbox(web(1));
    let first = template::new_replica_set(&web(1), sandbox.world(), sandbox.now).expect("a name");
    let mut metadata = ObjectMeta::named("default", &first.metadata.name);
    metadata.uid = Uid::from_uuid(uuid::Uuid::from_u128(8));
    let other = ReplicaSet { metadata, ..ReplicaSet::default() };
    sandbox.forget(None);
    sandbox.put(other.clone());
    sandbox.restart();
    sandbox.complete().expect("settled");
    assert!(sandbox.world().deployment("web").is_available());
    let untouched = sandbox.world().at::<ReplicaSet>(&other.key()).expect("still there");
    assert_eq!(untouched.spec, other.spec);
    assert_eq!(sandbox.world().all::<ReplicaSet>(None).count(), 2);
}

#[test]
fn an_orphaned_replica_set_is_adopted_and_a_stray_one_released() {
    let mut sandbox = sandbox(web(2));
    sandbox.complete().expect("settled");
    let set = sandbox.world().all::<ReplicaSet>(None).next().expect("one").key();
    sandbox.change(&set, |set: &mut ReplicaSet| set.metadata.owner_references.clear());
    sandbox.settle().expect("settled");
    let owned = |sandbox: &Sandbox| {
        let set = sandbox.world().at::<ReplicaSet>(&set).expect("still there");
        set.metadata.controller().is_some()
    };
    assert!(owned(&sandbox), "adopted");
    assert_eq!(sandbox.world().all::<ReplicaSet>(None).count(), 1);
    sandbox.change(&set, |set: &mut ReplicaSet| {
        set.metadata.labels.insert("app".to_owned(), "other".to_owned());
    });
    sandbox.complete().expect("settled");
    assert!(!owned(&sandbox), "released");
    assert_eq!(sandbox.world().all::<ReplicaSet>(None).count(), 2);
}

#[test]
fn pods_count_as_available_only_after_their_minimum_time() {
    let mut deployment = web(1);
    deployment.spec.min_ready_seconds = 20;
    let mut sandbox = sandbox(deployment);
    for _ in 0..3 {
        sandbox.settle().expect("settled");
        sandbox.run_pods();
    }
    sandbox.settle().expect("settled");
    let status = |sandbox: &Sandbox| sandbox.world().deployment("web").status.clone();
    assert_eq!((status(&sandbox).ready_replicas, status(&sandbox).available_replicas), (1, 0));
    sandbox.advance(20_000);
    sandbox.settle().expect("settled");
    assert_eq!(status(&sandbox).available_replicas, 1);
}

#[test]
fn nothing_is_made_in_a_namespace_that_is_going() {
    let mut sandbox = sandbox(web(1));
    let mut metadata = ObjectMeta::named("", "default");
    metadata.deletion_timestamp = Some(sandbox.now.to_time());
    sandbox.put(crate::model::Namespace { metadata, ..Default::default() });
    sandbox.settle().expect("settled");
    assert_eq!(sandbox.world().all::<ReplicaSet>(None).count(), 0);
    let conditions = &sandbox.world().deployment("web").status.conditions;
    assert_eq!(condition_status(conditions, "ReplicaFailure"), ConditionStatus::True);
}
