//! `RoundRobin`: a second, independent scheduler. Nodes take turns.

use super::Scheduler;
use super::demand::Demand;
use super::node_ref::NodeRef;
use super::placement::{Placement, Unfit};
use super::view::ClusterView;
use crate::model::Pod;

/// Lets nodes take turns: the pod goes to a fitting node with the fewest pods, among those to the first by name.
///
/// It remembers nothing. Whose turn it is can be seen in the view: with pods that fit everywhere, the node with the
/// fewest pods is the next in the round.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin;

impl Scheduler for RoundRobin {
    fn name(&self) -> &str {
        "round-robin"
    }

    fn place(&self, pod: &Pod, view: &ClusterView) -> Result<Placement, Unfit> {
        let view = &view.without(pod);
        let demand = Demand::of(pod);
        let mut next: Option<NodeRef<'_>> = None;
        for node in view.nodes() {
            let turn = next.is_none_or(|next| node.used().pods < next.used().pods);
            if turn && node.has_room_for(&demand) && node.fits(pod).is_ok() {
                next = Some(node);
            }
        }
        if let Some(node) = next {
            return Ok(Placement::on(node.name()).scored(-node.used().pods));
        }
        let mut unfit = Unfit::new();
        view.nodes().for_each(|node| unfit.count(&node.fits(pod).err().unwrap_or_default()));
        Err(unfit)
    }
}
