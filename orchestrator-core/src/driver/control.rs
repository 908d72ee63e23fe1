//! The control loop: one task owns the engine; batches, commands and finished commits come in, commits go out.
//!
//! Where several control planes share a store, one of them has an engine; the others only follow, and stand for election.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::awake::{Awake, LOOK_AROUND};
use super::candidate::Candidate;
use super::clock::Clock;
use super::history::{Commit, History};
use super::standing::{Leader, Standing};
use super::submit::{chain, not_leading};
use crate::api::{Effect, Rejection};
use crate::controller::Controller;
use crate::election::Lead;
use crate::engine::{Engine, EngineStats, Output, RequestId, Ticket};
use crate::model::{Key, Revision};
use crate::scheduler::Scheduler;
use crate::store::{Batch, CommitOutcome, StateStore, StoreError, Txn};
use crate::world::{EventNote, ObjectChange, Signal, World, Written};

/// The most commits in flight; independent ones share an fsync.
const COMMITS_IN_FLIGHT_MAX: usize = 256;
/// The most batches taken in before the world is published.
const BATCHES_PER_TURN_MAX: usize = 256;
/// The most commands that wait. Each turn takes in all of them before the world is published: when pods are started in numbers their
/// agents have more to tell than to report, and a report must not stand behind that for several turns.
pub(super) const COMMANDS_MAX: usize = 4_096;
/// How long to wait before trying a failed store again.
const STORE_RETRY: Duration = Duration::from_millis(200);

/// How long it may take to let go of the lease when the loop is told to stop.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);
/// How long commits in flight may take when the loop is told to stop.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Something for the engine that does not come from the store.
#[derive(Debug)]
pub(super) enum Command {
    Bind { pod: Key, node: String, reply: oneshot::Sender<Result<Effect, Rejection>> },
    Note(EventNote),
    Signal(Signal),
    Stop,
}

/// What is made of the store's batches.
enum Mind {
    /// Decisions.
    Decides(Box<Engine>),
    /// A world to read.
    Follows(Box<World>),
}

impl Mind {
    fn world(&self) -> &World {
        match self {
            Self::Decides(engine) => engine.world(),
            Self::Follows(world) => world,
        }
    }

    fn handle_batch(&mut self, batch: &Batch, written: &mut Written) -> Vec<ObjectChange> {
        match self {
            Self::Decides(engine) => engine.handle_written(batch, written),
            // Told twice; the world has it already.
            Self::Follows(world) if batch.revision <= world.revision() => Vec::new(),
            Self::Follows(world) => world.apply_written(batch, written),
        }
    }
}

/// Owns the engine.
pub(super) struct Control {
    clock: Arc<dyn Clock>,
    store: Arc<dyn StateStore>,
    history: Arc<History>,
    scheduler: Arc<dyn Scheduler>,
    controllers: Vec<Arc<dyn Controller>>,
    mind: Mind,
    /// Its part in the election, where there is one.
    candidate: Option<Candidate>,
    standing: Arc<Standing>,
    commands: mpsc::Receiver<Command>,
    requests: BTreeMap<RequestId, oneshot::Sender<Result<Effect, Rejection>>>,
    next_request: u64,
    commits: JoinSet<Settled>,
    awake: Awake,
}

/// A commit whose fate is known, or known not to be.
enum Settled {
    /// One that takes or keeps the lead, and whether it was committed.
    Claim(bool),
    Decision(Ticket, CommitOutcome, Revision),
}

enum Event {
    Batches(Vec<Batch>),
    Commands(Vec<Command>),
    Committed(Vec<Settled>),
    Lost,
    Timeout,
}

/// Loads everything a store holds.
pub(super) async fn load(store: &dyn StateStore) -> Result<World, StoreError> {
    let mut pages = Vec::new();
    let mut token = None;
    loop {
        let page = store.load(token.take()).await?;
        token.clone_from(&page.next);
        pages.push(page);
        if token.is_none() {
            return Ok(World::from_pages(pages));
        }
    }
}

impl Control {
    pub(super) fn new(
        clock: Arc<dyn Clock>,
        store: Arc<dyn StateStore>,
        history: Arc<History>,
        scheduler: Arc<dyn Scheduler>,
        controllers: Vec<Arc<dyn Controller>>,
        commands: mpsc::Receiver<Command>,
        standing: Arc<Standing>,
    ) -> Self {
        let candidate = standing.identity().map(Candidate::new);
        let mut control = Self {
            clock,
            store,
            scheduler,
            controllers,
            mind: Mind::Follows(Box::new(history.world())),
            candidate,
            standing,
            history,
            commands,
            requests: BTreeMap::new(),
            next_request: 0,
            commits: JoinSet::new(),
            awake: Awake::default(),
        };
        control.begin(control.history.world());
        control
    }

