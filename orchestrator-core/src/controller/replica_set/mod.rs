//! `ReplicaSetController`: keeps the wanted number of pods of one template.
//!
//! Depends on `model` and `world`. What must hold: never more pods are made than wanted, however often a decision
//! is repeated or delayed (S26): see `slots`.

mod slots;
mod status;
mod victims;

use std::collections::BTreeSet;

use slots::{SlotState, ended_at, slot_of, slot_state};
use status::put_status;

use super::ownership::{adopt, children, create_in_namespace, refusal, release};
use super::pod_counts::PodCounts;
use super::{Change, Controller, Decision, TimerReason};
use crate::model::admit::REPLICAS_MAX;
use crate::model::{
    EventType, Key, Kind, ObjectMeta, OwnerReference, Pod, ReplicaSet, Resource, SLOT_ANNOTATION,
    Timestamp, Uid,
};
use crate::mutants::{self, Mutant};
use crate::store::{Expect, Guard, RecordKey};
use crate::world::{EventNote, ObjectWrite, PodTally, Stored, World, graceful_delete};

pub use slots::{SLOT_ATTEMPTS_MAX, SLOT_BACKOFF_MS, SLOT_BACKOFF_MS_MAX};

/// The most pods a decision creates, deletes, adopts or releases.
pub const REPLICA_BURST_MAX: usize = 500;
/// The most finished pods a slot keeps to look at until the set is available; fewer than it has names.
pub const FINISHED_KEPT_MAX: usize = 6;

/// Keeps `spec.replicas` pods: adopts, releases, creates, deletes, and tells how they stand.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplicaSetController;

impl Controller for ReplicaSetController {
    fn name(&self) -> &'static str {
        "replica-set"
    }

    fn interest(&self, change: &Change, keys: &mut BTreeSet<Key>) {
        let Change::Object(change) = change else { return };
        if change.key.kind == Kind::ReplicaSet {
            keys.insert(change.key.clone());
        }
        if change.key.kind != Kind::Pod {
            return;
        }
        let sides = [&change.before, &change.after].map(|side| side.as_ref().map(|o| o.meta()));
        for owner in sides.into_iter().flatten().filter_map(ObjectMeta::controller) {
            if owner.kind == Kind::ReplicaSet.name() {
                keys.insert(Key::new(Kind::ReplicaSet, &change.key.namespace, &owner.name));
            }
        }
        // Whoever matches a pod that has become ownerless is found from the pod.
        let [before, after] = sides;
        let claimable = |meta: &ObjectMeta| meta.owner_references.is_empty();
        let same = before.is_some_and(|before| {
            claimable(before) && after.is_some_and(|after| after.labels == before.labels)
        });
        if after.is_some_and(claimable) && !same {
            keys.insert(change.key.clone());
        }
    }

    fn reconcile(&self, key: &Key, world: &World, now: Timestamp) -> Decision {
        if key.kind == Kind::Pod {
            return find_owner(key, world);
        }
        match world
            .get(key)
            .and_then(|stored| Some((stored, ReplicaSet::from_object(&stored.object)?)))
        {
            // Without a uid nothing can belong to it.
            Some((_, set)) if set.metadata.uid.is_nil() => Decision::nothing(),
            Some((stored, set)) => Run::new(stored, set, world, now).decide(),
            None => Decision::nothing(),
        }
    }
}

/// Lets the first replica set that matches adopt an ownerless pod.
fn find_owner(key: &Key, world: &World) -> Decision {
    let mut decision = Decision::nothing();
    let Some(stored) = world.get(key) else { return decision };
    let Some(pod) = Pod::from_object(&stored.object) else { return decision };
    if !pod.metadata.owner_references.is_empty() || !pod.is_active() {
        return decision;
    }
    if let Some(owner) = owner_for(world, pod) {
        decision.propose(adopt(owner, stored));
    }
    decision
}

/// Finds who adopts an ownerless pod: the first match in key order, whoever looks.
fn owner_for<'w>(world: &'w World, pod: &Pod) -> Option<&'w Stored> {
    let mut sets = world.list(Kind::ReplicaSet, Some(&pod.metadata.namespace));
    let owner = sets.find(|(_, owner)| {
        ReplicaSet::from_object(&owner.object).is_some_and(|set| may_own(set, pod))
    });
    owner.map(|(_, owner)| owner)
}

/// Whether the set takes pods at all: one whose selector misses its own template would make pods for ever.
fn is_sound(set: &ReplicaSet) -> bool {
    let selector = &set.spec.selector;
    !selector.is_empty() && selector.matches(&set.spec.template.metadata.labels)
}

