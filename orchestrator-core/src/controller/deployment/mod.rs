//! `DeploymentController`: rolls a deployment's pods from one template to the next through replica sets.
//!
//! Depends on `model` and `world`. Everything a decision does to replica sets is one transaction, guarded by the
//! deployment and by the sizes of the replica sets it left alone, so that a late decision cannot add up with
//! another one (S28).

mod history;
mod member;
mod rolling;
mod scale;
mod status;
mod template;

use std::collections::BTreeSet;

use member::Member;

use super::ownership::{adopt, children, create_in_namespace, refusal, release};
use super::{Change, Controller, Decision};
use crate::model::{
    CountOrPercent, Deployment, Key, Kind, ObjectMeta, REVISION_ANNOTATION, ReplicaSet, Resource,
    RollingUpdate, StrategyType, Timestamp,
};
use crate::store::TXN_GUARDS_MAX;
use crate::world::{Proposal, Stored, World};

/// The most replica sets a decision changes.
pub const ROLLOUT_WRITES_MAX: usize = 8;
/// The most replica sets a decision adopts or releases.
pub const CLAIMS_MAX: usize = 100;

/// Keeps `spec.replicas` pods of the newest template.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeploymentController;

impl Controller for DeploymentController {
    fn name(&self) -> &'static str {
        "deployment"
    }

    fn interest(&self, change: &Change, keys: &mut BTreeSet<Key>) {
        let Change::Object(change) = change else { return };
        if change.key.kind == Kind::Deployment {
            keys.insert(change.key.clone());
        }
        if change.key.kind != Kind::ReplicaSet {
            return;
        }
        let sides = [&change.before, &change.after].map(|side| side.as_ref().map(|o| o.meta()));
        for owner in sides.into_iter().flatten().filter_map(ObjectMeta::controller) {
            if owner.kind == Kind::Deployment.name() {
                keys.insert(Key::new(Kind::Deployment, &change.key.namespace, &owner.name));
            }
        }
        // Whoever matches a replica set that has become ownerless is found from the replica set.
        let claimable = |meta: &ObjectMeta| meta.owner_references.is_empty();
        if sides[1].is_some_and(claimable) {
            keys.insert(change.key.clone());
        }
    }

    fn reconcile(&self, key: &Key, world: &World, now: Timestamp) -> Decision {
        if key.kind == Kind::ReplicaSet {
            return find_owner(key, world);
        }
        let stored = world.get(key);
        match stored.and_then(|stored| Some((stored, Deployment::from_object(&stored.object)?))) {
            // Without a uid nothing can belong to it.
            Some((_, deployment)) if deployment.metadata.uid.is_nil() => Decision::nothing(),
            Some((stored, deployment)) => Run::new(stored, deployment, world, now).decide(),
            None => Decision::nothing(),
        }
    }
}

/// Lets the first deployment that matches adopt an ownerless replica set.
fn find_owner(key: &Key, world: &World) -> Decision {
    let mut decision = Decision::nothing();
    let Some(stored) = world.get(key) else { return decision };
    let Some(set) = ReplicaSet::from_object(&stored.object) else { return decision };
    if !set.metadata.owner_references.is_empty() {
        return decision;
    }
    if let Some(owner) = owner_for(world, set) {
        decision.propose(adopt(owner, stored));
    }
    decision
}

/// Finds who adopts an ownerless replica set: the first match in key order, whoever looks.
fn owner_for<'w>(world: &'w World, set: &ReplicaSet) -> Option<&'w Stored> {
    let mut deployments = world.list(Kind::Deployment, Some(&set.metadata.namespace));
    let owner = deployments.find(|(_, owner)| {
        Deployment::from_object(&owner.object).is_some_and(|owner| may_own(owner, set))
    });
    owner.map(|(_, owner)| owner)
}

/// Whether the deployment may have replica sets at all: its selector must select its own pods and not everything.
fn is_sound(deployment: &Deployment) -> bool {
    let selector = &deployment.spec.selector;
    !selector.is_empty() && selector.matches(&deployment.spec.template.metadata.labels)
}

fn may_own(deployment: &Deployment, set: &ReplicaSet) -> bool {
    !deployment.metadata.is_deleting()
        && !set.metadata.is_deleting()
        && !deployment.metadata.uid.is_nil()
        && is_sound(deployment)
        && deployment.spec.selector.matches(&set.metadata.labels)
}