    /// Begins on a world: decides at once, unless there is an election.
    fn begin(&mut self, world: World) {
        self.mind = match self.candidate {
            Some(_) => Mind::Follows(Box::new(world)),
            None => Mind::Decides(Box::new(self.engine(world))),
        };
    }

    fn engine(&self, world: World) -> Engine {
        let scheduler = Arc::clone(&self.scheduler);
        Engine::new(world, scheduler, self.controllers.clone(), self.clock.now())
    }

    /// Takes the lead or loses it, as the world says, and claims it when it is time.
    fn stand(&mut self) {
        let Some(candidate) = &mut self.candidate else { return };
        let lead = candidate.look(self.mind.world());
        match (&self.mind, lead) {
            (Mind::Follows(_), Some(lead)) => self.take_lead(lead),
            (Mind::Decides(_), None) => self.give_up_lead(),
            (Mind::Decides(_), Some(_)) | (Mind::Follows(_), None) => {}
        }
        let Some(candidate) = &mut self.candidate else { return };
        if let Mind::Follows(world) = &self.mind {
            let other = candidate.other_leader(world);
            self.standing.set_leader(other.map_or(Leader::Nobody, Leader::Elsewhere));
        }
        if let Some(claim) = candidate.claim(self.mind.world(), self.clock.now()) {
            let store = Arc::clone(&self.store);
            self.commits.spawn(async move {
                let committed = store.commit(claim.to_txn()).await;
                if let Err(error) = &committed {
                    tracing::warn!(error = chain(error), "the lease could not be claimed");
                }
                Settled::Claim(matches!(committed, Ok(CommitOutcome::Committed(_))))
            });
        }
    }

    fn take_lead(&mut self, Lead { guard, number }: Lead) {
        tracing::info!(number, "this control plane leads");
        let world = self.mind.world().clone();
        self.mind = Mind::Decides(Box::new(self.engine(world).led_by(guard)));
        self.standing.set_leader(Leader::Here);
    }

    /// What is on its way is forgotten: another lead makes the store refuse it.
    fn give_up_lead(&mut self) {
        tracing::warn!("this control plane leads no more");
        self.standing.set_leader(Leader::Nobody);
        let world = self.mind.world().clone();
        if let Some(candidate) = &mut self.candidate {
            candidate.give_up(&world);
        }
        self.commits = JoinSet::new();
        self.mind = Mind::Follows(Box::new(world));
        for (_, reply) in std::mem::take(&mut self.requests) {
            // An asker that went away needs no answer.
            let _ = reply.send(Err(not_leading()));
        }
    }

    /// Lets another lead at once.
    async fn release(&mut self) {
        let Some(candidate) = &self.candidate else { return };
        let Some(released) = candidate.release(self.mind.world()) else { return };
        let told = self.store.commit(released.to_txn());
        if !matches!(tokio::time::timeout(RELEASE_WITHIN, told).await, Ok(Ok(_))) {
            tracing::debug!("the lease was not released; others wait until it is over");
        }
    }

    /// Runs until told to stop; commits in flight are waited for.
    pub(super) async fn run(mut self) {
        let (mut batches, mut reader) = self.follow();
        loop {
            self.stand();
            self.drain_outputs();
            self.history.publish_stats(self.stats());
            let event = self.next_event(&mut batches).await;
            self.notice_pause();
            match event {
                Event::Batches(new) => self.take_in(&new),
                Event::Commands(commands) => {
                    if self.obey(commands).is_break() {
                        break;
                    }
                }
                Event::Committed(settled) => settled.into_iter().for_each(|it| self.settled(it)),
                Event::Lost => {
                    reader.abort();
                    if !self.reload().await {
                        break;
                    }
                    (batches, reader) = self.follow();
                }
                Event::Timeout => {
                    if let Mind::Decides(engine) = &mut self.mind {
                        engine.handle_timeout(self.clock.now());
                    }
                }
            }
            if self.obey_waiting().is_break() {
                break;
            }
        }
        reader.abort();
        let finished = async { while self.commits.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_WITHIN, finished).await.is_err() {
            tracing::warn!("the store does not answer; commits in flight are given up");
            self.commits.shutdown().await;
        }
        if self.candidate.is_some() {
            self.release().await;
            self.standing.set_leader(Leader::Nobody);
        }
        self.history.close();
    }