fn may_own(set: &ReplicaSet, pod: &Pod) -> bool {
    !set.metadata.is_deleting()
        && !set.metadata.uid.is_nil()
        && is_sound(set)
        && pod.is_active()
        && set.spec.selector.matches(&pod.metadata.labels)
}

/// One look at one replica set.
struct Run<'w> {
    stored: &'w Stored,
    set: &'w ReplicaSet,
    world: &'w World,
    now: Timestamp,
    /// How the pods it owns stand.
    counts: PodCounts,
    decision: Decision,
    /// Why pods that are wanted cannot be made.
    failure: Option<String>,
}

impl<'w> Run<'w> {
    fn new(stored: &'w Stored, set: &'w ReplicaSet, world: &'w World, now: Timestamp) -> Self {
        let labels = &set.spec.template.metadata.labels;
        let counts = PodCounts::of(world, &set.metadata, labels, set.spec.min_ready_seconds, now);
        Self { stored, set, world, now, counts, decision: Decision::nothing(), failure: None }
    }

    fn decide(mut self) -> Decision {
        if !self.set.metadata.is_deleting() {
            self.claim();
            // Who is whose must be settled before anyone is counted.
            if self.decision.proposals.is_empty() {
                self.scale();
                self.clear_finished();
            }
        }
        put_status(&mut self.decision, self.stored, self.set, self.counts, self.failure, self.now);
        self.decision
    }