/// The numbers of pods a rollout stays between.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Pods wanted.
    wanted: i32,
    /// The most pods there may be.
    max: i32,
    /// The fewest pods that must stay available.
    least: i32,
    /// Whether old and new pods may run at the same time.
    rolling: bool,
}

impl Bounds {
    fn of(deployment: &Deployment) -> Self {
        let wanted = deployment.spec.replicas.unwrap_or(1).max(0);
        let strategy = &deployment.spec.strategy;
        if strategy.kind.unwrap_or_default() == StrategyType::Recreate {
            return Self { wanted, max: wanted, least: wanted, rolling: false };
        }
        let RollingUpdate { max_surge, max_unavailable } =
            strategy.rolling_update.clone().unwrap_or_default();
        let default = CountOrPercent::Percent(25);
        let surge = max_surge.unwrap_or(default).of_ceil(wanted).max(0);
        let missing = max_unavailable.unwrap_or(default).of_floor(wanted).clamp(0, wanted);
        // With neither, nothing could ever move; percentages of few pods round to that.
        let missing = if surge == 0 && missing == 0 { 1.min(wanted) } else { missing };
        Self { wanted, max: wanted.saturating_add(surge), least: wanted - missing, rolling: true }
    }
}

/// One look at one deployment.
struct Run<'w> {
    stored: &'w Stored,
    deployment: &'w Deployment,
    world: &'w World,
    now: Timestamp,
    bounds: Bounds,
    /// Its replica sets, in key order.
    members: Vec<Member<'w>>,
    /// Which of them has the deployment's template.
    current: Option<usize>,
    decision: Decision,
    /// A replica set to make.
    creation: Option<ReplicaSet>,
    /// The name of the replica set that this decision makes.
    created: Option<String>,
    /// Whether this decision writes the deployment's main record.
    writes_deployment: bool,
    /// Why a replica set that is wanted cannot be made.
    failure: Option<String>,
}

impl<'w> Run<'w> {
    fn new(
        stored: &'w Stored,
        deployment: &'w Deployment,
        world: &'w World,
        now: Timestamp,
    ) -> Self {
        let min_ready = deployment.spec.min_ready_seconds;
        let members: Vec<_> = children::<ReplicaSet>(world, &deployment.metadata)
            .map(|(stored, set)| Member::new(stored, set, min_ready, world, now))
            .collect();
        let template = &deployment.spec.template;
        let current = (0..members.len())
            .filter(|index| {
                let member = &members[*index];
                member.is_editable() && template::same_template(&member.set.spec.template, template)
            })
            .min_by_key(|index| members[*index].age());
        Self {
            stored,
            deployment,
            world,
            now,
            bounds: Bounds::of(deployment),
            members,
            current,
            decision: Decision::nothing(),
            creation: None,
            created: None,
            writes_deployment: false,
            failure: None,
        }
    }

    fn decide(mut self) -> Decision {
        if !self.deployment.metadata.is_deleting() {
            if is_sound(self.deployment) {
                self.claim();
                // Which replica sets count must be settled before they are sized.
                if self.decision.proposals.is_empty() {
                    self.advance();
                }
            } else {
                self.failure = Some("the selector does not match the template's labels".to_owned());
            }
        }
        self.put_status();
        self.decision
    }

    /// Releases own replica sets that no longer match, and adopts ownerless ones that do.
    fn claim(&mut self) {
        let selector = &self.deployment.spec.selector;
        let strays = self.members.iter().filter(|member| {
            member.is_editable() && !selector.matches(&member.set.metadata.labels)
        });
        let releases = strays.map(|stray| release(stray.stored, self.deployment.metadata.uid));
        let found = self.world.ownerless(Kind::ReplicaSet, &self.deployment.metadata.namespace);
        let adoptions = found
            .filter(|found| {
                ReplicaSet::from_object(&found.object).is_some_and(|set| {
                    may_own(self.deployment, set)
                        && owner_for(self.world, set)
                            .is_some_and(|owner| std::ptr::eq(owner, self.stored))
                })
            })
            .map(|found| adopt(self.stored, found));
        self.decision.proposals = releases.chain(adoptions).take(CLAIMS_MAX).collect();
    }

