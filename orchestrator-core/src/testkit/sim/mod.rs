//! `Simulation`: the real engine, verbs and agents' brains over a store in memory and simulated runtimes, on one
//! thread, in virtual time, from one seed.
//!
//! A run has three phases: faults at random while the invariants are checked after every commit (safety),
//! then everything is healed and must come to rest (liveness), then what is wanted must be what there is.

mod control;
mod crashes;
mod faults;
mod furnish;
mod judge;
mod machine;
mod oracle;
mod rng;
mod user;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::api::{Caller, Request, WriteOptions};
use crate::engine::{Engine, RequestId, Ticket};
use crate::hash::Fnv128;
use crate::mem::MemStore;
use crate::model::{Key, Object, Part, Pod, Resource, Revision, Timestamp};
use crate::store::{Batch, CommitOutcome, StateStore, Txn, Watch};
use crate::testkit::clock::ManualClock;
use crate::world::{Signal, World};
use control::{engine, only_refused};
use machine::Machine;
use oracle::Oracle;

pub use control::CrashPoint;
pub use crashes::{commits_without_a_crash, crash_at};
pub use faults::Faults;
pub use rng::Rng;

/// How many nodes a simulation has.
const NODES: usize = 3;
/// How many steps the faulty phase has.
const STEPS: usize = 1_500;
/// How many fair rounds the healed cluster may take to come to rest.
const ROUNDS_MAX: usize = 600;
/// How many changes the report of a broken run shows.
const RECENT_MAX: usize = 25;
/// How often a machine speaks up, in milliseconds.
const HEARTBEAT_MS: i64 = 5_000;
/// How long a machine may be silent, in milliseconds: longer than its pods are tolerated to be.
const SILENCE_MS_MAX: usize = 60_000;

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// How many commits there were.
    pub commits: u64,
    /// How many faults were injected.
    pub faults: u64,
    /// How many fair rounds the healed cluster took.
    pub rounds: usize,
    /// A hash of every commit: equal runs have equal traces.
    pub trace: u128,
}

/// A simulated cluster.
pub struct Simulation {
    rng: Rng,
    faults: Faults,
    injected: u64,
    /// Nothing goes wrong and nobody deletes or scales: a rollout must keep its bounds at every moment.
    calm: bool,
    now: Timestamp,
    clock: ManualClock,
    store: MemStore,
    engine: Engine,
    /// Whether the store is shared: each control plane is elected, and its transactions are guarded by its lead.
    elects: bool,
    /// A control plane that was paused while another took the lead, and that goes on as if nothing had happened (F11).
    paused: Option<Engine>,
    engine_watch: Box<dyn Watch>,
    undelivered: VecDeque<Batch>,
    commits: Vec<(Ticket, Txn)>,
    /// Commits of a control plane that died; they may yet arrive.
    ghosts: Vec<Txn>,
    acknowledgements: Vec<(Ticket, CommitOutcome)>,
    /// How many commits the control plane has asked for.
    decided: u64,
    /// When it dies, in an enumeration of crashes.
    crash_at: Option<CrashPoint>,
    /// Whether nothing happens to containers, so that none may be restarted.
    undisturbed: bool,
    truth: World,
    truth_watch: Box<dyn Watch>,
    oracle: Oracle,
    machines: Vec<Machine>,
    heard: Timestamp,
    trace: Fnv128,
    /// The newest changes, for the report of a broken run.
    recent: VecDeque<String>,
    uids: u128,
}

/// Runs one simulation.
///
/// # Errors
/// Says which invariant or liveness property was broken, and the seed.
pub fn simulate(seed: u64) -> Result<Report, String> {
    let mut simulation = Simulation::new(seed);
    simulation.run().map_err(|broken| {
        let recent: Vec<_> = simulation.recent.iter().map(String::as_str).collect();
        format!("seed {seed}: {broken}\n  after {}", recent.join("\n    then "))
    })
}

