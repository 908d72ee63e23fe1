//! The control loop: one task owns the engine; batches, commands and finished commits come in, commits go out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::clock;
use super::history::History;
use crate::api::{Effect, Rejection};
use crate::controller::{Controller, EventNote};
use crate::engine::{Engine, Output, RequestId, Ticket};
use crate::model::{Key, Revision};
use crate::scheduler::Scheduler;
use crate::store::{Batch, CommitOutcome, StateStore, StoreError, Txn};
use crate::world::{Signal, World};

/// The most commits in flight; independent ones share an fsync.
const COMMITS_IN_FLIGHT_MAX: usize = 256;
/// The most batches taken in before the world is published.
const BATCHES_PER_TURN_MAX: usize = 256;
/// The most commands that wait.
pub(super) const COMMANDS_MAX: usize = 1_024;
/// How long to wait before trying a failed store again.
const STORE_RETRY: Duration = Duration::from_millis(200);

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
        store: Arc<dyn StateStore>,
        history: Arc<History>,
        scheduler: Arc<dyn Scheduler>,
        controllers: Vec<Arc<dyn Controller>>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        let engine =
            Engine::new(history.world(), Arc::clone(&scheduler), controllers.clone(), clock::now());
        Self {
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
                    self.engine.handle_committed(ticket, outcome, newest, clock::now());
                }
                Event::Lost => {
                    reader.abort();
                    self.reload().await;
                    (batches, reader) = self.follow();
                }
                Event::Timeout => self.engine.handle_timeout(clock::now()),
            }
        }
        reader.abort();
        while self.commits.join_next().await.is_some() {}
    }

    async fn next_event(&mut self, batches: &mut mpsc::Receiver<Batch>) -> Event {
        let wait = self.engine.poll_timeout().map(|(at, _)| at.millis_since(clock::now()));
        let timeout = async {
            match wait {
                Some(ms) => tokio::time::sleep(Duration::from_millis(ms.unsigned_abs())).await,
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
        let commits =
            batches.iter().map(|batch| (batch.revision, self.engine.handle_batch(batch))).collect();
        self.history.publish(self.engine.world().clone(), commits);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Bind { pod, node, reply } => {
                let request = RequestId(self.next_request);
                self.next_request += 1;
                self.requests.insert(request, reply);
                self.engine.handle_bind(request, &pod, &node, clock::now());
            }
            Command::Note(note) => self.engine.handle_note(note, clock::now()),
            Command::Signal(signal) => {
                self.engine.handle_signal(signal);
                self.history.publish(self.engine.world().clone(), Vec::new());
            }
            Command::Stop => {}
        }
    }

    fn drain_outputs(&mut self) {
        while self.commits.len() < COMMITS_IN_FLIGHT_MAX {
            match self.engine.poll_output(clock::now()) {
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

    /// Starts over from what the store holds. Commits in flight are waited for first, so that none is left unaccounted.
    async fn reload(&mut self) {
        while self.commits.join_next().await.is_some() {}
        tokio::time::sleep(STORE_RETRY).await;
        loop {
            match load(&*self.store).await {
                Ok(world) => {
                    self.history.restart(world.clone());
                    let scheduler = Arc::clone(&self.scheduler);
                    self.engine =
                        Engine::new(world, scheduler, self.controllers.clone(), clock::now());
                    for (_, reply) in std::mem::take(&mut self.requests) {
                        let message = "the control plane started over; try again".to_owned();
                        let _ = reply.send(Err(Rejection::Unavailable { message }));
                    }
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "cannot load the store; trying again");
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
        }
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