    fn advance(&mut self) {
        self.number_current();
        if self.deployment.spec.paused || (self.bounds.rolling && self.is_rescaled()) {
            self.scale();
        } else if self.bounds.rolling {
            self.roll();
        } else {
            self.recreate();
        }
        self.propose_changes();
        let quiet = self.decision.proposals.is_empty();
        if quiet && !self.deployment.spec.paused && self.is_done() {
            self.clear_history();
        }
    }

    fn resize(&mut self, index: usize, replicas: i32) {
        let Bounds { wanted, max, .. } = self.bounds;
        self.members[index].resize(replicas, wanted, max);
    }

    fn create_current(&mut self, replicas: i32) {
        self.failure = refusal(self.world, &self.deployment.metadata.namespace);
        if self.failure.is_some() {
            return;
        }
        let made = template::new_replica_set(self.deployment, self.world, self.now);
        let Some(mut set) = made else {
            self.failure = Some("every name of the new replica set is taken".to_owned());
            return;
        };
        set.spec.replicas = Some(replicas);
        member::annotate(&mut set, self.bounds.wanted, self.bounds.max);
        history::inherit(&mut set, self.deployment, self.next_revision());
        self.creation = Some(set);
    }

    /// Proposes everything that changes about replica sets, in one transaction.
    fn propose_changes(&mut self) {
        let edits: Vec<_> = self.members.iter().map(|member| (member, member.edited())).collect();
        let mut proposal = Proposal::default();
        let mut news = Vec::new();
        let mut left_alone = Vec::new();
        for (member, edit) in edits {
            match edit {
                Some(edit) if proposal.writes.len() < ROLLOUT_WRITES_MAX => {
                    news.extend(resized(member.set, &edit));
                    proposal = proposal.and(Proposal::put_main(member.stored, edit));
                }
                Some(_) | None => left_alone.push(member),
            }
        }
        if let Some(set) = self.creation.take() {
            news.extend(resized(&ReplicaSet::default(), &set));
            self.created = Some(set.metadata.name.clone());
            proposal = proposal.and(create_in_namespace(self.world, set));
        }
        let deployment = self.numbered(&proposal);
        if proposal.writes.is_empty() && deployment.is_none() {
            return;
        }
        proposal = match deployment {
            None => proposal.guarded_by_main(self.stored),
            Some(deployment) => {
                self.writes_deployment = true;
                proposal.and(Proposal::put_main(self.stored, deployment))
            }
        };
        // Those with pods first: they are what could add up.
        left_alone.sort_by_key(|member| (member.size(), member.age()));
        let room = TXN_GUARDS_MAX.saturating_sub(proposal.guards.len());
        for member in left_alone.into_iter().take(room) {
            proposal = proposal.guarded_by_main(member.stored);
        }
        self.decision.propose(proposal);
        for message in news {
            self.tell("ScalingReplicaSet", message);
        }
    }

    /// The deployment with the number of its current replica set; `None` if it has it already.
    fn numbered(&self, proposal: &Proposal) -> Option<Deployment> {
        let written = proposal.writes.iter().find_map(|write| match write {
            crate::world::ObjectWrite::Create { object } => {
                object.meta().annotations.get(REVISION_ANNOTATION).cloned()
            }
            crate::world::ObjectWrite::Delete { .. }
            | crate::world::ObjectWrite::PutMain { .. }
            | crate::world::ObjectWrite::PutStatus { .. } => None,
        });
        let current = self.current.map(|index| self.members[index].revision().to_string());
        let revision = written.or(current)?;
        if self.deployment.metadata.annotations.get(REVISION_ANNOTATION) == Some(&revision) {
            return None;
        }
        let mut deployment = self.deployment.clone();
        deployment.metadata.annotations.insert(REVISION_ANNOTATION.to_owned(), revision);
        Some(deployment)
    }
}

/// Says how a replica set's size changes.
fn resized(old: &ReplicaSet, new: &ReplicaSet) -> Option<String> {
    let (name, from) =
        (&new.metadata.name, if old.metadata.name.is_empty() { 0 } else { size(old) });
    let to = size(new);
    match to.cmp(&from) {
        std::cmp::Ordering::Less => {
            Some(format!("scaled down replica set {name} from {from} to {to}"))
        }
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => {
            Some(format!("scaled up replica set {name} from {from} to {to}"))
        }
    }
}

fn size(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1).max(0)
}

#[cfg(test)]
mod tests;
