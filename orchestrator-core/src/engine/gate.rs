//! The commit gate: what no controller may do, whoever wrote it.

use crate::model::{Object, Pod};
use crate::scheduler::{ClusterView, feasible};
use crate::store::Txn;
use crate::world::{ObjectWrite, Proposal, World};

/// Looks at a proposal, and at the transaction that will fly for it; refuses one that is over a limit, or that would bind a pod
/// where it does not fit.
pub(super) fn check(
    proposal: &Proposal,
    txn: &Txn,
    world: &World,
    view: &ClusterView,
) -> Result<(), String> {
    if let Some(defect) = txn.defect() {
        return Err(defect);
    }
    for write in &proposal.writes {
        let ObjectWrite::PutMain { object: Object::Pod(pod), .. } = write else { continue };
        let old = world.at::<Pod>(&write.key());
        match old {
            Some(old) if old.node_name == pod.node_name => {}
            Some(old) if old.is_bound() => {
                return Err(format!(
                    "pod is bound to {:?}; a binding is never changed",
                    old.node_name
                ));
            }
            Some(_) | None => fits(pod, view)?,
        }
    }
    Ok(())
}

/// Whether the pod fits its node, in words.
pub(super) fn fits(pod: &Pod, view: &ClusterView) -> Result<(), String> {
    feasible(pod, &pod.node_name, view).map_err(|reasons| {
        let texts: Vec<_> = reasons.iter().map(ToString::to_string).collect();
        format!("does not fit node {:?}: {}", pod.node_name, texts.join(", "))
    })
}
