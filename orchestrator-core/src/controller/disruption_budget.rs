//! `DisruptionBudgets`: how many pods of each budget may be evicted now.
//!
//! Depends on `model` and `world`. The figures are what evictions are judged by (`api/evict.rs`): an eviction takes one
//! from `disruptionsAllowed` in the transaction that deletes the pod, so that no two of them count on the same one.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Controller, DECISION_PROPOSALS_MAX, Decision};
use crate::model::{
    Condition, ConditionStatus, CountOrPercent, Key, Kind, Object, Pod, PodDisruptionBudget,
    Resource, Timestamp, Uid, set_condition,
};
use crate::world::{Proposal, Stored, World};

/// Keeps the status of pod disruption budgets. Works by namespace: a pod tells which budgets it is under by its labels
/// alone, and a pod that is gone has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct DisruptionBudgets;

impl Controller for DisruptionBudgets {
    fn name(&self) -> &'static str {
        "disruption-budget"
    }

    fn interest(&self, change: &Change, keys: &mut BTreeSet<Key>) {
        let Change::Object(change) = change else { return };
        let (before, after) = (change.before.as_ref(), change.after.as_ref());
        let concerns = change.key.kind == Kind::PodDisruptionBudget
            || standing(before) != standing(after)
            || wanted(before) != wanted(after);
        if concerns {
            keys.insert(Key::cluster(Kind::Namespace, &change.key.namespace));
        }
    }

    fn reconcile(&self, key: &Key, world: &World, now: Timestamp) -> Decision {
        let mut decision = Decision::nothing();
        if key.kind != Kind::Namespace {
            return decision;
        }
        let budgets = || {
            let found = world.list(Kind::PodDisruptionBudget, Some(&key.name));
            found.filter_map(|(_, stored)| {
                Some((stored, &**PodDisruptionBudget::from_object(&stored.object)?))
            })
        };
        if budgets().next().is_none() {
            return decision;
        }
        let settled = budgets()
            .filter_map(|(stored, budget)| settle(stored, budget, world, now))
            // The rest follow: each of these makes the namespace be looked at again.
            .take(DECISION_PROPOSALS_MAX);
        decision.proposals.extend(settled);
        decision
    }
}

/// What of a pod counts here.
fn standing(
    object: Option<&Object>,
) -> Option<(&crate::model::StringMap, bool, bool, Option<Uid>)> {
    let pod = object.and_then(Pod::from_object)?;
    let meta = &pod.metadata;
    let owner = meta.controller().map(|owner| owner.uid);
    Some((&meta.labels, pod.is_ready(), pod.is_active(), owner))
}

/// How many pods a workload wants.
fn wanted(object: Option<&Object>) -> Option<i32> {
    Some(object?.workload()?.replicas)
}

/// Proposes the status of a budget if it changes.
fn settle(
    stored: &Stored,
    budget: &PodDisruptionBudget,
    world: &World,
    now: Timestamp,
) -> Option<Proposal> {
    let under = Under::of(budget, world);
    let mut status = budget.status.clone();
    status.observed_generation = budget.metadata.generation;
    status.current_healthy = i32::try_from(under.healthy).unwrap_or(i32::MAX);
    let condition = match needs(budget, &under, world) {
        Ok((expected, desired)) => {
            let spare = status.current_healthy.saturating_sub(desired).max(0);
            status.expected_pods = expected;
            status.desired_healthy = desired;
            // A budget that expects no pods is for pods that are still to come.
            status.disruptions_allowed = if expected > 0 { spare } else { 0 };
            let reason =
                if status.disruptions_allowed > 0 { "SufficientPods" } else { "InsufficientPods" };
            Condition {
                status: (status.disruptions_allowed > 0).into(),
                reason: reason.to_owned(),
                ..Condition::default()
            }
        }
        Err(message) => {
            status.disruptions_allowed = 0;
            let reason = "SyncFailed".to_owned();
            Condition { status: ConditionStatus::False, reason, message, ..Condition::default() }
        }
    };
    let condition = Condition {
        kind: "DisruptionAllowed".to_owned(),
        observed_generation: budget.metadata.generation,
        ..condition
    };
    set_condition(&mut status.conditions, condition, now.to_time());
    let new = PodDisruptionBudget { status, ..budget.clone() };
    (new.status != budget.status).then(|| Proposal::put_status(stored, new))
}

