//! `Oracle`: what must be true after every commit, whatever goes wrong. Numbers are those of the invariants.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Deployment, Key, Kind, Node, Object, Part, Pod, ReplicaSet, Resource, Revision, Uid,
};
use crate::scheduler::{ClusterView, feasible};
use crate::store::{CommitOutcome, Expect, RecordKey, Txn, Write};
use crate::world::{ObjectChange, World};

/// Checks every commit against the invariants.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// The node of each pod that ever had one.
    bound: BTreeMap<Uid, String>,
    /// The key of each pod that ever was.
    pods: BTreeMap<Uid, Key>,
    /// Whether nothing but rollouts happens, so that their lower bound holds at every moment.
    calm: bool,
    /// The deployments that once had as many ready pods as a rollout must leave them.
    up: BTreeSet<Uid>,
    /// What this life of the control plane has created, and when.
    creations: BTreeMap<RecordKey, Revision>,
    pub(super) commits: u64,
}

impl Oracle {
    pub(super) fn new(calm: bool) -> Self {
        Self { calm, ..Self::default() }
    }

    /// Checks a commit; `world` is the truth after it.
    ///
    /// # Errors
    /// Says which invariant is broken, and how.
    pub(super) fn check(&mut self, changes: &[ObjectChange], world: &World) -> Result<(), String> {
        self.commits += 1;
        for change in changes {
            self.write_once(change)?;
            lives_and_dies(change)?;
            one_controller(change)?;
            owners_gone(change, world)?;
            if let (None, Some(Object::Pod(pod))) = (&change.before, &change.after) {
                self.pods.insert(pod.metadata.uid, pod.key());
                not_too_many(pod, world)?;
            }
            if let Some(Object::ReplicaSet(set)) = &change.after {
                within_surge(change, set, world)?;
            }
            let node = match &change.after {
                Some(Object::Pod(pod)) if pod.is_bound() => Some(pod.node_name.clone()),
                Some(_) | None => None,
            };
            if let Some(node) = node {
                no_overcommit(&node, world)?;
            }
        }
        if self.calm { self.stays_up(world) } else { Ok(()) }
    }

    /// S34: a control plane does not decide again what it has decided: it waits until it has seen its own writes. Told
    /// by what it created; of events it may lose count.
    ///
    /// # Errors
    /// Names what was tried again.
    pub(super) fn decided(&mut self, txn: &Txn, outcome: &CommitOutcome) -> Result<(), String> {
        let created = txn.writes.iter().filter(|write| {
            let RecordKey { object, part } = write.key();
            write.expect() == Expect::Absent && object.kind != Kind::Event && *part == Part::Main
        });
        match outcome {
            CommitOutcome::Committed(revision) => {
                self.creations.extend(created.map(|write| (write.key().clone(), *revision)));
            }
            CommitOutcome::Conflict { key, current: Some(current) } => {
                if created.map(Write::key).any(|created| created == key)
                    && self.creations.get(key) == Some(current)
                {
                    return Err(format!("S34: {} was created again, unseen", key.object));
                }
            }
            CommitOutcome::Conflict { current: None, .. } | CommitOutcome::Unknown => {}
        }
        Ok(())
    }

    /// S15: of a name one pod runs at a time, whatever nobody hears of: a pod is replaced by a namesake only when nothing
    /// is left of it. (No user of a simulation uses force, and no node is deleted.)
    ///
    /// # Errors
    /// Names the pod that runs twice.
    pub(super) fn no_namesakes(&self, running: impl Iterator<Item = Uid>) -> Result<(), String> {
        let mut seen: BTreeMap<&Key, Uid> = BTreeMap::new();
        for uid in running {
            let Some(key) = self.pods.get(&uid) else { continue };
            if let Some(other) = seen.insert(key, uid).filter(|other| *other != uid) {
                return Err(format!("S15: {key} runs twice, as {other} and as {uid}"));
            }
        }
        Ok(())
    }

    /// A new control plane knows nothing of what the last one decided.
    pub(super) fn forget_decisions(&mut self) {
        self.creations.clear();
    }

    /// S28: a rollout never takes ready pods below what is wanted less what may be missing.
    fn stays_up(&mut self, world: &World) -> Result<(), String> {
        for deployment in world.all::<Deployment>(None) {
            let (uid, wanted) = (deployment.metadata.uid, deployment.spec.replicas.unwrap_or(1));
            let rolling = deployment.spec.strategy.rolling_update.clone().unwrap_or_default();
            let missing = rolling.max_unavailable.map_or(wanted / 4, |most| most.of_floor(wanted));
            let least = usize::try_from(wanted - missing).unwrap_or(0);
            let ready = world
                .all::<Pod>(Some(&deployment.metadata.namespace))
                .filter(|pod| deployment.spec.selector.matches(&pod.metadata.labels))
                .filter(|pod| pod.is_active() && pod.is_ready())
                .count();
            if ready >= least {
                self.up.insert(uid);
            } else if self.up.contains(&uid) {
                return Err(format!(
                    "S28: {} has {ready} ready pods and must keep {least}",
                    deployment.metadata.name
                ));
            }
        }
        Ok(())
    }

