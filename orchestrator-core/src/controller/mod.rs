//! The trait `Controller`, its `Decision`, and the built-in controllers, one per file.
//!
//! A controller is pure and total: it sees the world, and says which writes would bring it closer to what
//! is wanted. It never talks to another controller, reads no clock and keeps no state.
//! Depends on `model` and `world`.

mod cluster_role;
mod definition;
mod deployment;
mod disruption_budget;
mod event_expiry;
mod garbage_collector;
mod namespace;
mod node_health;
mod node_slices;
mod ownership;
mod pod_counts;
mod pod_gc;
mod replica_set;
mod service_account;
mod taint_eviction;

use std::collections::BTreeSet;
use std::fmt::Debug;

use crate::model::{Key, Timestamp};
use crate::world::{Change, EventNote, Proposal, World};

pub use cluster_role::ClusterRoles;
pub use definition::Definitions;
pub use deployment::{CLAIMS_MAX, DeploymentController, ROLLOUT_WRITES_MAX};
pub use disruption_budget::DisruptionBudgets;
pub use event_expiry::{EVENT_SWEEP_MS, EVENT_TTL_MS, EVENTS_MAX, EventExpiry};
pub use garbage_collector::{COLLECTOR_RECHECK_MS, GarbageCollector};
pub use namespace::NamespaceController;
pub use node_health::{GIVE_UP_PERCENT, GIVE_UP_WINDOW_MS, NODE_GRACE_MS, NodeHealth};
pub use node_slices::NodeSlices;
pub use pod_gc::{FINISHED_PODS_MAX, PodCollector};
pub use replica_set::{
    FINISHED_KEPT_MAX, REPLICA_BURST_MAX, ReplicaSetController, SLOT_ATTEMPTS_MAX, SLOT_BACKOFF_MS,
    SLOT_BACKOFF_MS_MAX,
};
pub use service_account::DefaultServiceAccounts;
pub use taint_eviction::{
    DEFAULT_TOLERATION_SECONDS, DISRUPTION_PERCENT, DISRUPTION_RECHECK_MS, TaintEviction,
};

/// Lists the built-in controllers: all but placement, which is the engine's.
pub fn built_in() -> Vec<Box<dyn Controller>> {
    vec![
        Box::new(ClusterRoles),
        Box::new(DefaultServiceAccounts),
        Box::new(Definitions),
        Box::new(DeploymentController),
        Box::new(DisruptionBudgets),
        Box::new(EventExpiry),
        Box::new(GarbageCollector),
        Box::new(NamespaceController),
        Box::new(NodeHealth),
        Box::new(NodeSlices),
        Box::new(PodCollector),
        Box::new(ReplicaSetController),
        Box::new(TaintEviction),
    ]
}

/// The most transactions a decision may hold; what is left is done when the key runs again.
pub const DECISION_PROPOSALS_MAX: usize = 512;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod node_tests;
#[cfg(test)]
mod properties;

/// What a controller wants done about one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Independent transactions, in order of importance. Each holds only what must be atomic.
    pub proposals: Vec<Proposal>,
    /// When to look again even if nothing changes.
    pub recheck: Option<Recheck>,
    /// What to tell people.
    pub events: Vec<EventNote>,
}

/// A wish to look at a key again at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recheck {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: TimerReason,
}

/// Why a timer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerReason {
    /// It recurs for ever and leads nowhere by itself (health checks, expiry); a plan does not wait for it.
    Periodic,
    /// It leads towards what is wanted (a back-off, a minimum ready time).
    Progress,
}

impl Decision {
    /// Decides that nothing needs to be done.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Adds a transaction.
    pub fn propose(&mut self, proposal: Proposal) {
        self.proposals.push(proposal);
    }

    /// Asks to be run again at `at`, unless an earlier time is asked for already.
    pub fn recheck(&mut self, at: Timestamp, reason: TimerReason) {
        if self.recheck.is_none_or(|known| at < known.at) {
            self.recheck = Some(Recheck { at, reason });
        }
    }

    /// Whether nothing is to be written and nobody to be told.
    pub fn is_quiet(&self) -> bool {
        self.proposals.is_empty() && self.events.is_empty()
    }
}

/// Brings one kind of thing closer to what is wanted.
///
/// # Duties (each is a test of the conformance suite)
/// - **CO1** `reconcile` is a function: equal worlds, key and `now` give equal decisions (S33).
/// - **CO2** Every write carries a precondition from the world it was given (S4); [`Proposal`] sees to it.
/// - **CO3** Once a decision's writes are applied, running again comes to rest: no endless writing (S34).
/// - **CO4** A key that does not exist is no error: the decision is quiet or cleans up.
/// - **CO5** `interest` marks keys only from the change it is given; losing, repeating or reordering changes alters only
///   when work is done, not its end state (S35). The engine also runs every key an `interest` of all objects marks after a start.
/// - **CO6** Children get deterministic names, so that a repeated create is refused, not doubled (S26).
/// - **CO7** A decision made on an older world does no harm when tried on a newer one (S36).
/// - **CO8** It never panics, whatever the (decodable) objects hold.
///
/// # Example
/// ```
/// use std::collections::BTreeSet;
/// use orchestrator_core::{controller::*, model::*, world::*};
///
/// /// Labels every new namespace.
/// #[derive(Debug)]
/// struct Labeller;
///
/// impl Controller for Labeller {
///     fn name(&self) -> &'static str { "labeller" }
///
///     fn interest(&self, change: &Change, keys: &mut BTreeSet<Key>) {
///         if let Change::Object(change) = change {
///             if change.key.kind == Kind::Namespace { keys.insert(change.key.clone()); }
///         }
///     }
///
///     fn reconcile(&self, key: &Key, world: &World, _now: Timestamp) -> Decision {
///         let mut decision = Decision::nothing();
///         if let Some(stored) = world.get(key).filter(|s| !s.object.meta().labels.contains_key("seen")) {
///             let mut object = stored.object.clone();
///             object.meta_mut().labels.insert("seen".to_owned(), "yes".to_owned());
///             decision.propose(Proposal::put_main(stored, object));
///         }
///         decision
///     }
/// }
/// ```
pub trait Controller: Debug + Send + Sync + 'static {
    /// A short, unique name for metrics and events.
    fn name(&self) -> &'static str;

    /// Adds the keys that a change makes worth looking at.
    fn interest(&self, change: &Change, keys: &mut BTreeSet<Key>);

    /// Decides what to do about a key.
    fn reconcile(&self, key: &Key, world: &World, now: Timestamp) -> Decision;
}
