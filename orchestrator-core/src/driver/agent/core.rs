//! The agent's one loop: it owns all state, starts what is due, and takes in what tasks come to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::assign::Following;
use super::kept::Kept;
use super::listing::Listing;
use super::pods::Slot;
use super::registration::Registration;
use super::sampling::Sampling;
use super::tasks::{Event, limited_link};
use super::verbs::{Busy, VERBS_MAX_IN_FLIGHT};
use super::{AgentConfig, Stop};
use crate::model::{Timestamp, Uid};
use crate::node::{NodeContext, NodeLink, OrphanGuard, doubled, spread};
use crate::runtime::Runtime;
use crate::world::EventNote;

/// How long a call of the link may take, in milliseconds.
pub(super) const LINK_TIMEOUT_MS: u64 = 15_000;
/// How many status writes fly together. Each has a connection of its own, of which the link keeps a few; more of them at once are not
/// sooner done where a thousand agents write.
pub(super) const STATUS_WRITES_MAX_IN_FLIGHT: usize = 4;
/// How many checks are done at a time.
pub(super) const PROBES_MAX_IN_FLIGHT: usize = 64;
/// How many notes to people wait at most; the oldest are dropped.
pub(super) const NOTES_QUEUED_MAX: usize = 256;
/// How many results are taken in before what is due is looked at.
const EVENTS_AT_ONCE_MAX: usize = 64;
/// The loop looks around at least this often, so that a clock that was set does not stop it.
const LOOK_AROUND: Duration = Duration::from_secs(5);
/// A failed call of the link is tried again after this long, doubling up to the next.
const LINK_RETRY_FIRST_MS: i64 = 100;
const LINK_RETRY_MAX_MS: i64 = 10_000;

/// The agent's state.
pub(super) struct Core {
    pub config: AgentConfig,
    pub runtime: Arc<dyn Runtime>,
    pub link: Arc<dyn NodeLink>,
    pub context: NodeContext,
    pub tasks: JoinSet<Event>,
    /// The pods assigned to this node.
    pub slots: BTreeMap<Uid, Slot>,
    /// Pods proven to be gone, of which something may be left.
    pub orphans: BTreeSet<Uid>,
    /// Pods for which verbs are in flight.
    pub busy: BTreeMap<Uid, Busy>,
    /// The listing that must have begun before a pod may be looked at again: the one after its last verb.
    pub barriers: BTreeMap<Uid, u64>,
    /// When verbs for an orphan may be tried again.
    pub orphan_retry: BTreeMap<Uid, Retry>,
    pub guard: OrphanGuard,
    pub following: Following,
    pub kept: Kept,
    pub listing: Listing,
    pub registration: Registration,
    pub sampling: Sampling,
    pub notes: VecDeque<EventNote>,
    pub telling: bool,
    pub verbs: Arc<Semaphore>,
    pub probes: Arc<Semaphore>,
    pub writes: Arc<Semaphore>,
}

/// When a failed call may be tried again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retry {
    failures: u32,
    at: Option<Instant>,
}

impl Retry {
    /// Learns that it failed. The waits of different nodes differ, so that a herd does not come back at one moment.
    pub fn failed(&mut self, node: &str) {
        let delay = doubled(LINK_RETRY_FIRST_MS, self.failures, LINK_RETRY_MAX_MS);
        let delay = spread(delay, node, self.failures);
        self.failures = self.failures.saturating_add(1);
        self.at = Some(Instant::now() + Duration::from_millis(u64::try_from(delay).unwrap_or(0)));
    }

    pub fn is_due(&self) -> bool {
        self.at.is_none_or(|at| at <= Instant::now())
    }

    /// When to try again, if that is later.
    pub fn at(&self) -> Option<Instant> {
        self.at.filter(|at| *at > Instant::now())
    }
}