impl Simulation {
    /// Sets a cluster up from a seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let calm = rng.percent(20);
        let elects = rng.percent(50);
        // A calm cluster is slow, no more.
        let quiet = Faults { user: 2, lag: 30, ..Faults::NONE };
        let faults = if calm { quiet } else { Faults::swarm(&mut rng) };
        let mut simulation = Self::with(rng, faults, calm);
        simulation.elects = elects;
        simulation
    }

    fn with(rng: Rng, faults: Faults, calm: bool) -> Self {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let clock = ManualClock::new(now);
        let store = MemStore::new();
        let follow = |store: &MemStore| {
            at_once(store.watch(Revision::ZERO)).expect("a fresh store has its history")
        };
        let machines =
            (0..NODES).map(|number| Machine::new(&format!("n{number}"), &clock)).collect();
        let mut simulation = Self {
            engine: engine(World::default(), now),
            elects: false,
            paused: None,
            engine_watch: follow(&store),
            truth_watch: follow(&store),
            rng,
            faults,
            injected: 0,
            calm,
            now,
            clock,
            store,
            undelivered: VecDeque::new(),
            commits: Vec::new(),
            ghosts: Vec::new(),
            acknowledgements: Vec::new(),
            decided: 0,
            crash_at: None,
            undisturbed: false,
            truth: World::default(),
            oracle: Oracle::new(calm),
            machines,
            heard: now,
            trace: Fnv128::new(),
            recent: VecDeque::new(),
            uids: 0,
        };
        simulation.furnish();
        simulation
    }

    /// Runs the three phases.
    ///
    /// # Errors
    /// Says which invariant or liveness property was broken.
    pub fn run(&mut self) -> Result<Report, String> {
        for _ in 0..STEPS {
            self.step()?;
        }
        self.heal()?;
        let rounds = self.settle()?;
        self.judge()?;
        Ok(Report {
            commits: self.oracle.commits,
            faults: self.injected,
            rounds,
            trace: self.trace.finish(),
        })
    }

    /// One thing happens.
    fn step(&mut self) -> Result<(), String> {
        let faults = self.faults;
        if self.hit(faults.control_crash) {
            return self.crash();
        }
        if self.hit(faults.user) {
            let request = match self.calm {
                true => user::roll(&mut self.rng, &self.truth),
                false => user::edit(&mut self.rng, &self.truth),
            };
            // A user's edit may well be refused; that is no fault of the cluster.
            return self
                .request(&Caller::Admin { name: "user".to_owned() }, &request)
                .map(|_| ())
                .or_else(only_refused);
        }
        if self.hit(faults.bind) {
            self.bind_by_hand();
        }
        if self.rng.percent(5)
            && let Some(ghost) = self.ghosts.pop()
        {
            self.commit(ghost)?;
        }
        if self.rng.percent(10) {
            self.wake_paused()?;
        }
        let machine = self.rng.below(self.machines.len());
        if self.hit(faults.agent_crash) {
            self.machines[machine].restart_agent();
        }
        if self.hit(faults.container_death) {
            let code = i32::from(self.rng.percent(70)) * 137;
            self.machines[machine].kill_one(&mut self.rng, code);
        }
        if self.hit(faults.sandbox_loss) {
            self.machines[machine].lose_one(&mut self.rng);
        }
        if self.hit(faults.node_reboot) {
            self.machines[machine].reboot();
        }
        if self.hit(faults.node_silence) {
            let millis = 1 + self.rng.below(SILENCE_MS_MAX);
            self.machines[machine].silent_until =
                self.now.plus_millis(i64::try_from(millis).unwrap_or(1));
        }
        match self.rng.below(12) {
            0..3 => self.deliver(faults.lag),
            3..5 => {
                let outputs = 1 + self.rng.below(20);
                self.poll(outputs);
                Ok(())
            }
            5..7 => self.execute_one(),
            7..9 => {
                self.acknowledge_one();
                Ok(())
            }
            9..11 => {
                let verbs = 1 + self.rng.below(6);
                self.turn(machine, verbs)
            }
            _ => {
                let most = if self.rng.percent(5) { 60_000 } else { 2_000 };
                let millis = 1 + self.rng.below(most);
                self.pass_time(i64::try_from(millis).unwrap_or(1));
                Ok(())
            }
        }
    }

    fn hit(&mut self, percent: u64) -> bool {
        let hit = percent > 0 && self.rng.percent(percent);
        self.injected += u64::from(hit);
        hit
    }

    /// An agent takes a turn on the world as the API shows it.
    fn turn(&mut self, machine: usize, verbs: usize) -> Result<(), String> {
        if self.machines[machine].silent_until > self.now {
            return Ok(());
        }
        let healthy = !self.hit(self.faults.probe_failure);
        let machine = &mut self.machines[machine];
        let reports = machine.turn(&self.truth, self.now, verbs, healthy);
        for (pod, runs) in machine.running() {
            let mut names: Vec<_> = runs.iter().map(|key| &key.name).collect();
            names.sort();
            names.dedup();
            if names.len() != runs.len() {
                return Err(format!("S17: two runs of one container of pod {pod}"));
            }
        }
        let caller = Caller::Node { name: machine.name.clone() };
        let running = self.machines.iter().flat_map(|machine| machine.running().into_keys());
        self.oracle.no_namesakes(running)?;
        for (key, uid, status) in reports.statuses {
            let Some(pod) = self.truth.at::<Pod>(&key).filter(|pod| pod.metadata.uid == uid) else {
                continue;
            };
            let mut pod = (**pod).clone();
            pod.status = status;
            pod.metadata.resource_version = Revision::ZERO;
            let object = Object::from(pod).to_value();
            let update = Request::Update {
                key,
                part: Part::Status,
                object,
                options: WriteOptions::default(),
            };
            self.request(&caller, &update)?;
        }
        for (key, uid) in reports.deleted {
            let preconditions = crate::api::Preconditions { revision: None, uid: Some(uid) };
            let options = crate::api::DeleteOptions {
                grace_seconds: Some(0),
                preconditions,
                ..crate::api::DeleteOptions::default()
            };
            self.request(&caller, &Request::Delete { key, options })
                .map(|_| ())
                .or_else(only_refused)?;
        }
        Ok(())
    }

    /// Somebody else than the scheduler binds a pod; the engine may refuse.
    fn bind_by_hand(&mut self) {
        let pods: Vec<Key> = self
            .truth
            .all::<Pod>(None)
            .filter(|pod| !pod.is_bound())
            .map(|pod| pod.key())
            .collect();
        if let Some(pod) = pods.get(self.rng.below(pods.len())) {
            let node = format!("n{}", self.rng.below(NODES));
            self.engine.handle_bind(RequestId(0), pod, &node, self.now);
        }
    }

    fn pass_time(&mut self, millis: i64) {
        self.now = self.now.plus_millis(millis);
        self.clock.advance_millis(millis);
        if self.now.millis_since(self.heard) >= HEARTBEAT_MS {
            self.heard = self.now;
            for machine in self.machines.iter().filter(|it| it.silent_until <= self.now) {
                self.engine
                    .handle_signal(Signal::Heartbeat { node: machine.name.clone(), at: self.now });
            }
        }
        self.engine.handle_timeout(self.now);
    }

    /// Nothing goes wrong any more, and every node takes pods again.
    fn heal(&mut self) -> Result<(), String> {
        self.faults = Faults::NONE;
        for machine in &mut self.machines {
            machine.silent_until = self.now;
        }
        for ghost in std::mem::take(&mut self.ghosts) {
            self.commit(ghost)?;
        }
        let admin = Caller::Admin { name: "heal".to_owned() };
        for number in 0..NODES {
            let request = Request::Patch {
                key: Key::node(&format!("n{number}")),
                part: Part::Main,
                patch: crate::api::Patch::Merge(
                    serde_json::json!({ "spec": { "unschedulable": null } }),
                ),
                preconditions: crate::api::Preconditions::default(),
                options: WriteOptions::default(),
            };
            self.request(&admin, &request)?;
        }
        Ok(())
    }

    /// Fair rounds until a while passes without any commit.
    fn settle(&mut self) -> Result<usize, String> {
        let mut quiet_rounds = 0;
        for round in 0..ROUNDS_MAX {
            let before = self.truth.revision();
            self.round()?;
            quiet_rounds = if self.truth.revision() == before { quiet_rounds + 1 } else { 0 };
            // Long enough for every back-off and deadline that leads anywhere to have run out.
            if quiet_rounds > 40 {
                return Ok(round.saturating_sub(quiet_rounds));
            }
        }
        Err(format!("S34: no rest within {ROUNDS_MAX} fair rounds"))
    }

    fn round(&mut self) -> Result<(), String> {
        loop {
            self.deliver(0)?;
            self.poll(usize::MAX);
            if self.commits.is_empty() && self.acknowledgements.is_empty() {
                break;
            }
            while !self.commits.is_empty() {
                self.execute_one()?;
            }
            while !self.acknowledgements.is_empty() {
                self.acknowledge_one();
            }
        }
        for machine in 0..self.machines.len() {
            self.turn(machine, usize::MAX)?;
        }
        self.pass_time(HEARTBEAT_MS * 3);
        if self.undisturbed { self.none_restarted() } else { Ok(()) }
    }
}

/// Runs a future that never waits.
fn at_once<F: Future>(future: F) -> F::Output {
    ready(future).expect("a store in memory answers at once")
}

/// Polls a future once.
fn ready<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
