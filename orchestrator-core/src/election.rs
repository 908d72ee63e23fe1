//! `Election`: which of the control planes on one store decides, by a lease that is renewed and a lead that is not.
//!
//! Two objects say it. The *lease* is renewed all the time, as other programs' leases are; the *lead* is written only when the
//! leader changes, so that its revision can be a guard of every transaction of that leader's (S32): once another has taken
//! over, whatever the old one still has on its way is refused by the store. So two that both think that they lead do no harm,
//! and nothing depends on clocks that agree: each control plane measures by its own how long the lease has not changed.
//!
//! Pure: a control plane says what it sees and when, and commits what is proposed. `now` is a time that nobody sets, from any
//! beginning; the time of day is only written down. Depends on `model`, `store` and `world`.

use crate::model::{
    Key, Kind, Lease, LeaseSpec, MicroTime, Object, ObjectMeta, Resource, Revision, Timestamp, Uid,
};
use crate::store::{Expect, Guard, RecordKey};
use crate::world::{Proposal, Stored, World};

/// How long a lease is good that is not renewed, in milliseconds.
pub const LEASE_MS: i64 = 6_000;
/// How often a leader renews its lease, in milliseconds.
pub const RENEW_EVERY_MS: i64 = 1_500;
/// How long after its last renewal a leader decides nothing any more, in milliseconds: before others may think that it is gone.
pub const GIVE_UP_MS: i64 = 4_500;
/// How soon a claim that failed is made again, in milliseconds.
pub const CLAIM_AGAIN_MS: i64 = 500;
/// The most seconds that the duration which a lease names is believed.
const LEASE_SECONDS_MAX: i32 = 60;

/// The namespace of both objects.
const NAMESPACE: &str = "kube-system";
const LEASE_NAME: &str = "orchestrator-leader";
const LEAD_NAME: &str = "orchestrator-lead";

/// What lets a leader decide: a guard for each of its transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lead {
    /// Holds until somebody else leads.
    pub guard: Guard,
    /// The how-manieth lead it is; each is one higher than the one before.
    pub number: i32,
}

/// One control plane's part in the election.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Election {
    /// Nobody else's, not even an earlier process's.
    identity: String,
    /// The lease's newest revision, and since when it has been that.
    seen: Option<(Option<Revision>, Timestamp)>,
    /// When the newest claim was made, and whether it is still on its way.
    asked: Timestamp,
    is_asking: bool,
    /// When the newest claim was made that the world shows.
    renewed: Option<Timestamp>,
    /// The lead that has been given up, which does not come back.
    spent: Option<Revision>,
    claim_at: Timestamp,
}

impl Election {
    /// Stands for election, under a name that no other control plane has had or will have.
    pub fn new(identity: &str) -> Self {
        Self {
            identity: identity.to_owned(),
            seen: None,
            asked: Timestamp::default(),
            is_asking: false,
            renewed: None,
            spent: None,
            claim_at: Timestamp::default(),
        }
    }

    /// Takes in what the world says now.
    pub fn handle_world(&mut self, world: &World, now: Timestamp) {
        let lease = world.get(&lease_key());
        let revision = lease.map(|lease| lease.main);
        if self.seen.is_some_and(|(seen, _)| seen == revision) {
            return;
        }
        self.seen = Some((revision, now));
        if lease.is_some_and(|lease| self.is_own(lease)) {
            self.renewed = Some(self.asked);
        }
        if !self.leads_in(world) {
            self.claim_at = now;
        }
    }

    /// Takes in that a claim was committed, or not.
    pub fn handle_settled(&mut self, committed: bool, now: Timestamp) {
        self.is_asking = false;
        if !committed {
            self.claim_at = now.plus_millis(CLAIM_AGAIN_MS);
        }
    }

    /// Gives the lead up that the world shows: what was decided under it may be on its way, and nobody knows of it any more.
    pub fn handle_given_up(&mut self, world: &World) {
        self.is_asking = false;
        self.spent = world.get(&lead_key()).filter(|lead| self.is_own(lead)).map(|lead| lead.main);
    }

    /// The lead, if this control plane has it.
    pub fn lead(&self, world: &World, now: Timestamp) -> Option<Lead> {
        let renewed = self.renewed?;
        if !self.leads_in(world) || now >= renewed.plus_millis(GIVE_UP_MS) {
            return None;
        }
        let lead = world.get(&lead_key())?;
        let key = RecordKey::main(lead_key());
        let number = spec(lead).lease_transitions.unwrap_or_default();
        Some(Lead { guard: Guard { key, expect: Expect::At(lead.main) }, number })
    }

    /// Who else leads, as far as can be told: whoever holds a lease that is not over.
    pub fn other_leader(&self, world: &World, now: Timestamp) -> Option<String> {
        let lease = world.get(&lease_key())?;
        self.free_at(lease).filter(|free_at| now < *free_at)?;
        spec(lease).holder_identity
    }

