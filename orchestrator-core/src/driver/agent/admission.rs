//! Admission on the node: whether it can take a pod that was bound to it.
//!
//! Asks the one judge of fit, but only about what the node itself knows best: labels, taints and cordons belong to
//! the control plane, and it has looked at them when it bound the pod.

use crate::model::{Node, Pod};
use crate::node::Refusal;
use crate::scheduler::{Reason, admissible_on_node};

/// Judges whether a node that runs `others` can take a pod.
pub(super) fn admit<'p>(
    pod: &Pod,
    node: &Node,
    others: impl Iterator<Item = &'p Pod>,
) -> Result<(), Refusal> {
    let Err(reasons) = admissible_on_node(pod, node, others) else { return Ok(()) };
    let refusals: Vec<(String, &Reason)> =
        reasons.iter().filter_map(|reason| word(reason).map(|word| (word, reason))).collect();
    let Some((first, _)) = refusals.first() else { return Ok(()) };
    let details: Vec<String> = refusals.iter().map(|(_, reason)| reason.detail()).collect();
    Err(Refusal { reason: first.clone(), message: details.join("; ") })
}

/// Returns the word programs know a refusal by; `None` for what the node does not judge.
fn word(reason: &Reason) -> Option<String> {
    match reason {
        Reason::HostPortTaken { .. } => Some("NodePorts".to_owned()),
        Reason::Insufficient { resource, .. } => Some(format!("OutOf{resource}")),
        Reason::PodLimit { .. } => Some("OutOfpods".to_owned()),
        Reason::NoSuchNode { .. }
        | Reason::NodeSelectorMismatch { .. }
        | Reason::NotReady
        | Reason::OtherNode { .. }
        | Reason::Refused { .. }
        | Reason::Unschedulable
        | Reason::UntoleratedTaint { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Container, Quantity};

    fn node() -> Node {
        let mut node = Node::default();
        node.metadata.name = "n1".to_owned();
        node.status.allocatable = [
            ("cpu".to_owned(), Quantity::from_milli(1000)),
            ("memory".to_owned(), Quantity::from_bytes(1 << 30)),
            ("pods".to_owned(), Quantity::from_units(2)),
        ]
        .into();
        node
    }

    fn pod(name: &str, cpu_milli: i64) -> Pod {
        let container = Container::new("main", "x:1").requests(cpu_milli, 1 << 20);
        Pod { node_name: "n1".to_owned(), ..Pod::of(name, vec![container]) }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_kubernetes_word_and_the_numbers() {
        let other = pod("a", 600);
        let refusal = admit(&pod("b", 600), &node(), [&other].into_iter()).expect_err("too much");
        assert_eq!(refusal.reason, "OutOfcpu");
        assert!(refusal.message.contains("600m"), "{}", refusal.message);
        assert_eq!(admit(&pod("b", 400), &node(), [&other].into_iter()), Ok(()));
        let full = [pod("a", 1), pod("b", 1)];
        let refusal = admit(&pod("c", 1), &node(), full.iter()).expect_err("too many");
        assert_eq!(refusal.reason, "OutOfpods");
    }

    #[test]
    fn labels_that_only_the_control_plane_knows_refuse_nothing() {
        let mut pod = pod("a", 1);
        let spec = std::sync::Arc::make_mut(&mut pod.spec);
        spec.node_selector.insert("disk".to_owned(), "fast".to_owned());
        assert_eq!(admit(&pod, &node(), std::iter::empty()), Ok(()));
    }
}
