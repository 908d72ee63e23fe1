//! Ways in which two control planes may take turns, short and long ones, thousands of them: each with a clock of its own, pauses of any
//! length, batches that come late, commits that arrive late or whose answer is lost. And single sentences.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::hash::Fnv128;
use crate::store::{Batch, RecordChange, Txn, Write};
use crate::testkit::sim::Rng;

/// By how much a clock moves at once, in milliseconds.
const TICK_MS: i64 = 3_000;
/// How often each clock moves at most.
const TICKS_MAX: i64 = 6;
/// How many commits there are at most.
const COMMITS_MAX: usize = 8;
/// How many different states are looked at.
const STATES_MAX: usize = 20_000;
/// Of how many states one is healed, to see that it comes to a leader.
const HEAL_ONE_OF: usize = 16;

/// A store, and what was committed to it.
#[derive(Clone, Default)]
struct Store {
    records: BTreeMap<RecordKey, Revision>,
    log: Vec<Batch>,
}

impl Store {
    fn commit(&mut self, txn: &Txn) -> bool {
        let holds = |key: &RecordKey, expect: Expect| match expect {
            Expect::Absent => !self.records.contains_key(key),
            Expect::At(revision) => self.records.get(key) == Some(&revision),
        };
        let all = txn.guards.iter().all(|guard| holds(&guard.key, guard.expect))
            && txn.writes.iter().all(|write| holds(write.key(), write.expect()));
        if !all {
            return false;
        }
        let revision = Revision(self.log.len() as u64 + 1);
        let change = |write: &Write| {
            let Write::Put { key, value, .. } = write else { panic!("nothing is deleted") };
            RecordChange { key: key.clone(), value: Some(value.clone()) }
        };
        let changes: Vec<_> = txn.writes.iter().map(change).collect();
        self.records.extend(changes.iter().map(|change| (change.key.clone(), revision)));
        self.log.push(Batch { revision, changes });
        true
    }
}

#[derive(Clone)]
struct Server {
    election: Election,
    world: World,
    /// How many commits it has seen.
    seen: usize,
    clock: Timestamp,
    claim: Option<Txn>,
    /// Something it has decided as leader, under a lead of this number, and not yet committed.
    decision: Option<(Txn, i32)>,
    leads: bool,
}

impl Server {
    fn new(identity: &str) -> Self {
        Self {
            election: Election::new(identity),
            world: World::default(),
            seen: 0,
            clock: Timestamp::default(),
            claim: None,
            decision: None,
            leads: false,
        }
    }

    /// As the control loop does before everything else. What a leader that gives up has on its way stays on its way.
    fn look(&mut self) -> Option<Lead> {
        self.election.handle_world(&self.world, self.clock);
        let lead = self.election.lead(&self.world, self.clock);
        if self.leads && lead.is_none() {
            self.election.handle_given_up(&self.world);
        }
        self.leads = lead.is_some();
        lead
    }

    fn ask(&mut self) {
        let claim = self.election.poll_claim(&self.world, self.clock, Timestamp::default());
        if let Some(claim) = claim {
            self.claim = Some(claim.to_txn());
        }
    }

    fn deliver(&mut self, store: &Store) -> bool {
        let Some(batch) = store.log.get(self.seen) else { return false };
        self.world.apply(batch);
        self.seen += 1;
        true
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Answered,
    AnswerLost,
    Ask,
    Decide,
    Deliver,
    Written,
    Tick,
}

const STEPS: [Step; 7] = [
    Step::Answered,
    Step::AnswerLost,
    Step::Ask,
    Step::Decide,
    Step::Deliver,
    Step::Written,
    Step::Tick,
];

#[derive(Clone)]
struct State {
    store: Store,
    servers: [Server; 2],
    /// The number of the lead of the newest decision that was committed.
    newest: i32,
}

impl State {
    fn new() -> Self {
        let servers = [Server::new("a"), Server::new("b")];
        Self { store: Store::default(), servers, newest: 0 }
    }

