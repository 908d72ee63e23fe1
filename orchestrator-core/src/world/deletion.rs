//! How an object is deleted: at once, or marked and left until whoever holds it lets go.
//!
//! The one place that knows it; the API's delete, controllers and the agent's confirmation all go through it.
//! Pure. What must hold: a deletion mark is never taken back (S25), and no held object is removed.

use std::sync::Arc;

use super::{ObjectWrite, Proposal, Stored};
use crate::model::{Namespace, NamespacePhase, Object, Pod, Resource, Time, Timestamp};
use crate::mutants::{self, Mutant};

/// The longest grace a deletion is given, in seconds (a year); a longer one counts as this.
pub const GRACE_SECONDS_MAX: i64 = 365 * 24 * 60 * 60;

/// Proposes to delete an object as Kubernetes does; `None` when its deletion is under way and this changes nothing.
///
/// `grace` is in seconds and concerns pods; `None` is the pod's own. Pods without a node and finished ones need no
/// grace. Without grace and finalizers the record goes at once; otherwise the object gets a `deletionTimestamp`
/// (`now` plus grace) and stays until nothing [holds](is_held) it. A second deletion can only shorten the grace.
pub fn graceful_delete(stored: &Stored, grace: Option<i64>, now: Timestamp) -> Option<Proposal> {
    let object = &stored.object;
    let known = object.meta().deletion_timestamp.map(|at| {
        let grace = object.meta().deletion_grace_period_seconds.unwrap_or(0);
        (at, grace)
    });
    let (at, grace) = match known {
        None => {
            let grace = grace_of(object, grace);
            (plus(now.to_time(), grace), grace)
        }
        Some((at, known)) => {
            // A deletion in progress keeps its grace unless a shorter one is asked for.
            let shorter = grace_of(object, grace.or(Some(known))).min(known);
            (plus(at, shorter - known), shorter)
        }
    };
    let mut marked = object.clone();
    let meta = marked.meta_mut();
    meta.deletion_timestamp = Some(at);
    meta.deletion_grace_period_seconds = Some(grace);
    if !is_held(&marked) {
        return Some(Proposal::delete(stored));
    }
    if known == Some((at, grace)) {
        return None;
    }
    if object.meta().generation > 0 {
        marked.meta_mut().generation = object.meta().generation.saturating_add(1);
    }
    let mut proposal = Proposal::put_main(stored, marked);
    proposal.writes.extend(terminating(stored));
    Some(proposal)
}

/// Whether something must still happen before an object whose deletion was asked for may be removed: a finalizer's
/// duty, or an agent's confirmation that nothing of the pod is left.
pub fn is_held(object: &Object) -> bool {
    let meta = object.meta();
    if !meta.finalizers.is_empty() {
        return true;
    }
    if let Some(namespace) = Namespace::from_object(object) {
        return !namespace.spec.finalizers.is_empty();
    }
    !mutants::on(Mutant::GoneUnconfirmed)
        && Pod::from_object(object)
            .is_some_and(|pod| pod.is_bound() && meta.deletion_grace_period_seconds != Some(0))
}

/// Seconds of grace an object gets when `wanted` is asked for.
fn grace_of(object: &Object, wanted: Option<i64>) -> i64 {
    match Pod::from_object(object) {
        Some(pod) if pod.is_bound() && !pod.is_finished() => {
            // Kubernetes reads a negative grace as the shortest that is one. So is a pod's own zero here: only who asks for it lets a
            // name go before the agent says that nothing is left of the pod (S15).
            let grace = wanted.unwrap_or_else(|| pod.spec.grace_seconds().max(1));
            if grace < 0 { 1 } else { grace.min(GRACE_SECONDS_MAX) }
        }
        Some(_) | None => 0,
    }
}

fn plus(time: Time, seconds: i64) -> Time {
    Time::from_seconds(time.as_seconds().saturating_add(seconds))
}