    /// S13: a binding is never changed.
    fn write_once(&mut self, change: &ObjectChange) -> Result<(), String> {
        let Some(Object::Pod(pod)) = &change.after else { return Ok(()) };
        if !pod.is_bound() {
            return match self.bound.get(&pod.metadata.uid) {
                Some(node) => Err(format!("S13: {} lost its node {node}", change.key)),
                None => Ok(()),
            };
        }
        match self.bound.insert(pod.metadata.uid, pod.node_name.clone()) {
            Some(old) if old != pod.node_name => {
                Err(format!("S13: {} moved from {old} to {}", change.key, pod.node_name))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// S21 and S25: a finished pod stays finished, a deletion asked for is never taken back.
fn lives_and_dies(change: &ObjectChange) -> Result<(), String> {
    let (Some(before), Some(after)) = (&change.before, &change.after) else { return Ok(()) };
    if before.meta().uid != after.meta().uid {
        return Err(format!("S5: {} became another object without being deleted", change.key));
    }
    if before.meta().is_deleting() && !after.meta().is_deleting() {
        return Err(format!("S25: the deletion of {} was taken back", change.key));
    }
    match (before, after) {
        (Object::Pod(before), Object::Pod(after)) if before.is_finished() => {
            if before.status.phase == after.status.phase {
                Ok(())
            } else {
                Err(format!("S21: {} came back from {:?}", change.key, before.status.phase))
            }
        }
        _ => Ok(()),
    }
}

/// S23: at most one owner manages an object.
fn one_controller(change: &ObjectChange) -> Result<(), String> {
    let Some(after) = &change.after else { return Ok(()) };
    match after.meta().owner_references.iter().filter(|owner| owner.controller).count() {
        0 | 1 => Ok(()),
        many => Err(format!("S23: {} is managed by {many} owners", change.key)),
    }
}

/// S24: a replica set that wants pods is not collected while its deployment lives, unless its own deletion was asked
/// for before.
fn owners_gone(change: &ObjectChange, world: &World) -> Result<(), String> {
    let (Some(before @ Object::ReplicaSet(_)), None) = (&change.before, &change.after) else {
        return Ok(());
    };
    if before.meta().is_deleting() {
        return Ok(());
    }
    let lives = |uid: Uid| {
        world
            .all::<Deployment>(None)
            .any(|owner| owner.metadata.uid == uid && !owner.metadata.is_deleting())
    };
    match before {
        Object::ReplicaSet(set)
            if set.spec.replicas != Some(0)
                && set.metadata.owner_references.iter().any(|owner| lives(owner.uid)) =>
        {
            Err(format!("S24: {} was collected though its owner lives", change.key))
        }
        _ => Ok(()),
    }
}

/// S26: a replica set never has more pods than it wants because it made one.
fn not_too_many(pod: &Pod, world: &World) -> Result<(), String> {
    let Some(owner) = pod.metadata.controller() else { return Ok(()) };
    let namespace = &pod.metadata.namespace;
    let Some(set) = world
        .find::<ReplicaSet>(namespace, &owner.name)
        .filter(|set| set.metadata.uid == owner.uid)
    else {
        return Err(format!(
            "S26: {} was made for {}, which is gone",
            pod.metadata.name, owner.name
        ));
    };
    let wanted = set.spec.replicas.unwrap_or(1).max(0).unsigned_abs() as usize;
    let there = world
        .dependents(owner.uid)
        .filter(|stored| matches!(&stored.object, Object::Pod(pod) if pod.is_active()))
        .count();
    if there > wanted {
        return Err(format!("S26: {} pods of {}, which wants {wanted}", there, set.metadata.name));
    }
    Ok(())
}

/// S28: growing a replica set never takes its deployment above what it wants and its surge.
fn within_surge(change: &ObjectChange, set: &ReplicaSet, world: &World) -> Result<(), String> {
    let wants = |set: &ReplicaSet| set.spec.replicas.unwrap_or(1);
    let before = match &change.before {
        Some(Object::ReplicaSet(before)) => wants(before),
        Some(_) | None => 0,
    };
    let Some(owner) = set.metadata.controller().filter(|_| wants(set) > before) else {
        return Ok(());
    };
    let Some(deployment) = world
        .find::<Deployment>(&set.metadata.namespace, &owner.name)
        .filter(|deployment| deployment.metadata.uid == owner.uid)
    else {
        return Ok(());
    };
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let rolling = deployment.spec.strategy.rolling_update.clone().unwrap_or_default();
    let surge = rolling.max_surge.map_or_else(|| (wanted + 3) / 4, |surge| surge.of_ceil(wanted));
    let total: i32 = world
        .dependents(owner.uid)
        .filter_map(|stored| ReplicaSet::from_object(&stored.object).map(|set| wants(set)))
        .sum();
    if total > wanted + surge.max(1) {
        return Err(format!(
            "S28: {} wants {wanted} and may have {surge} more, but has {total}",
            owner.name
        ));
    }
    Ok(())
}

/// S12 and S14: what is bound to a node fits it.
fn no_overcommit(node: &str, world: &World) -> Result<(), String> {
    let Some(found) = world.find::<Node>("", node) else { return Ok(()) };
    // Taints and readiness may change under a bound pod; what it holds may not exceed the node.
    let mut open = (**found).clone();
    open.spec.taints.clear();
    open.spec.unschedulable = false;
    for condition in &mut open.status.conditions {
        condition.status = crate::model::ConditionStatus::True;
    }
    let pods: Vec<Pod> = world.pods_on(node).map(|pod| (**pod).clone()).collect();
    let view = ClusterView::of([open], pods.iter().cloned());
    for pod in pods.iter().filter(|pod| !pod.is_finished()) {
        if let Err(reasons) = feasible(pod, node, &view) {
            let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
            return Err(format!("S12: {} on {node}: {}", pod.metadata.name, reasons.join(", ")));
        }
    }
    Ok(())
}
