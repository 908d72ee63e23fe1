//! `NodeHealth`: whether nodes answer, told by their `Ready` condition and by taints.
//!
//! Depends on `model` and `world`. Heartbeats are signals, so a node's silence is a matter of `now`. A node never
//! heard is not condemned: after a start every node counts as just heard.
//!
//! Limits on what is made of silence: here, that nodes that fall silent together are given up a few at a time; in
//! `taint_eviction` (`is_disrupted`), that no pods are evicted for it while more than half of the nodes are silent.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Change, Controller, DECISION_PROPOSALS_MAX, Decision, TimerReason};
use crate::model::{
    Condition, ConditionStatus, EventType, Key, Kind, Node, NodeCondition, Pod, Resource,
    TAINT_NOT_READY, TAINT_UNREACHABLE, TAINT_UNSCHEDULABLE, Taint, TaintEffect, Time, Timestamp,
    set_condition,
};
use crate::world::{EventNote, Proposal, World};

/// How long a node may be silent at most before it counts as unreachable, in milliseconds (Kubernetes' default). One that has
/// been heard for a while is missed sooner, by its own [`Rhythm`](crate::world::Rhythm).
pub const NODE_GRACE_MS: i64 = 40_000;
/// In this time only so many nodes are given up, in milliseconds (Kubernetes gives up one in ten seconds).
pub const GIVE_UP_WINDOW_MS: i64 = 10_000;
/// How many nodes may be given up in [`GIVE_UP_WINDOW_MS`], in percent of all; one in any case.
pub const GIVE_UP_PERCENT: usize = 10;
/// When a lost node waits for one before it that is about to be given up, it is looked at again after this time, in
/// milliseconds.
const GIVE_UP_RETRY_MS: i64 = 1_000;

/// Why `Ready` is `Unknown`.
const SILENT: &str = "NodeStatusUnknown";

/// Tells which nodes answer, are ready and take pods.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeHealth;

impl Controller for NodeHealth {
    fn name(&self) -> &'static str {
        "node-health"
    }

    fn interest(&self, change: &Change, keys: &mut BTreeSet<Key>) {
        match change {
            Change::Object(change) if change.key.kind == Kind::Node => {
                keys.insert(change.key.clone());
            }
            Change::Object(_) => {}
            Change::Signal(signal) => {
                keys.insert(Key::node(signal.node()));
            }
        }
    }

    fn reconcile(&self, key: &Key, world: &World, now: Timestamp) -> Decision {
        let mut decision = Decision::nothing();
        let Some(stored) = world.get(key) else { return decision };
        let Some(node) = Node::from_object(&stored.object) else { return decision };
        let Look { silent_at, new, lost } = look(world, node, now);
        if let Some(at) = silent_at.filter(|at| now < *at) {
            decision.recheck(at, TimerReason::Periodic);
        }
        if let Some(new) = &new {
            note(&mut decision, node, new);
            decision.propose(Proposal::put_status(stored, with_ready(node, new.clone(), now)));
        }
        let gives_up = match lost.map(|lost| may_give_up(world, node, lost.since, now)) {
            Some(Err(at)) => {
                decision.recheck(at, TimerReason::Periodic);
                false
            }
            Some(Ok(())) => true,
            None => false,
        };
        let unreachable = lost.is_some_and(|lost| lost.is_unreachable);
        let not_ready = lost.is_some_and(|lost| !lost.is_unreachable);
        let taints = taints(node, unreachable, not_ready, gives_up, now);
        if taints != node.spec.taints {
            let mut node = Node::clone(node);
            node.spec.taints = taints;
            node.metadata.generation = node.metadata.generation.saturating_add(1);
            // The first status is guarded by the main record, which this would change.
            if new.is_none() || stored.status.is_some() {
                decision.propose(Proposal::put_main(stored, node));
            }
        }
        if unreachable {
            doubt_pods(&mut decision, world, &node.metadata.name, now);
        }
        decision
    }
}

/// What a node looks like at a moment.
struct Look {
    /// When it counts as silent if nothing is heard of it; `None` when nothing ever was.
    silent_at: Option<Timestamp>,
    /// What its `Ready` shall say instead of what it says.
    new: Option<NodeCondition>,
    lost: Option<Lost>,
}