    /// The state after a step of a server; `None` when there is nothing to be done or a bound is met.
    fn after(&self, who: usize, step: Step) -> Option<Self> {
        let mut state = self.clone();
        let Self { store, servers, newest } = &mut state;
        let server = &mut servers[who];
        match step {
            Step::Answered | Step::AnswerLost => {
                let claim = server.claim.take().filter(|_| store.log.len() < COMMITS_MAX)?;
                let committed = store.commit(&claim) && matches!(step, Step::Answered);
                server.election.handle_settled(committed, server.clock);
            }
            Step::Ask => {
                server.look();
                server.ask();
                server.claim.as_ref()?;
            }
            Step::Decide => {
                let Lead { guard, number } = server.look().filter(|_| server.decision.is_none())?;
                let name = format!("decision-{who}-{}", server.seen);
                let key = RecordKey::main(Key::new(Kind::ConfigMap, "default", &name));
                let value = "{}".into();
                let writes = vec![Write::Put { key, expect: Expect::Absent, value }];
                server.decision = Some((Txn { guards: vec![guard], writes }, number));
            }
            Step::Deliver => {
                server.deliver(store).then_some(())?;
                server.look();
            }
            Step::Written => {
                let (txn, number) =
                    server.decision.take().filter(|_| store.log.len() < COMMITS_MAX)?;
                if store.commit(&txn) {
                    assert!(number >= *newest, "S32: lead {number} wrote after {newest}");
                    *newest = number;
                }
            }
            Step::Tick => {
                server.clock = server.clock.plus_millis(TICK_MS);
                (server.clock.as_millis() <= TICK_MS * TICKS_MAX).then_some(())?;
                server.look();
            }
        }
        Some(state)
    }

    /// What tells this state from others. Revisions and so worlds follow from the log.
    fn print(&self) -> u128 {
        let mut hash = Fnv128::new();
        for change in self.store.log.iter().flat_map(|batch| &batch.changes) {
            hash.write(change.key.object.name.as_bytes());
            hash.write(change.value.as_deref().unwrap_or_default());
        }
        for server in &self.servers {
            let Server { election, seen, clock, claim, decision, leads, .. } = server;
            let expects = |txn: &Txn| {
                let all = txn.guards.iter().map(|guard| guard.expect);
                all.chain(txn.writes.iter().map(Write::expect)).collect::<Vec<_>>()
            };
            let (claim, decision) =
                (claim.as_ref().map(expects), decision.as_ref().map(|it| expects(&it.0)));
            let rest = format!("{seen} {clock:?} {claim:?} {decision:?} {leads}");
            hash.write(format!("{election:?} {rest}").as_bytes());
        }
        hash.finish()
    }

