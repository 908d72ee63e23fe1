//! `Candidate`: the election as the control loop sees it, with a time that nobody sets.

use tokio::time::{Duration, Instant};

use crate::election::{Election, Lead};
use crate::model::Timestamp;
use crate::world::{Proposal, World};

/// A control plane's part in the election.
#[derive(Debug)]
pub(super) struct Candidate {
    election: Election,
    began: Instant,
}

impl Candidate {
    pub(super) fn new(identity: &str) -> Self {
        Self { election: Election::new(identity), began: Instant::now() }
    }

    /// Takes in what the world says; returns the lead, if this control plane has it.
    pub(super) fn look(&mut self, world: &World) -> Option<Lead> {
        let now = self.now();
        self.election.handle_world(world, now);
        self.election.lead(world, now)
    }

    /// Who else leads, as far as can be told.
    pub(super) fn other_leader(&self, world: &World) -> Option<String> {
        self.election.other_leader(world, self.now())
    }

    /// What is to be committed to take or keep the lead.
    pub(super) fn claim(&mut self, world: &World, time_of_day: Timestamp) -> Option<Proposal> {
        let now = self.now();
        self.election.poll_claim(world, now, time_of_day)
    }

    pub(super) fn settled(&mut self, committed: bool) {
        let now = self.now();
        self.election.handle_settled(committed, now);
    }

    pub(super) fn give_up(&mut self, world: &World) {
        self.election.handle_given_up(world);
    }

    pub(super) fn release(&self, world: &World) -> Option<Proposal> {
        self.election.release(world)
    }

    /// When to look again.
    pub(super) fn wait(&self, world: &World) -> Instant {
        let due = self.election.poll_timeout(world, self.now()).as_millis();
        self.began + Duration::from_millis(u64::try_from(due).unwrap_or_default())
    }

    fn now(&self) -> Timestamp {
        let passed = self.began.elapsed().as_millis();
        Timestamp::from_millis(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}
