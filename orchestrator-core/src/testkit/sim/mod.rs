//! `Simulation`: the real engine, verbs and agents' brains over a store in memory and simulated runtimes, on one
//! thread, in virtual time, from one seed.
//!
//! A run has three phases: faults at random while the invariants are checked after every commit (safety),
//! then everything is healed and must come to rest (liveness), then what is wanted must be what there is.

mod faults;
mod judge;
mod machine;
mod oracle;
mod rng;
mod user;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::api::{Caller, Rejection, Request, WriteOptions, decide};
use crate::controller::{Controller, built_in};
use crate::engine::{Engine, Output, Ticket};
use crate::hash::Fnv128;
use crate::mem::MemStore;
use crate::model::{
    ConditionStatus, Key, Kind, Namespace, Node, NodeCondition, Object, ObjectMeta, Part, Pod,
    Quantity, Revision, Timestamp, Uid,
};
use crate::mutants::{self, Mutant};
use crate::scheduler::{FilterScore, Scheduler};
use crate::store::{Batch, CommitOutcome, Expect, RecordKey, StateStore, Txn, Watch, Write};
use crate::testkit::clock::ManualClock;
use crate::world::{Signal, World};
use machine::Machine;
use oracle::Oracle;

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
    engine_watch: Box<dyn Watch>,
    undelivered: VecDeque<Batch>,
    commits: Vec<(Ticket, Txn)>,
    /// Commits of a control plane that died; they may yet arrive.
    ghosts: Vec<Txn>,
    acknowledgements: Vec<(Ticket, CommitOutcome)>,
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
        let faults =
            if calm { Faults { user: 2, ..Faults::NONE } } else { Faults::swarm(&mut rng) };
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

    fn furnish(&mut self) {
        let namespace = Namespace {
            metadata: ObjectMeta { name: "default".to_owned(), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        let admin = Caller::Admin { name: "set-up".to_owned() };
        let mut objects = vec![Object::from(namespace)];
        objects.extend((0..NODES).map(|number| Object::from(node(&format!("n{number}")))));
        for object in objects {
            let (kind, part) = (object.kind(), Part::Status);
            let (key, options) = (object.key(), WriteOptions::default());
            let namespace = String::new();
            let create = Request::Create { kind, namespace, object: object.to_value(), options };
            self.request(&admin, &create).expect("a valid object");
            if kind == Kind::Node {
                let update = Request::Update { key, part, object: object.to_value(), options };
                self.request(&admin, &update).expect("a valid status");
            }
        }
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
        if self.rng.percent(5)
            && let Some(ghost) = self.ghosts.pop()
        {
            self.commit(ghost)?;
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

    /// The control plane dies. What was on its way to the store arrives or not; what it knew is gone.
    fn crash(&mut self) -> Result<(), String> {
        for (_, txn) in std::mem::take(&mut self.commits) {
            match self.rng.below(3) {
                0 => _ = self.commit(txn)?,
                // A bind that arrives this late needs fencing by epoch, which comes with stores that outlive
                // the process; until then a store dies with the process that writes to it.
                1 if !is_bind(&txn) => self.ghosts.push(txn),
                _ => {}
            }
        }
        self.acknowledgements.clear();
        self.undelivered.clear();
        let page = at_once(self.store.load(None)).map_err(|error| error.to_string())?;
        let world = World::from_pages([page]);
        self.engine_watch =
            at_once(self.store.watch(world.revision())).map_err(|error| error.to_string())?;
        self.engine = engine(world, self.now);
        Ok(())
    }

    /// Hands the engine what the store has committed; with `lag` only some of it.
    fn deliver(&mut self, lag: u64) -> Result<(), String> {
        while let Some(batch) = ready(self.engine_watch.next()) {
            self.undelivered.push_back(batch.map_err(|error| error.to_string())?);
        }
        let held_back = self.rng.percent(lag);
        let mut count = if held_back { self.rng.below(2) } else { self.undelivered.len() };
        while count > 0 {
            let Some(batch) = self.undelivered.pop_front() else { break };
            self.engine.handle_batch(&batch);
            if self.hit(self.faults.batch_twice) {
                self.engine.handle_batch(&batch);
            }
            count -= 1;
        }
        Ok(())
    }

    fn poll(&mut self, outputs: usize) {
        for _ in 0..outputs {
            match self.engine.poll_output(self.now) {
                Some(Output::Commit { ticket, txn }) => self.commits.push((ticket, txn)),
                Some(Output::Answer { .. }) => {}
                None => break,
            }
        }
    }

    /// One of the commits on their way arrives, in no particular order.
    fn execute_one(&mut self) -> Result<(), String> {
        if self.commits.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.commits.len());
        let (ticket, txn) = self.commits.swap_remove(at);
        let outcome = if self.hit(self.faults.commit_lost) {
            CommitOutcome::Unknown
        } else {
            let outcome = self.commit(txn)?;
            if self.hit(self.faults.ack_lost) { CommitOutcome::Unknown } else { outcome }
        };
        self.acknowledgements.push((ticket, outcome));
        Ok(())
    }

    fn acknowledge_one(&mut self) {
        if self.acknowledgements.is_empty() {
            return;
        }
        let at = self.rng.below(self.acknowledgements.len());
        let (ticket, outcome) = self.acknowledgements.swap_remove(at);
        self.engine.handle_committed(ticket, outcome, self.truth.revision(), self.now);
    }

    /// An agent takes a turn on the world as the API shows it.
    fn turn(&mut self, machine: usize, verbs: usize) -> Result<(), String> {
        let machine = &mut self.machines[machine];
        let reports = machine.turn(&self.truth, self.now, verbs);
        for (pod, runs) in machine.running() {
            let mut names: Vec<_> = runs.iter().map(|key| &key.name).collect();
            names.sort();
            names.dedup();
            if names.len() != runs.len() {
                return Err(format!("S17: two runs of one container of pod {pod}"));
            }
        }
        let caller = Caller::Node { name: machine.name.clone() };
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

    fn pass_time(&mut self, millis: i64) {
        self.now = self.now.plus_millis(millis);
        self.clock.advance_millis(millis);
        if self.now.millis_since(self.heard) >= HEARTBEAT_MS {
            self.heard = self.now;
            for machine in &self.machines {
                self.engine
                    .handle_signal(Signal::Heartbeat { node: machine.name.clone(), at: self.now });
            }
        }
        self.engine.handle_timeout(self.now);
    }

    /// Decides and commits a request on the truth, as the API does.
    fn request(&mut self, caller: &Caller, request: &Request) -> Result<CommitOutcome, String> {
        self.uids += 1;
        let uid = Uid::from_uuid(uuid::Uuid::from_u128(self.uids));
        match decide(&self.truth, caller, request, self.now, uid) {
            Ok(effect) => match effect.proposal {
                Some(proposal) => self.commit(proposal.to_txn()),
                None => Ok(CommitOutcome::Committed(self.truth.revision())),
            },
            Err(Rejection::NotFound { key }) => Err(format!("{REFUSED}{key} not found")),
            Err(rejection) => Err(format!("{REFUSED}{rejection}")),
        }
    }

    /// Commits, and checks every invariant on what that changed.
    fn commit(&mut self, mut txn: Txn) -> Result<CommitOutcome, String> {
        if mutants::on(Mutant::PreconditionsIgnored) {
            ignore_preconditions(&mut txn, &self.truth);
        }
        let outcome = at_once(self.store.commit(txn)).map_err(|error| error.to_string())?;
        while let Some(batch) = ready(self.truth_watch.next()) {
            let batch = batch.map_err(|error| error.to_string())?;
            for change in &batch.changes {
                self.trace.write(change.key.object.to_string().as_bytes());
                self.trace.write(change.value.as_deref().unwrap_or_default());
            }
            let changes = self.truth.apply(&batch);
            for change in &changes {
                self.recent.push_back(describe(change));
            }
            while self.recent.len() > RECENT_MAX {
                self.recent.pop_front();
            }
            if let Some((name, reason)) = self.truth.quarantined().next() {
                return Err(format!("S11: {name} cannot be read: {reason}"));
            }
            self.oracle.check(&changes, &self.truth)?;
        }
        Ok(outcome)
    }

    /// Nothing goes wrong any more, and every node takes pods again.
    fn heal(&mut self) -> Result<(), String> {
        self.faults = Faults::NONE;
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
        Ok(())
    }
}

/// Marks an error that is a refused request and no broken invariant.
const REFUSED: &str = "refused: ";

fn only_refused(error: String) -> Result<(), String> {
    if error.starts_with(REFUSED) { Ok(()) } else { Err(error) }
}

fn engine(world: World, now: Timestamp) -> Engine {
    let scheduler: Arc<dyn Scheduler> = Arc::new(FilterScore::default());
    let controllers = built_in().into_iter().map(Arc::from).collect::<Vec<Arc<dyn Controller>>>();
    Engine::new(world, scheduler, controllers, now)
}

fn node(name: &str) -> Node {
    let mut node = Node {
        metadata: ObjectMeta { name: name.to_owned(), ..ObjectMeta::default() },
        ..Node::default()
    };
    let room = [
        ("cpu", Quantity::from_units(2)),
        ("memory", Quantity::from_bytes(4 << 30)),
        ("pods", Quantity::from_units(8)),
    ];
    node.status.capacity = room.map(|(name, amount)| (name.to_owned(), amount)).into();
    node.status.allocatable = node.status.capacity.clone();
    let ready = NodeCondition {
        kind: "Ready".to_owned(),
        status: ConditionStatus::True,
        ..NodeCondition::default()
    };
    node.status.conditions.push(ready);
    node
}

/// Whether a transaction gives a pod its node.
fn is_bind(txn: &Txn) -> bool {
    txn.writes.iter().any(|write| {
        write.key().object.kind == Kind::Pod
            && matches!((write, write.expect()), (Write::Put { .. }, Expect::At(_)))
    })
}

/// A change in a line.
fn describe(change: &crate::world::ObjectChange) -> String {
    let told = match &change.after {
        None => "is gone".to_owned(),
        Some(Object::Deployment(object)) => {
            let image = &object.spec.template.spec.containers[0].image;
            format!(
                "wants {:?} of {image}, {} ready",
                object.spec.replicas, object.status.ready_replicas
            )
        }
        Some(Object::ReplicaSet(object)) => {
            format!("wants {:?}, {} ready", object.spec.replicas, object.status.ready_replicas)
        }
        Some(Object::Pod(pod)) => {
            let deleting = if pod.metadata.is_deleting() { ", deleting" } else { "" };
            format!(
                "on {:?} is {:?}, ready: {}{deleting}",
                pod.node_name,
                pod.status.phase,
                pod.is_ready()
            )
        }
        Some(_) => "changed".to_owned(),
    };
    format!("{} {} {told}", change.revision, change.key)
}

/// Makes every precondition true, as a store that checks none would.
fn ignore_preconditions(txn: &mut Txn, truth: &World) {
    txn.guards.clear();
    let current = |key: &RecordKey| {
        let stored = truth.get(&key.object)?;
        match key.part {
            Part::Main => Some(stored.main),
            Part::Status => stored.status,
        }
    };
    txn.writes.retain_mut(|write| match write {
        Write::Put { key, expect, .. } => {
            *expect = current(key).map_or(Expect::Absent, Expect::At);
            true
        }
        Write::Delete { key, expect } => {
            let found = current(key);
            *expect = found.unwrap_or_default();
            found.is_some()
        }
    });
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