    /// What is to be committed now, to take the lead or to keep it; tell [`Self::handle_settled`] what became of it.
    pub fn poll_claim(
        &mut self,
        world: &World,
        now: Timestamp,
        time_of_day: Timestamp,
    ) -> Option<Proposal> {
        if self.is_asking || now < self.claim_at {
            return None;
        }
        let lease = world.get(&lease_key());
        let claim = if self.leads_in(world) {
            self.claim_at = now.plus_millis(RENEW_EVERY_MS);
            self.renewal(world, time_of_day)?
        } else {
            if let Some(free_at) =
                lease.and_then(|lease| self.free_at(lease)).filter(|at| now < *at)
            {
                self.claim_at = free_at;
                return None;
            }
            self.claim_at = now.plus_millis(CLAIM_AGAIN_MS);
            self.taking_over(world, time_of_day)
        };
        self.asked = now;
        self.is_asking = true;
        Some(claim)
    }

    /// When to look again, though nothing comes in.
    pub fn poll_timeout(&self, world: &World, now: Timestamp) -> Timestamp {
        let given_up = self.lead(world, now).and(self.renewed).map(|at| at.plus_millis(GIVE_UP_MS));
        let claim = if self.is_asking { None } else { Some(self.claim_at) };
        let due = given_up.into_iter().chain(claim).min();
        // A claim on its way is told of when it is settled.
        due.unwrap_or_else(|| now.plus_millis(LEASE_MS))
    }

    /// What lets others lead at once, when this control plane stops.
    pub fn release(&self, world: &World) -> Option<Proposal> {
        let (lease, lead) = (world.get(&lease_key())?, world.get(&lead_key())?);
        if !self.leads_in(world) || !self.is_own(lease) {
            return None;
        }
        let released = LeaseSpec { holder_identity: None, ..spec(lease) };
        Some(Proposal::put_main(lease, with(lease, released)).guarded_by_main(lead))
    }

    /// Whether the world says that this control plane leads, by a lead that it has not given up.
    fn leads_in(&self, world: &World) -> bool {
        let lead = world.get(&lead_key());
        lead.is_some_and(|lead| self.is_own(lead) && self.spent != Some(lead.main))
    }

    fn is_own(&self, stored: &Stored) -> bool {
        spec(stored).holder_identity.as_deref() == Some(&*self.identity)
    }

    /// When the lease may be taken; `None` when it may be at any time.
    fn free_at(&self, lease: &Stored) -> Option<Timestamp> {
        let LeaseSpec { holder_identity, lease_duration_seconds, .. } = spec(lease);
        holder_identity.filter(|holder| !holder.is_empty() && *holder != self.identity)?;
        let seconds = lease_duration_seconds.unwrap_or_default().clamp(1, LEASE_SECONDS_MAX);
        let (_, since) = self.seen?;
        Some(since.plus_millis(i64::from(seconds) * 1_000))
    }

    fn renewal(&self, world: &World, time_of_day: Timestamp) -> Option<Proposal> {
        let lead = world.get(&lead_key())?;
        let held = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            renew_time: Some(time_of_day.into()),
            ..spec(lead)
        };
        let renewed = match world.get(&lease_key()) {
            Some(lease) => Proposal::put_main(lease, with(lease, held)),
            None => Proposal::create(fresh(LEASE_NAME, held, world, time_of_day)),
        };
        Some(renewed.guarded_by_main(lead))
    }

    fn taking_over(&self, world: &World, time_of_day: Timestamp) -> Proposal {
        let at: MicroTime = time_of_day.into();
        let objects = [(lease_key(), LEASE_NAME), (lead_key(), LEAD_NAME)];
        // Also when one of the two was lost: no number is used twice.
        let numbers = objects.iter().filter_map(|(key, _)| world.get(key));
        let last = numbers.filter_map(|stored| spec(stored).lease_transitions).max();
        let held = LeaseSpec {
            acquire_time: Some(at),
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_MS / 1_000).ok(),
            lease_transitions: Some(last.map_or(0, |last| last.saturating_add(1))),
            renew_time: Some(at),
            ..LeaseSpec::default()
        };
        let claims = objects.map(|(key, name)| match world.get(&key) {
            Some(stored) => Proposal::put_main(stored, with(stored, held.clone())),
            None => Proposal::create(fresh(name, held.clone(), world, time_of_day)),
        });
        claims.into_iter().fold(Proposal::default(), Proposal::and)
    }
}

fn lease_key() -> Key {
    Key::new(Kind::Lease, NAMESPACE, LEASE_NAME)
}

fn lead_key() -> Key {
    Key::new(Kind::Lease, NAMESPACE, LEAD_NAME)
}

fn spec(stored: &Stored) -> LeaseSpec {
    Lease::from_object(&stored.object).map(|lease| lease.spec.clone()).unwrap_or_default()
}

/// The stored lease with another claim in it.
fn with(stored: &Stored, spec: LeaseSpec) -> Object {
    let lease = Lease::from_object(&stored.object).map(|lease| (**lease).clone());
    Lease { spec, ..lease.unwrap_or_default() }.into()
}

fn fresh(name: &str, spec: LeaseSpec, world: &World, time_of_day: Timestamp) -> Object {
    let metadata = ObjectMeta {
        creation_timestamp: Some(time_of_day.to_time()),
        uid: Uid::derived(Uid::default(), name, world.revision()),
        ..ObjectMeta::named(NAMESPACE, name)
    };
    Lease { metadata, spec, ..Lease::default() }.into()
}

#[cfg(test)]
mod tests;