/// A node that runs nothing anybody can rely on.
#[derive(Clone, Copy)]
struct Lost {
    since: Timestamp,
    /// It does not answer; otherwise it answers that it is not ready.
    is_unreachable: bool,
}

fn look(world: &World, node: &Node, now: Timestamp) -> Look {
    let signal = world.signal(&node.metadata.name);
    let heard = signal.last_heard;
    let silence_ms = signal.silence_ms().unwrap_or(NODE_GRACE_MS).min(NODE_GRACE_MS);
    let silent_at = heard.map(|heard| heard.plus_millis(silence_ms));
    let silent_since = silent_at.filter(|at| *at <= now);
    let ready = ready(node);
    let new = judge(ready, silent_since.is_some(), heard.is_some());
    let status = new.as_ref().or(ready).map(|condition| condition.status);
    let is_unreachable = status == Some(ConditionStatus::Unknown) || silent_since.is_some();
    let is_lost = is_unreachable || status == Some(ConditionStatus::False);
    let told = || ready.and_then(|ready| Some(ready.last_transition_time?.to_timestamp()));
    let since = silent_since.or_else(told).unwrap_or(now);
    Look { silent_at, new, lost: is_lost.then_some(Lost { since, is_unreachable }) }
}

fn ready(node: &Node) -> Option<&NodeCondition> {
    node.status.conditions.iter().find(|condition| condition.kind == "Ready")
}

/// What `Ready` shall say; `None` leaves it. Only what was True is doubted, so that what is believed again was True.
fn judge(ready: Option<&NodeCondition>, is_silent: bool, is_heard: bool) -> Option<NodeCondition> {
    let ready = ready?;
    let (status, reason, message) = match ready.status {
        ConditionStatus::True if is_silent => {
            (ConditionStatus::Unknown, SILENT, "the node's agent is silent")
        }
        ConditionStatus::Unknown if !is_silent && is_heard && ready.reason == SILENT => {
            (ConditionStatus::True, "NodeHeard", "the node's agent is heard again")
        }
        ConditionStatus::False | ConditionStatus::True | ConditionStatus::Unknown => return None,
    };
    let (reason, message) = (reason.to_owned(), message.to_owned());
    Some(NodeCondition { status, reason, message, ..ready.clone() })
}

fn with_ready(node: &Node, new: NodeCondition, now: Timestamp) -> Node {
    let mut node = node.clone();
    for condition in node.status.conditions.iter_mut().filter(|found| found.kind == new.kind) {
        *condition = NodeCondition { last_transition_time: Some(now.to_time()), ..new.clone() };
    }
    node
}

/// The node's taints with those kept here brought up to date; other people's stay.
fn taints(
    node: &Node,
    unreachable: bool,
    not_ready: bool,
    gives_up: bool,
    now: Timestamp,
) -> Vec<Taint> {
    use TaintEffect::{NoExecute, NoSchedule};
    let wanted = [
        (TAINT_NOT_READY, NoExecute, not_ready && !unreachable && gives_up),
        (TAINT_NOT_READY, NoSchedule, not_ready && !unreachable),
        (TAINT_UNREACHABLE, NoExecute, unreachable && gives_up),
        (TAINT_UNREACHABLE, NoSchedule, unreachable),
        (TAINT_UNSCHEDULABLE, NoSchedule, node.spec.unschedulable),
    ];
    // One that falls silent after it was not ready, or the other way round, was given up once.
    let given_up = given_up_at(node, now).map(Timestamp::to_time);
    let mut taints = node.spec.taints.clone();
    for (key, effect, wanted) in wanted {
        let is_it = |taint: &Taint| taint.key == key && taint.effect == effect;
        let has = taints.iter().any(is_it);
        if has && !wanted {
            taints.retain(|taint| !is_it(taint));
        } else if wanted && !has {
            let given_up = given_up.filter(|_| effect == NoExecute);
            let time_added = Some(given_up.unwrap_or(now.to_time()));
            taints.push(Taint { key: key.to_owned(), effect, time_added, ..Taint::default() });
        }
    }
    // From when on pods leave must be known (and must not begin anew with each look).
    for taint in taints.iter_mut().filter(|taint| taint.effect == NoExecute) {
        taint.time_added = taint.time_added.or(Some(now.to_time()));
    }
    taints
}