/// The pods under a budget that have not run to their end.
#[derive(Default)]
struct Under {
    count: usize,
    healthy: usize,
    /// Who manages them, the nil uid for nobody.
    owners: BTreeSet<Uid>,
}

impl Under {
    fn of(budget: &PodDisruptionBudget, world: &World) -> Self {
        let mut under = Self::default();
        let Some(selector) = &budget.spec.selector else { return under };
        for (owner, tally) in world.tallies(&budget.metadata.namespace) {
            let all = tally.alike().filter(|(labels, _)| selector.matches(labels));
            for (_, pods) in all.filter(|(_, pods)| pods.active() + pods.terminating > 0) {
                under.count += pods.active() + pods.terminating;
                under.healthy += pods.ready;
                under.owners.insert(owner);
            }
        }
        under
    }
}

/// How many pods there should be, and how many must be healthy; or why nobody knows.
fn needs(budget: &PodDisruptionBudget, under: &Under, world: &World) -> Result<(i32, i32), String> {
    let spec = &budget.spec;
    if let Some(most) = spec.max_unavailable {
        let expected = scale(budget, under, world)?;
        return Ok((expected, expected.saturating_sub(most.of_ceil(expected)).max(0)));
    }
    match spec.min_available {
        Some(CountOrPercent::Count(least)) => {
            Ok((i32::try_from(under.count).unwrap_or(i32::MAX), least))
        }
        Some(least @ CountOrPercent::Percent(_)) => {
            let expected = scale(budget, under, world)?;
            Ok((expected, least.of_ceil(expected)))
        }
        None => Ok((0, 0)),
    }
}

/// How many pods the workloads of these pods want together.
fn scale(budget: &PodDisruptionBudget, under: &Under, world: &World) -> Result<i32, String> {
    let mut scales: BTreeMap<Uid, i32> = BTreeMap::new();
    for owner in &under.owners {
        let (uid, replicas) = workload(*owner, world).ok_or_else(|| {
            format!(
                "pod {:?} belongs to no deployment or replica set, so nobody knows how many there should be; use \
                 minAvailable with a number",
                stray(budget, world).unwrap_or_default()
            )
        })?;
        scales.insert(uid, replicas);
    }
    Ok(scales.values().fold(0, |sum, replicas| sum.saturating_add(*replicas)))
}

/// The first pod under a budget that belongs to no workload.
fn stray<'w>(budget: &PodDisruptionBudget, world: &'w World) -> Option<&'w str> {
    let mut pods = world.all::<Pod>(Some(&budget.metadata.namespace));
    let stray = pods.find(|pod| {
        let owner = pod.metadata.controller().map_or(Uid::default(), |owner| owner.uid);
        !pod.is_finished() && budget.spec.selects(pod) && workload(owner, world).is_none()
    });
    stray.map(|pod| pod.metadata.name.as_str())
}