    fn stats(&self) -> EngineStats {
        match &self.mind {
            Mind::Decides(engine) => engine.stats(),
            Mind::Follows(_) => EngineStats::default(),
        }
    }

    /// Tells the engine when it could not have heard anybody for a while: a pause of this process is no silence of nodes.
    fn notice_pause(&mut self) {
        if let (Some(pause), Mind::Decides(engine)) = (self.awake.pause(), &mut self.mind) {
            tracing::warn!(
                ?pause,
                "the control plane did not run; silence meanwhile does not count"
            );
            engine.handle_pause(self.clock.now());
        }
    }

    fn settled(&mut self, settled: Settled) {
        match (settled, &mut self.candidate, &mut self.mind) {
            (Settled::Claim(committed), Some(candidate), _) => candidate.settled(committed),
            (Settled::Decision(ticket, outcome, newest), _, Mind::Decides(engine)) => {
                engine.handle_committed(ticket, outcome, newest, self.clock.now());
            }
            // Nobody waits for it any more.
            (Settled::Claim(_), None, _) | (Settled::Decision(..), _, Mind::Follows(_)) => {}
        }
    }

    async fn next_event(&mut self, batches: &mut mpsc::Receiver<Batch>) -> Event {
        let due = match &self.mind {
            Mind::Decides(engine) => engine.poll_timeout(),
            Mind::Follows(_) => None,
        };
        let election = self.candidate.as_ref().map(|it| it.wait(self.mind.world()));
        let election = async {
            match election {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let clock = &self.clock;
        let timeout = async {
            match due {
                Some((at, _)) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let (mut new, mut commands) = (Vec::new(), Vec::new());
        tokio::select! {
            biased;
            count = batches.recv_many(&mut new, BATCHES_PER_TURN_MAX) => {
                if count == 0 { Event::Lost } else { Event::Batches(new) }
            }
            Some(done) = self.commits.join_next() => {
                let more = std::iter::from_fn(|| self.commits.try_join_next());
                let settled: Result<_, _> = std::iter::once(done).chain(more).collect();
                // A task that panicked or was aborted: the ticket's key is held until a reload.
                settled.map_or(Event::Lost, Event::Committed)
            }
            _ = self.commands.recv_many(&mut commands, COMMANDS_MAX) => Event::Commands(commands),
            () = timeout => Event::Timeout,
            () = tokio::time::sleep(LOOK_AROUND) => Event::Timeout,
            () = election => Event::Timeout,
        }
    }

    fn take_in(&mut self, batches: &[Batch]) {
        let take = |batch: &Batch| Commit {
            revision: batch.revision,
            // Held for one batch at a time: requests wait for it.
            changes: self
                .mind
                .handle_batch(batch, &mut self.history.written())
                .into_iter()
                .map(Arc::new)
                .collect(),
            bytes: batch
                .changes
                .iter()
                .filter_map(|change| change.value.as_ref())
                .map(Bytes::len)
                .sum(),
        };
        let commits = batches.iter().map(take).collect();
        self.history.publish(self.mind.world().clone(), commits);
    }

    /// Takes in the commands that wait: in a rollout there is always something committed, and what is heard of nodes must not
    /// wait for an end of that.
    fn obey_waiting(&mut self) -> ControlFlow<()> {
        let waiting = std::iter::from_fn(|| self.commands.try_recv().ok());
        let waiting: Vec<_> = waiting.take(COMMANDS_MAX).collect();
        if waiting.is_empty() { ControlFlow::Continue(()) } else { self.obey(waiting) }
    }

    /// Takes commands in; breaks when one says to stop, and when there can be none any more.
    fn obey(&mut self, commands: Vec<Command>) -> ControlFlow<()> {
        if commands.is_empty() {
            return ControlFlow::Break(());
        }
        let mut has_heard = false;
        for command in commands {
            match (command, &mut self.mind) {
                (Command::Stop, _) => return ControlFlow::Break(()),
                (Command::Bind { pod, node, reply }, Mind::Decides(engine)) => {
                    let request = RequestId(self.next_request);
                    self.next_request += 1;
                    self.requests.insert(request, reply);
                    engine.handle_bind(request, &pod, &node, self.clock.now());
                }
                (Command::Note(note), Mind::Decides(engine)) => {
                    engine.handle_note(note, self.clock.now());
                }
                (Command::Signal(signal), Mind::Decides(engine)) => {
                    engine.handle_signal(signal);
                    has_heard = true;
                }
                (Command::Bind { reply, .. }, Mind::Follows(_)) => {
                    // An asker that went away needs no answer.
                    let _ = reply.send(Err(not_leading()));
                }
                (Command::Note(_) | Command::Signal(_), Mind::Follows(_)) => {}
            }
        }
        if has_heard {
            self.history.publish(self.mind.world().clone(), Vec::new());
        }
        ControlFlow::Continue(())
    }

    fn drain_outputs(&mut self) {
        while self.commits.len() < COMMITS_IN_FLIGHT_MAX {
            self.notice_pause();
            let Mind::Decides(engine) = &mut self.mind else { return };
            match engine.poll_output(self.clock.now()) {
                None => break,
                Some(Output::Answer { request, result }) => {
                    if let Some(reply) = self.requests.remove(&request) {
                        // An asker that went away needs no answer.
                        let _ = reply.send(result);
                    }
                }
                Some(Output::Commit { ticket, txn }) => {
                    self.commits.spawn(commit(Arc::clone(&self.store), ticket, txn));
                }
            }
        }
    }

    /// Starts a task that follows the store from where the engine is.
    fn follow(&self) -> (mpsc::Receiver<Batch>, tokio::task::JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(BATCHES_PER_TURN_MAX);
        let store = Arc::clone(&self.store);
        let after = self.mind.world().revision();
        let reader = tokio::spawn(async move {
            let mut watch = match store.watch(after).await {
                Ok(watch) => watch,
                Err(error) => {
                    return tracing::warn!(error = chain(&error), "cannot follow the store");
                }
            };
            loop {
                match watch.next().await {
                    Ok(batch) => {
                        if sender.send(batch).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        return tracing::warn!(error = chain(&error), "the store's watch ended");
                    }
                }
            }
        });
        (receiver, reader)
    }

    /// Starts over from what the store holds, once commits in flight are accounted for; returns false when told to stop
    /// meanwhile.
    async fn reload(&mut self) -> bool {
        if self.candidate.is_some() {
            // What is said to this one meanwhile is heard by nobody.
            self.standing.set_leader(Leader::Nobody);
        }
        let Self { commands, commits, store, .. } = self;
        let mut again = Box::pin(async {
            while commits.join_next().await.is_some() {}
            loop {
                tokio::time::sleep(STORE_RETRY).await;
                match load(&**store).await {
                    Ok(world) => return world,
                    Err(error) => {
                        tracing::error!(
                            error = chain(&error),
                            "cannot load the store; trying again"
                        );
                    }
                }
            }
        });
        let world = loop {
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Stop) | None => return false,
                    // What was said to the engine that is no more is lost; an asker hears so.
                    Some(Command::Bind { .. } | Command::Note(_) | Command::Signal(_)) => {}
                },
                world = &mut again => break world,
            }
        };
        drop(again);
        self.history.restart(world.clone());
        self.awake = Awake::default();
        if let Some(candidate) = &mut self.candidate {
            candidate.give_up(&world);
        }
        self.begin(world);
        for (_, reply) in std::mem::take(&mut self.requests) {
            let message = "the control plane started over; try again".to_owned();
            // An asker that went away needs no answer.
            let _ = reply.send(Err(Rejection::Unavailable { message }));
        }
        true
    }
}

/// Commits, and finds out how new the store was afterwards.
async fn commit(store: Arc<dyn StateStore>, ticket: Ticket, txn: Txn) -> Settled {
    let outcome = match store.commit(txn).await {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::warn!(error = chain(&error), "commit failed");
            CommitOutcome::Unknown
        }
    };
    let newest = match &outcome {
        CommitOutcome::Committed(revision)
        | CommitOutcome::Conflict { current: Some(revision), .. } => *revision,
        CommitOutcome::Conflict { current: None, .. } | CommitOutcome::Unknown => {
            newest(&*store).await
        }
    };
    Settled::Decision(ticket, outcome, newest)
}

/// Reads the newest revision, however long the store is away.
pub(super) async fn newest(store: &dyn StateStore) -> Revision {
    loop {
        match store.revision().await {
            Ok(revision) => return revision,
            Err(StoreError::Closed) => return Revision::ZERO,
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "cannot read the store's revision; trying again"
                );
                tokio::time::sleep(STORE_RETRY).await;
            }
        }
    }
}