/// Whether the pods of a lost node may be made to leave it now; an error says when to look again. A node that was given up
/// already stays so. Of several, the one that is lost longest goes first, whichever is asked about first.
fn may_give_up(
    world: &World,
    node: &Node,
    since: Timestamp,
    now: Timestamp,
) -> Result<(), Timestamp> {
    if given_up_at(node, now).is_some() {
        return Ok(());
    }
    let window = |at: Timestamp| at.plus_millis(GIVE_UP_WINDOW_MS);
    let limit = (world.count(Kind::Node) * GIVE_UP_PERCENT / 100).max(1);
    let (mut ahead, mut given_up) = (0, Vec::new());
    for other in world.all::<Node>(None) {
        if ahead == limit {
            // Whoever else is ahead, and whenever others were given up: it is not this one's turn.
            return Err(now.plus_millis(GIVE_UP_RETRY_MS));
        }
        // What one that came back was given up for is about to be taken back.
        let Some(lost) = look(world, other, now).lost else { continue };
        let is_ahead = (lost.since, &other.metadata.name) < (since, &node.metadata.name);
        match given_up_at(other, now) {
            Some(at) => given_up.extend((window(at) > now).then_some(at)),
            None => ahead += usize::from(is_ahead),
        }
    }
    given_up.sort_unstable();
    // When the oldest of those that are too many is over, there is room for one.
    match (given_up.len() + ahead).checked_sub(limit) {
        None => Ok(()),
        Some(surplus) => {
            Err(given_up.get(surplus).map_or(now.plus_millis(GIVE_UP_RETRY_MS), |at| window(*at)))
        }
    }
}

/// Since when the pods of a node are made to leave because it seems to be lost; a time that is not known yet will be `now`.
fn given_up_at(node: &Node, now: Timestamp) -> Option<Timestamp> {
    let taints = node.spec.taints.iter().filter(|taint| {
        taint.effect == TaintEffect::NoExecute
            && [TAINT_NOT_READY, TAINT_UNREACHABLE].contains(&taint.key.as_str())
    });
    taints.map(|taint| taint.time_added.unwrap_or(now.to_time()).to_timestamp()).min()
}

/// Marks ready pods of a silent node as not ready: nobody should be sent there. The agent says so itself when it is
/// back.
fn doubt_pods(decision: &mut Decision, world: &World, node: &str, now: Timestamp) {
    let ready = world.pods_on(node).filter(|pod| pod.is_ready() && pod.is_active());
    let pods = ready.filter_map(|pod| Some((world.get(&pod.key())?, pod)));
    for (stored, pod) in pods.take(DECISION_PROPOSALS_MAX - decision.proposals.len()) {
        decision.propose(Proposal::put_status(stored, doubted(pod, now.to_time())));
    }
}

fn doubted(pod: &Arc<Pod>, now: Time) -> Pod {
    let mut pod = Pod::clone(pod);
    let condition = Condition {
        kind: "Ready".to_owned(),
        status: ConditionStatus::False,
        reason: "NodeNotReady".to_owned(),
        message: "the node does not answer".to_owned(),
        ..Condition::default()
    };
    set_condition(&mut pod.status.conditions, condition, now);
    pod
}

fn note(decision: &mut Decision, node: &Node, new: &NodeCondition) {
    let answers = new.status == ConditionStatus::True;
    decision.events.push(EventNote {
        about: node.key(),
        uid: node.metadata.uid,
        kind: if answers { EventType::Normal } else { EventType::Warning },
        reason: if answers { "NodeReady" } else { "NodeNotReady" }.to_owned(),
        message: new.message.clone(),
    });
}

pub(super) fn is_unready(node: &Node) -> bool {
    ready(node).is_some_and(|condition| condition.status != ConditionStatus::True)
}