/// The workload that the pods of an owner belong to in the end, and how many it wants.
fn workload(owner: Uid, world: &World) -> Option<(Uid, i32)> {
    let owned = &world.by_uid(owner)?.object;
    let above = owned.meta().controller().and_then(|owner| world.by_uid(owner.uid));
    let above = above.map(|stored| &stored.object).filter(|object| object.workload().is_some());
    let workload = above.unwrap_or(owned);
    Some((workload.meta().uid, wanted(Some(workload))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        LabelSelector, ObjectMeta, OwnerReference, PodDisruptionBudgetSpec, PodPhase, ReplicaSet,
        StringMap,
    };
    use crate::testkit::objects::uid_of;
    use crate::testkit::sandbox::Sandbox;

    fn labels() -> StringMap {
        [("app".to_owned(), "web".to_owned())].into()
    }

    fn pod(name: &str, owner: Option<&ReplicaSet>, is_ready: bool) -> Pod {
        let mut pod = Pod { node_name: "n1".to_owned(), ..Pod::new(name, "nginx") };
        pod.metadata.labels = labels();
        pod.metadata.namespace = "default".to_owned();
        pod.metadata.owner_references.extend(
            owner.map(|set| OwnerReference::controller_of(Kind::ReplicaSet, &set.metadata)),
        );
        pod.status.phase = PodPhase::Running;
        let ready =
            Condition { kind: "Ready".to_owned(), status: is_ready.into(), ..Condition::default() };
        pod.status.conditions.push(ready);
        pod
    }

    fn set(replicas: i32) -> ReplicaSet {
        let metadata = ObjectMeta::named("default", "web");
        let mut set = ReplicaSet { metadata, ..ReplicaSet::default() };
        set.metadata.uid = uid_of(&Key::new(Kind::ReplicaSet, "default", "web"), 1);
        set.spec.replicas = Some(replicas);
        set
    }

    /// The status of a budget over three pods, of which two are ready, of a set that wants four.
    #[track_caller]
    fn check(spec: PodDisruptionBudgetSpec, is_owned: bool, expected: (i32, i32, i32, &str)) {
        let mut sandbox = Sandbox::new(vec![Box::new(DisruptionBudgets)]);
        let set = set(4);
        let owner = is_owned.then_some(&set);
        for (name, is_ready) in [("a", true), ("b", true), ("c", false)] {
            sandbox.put(pod(name, owner, is_ready));
        }
        sandbox.put(set.clone());
        let selector = Some(LabelSelector::from_labels(labels()));
        let spec = PodDisruptionBudgetSpec { selector, ..spec };
        let mut metadata = ObjectMeta::named("default", "web");
        metadata.generation = 3;
        sandbox.put(PodDisruptionBudget { metadata, spec, ..PodDisruptionBudget::default() });
        sandbox.settle().expect("settled");
        let budgets: Vec<_> = sandbox.world().all::<PodDisruptionBudget>(None).collect();
        let status = &budgets[0].status;
        let reason = status.conditions[0].reason.as_str();
        let found =
            (status.expected_pods, status.desired_healthy, status.disruptions_allowed, reason);
        assert_eq!(found, expected);
        assert_eq!((status.current_healthy, status.observed_generation), (2, 3));
    }

    fn min(bound: CountOrPercent) -> PodDisruptionBudgetSpec {
        PodDisruptionBudgetSpec { min_available: Some(bound), ..Default::default() }
    }

    fn max(bound: CountOrPercent) -> PodDisruptionBudgetSpec {
        PodDisruptionBudgetSpec { max_unavailable: Some(bound), ..Default::default() }
    }

    #[test]
    fn what_may_be_evicted_follows_from_the_bound_and_the_wanted_number() {
        use CountOrPercent::{Count, Percent};
        check(min(Count(1)), false, (3, 1, 1, "SufficientPods"));
        check(min(Count(2)), true, (3, 2, 0, "InsufficientPods"));
        check(min(Percent(25)), true, (4, 1, 1, "SufficientPods"));
        check(max(Count(3)), true, (4, 1, 1, "SufficientPods"));
        // Rounded up: two of four may be missing, and two are.
        check(max(Percent(45)), true, (4, 2, 0, "InsufficientPods"));
        check(PodDisruptionBudgetSpec::default(), true, (0, 0, 0, "InsufficientPods"));
    }

    #[test]
    fn nobody_may_be_evicted_while_the_wanted_number_is_not_known() {
        check(max(CountOrPercent::Count(3)), false, (0, 0, 0, "SyncFailed"));
    }

    #[test]
    fn a_pod_that_turns_unready_takes_its_place_from_the_budget() {
        let mut sandbox = Sandbox::new(vec![Box::new(DisruptionBudgets)]);
        sandbox.put(pod("a", None, true));
        sandbox.put(pod("b", None, true));
        let selector = Some(LabelSelector::default());
        let spec = PodDisruptionBudgetSpec { selector, ..min(CountOrPercent::Count(1)) };
        let metadata = ObjectMeta::named("default", "web");
        sandbox.put(PodDisruptionBudget { metadata, spec, ..PodDisruptionBudget::default() });
        sandbox.settle().expect("settled");
        let allowed = |sandbox: &Sandbox| {
            let budget = sandbox.world().find::<PodDisruptionBudget>("default", "web");
            budget.expect("there").status.disruptions_allowed
        };
        assert_eq!(allowed(&sandbox), 1);
        sandbox.put(pod("a", None, false));
        sandbox.settle().expect("settled");
        assert_eq!(allowed(&sandbox), 0);
    }
}
