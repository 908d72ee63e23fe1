//! Delete: grace, cascade, preconditions.

use super::*;
use crate::model::Time;

fn with_running_pod() -> (Bench, Key) {
    let mut bench = Bench::new();
    let mut sent = pod("web");
    sent["spec"]["nodeName"] = json!("n1");
    bench.create(Kind::Pod, "default", sent);
    (bench, key(Kind::Pod, "web"))
}

#[test]
fn a_running_pod_is_marked_and_goes_when_its_grace_is_cut_to_nothing() {
    let (mut bench, web) = with_running_pod();
    let effect = bench.submit(&delete(&web, DeleteOptions::default())).expect("valid");
    assert!(!effect.deleted);
    let meta = bench.get(&web).meta().clone();
    assert_eq!(meta.deletion_timestamp, Some(Time::from_seconds(1_000_030)));
    assert_eq!(effect.reply.meta().deletion_timestamp, meta.deletion_timestamp);
    let again = bench.submit(&delete(&web, DeleteOptions::default())).expect("valid");
    assert_eq!(again.proposal, None, "it is on its way already");
    let now = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
    let effect = bench.submit(&delete(&web, now)).expect("valid");
    assert!(effect.deleted && bench.world.get(&web).is_none());
}

#[test]
fn preconditions_are_checked_before_anything_goes() {
    let (mut bench, web) = with_running_pod();
    let uid = Some(Uid::from_uuid(uuid::Uuid::from_u128(99)));
    let wrong = Preconditions { uid, revision: None };
    let options = DeleteOptions { preconditions: wrong, ..DeleteOptions::default() };
    assert!(bench.refuse(&delete(&web, options)).contains("the object's uid is"));
    let stale = Preconditions { uid: None, revision: Some(Revision(1)) };
    let options = DeleteOptions { preconditions: stale, ..DeleteOptions::default() };
    assert!(bench.refuse(&delete(&web, options)).contains("has been modified"));
}

#[test]
fn cascades_are_finalizers_for_the_garbage_collector() {
    for (cascade, finalizer) in
        [(Cascade::Foreground, "foregroundDeletion"), (Cascade::Orphan, "orphan")]
    {
        let mut bench = Bench::new();
        bench.create(Kind::Deployment, "default", deployment("web"));
        let web = key(Kind::Deployment, "web");
        let options = DeleteOptions { cascade, ..DeleteOptions::default() };
        let effect = bench.submit(&delete(&web, options)).expect("valid");
        assert!(!effect.deleted);
        assert_eq!(bench.get(&web).meta().finalizers, [finalizer]);
        assert!(bench.get(&web).meta().is_deleting());
    }
    let mut bench = Bench::new();
    bench.create(Kind::Deployment, "default", deployment("web"));
    let web = key(Kind::Deployment, "web");
    assert!(bench.submit(&delete(&web, DeleteOptions::default())).expect("valid").deleted);
}

#[test]
fn a_deletion_under_way_can_change_its_cascade() {
    let mut bench = Bench::new();
    bench.create(Kind::Deployment, "default", deployment("web"));
    let web = key(Kind::Deployment, "web");
    for (cascade, finalizer) in
        [(Cascade::Foreground, "foregroundDeletion"), (Cascade::Orphan, "orphan")]
    {
        let options = DeleteOptions { cascade, ..DeleteOptions::default() };
        bench.submit(&delete(&web, options)).expect("valid");
        assert_eq!(bench.get(&web).meta().finalizers, [finalizer]);
    }
}

#[test]
fn namespaces_every_cluster_needs_stay() {
    let mut bench = Bench::new();
    let default = Key::cluster(Kind::Namespace, "default");
    assert_eq!(
        bench.refuse(&delete(&default, DeleteOptions::default())),
        "namespaces \"default\" is forbidden: this namespace may not be deleted"
    );
}

#[test]
fn a_dry_run_deletes_nothing() {
    let (mut bench, web) = with_running_pod();
    let options =
        DeleteOptions { dry_run: true, grace_seconds: Some(0), ..DeleteOptions::default() };
    let effect = bench.submit(&delete(&web, options)).expect("valid");
    assert!(effect.deleted && effect.proposal.is_none());
    assert!(bench.world.get(&web).is_some());
}