impl Core {
    pub fn new(config: AgentConfig, runtime: Arc<dyn Runtime>, link: Arc<dyn NodeLink>) -> Self {
        let context = NodeContext {
            scope: config.scope.clone(),
            host_ip: config.address.clone(),
            uses_images: true,
        };
        let kept = Kept::new(config.keep.clone());
        Self {
            config,
            runtime,
            link,
            context,
            tasks: JoinSet::new(),
            slots: BTreeMap::new(),
            orphans: BTreeSet::new(),
            busy: BTreeMap::new(),
            barriers: BTreeMap::new(),
            orphan_retry: BTreeMap::new(),
            guard: OrphanGuard::default(),
            following: Following::default(),
            kept,
            listing: Listing::default(),
            registration: Registration::default(),
            sampling: Sampling::default(),
            notes: VecDeque::new(),
            telling: false,
            verbs: Arc::new(Semaphore::new(VERBS_MAX_IN_FLIGHT)),
            probes: Arc::new(Semaphore::new(PROBES_MAX_IN_FLIGHT)),
            writes: Arc::new(Semaphore::new(STATUS_WRITES_MAX_IN_FLIGHT)),
        }
    }

    /// Runs until told to stop (or the handle is dropped), then ends every task.
    pub async fn run(mut self, mut stopped: oneshot::Receiver<Stop>) {
        self.describe();
        self.recall();
        let stop = loop {
            let next = self.act();
            // Each of these is cancel-safe: a result that is not taken stays in the set.
            tokio::select! {
                biased;
                stop = &mut stopped => break stop.unwrap_or(Stop::KeepPods),
                Some(joined) = self.tasks.join_next() => {
                    self.take_in(joined);
                    for _ in 1..EVENTS_AT_ONCE_MAX {
                        match self.tasks.try_join_next() {
                            Some(joined) => self.take_in(joined),
                            None => break,
                        }
                    }
                }
                () = tokio::time::sleep_until(next) => {}
            }
        };
        self.shut_down(stop).await;
    }

    pub fn now(&self) -> Timestamp {
        self.config.clock.now()
    }

    /// Keeps something to tell people.
    pub fn note(&mut self, notes: impl IntoIterator<Item = EventNote>) {
        self.notes.extend(notes);
        while self.notes.len() > NOTES_QUEUED_MAX {
            self.notes.pop_front();
        }
    }

    /// Starts what is due; returns when to look again if nothing is heard.
    fn act(&mut self) -> Instant {
        let mut next = Instant::now() + LOOK_AROUND;
        let mut soonest = |at: Option<Instant>| {
            if let Some(at) = at {
                next = next.min(at);
            }
        };
        soonest(self.act_registration());
        soonest(self.act_following());
        soonest(self.act_listing());
        soonest(self.act_sampling());
        soonest(self.act_orphans());
        soonest(self.act_pods());
        soonest(self.act_kept());
        self.tell();
        next
    }

    fn take_in(&mut self, joined: Result<Event, tokio::task::JoinError>) {
        let event = match joined {
            Ok(event) => event,
            Err(error) if error.is_cancelled() => return,
            // Plug-ins are contained; this would be a mistake of the agent itself.
            Err(error) => {
                tracing::error!(%error, "a task of the agent panicked");
                return;
            }
        };
        match event {
            Event::Assigned(outcome) => self.handle_assigned(outcome),
            Event::Changed => self.handle_changed(),
            Event::Confirmed { pod, outcome } => self.handle_confirmed(pod, &outcome),
            Event::Described { facts, outcome } => self.handle_described(*facts, outcome),
            Event::Kept(outcome) => self.handle_kept(outcome),
            Event::Listed { number, outcome } => self.handle_listed(number, outcome),
            Event::Probed { pod, container, kind, result } => {
                self.handle_probed(pod, &container, kind, &result);
            }
            Event::Recalled(pods) => self.handle_recalled(pods),
            Event::Registered { node, outcome } => self.handle_registered(*node, outcome),
            Event::Reported(outcome) => self.handle_reported(&outcome),
            Event::Sampled(reading) => self.handle_sampled(*reading),
            Event::Told => self.telling = false,
            Event::VerbsEnded { pod, outcomes } => self.handle_verbs_ended(pod, outcomes),
            Event::Written { pod, status, outcome } => self.handle_written(pod, *status, outcome),
        }
    }

    /// Sends what people are to be told, one after the other; what fails is lost.
    fn tell(&mut self) {
        if self.telling || self.notes.is_empty() {
            return;
        }
        self.telling = true;
        let notes = std::mem::take(&mut self.notes);
        let link = Arc::clone(&self.link);
        self.tasks.spawn(async move {
            for note in notes {
                let reason = note.reason.clone();
                if let Err(error) = limited_link(LINK_TIMEOUT_MS, link.event(note)).await {
                    tracing::debug!(%reason, %error, "a note to people is lost");
                }
            }
            Event::Told
        });
    }
}
