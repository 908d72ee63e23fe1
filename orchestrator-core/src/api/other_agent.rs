//! Which agent may speak for a node when another has done so before: a data directory that was copied must not make two of one node (F34).

use super::{Context, Rejection};
use crate::model::{AGENT_ANNOTATION, AgentId, Node};

/// How long an agent must have been silent before one of the same installation but another boot speaks for its node, in milliseconds:
/// a machine that was cloned while it runs looks like itself after a boot.
const BOOT_SILENCE_MS_MIN: i64 = 10_000;

/// Refuses that another agent than before speaks for a node, unless its machine has only booted since.
pub(super) fn refuse_other_agent(
    context: &Context<'_>,
    old: &Node,
    new: &Node,
) -> Result<(), Rejection> {
    let (Some(was), Some(is)) = (AgentId::of_node(old), AgentId::of_node(new)) else {
        return Ok(());
    };
    if was == is {
        return Ok(());
    }
    let node = &old.metadata.name;
    if !was.is_same_installation(&is) {
        return Err(Rejection::Forbidden {
            message: format!(
                "node {node:?} is another agent's: the data directory of this one is a copy of that one's, or was moved. If this machine is to \
                 be the node from now on, `orchd node remove {node}` and `orchd token create` where the server runs, then \
                 `orchd agent --server URL --token-file FILE`; if the other agent is gone for good and its pods with it, \
                 `kubectl annotate node {node} {AGENT_ANNOTATION}-` is enough"
            ),
        });
    }
    let heard = context.world.signal(node).last_heard;
    let silent_ms = heard.map(|heard| context.now.as_millis() - heard.as_millis());
    match silent_ms.filter(|silent_ms| *silent_ms < BOOT_SILENCE_MS_MIN) {
        None => Ok(()),
        Some(silent_ms) => Err(Rejection::Forbidden {
            message: format!(
                "node {node:?} was heard {silent_ms} ms ago from before this machine booted: it has just booted, and is let in when the node has \
                 been silent for {} s, or it is a clone of a machine that runs; then it must join as a node of its own",
                BOOT_SILENCE_MS_MIN / 1_000
            ),
        }),
    }
}
