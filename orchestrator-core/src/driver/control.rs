//! The control loop: one task owns the engine; batches, commands and finished commits come in, commits go out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::clock::Clock;
use super::history::{Commit, History};
use crate::api::{Effect, Rejection};
use crate::controller::Controller;
use crate::engine::{Engine, Output, RequestId, Ticket};
use crate::model::{Key, Revision};
use crate::scheduler::Scheduler;
use crate::store::{Batch, CommitOutcome, StateStore, StoreError, Txn};
use crate::world::{EventNote, Signal, World};

/// The most commits in flight; independent ones share an fsync.
const COMMITS_IN_FLIGHT_MAX: usize = 256;
/// The most batches taken in before the world is published.
const BATCHES_PER_TURN_MAX: usize = 256;
/// The most commands that wait.
pub(super) const COMMANDS_MAX: usize = 1_024;
/// How long to wait before trying a failed store again.
const STORE_RETRY: Duration = Duration::from_millis(200);

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

/// Owns the engine.
pub(super) struct Control {
    clock: Arc<dyn Clock>,
    store: Arc<dyn StateStore>,
    history: Arc<History>,
    scheduler: Arc<dyn Scheduler>,
    controllers: Vec<Arc<dyn Controller>>,
    engine: Engine,
    commands: mpsc::Receiver<Command>,
    requests: BTreeMap<RequestId, oneshot::Sender<Result<Effect, Rejection>>>,
    next_request: u64,
    commits: JoinSet<(Ticket, CommitOutcome, Revision)>,
}

enum Event {
    Batches(Vec<Batch>),
    Command(Option<Command>),
    Committed(Ticket, CommitOutcome, Revision),
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
    ) -> Self {
        let engine =
            Engine::new(history.world(), Arc::clone(&scheduler), controllers.clone(), clock.now());
        Self {
            clock,
            store,
            history,
            scheduler,
            controllers,
            engine,
            commands,
            requests: BTreeMap::new(),
            next_request: 0,
            commits: JoinSet::new(),
        }
    }

    /// Runs until told to stop; commits in flight are waited for.
    pub(super) async fn run(mut self) {
        let (mut batches, mut reader) = self.follow();
        loop {
            self.drain_outputs();
            self.history.publish_stats(self.engine.stats());
            let event = self.next_event(&mut batches).await;
            match event {
                Event::Batches(new) => self.take_in(&new),
                Event::Command(Some(Command::Stop) | None) => break,
                Event::Command(Some(command)) => self.command(command),
                Event::Committed(ticket, outcome, newest) => {
                    self.engine.handle_committed(ticket, outcome, newest, self.clock.now());
                }
                Event::Lost => {
                    reader.abort();
                    if !self.reload().await {
                        break;
                    }
                    (batches, reader) = self.follow();
                }
                Event::Timeout => self.engine.handle_timeout(self.clock.now()),
            }
        }
        reader.abort();
        let finished = async { while self.commits.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_WITHIN, finished).await.is_err() {
            tracing::warn!("the store does not answer; commits in flight are given up");
            self.commits.shutdown().await;
        }
        self.history.close();
    }

    async fn next_event(&mut self, batches: &mut mpsc::Receiver<Batch>) -> Event {
        let (clock, due) = (&self.clock, self.engine.poll_timeout());
        let timeout = async {
            match due {
                Some((at, _)) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let mut new = Vec::new();
        tokio::select! {
            biased;
            count = batches.recv_many(&mut new, BATCHES_PER_TURN_MAX) => {
                if count == 0 { Event::Lost } else { Event::Batches(new) }
            }
            Some(done) = self.commits.join_next() => match done {
                Ok((ticket, outcome, newest)) => Event::Committed(ticket, outcome, newest),
                // The task panicked or was aborted; the ticket's key is held until a reload.
                Err(_) => Event::Lost,
            },
            command = self.commands.recv() => Event::Command(command),
            () = timeout => Event::Timeout,
        }
    }

    fn take_in(&mut self, batches: &[Batch]) {
        let take = |batch: &Batch| Commit {
            revision: batch.revision,
            changes: self.engine.handle_batch(batch).into_iter().map(Arc::new).collect(),
            bytes: batch
                .changes
                .iter()
                .filter_map(|change| change.value.as_ref())
                .map(Bytes::len)
                .sum(),
        };
        let commits = batches.iter().map(take).collect();
        self.history.publish(self.engine.world().clone(), commits);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Bind { pod, node, reply } => {
                let request = RequestId(self.next_request);
                self.next_request += 1;
                self.requests.insert(request, reply);
                self.engine.handle_bind(request, &pod, &node, self.clock.now());
            }
            Command::Note(note) => self.engine.handle_note(note, self.clock.now()),
            Command::Signal(signal) => {
                self.engine.handle_signal(signal);
                self.history.publish(self.engine.world().clone(), Vec::new());
            }
            Command::Stop => {}
        }
    }

    fn drain_outputs(&mut self) {
        while self.commits.len() < COMMITS_IN_FLIGHT_MAX {
            match self.engine.poll_output(self.clock.now()) {
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
        let after = self.engine.world().revision();
        let reader = tokio::spawn(async move {
            let mut watch = match store.watch(after).await {
                Ok(watch) => watch,
                Err(error) => return tracing::warn!(%error, "cannot follow the store"),
            };
            loop {
                match watch.next().await {
                    Ok(batch) => {
                        if sender.send(batch).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => return tracing::warn!(%error, "the store's watch ended"),
                }
            }
        });
        (receiver, reader)
    }

    /// Starts over from what the store holds, once commits in flight are accounted for; returns false when told to stop
    /// meanwhile.
    async fn reload(&mut self) -> bool {
        let Self { commands, commits, store, .. } = self;
        let again = async {
            while commits.join_next().await.is_some() {}
            loop {
                tokio::time::sleep(STORE_RETRY).await;
                match load(&**store).await {
                    Ok(world) => return world,
                    Err(error) => tracing::error!(%error, "cannot load the store; trying again"),
                }
            }
        };
        tokio::pin!(again);
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
        self.history.restart(world.clone());
        let scheduler = Arc::clone(&self.scheduler);
        self.engine = Engine::new(world, scheduler, self.controllers.clone(), self.clock.now());
        for (_, reply) in std::mem::take(&mut self.requests) {
            let message = "the control plane started over; try again".to_owned();
            // An asker that went away needs no answer.
            let _ = reply.send(Err(Rejection::Unavailable { message }));
        }
        true
    }
}

/// Commits, and finds out how new the store was afterwards.
async fn commit(
    store: Arc<dyn StateStore>,
    ticket: Ticket,
    txn: Txn,
) -> (Ticket, CommitOutcome, Revision) {
    let outcome = match store.commit(txn).await {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::warn!(%error, "commit failed");
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
    (ticket, outcome, newest)
}

/// Reads the newest revision, however long the store is away.
pub(super) async fn newest(store: &dyn StateStore) -> Revision {
    loop {
        match store.revision().await {
            Ok(revision) => return revision,
            Err(StoreError::Closed) => return Revision::ZERO,
            Err(error) => {
                tracing::warn!(%error, "cannot read the store's revision; trying again");
                tokio::time::sleep(STORE_RETRY).await;
            }
        }
    }
}