    /// Lets everything go well from now on; a leader must come of it in time, and be the only one (L7).
    fn heal(mut self) {
        const STEP_MS: i64 = 500;
        for _ in 0..(LEASE_MS + 2_000) / STEP_MS {
            for server in &mut self.servers {
                while server.deliver(&self.store) {}
                server.look();
                server.ask();
                if let Some(claim) = server.claim.take() {
                    let committed = self.store.commit(&claim);
                    server.election.handle_settled(committed, server.clock);
                }
                server.clock = server.clock.plus_millis(STEP_MS);
            }
        }
        let mut leaders = 0;
        for server in &mut self.servers {
            while server.deliver(&self.store) {}
            leaders += usize::from(server.look().is_some());
        }
        assert_eq!(leaders, 1, "L7");
    }
}

#[test]
fn s32_l7_two_control_planes_never_both_write_and_one_leads_in_time() {
    let (mut known, mut open) = (BTreeSet::new(), vec![State::new()]);
    let (mut leads, mut written) = (0, 0);
    let mut rng = Rng::new(1);
    while !open.is_empty() {
        // Some from where it began, most from where it has got to.
        let newest = open.len() - rng.below(open.len().min(64)) - 1;
        let at = if rng.percent(10) { rng.below(open.len()) } else { newest };
        let state = open.swap_remove(at);
        if !known.insert(state.print()) {
            continue;
        }
        leads = leads.max(state.newest);
        written += usize::from(state.newest > 0);
        if known.len() % HEAL_ONE_OF == 0 {
            state.clone().heal();
        }
        if known.len() >= STATES_MAX {
            break;
        }
        for who in [0, 1] {
            open.extend(STEPS.into_iter().filter_map(|step| state.after(who, step)));
        }
    }
    assert!(leads >= 2, "decisions were written under no more than {leads} leads");
    assert!(written > 1_000, "{written} states in which a second leader had decided");
}

/// A server that leads, and its store.
fn leading() -> (Server, Store) {
    let (mut server, mut store) = (Server::new("a"), Store::default());
    server.look();
    server.ask();
    let claim = server.claim.take().expect("nobody leads");
    assert!(store.commit(&claim));
    server.election.handle_settled(true, server.clock);
    assert!(server.look().is_none(), "it has not seen that it leads");
    while server.deliver(&store) {}
    assert!(server.look().is_some());
    (server, store)
}

fn renew(server: &mut Server, store: &mut Store) {
    server.clock = server.clock.plus_millis(RENEW_EVERY_MS);
    server.look();
    server.ask();
    let claim = server.claim.take().expect("it is time");
    let committed = store.commit(&claim);
    server.election.handle_settled(committed, server.clock);
    while server.deliver(store) {}
}

#[test]
fn a_renewal_changes_nothing_that_decisions_depend_on() {
    let (mut server, mut store) = leading();
    let before = server.look();
    renew(&mut server, &mut store);
    assert_eq!(server.look(), before);
}

#[test]
fn f11_a_leader_that_was_paused_does_not_lead_when_it_wakes() {
    let (mut server, _) = leading();
    server.clock = server.clock.plus_millis(GIVE_UP_MS);
    assert_eq!(server.look(), None);
}

#[test]
fn who_leads_again_after_a_pause_has_another_lead() {
    let (mut server, mut store) = leading();
    let before = server.look().expect("it leads");
    server.clock = server.clock.plus_millis(GIVE_UP_MS);
    renew(&mut server, &mut store);
    let after = server.look().expect("it is its own lease");
    assert!(after.number > before.number && after.guard != before.guard);
}

#[test]
fn a_lease_that_was_let_go_is_taken_at_once() {
    let (mut first, mut store) = leading();
    let mut second = Server::new("b");
    while second.deliver(&store) {}
    second.look();
    second.ask();
    assert_eq!(second.claim, None, "somebody leads");
    let released = first.election.release(&first.world).expect("it leads");
    assert!(store.commit(&released.to_txn()));
    while second.deliver(&store) {}
    second.look();
    second.ask();
    assert!(store.commit(&second.claim.take().expect("nobody leads")));
    while first.deliver(&store) {}
    assert_eq!(first.look(), None);
    assert_eq!(first.election.other_leader(&first.world, first.clock).as_deref(), Some("b"));
}

#[test]
fn f12_a_lease_that_names_an_absurd_duration_is_over_some_time() {
    let (_, mut store) = leading();
    let mut second = Server::new("b");
    while second.deliver(&store) {}
    let lease = second.world.get(&lease_key()).expect("there").clone();
    let spec = LeaseSpec { lease_duration_seconds: Some(i32::MAX), ..spec(&lease) };
    assert!(store.commit(&Proposal::put_main(&lease, with(&lease, spec)).to_txn()));
    while second.deliver(&store) {}
    second.look();
    second.clock = second.clock.plus_millis(i64::from(LEASE_SECONDS_MAX) * 1_000);
    second.ask();
    assert!(second.claim.is_some());
}