    /// Lists the pods it owns, in key order. Most looks need no more than how many stand how.
    fn pods(&self) -> impl Iterator<Item = (&'w Stored, &'w Pod)> + use<'w> {
        children::<Pod>(self.world, &self.set.metadata)
    }

    fn active(&self) -> impl Iterator<Item = (&'w Stored, &'w Pod)> + use<'w> {
        self.pods().filter(|(_, pod)| pod.is_active())
    }

    /// Whether an active pod that it owns does not match.
    fn has_strays(&self) -> bool {
        let (selector, meta) = (&self.set.spec.selector, &self.set.metadata);
        let tally = self.world.tally(meta.uid, &meta.namespace);
        !selector.is_empty()
            && tally
                .into_iter()
                .flat_map(PodTally::alike)
                .any(|(labels, pods)| pods.active() > 0 && !selector.matches(labels))
    }

    /// Releases own pods that no longer match, and adopts ownerless ones that do.
    fn claim(&mut self) {
        let selector = &self.set.spec.selector;
        let active = self.has_strays().then(|| self.active()).into_iter().flatten();
        let strays = active.filter(|(_, pod)| !selector.matches(&pod.metadata.labels));
        let releases = strays.map(|(stray, _)| release(stray, self.set.metadata.uid));
        let found = self.world.ownerless(Kind::Pod, &self.set.metadata.namespace);
        let adoptions = found
            .filter(|found| {
                Pod::from_object(&found.object).is_some_and(|pod| {
                    may_own(self.set, pod)
                        && owner_for(self.world, pod)
                            .is_some_and(|owner| std::ptr::eq(owner, self.stored))
                })
            })
            .map(|found| adopt(self.stored, found));
        self.decision.proposals = releases.chain(adoptions).take(REPLICA_BURST_MAX).collect();
    }

    fn scale(&mut self) {
        let wanted = usize::try_from(self.set.spec.replicas.unwrap_or(1)).unwrap_or(0);
        let limit = wanted.min(usize::try_from(REPLICAS_MAX).unwrap_or(0));
        if wanted > limit {
            self.failure = Some(format!("{wanted} replicas are wanted, at most {limit} are made"));
        }
        let active = usize::try_from(self.counts.replicas).unwrap_or(0);
        if active < limit {
            self.create(limit, limit - active);
        } else if active > limit {
            self.delete(active - limit);
        }
    }

    /// Creates pods in the lowest free slots.
    fn create(&mut self, wanted: usize, missing: usize) {
        let refused = if is_sound(self.set) {
            refusal(self.world, &self.set.metadata.namespace)
        } else {
            Some("the selector does not match the template's labels".to_owned())
        };
        if refused.is_some() {
            self.failure = refused;
            return;
        }
        let busy: BTreeSet<u32> = self.active().filter_map(|(_, pod)| slot_of(pod)).collect();
        let mut names = BTreeSet::new();
        let slots = (0..u32::try_from(wanted).unwrap_or(0)).filter(|s| !busy.contains(s));
        for slot in slots {
            if names.len() == missing.min(REPLICA_BURST_MAX) {
                break;
            }
            match slot_state(self.world, self.set, slot, &names, self.now) {
                SlotState::Busy => {}
                SlotState::Exhausted(holder) => {
                    self.failure = Some(format!(
                        "{SLOT_ATTEMPTS_MAX} pods in one place are being deleted and are not gone, pod {holder} among \
                         them; finalizers or a node that is away hold them"
                    ));
                }
                SlotState::Waiting(at) => self.decision.recheck(at, TimerReason::Progress),
                SlotState::Free { name, guards } => {
                    let name = match mutants::on(Mutant::NamesByRevision) {
                        true => format!("{name}{}", self.world.revision()),
                        false => name,
                    };
                    let pod = self.pod(&name, slot);
                    let mut proposal = create_in_namespace(self.world, pod);
                    if !mutants::on(Mutant::NoScaleGuard) {
                        proposal = proposal.guarded_by_main(self.stored);
                    }
                    proposal.guards.extend(guards);
                    self.decision.propose(proposal);
                    names.insert(name);
                }
            }
        }
        self.tell("SuccessfulCreate", "created", names.into_iter().collect());
    }

    /// Makes the pod of a slot. Its spec is the template's own, shared.
    fn pod(&self, name: &str, slot: u32) -> Pod {
        let owner = &self.set.metadata;
        let template = &self.set.spec.template;
        let mut metadata = ObjectMeta {
            annotations: template.metadata.annotations.clone(),
            creation_timestamp: Some(self.now.to_time()),
            finalizers: template.metadata.finalizers.clone(),
            generate_name: format!("{}-", owner.name),
            generation: 1,
            labels: template.metadata.labels.clone(),
            owner_references: vec![OwnerReference::controller_of(Kind::ReplicaSet, owner)],
            uid: Uid::derived(owner.uid, name, self.world.revision()),
            ..ObjectMeta::named(&owner.namespace, name)
        };
        metadata.annotations.insert(SLOT_ANNOTATION.to_owned(), slot.to_string());
        Pod { metadata, spec: template.spec.clone(), ..Pod::default() }
    }

    /// Deletes the pods that are worth least.
    fn delete(&mut self, surplus: usize) {
        let mut victims: Vec<_> = self.active().collect();
        victims::sort_victims_first(self.world, self.set, &mut victims);
        victims.truncate(surplus.min(REPLICA_BURST_MAX));
        for (victim, pod) in &victims {
            let Some(mut deletion) = graceful_delete(victim, None, self.now) else { continue };
            let marks = matches!(deletion.writes[..], [ObjectWrite::PutMain { .. }]);
            if marks && !pod.is_ready() {
                // It goes because it is not ready; should it become so meanwhile, another one may be worth less.
                let expect = victim.status.map_or(Expect::Absent, Expect::At);
                deletion.guards.push(Guard { key: RecordKey::status(pod.key()), expect });
            }
            self.decision.propose(deletion.guarded_by_main(self.stored));
        }
        let names = victims.iter().map(|(_, pod)| pod.metadata.name.clone()).collect();
        self.tell("SuccessfulDelete", "deleted", names);
    }

    /// Deletes finished pods once they are made good; until then the latest of each slot stay to be looked at, and
    /// slow down their slot.
    fn clear_finished(&mut self) {
        if self.counts.finished == 0 {
            return;
        }
        let wanted = self.set.spec.replicas.unwrap_or(1).max(0);
        let made_good = self.counts.available >= wanted;
        let mut finished: Vec<_> = self.pods().filter(|(_, pod)| pod.is_finished()).collect();
        finished.sort_by_key(|(_, pod)| (slot_of(pod), std::cmp::Reverse(ended_at(pod))));
        let mut kept = (None, 0);
        for (stored, pod) in finished {
            let slot = slot_of(pod);
            kept = if kept.0 == Some(slot) { (kept.0, kept.1 + 1) } else { (Some(slot), 1) };
            let full = self.decision.proposals.len() >= REPLICA_BURST_MAX;
            if full || (!made_good && kept.1 <= FINISHED_KEPT_MAX) {
                continue;
            }
            self.decision.proposals.extend(graceful_delete(stored, None, self.now));
        }
    }

    fn tell(&mut self, reason: &str, verb: &str, names: Vec<String>) {
        let message = match &names[..] {
            [] => return,
            [name] => format!("{verb} pod {name}"),
            more => format!("{verb} {} pods", more.len()),
        };
        self.decision.events.push(EventNote {
            about: self.set.key(),
            uid: self.set.metadata.uid,
            kind: EventType::Normal,
            reason: reason.to_owned(),
            message,
        });
    }
}

#[cfg(test)]
mod tests;