/// The phase of a namespace turns with its mark. A namespace without a status record gets it from its controller.
fn terminating(stored: &Stored) -> Option<ObjectWrite> {
    let namespace = Namespace::from_object(&stored.object)?;
    let status = Some(stored.status?);
    let mut namespace = Arc::clone(namespace);
    Arc::make_mut(&mut namespace).status.phase = Some(NamespacePhase::Terminating);
    Some(ObjectWrite::PutStatus { object: namespace.into(), main: stored.main, status })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConfigMap, ObjectMeta, PodPhase, Revision};

    const NOW: Timestamp = Timestamp::from_millis(1_000_500);

    fn stored(object: impl Into<Object>) -> Stored {
        Stored { object: object.into(), main: Revision(3), status: None }
    }

    fn bound(name: &str) -> Pod {
        Pod { node_name: "n1".to_owned(), ..Pod::new(name, "nginx") }
    }

    #[track_caller]
    fn mark(stored: &Stored, grace: Option<i64>) -> ObjectMeta {
        let proposal = graceful_delete(stored, grace, NOW).expect("a change");
        match &proposal.writes[..] {
            [ObjectWrite::PutMain { object, .. }] => object.meta().clone(),
            other => panic!("no mark: {other:?}"),
        }
    }

    #[track_caller]
    fn goes_at_once(stored: &Stored, grace: Option<i64>) {
        assert_eq!(graceful_delete(stored, grace, NOW), Some(Proposal::delete(stored)));
    }

    #[test]
    fn what_nothing_holds_goes_at_once() {
        goes_at_once(&stored(ConfigMap::default()), None);
        goes_at_once(&stored(Pod::new("pending", "nginx")), Some(60));
        goes_at_once(&stored(bound("forced")), Some(0));
        let mut finished = bound("finished");
        finished.status.phase = PodPhase::Failed;
        goes_at_once(&stored(finished), None);
    }

    #[test]
    fn a_running_pod_gets_its_grace() {
        let meta = mark(&stored(bound("web")), None);
        assert_eq!(meta.deletion_timestamp, Some(Time::from_seconds(1030)));
        assert_eq!(meta.deletion_grace_period_seconds, Some(30));
        assert_eq!(mark(&stored(bound("web")), Some(-5)).deletion_grace_period_seconds, Some(1));
        let longest = mark(&stored(bound("web")), Some(i64::MAX));
        assert_eq!(longest.deletion_grace_period_seconds, Some(GRACE_SECONDS_MAX));
    }

    #[test]
    fn s15_a_pod_without_grace_of_its_own_keeps_its_name_until_its_agent_lets_go() {
        let mut pod = bound("db-0");
        Arc::make_mut(&mut pod.spec).termination_grace_period_seconds = Some(0);
        let pod = stored(pod);
        assert_eq!(mark(&pod, None).deletion_grace_period_seconds, Some(1));
        goes_at_once(&pod, Some(0));
    }

    #[test]
    fn a_second_deletion_only_shortens_the_grace() {
        let mut pod = bound("web");
        pod.metadata.deletion_timestamp = Some(Time::from_seconds(1030));
        pod.metadata.deletion_grace_period_seconds = Some(30);
        let pod = stored(pod);
        assert_eq!(graceful_delete(&pod, None, NOW), None);
        assert_eq!(graceful_delete(&pod, Some(90), NOW), None);
        let meta = mark(&pod, Some(5));
        assert_eq!(meta.deletion_timestamp, Some(Time::from_seconds(1005)));
        goes_at_once(&pod, Some(0));
    }

    #[test]
    fn a_finalizer_holds_what_is_marked() {
        let mut map = ConfigMap::default();
        map.metadata.finalizers.push("example.org/backup".to_owned());
        map.metadata.generation = 2;
        let meta = mark(&stored(map.clone()), None);
        assert_eq!(meta.deletion_timestamp, Some(Time::from_seconds(1000)));
        assert_eq!((meta.deletion_grace_period_seconds, meta.generation), (Some(0), 3));
        map.metadata = meta;
        assert_eq!(graceful_delete(&stored(map.clone()), None, NOW), None);
        map.metadata.finalizers.clear();
        goes_at_once(&stored(map), None);
    }

    #[test]
    fn a_namespace_turns_terminating_with_its_mark() {
        let mut namespace = Namespace::default();
        namespace.spec.finalizers.push("kubernetes".to_owned());
        let namespace = Stored { status: Some(Revision(4)), ..stored(namespace) };
        let proposal = graceful_delete(&namespace, None, NOW).expect("a change");
        assert_eq!(proposal.to_txn().defect(), None);
        assert_eq!(proposal.writes.len(), 2);
    }
}
