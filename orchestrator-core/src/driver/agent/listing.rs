//! Listing the runtime: at hints, after verbs, and periodically.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::core::{Core, Retry};
use super::tasks::{Event, contained, limited};
use crate::model::Uid;
use crate::runtime::{RuntimeError, SandboxObservation};

/// The runtime is listed at least this often, since hints may be lost.
const RELIST_INTERVAL: Duration = Duration::from_secs(5);
/// Listings begin at least this far apart.
const LIST_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// How long a listing may take, in milliseconds.
const LIST_TIMEOUT_MS: u64 = 15_000;
/// A runtime that cannot be listed for this long is down; shorter breaks (a restart) are not told.
const RUNTIME_DOWN_AFTER: Duration = Duration::from_secs(10);

/// What the runtime showed.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The number of the newest listing that began.
    begun: u64,
    in_flight: bool,
    began_at: Option<Instant>,
    wanted_at: Option<Instant>,
    /// Whether the runtime is being asked for hints.
    armed: bool,
    retry: Retry,
    failing_since: Option<Instant>,
    /// The number of the newest listing that ended well; 0 if none did.
    number: u64,
    observed: Vec<SandboxObservation>,
}

impl Listing {
    pub const fn has_listed(&self) -> bool {
        self.number > 0
    }

    /// Everything of the scope, as last listed.
    pub fn observed(&self) -> &[SandboxObservation] {
        &self.observed
    }

    /// The sandboxes of a pod, as last listed.
    pub fn of_pod(&self, pod: Uid) -> &[SandboxObservation] {
        let from = self.observed.partition_point(|sandbox| sandbox.key.pod < pod);
        let to = self.observed.partition_point(|sandbox| sandbox.key.pod <= pod);
        &self.observed[from..to]
    }

    /// The number of the newest listing that began; one that sees what happens from now on has a larger number.
    pub const fn begun(&self) -> u64 {
        self.begun
    }

    /// Whether what was listed last began after the listing of this number, and nothing failed since.
    pub const fn is_after(&self, barrier: u64) -> bool {
        self.number > barrier && self.failing_since.is_none()
    }

    /// Whether the runtime counts as down.
    pub fn is_down(&self) -> bool {
        self.failing_since
            .is_some_and(|since| self.number == 0 || since.elapsed() >= RUNTIME_DOWN_AFTER)
    }

    /// Asks for a listing that begins from now on.
    pub fn want(&mut self) {
        self.wanted_at =
            Some(self.wanted_at.map_or_else(Instant::now, |at| at.min(Instant::now())));
    }
}

impl Core {
    pub(super) fn act_listing(&mut self) -> Option<Instant> {
        let listing = &mut self.listing;
        if listing.in_flight {
            return None;
        }
        let periodic = listing.began_at.map_or_else(Instant::now, |at| at + RELIST_INTERVAL);
        let earliest = listing.began_at.map_or_else(Instant::now, |at| at + LIST_INTERVAL_MIN);
        let wanted = listing.wanted_at.unwrap_or(periodic).min(periodic).max(earliest);
        let due = listing.retry.at().map_or(wanted, |retry| retry.max(wanted));
        if due > Instant::now() {
            return Some(due);
        }
        listing.in_flight = true;
        listing.wanted_at = None;
        listing.began_at = Some(Instant::now());
        listing.begun += 1;
        let number = listing.begun;
        // Hints are asked for before the listing, so that none falls between two of them.
        if !std::mem::replace(&mut listing.armed, true) {
            let (runtime, scope) = (Arc::clone(&self.runtime), self.config.scope.clone());
            self.tasks.spawn(async move {
                if contained(runtime.changed(&scope)).await.is_none() {
                    tokio::time::sleep(RELIST_INTERVAL).await;
                }
                Event::Changed
            });
        }
        let (runtime, scope) = (Arc::clone(&self.runtime), self.config.scope.clone());
        self.tasks.spawn(async move {
            let outcome = limited("listing pods", LIST_TIMEOUT_MS, runtime.list(&scope)).await;
            Event::Listed { number, outcome }
        });
        None
    }

    pub(super) fn handle_changed(&mut self) {
        self.listing.armed = false;
        self.listing.want();
    }

    pub(super) fn handle_listed(
        &mut self,
        number: u64,
        outcome: Result<Vec<SandboxObservation>, RuntimeError>,
    ) {
        let listing = &mut self.listing;
        listing.in_flight = false;
        match outcome {
            Err(error) => {
                tracing::warn!(%error, "the runtime cannot be listed");
                listing.retry.failed(&self.config.scope.node);
                listing.failing_since.get_or_insert_with(Instant::now);
            }
            Ok(mut observed) => {
                listing.retry = Retry::default();
                let recovered = listing.failing_since.take().is_some();
                listing.number = number;
                observed.sort_by(|left, right| left.key.cmp(&right.key));
                let before = std::mem::replace(&mut listing.observed, observed);
                self.mark_changed(&before, recovered);
                self.judge_orphans();
                self.question_strangers();
            }
        }
    }

    /// Marks the pods of which the runtime shows something else than before, and those that waited for it.
    fn mark_changed(&mut self, before: &[SandboxObservation], recovered: bool) {
        let mut old: BTreeMap<Uid, Vec<&SandboxObservation>> = BTreeMap::new();
        for sandbox in before {
            old.entry(sandbox.key.pod).or_default().push(sandbox);
        }
        for (uid, slot) in &mut self.slots {
            let now = self.listing.of_pod(*uid);
            let old = old.get(uid).map_or(&[][..], Vec::as_slice);
            if recovered || now.len() != old.len() || now.iter().zip(old).any(|(a, b)| a != *b) {
                slot.dirty = true;
            }
        }
        let observed = &self.listing;
        self.barriers
            .retain(|uid, _| self.slots.contains_key(uid) || !observed.of_pod(*uid).is_empty());
    }
}
