//! The clauses of [`Scheduler`], each a function that checks one.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::oracle::Ledger;
use super::{Broken, check};
use crate::model::{Key, Kind, Node, Object, ObjectMeta, Pod, Quantity, Revision};
use crate::scheduler::{
    ClusterView, Filter, PodGroup, ReasonKind, Scheduler, Trial, Unfit, feasible,
};
use crate::testkit::strategies::Scenario;
use crate::world::ObjectChange;

/// SC1: every placement leaves Σ requests within what the node has.
///
/// # Errors
/// The smallest case found that breaks it.
pub fn sc1_placements_never_over_commit(scheduler: &dyn Scheduler) -> Result<(), Broken> {
    check(|case| {
        each_placement(scheduler, case, Ledger::over_commits)?;
        // Few nodes run out of pods, of all things, by chance.
        let mut crowded = case.clone();
        for node in &mut crowded.nodes {
            node.status.allocatable.insert("pods".to_owned(), Quantity::from_units(1));
        }
        each_placement(scheduler, &crowded, Ledger::over_commits)
    })
}

/// SC2: nodes that are not ready, cordoned, or have taints which are not tolerated get no pods.
///
/// # Errors
/// The smallest case found that breaks it.
pub fn sc2_unready_cordoned_and_tainted_nodes_get_nothing(
    scheduler: &dyn Scheduler,
) -> Result<(), Broken> {
    check(|case| {
        each_placement(scheduler, case, Ledger::keeps_away)?;
        // Few nodes are cordoned by chance, and fewer of those would do otherwise.
        let mut cordoned = case.clone();
        let half = cordoned.nodes.len().div_ceil(2);
        for node in &mut cordoned.nodes[..half] {
            node.spec.unschedulable = true;
        }
        each_placement(scheduler, &cordoned, Ledger::keeps_away)
    })
}

/// SC3: placements keep to the pod's node selector, host ports, and the node it names.
///
/// # Errors
/// The smallest case found that breaks it.
pub fn sc3_selector_host_ports_and_named_node_are_kept(
    scheduler: &dyn Scheduler,
) -> Result<(), Broken> {
    check(|case| {
        each_placement(scheduler, case, Ledger::is_not_asked_for)?;
        let view = case.view();
        for (pod, node) in case.pending.iter().zip(case.nodes.iter().cycle()) {
            let node = node.metadata.name.as_str();
            let named = Pod { node_name: node.to_owned(), ..pod.clone() };
            if let Ok(placement) = scheduler.place(&named, &view) {
                prop_assert_eq!(&*placement.node, node, "the pod names another node");
                let objection = Ledger::new(case).objection(&named, node);
                prop_assert!(objection.is_none(), "placed on {}: {:?}", node, objection);
            }
        }
        Ok(())
    })
}

/// SC4: asked again, also on a copy of the view, a scheduler answers the same.
///
/// # Errors
/// The smallest case found that breaks it.
pub fn sc4_equal_questions_get_equal_answers(scheduler: &dyn Scheduler) -> Result<(), Broken> {
    check(|case| {
        let view = case.view();
        for pod in &case.pending {
            let first = scheduler.place(pod, &view);
            prop_assert_eq!(&scheduler.place(pod, &view.clone()), &first);
            let explained = scheduler.explain(pod, &view);
            prop_assert_eq!(scheduler.explain(pod, &case.view()), explained);
        }
        let outcomes = batch(scheduler, case).into_outcomes();
        prop_assert_eq!(batch(scheduler, case).into_outcomes(), outcomes);
        Ok(())
    })
}

/// SC5: whatever order nodes and pods came in, and whatever came and went, the answer is the same.
///
/// # Errors
/// The smallest case found that breaks it.
pub fn sc5_the_order_of_arrival_does_not_matter(scheduler: &dyn Scheduler) -> Result<(), Broken> {
    check(|case| {
        let straight = case.view();
        let mut crooked = ClusterView::of([ghost()], case.bound.iter().rev().cloned());
        for node in case.nodes.iter().rev() {
            crooked.apply(&arrival(node.clone()));
        }
        crooked.apply(&departure(ghost()));
        for pod in &case.pending {
            let answer = scheduler.place(pod, &straight);
            prop_assert_eq!(scheduler.place(pod, &crooked), answer);
        }
        Ok(())
    })
}

/// SC6: `Unfit` counts every node, and the built-in reasons as `feasible` finds them; a node that is feasible and refused
/// all the same is refused for a reason of the scheduler's own.
///
/// # Errors
/// The smallest case found that breaks it.
pub fn sc6_unfit_counts_what_stands_in_the_way(scheduler: &dyn Scheduler) -> Result<(), Broken> {
    check(|case| {
        let view = case.view();
        for pod in &case.pending {
            let Err(unfit) = scheduler.place(pod, &view) else { continue };
            prop_assert_eq!(unfit.nodes, case.nodes.len(), "every node is counted");
            let mut expected = Unfit::new();
            let mut free = Vec::new();
            for node in view.nodes() {
                match feasible(pod, node.name(), &view) {
                    Ok(()) => free.push(node.name()),
                    Err(reasons) => expected.count(&reasons),
                }
            }
            let built_in = |unfit: &Unfit| -> BTreeMap<ReasonKind, usize> {
                let own = |kind: &ReasonKind| matches!(kind, ReasonKind::Refused(_));
                unfit.counts.clone().into_iter().filter(|(kind, _)| !own(kind)).collect()
            };
            prop_assert_eq!(built_in(&unfit), built_in(&expected));
            let has_own = unfit.counts.len() > built_in(&unfit).len();
            prop_assert!(free.is_empty() || has_own, "refused though feasible on {:?}", free);
        }
        Ok(())
    })
}

/// SC7: `explain` chooses as `place` does, shows every node in name order, and a failure on each that does not fit.
///
/// # Errors
/// The smallest case found that breaks it.
pub fn sc7_explain_agrees_with_place(scheduler: &dyn Scheduler) -> Result<(), Broken> {
    check(|case| {
        let view = case.view();
        for pod in case.pending.iter().chain(&case.bound) {
            let explanation = scheduler.explain(pod, &view);
            let free = Pod { node_name: String::new(), ..pod.clone() };
            let chosen = scheduler.place(&free, &view).ok().map(|placement| placement.node);
            prop_assert_eq!(&explanation.chosen, &chosen);
            prop_assert_eq!(explanation.node.is_some(), pod.is_bound());
            let shown = explanation.nodes.iter().map(|verdict| verdict.node.as_str());
            prop_assert!(shown.eq(view.nodes().map(|node| node.name())), "every node, in order");
            for verdict in &explanation.nodes {
                prop_assert_eq!(verdict.fits, verdict.failures.is_empty());
                let built_in = verdict.failures.iter().filter(|it| it.filter != Filter::Custom);
                let built_in: Vec<_> = built_in.map(|it| it.reason.clone()).collect();
                let judged = feasible(&free, &verdict.node, &view).err().unwrap_or_default();
                prop_assert_eq!(built_in, judged, "on {}", verdict.node);
                prop_assert!(!verdict.fits || chosen.is_some(), "{} fits", verdict.node);
            }
            let fits = |node: &String| explanation.of(node).is_some_and(|verdict| verdict.fits);
            prop_assert!(chosen.as_ref().is_none_or(fits), "the chosen node fits");
        }
        Ok(())
    })
}

/// SC8: a batch decides on every pod in order; each placement holds on a view with those before it, and no pod is refused
/// that `place` would have placed then.
///
/// # Errors
/// The smallest case found that breaks it.
pub fn sc8_a_batch_holds_step_by_step(scheduler: &dyn Scheduler) -> Result<(), Broken> {
    check(|case| {
        let outcomes = batch(scheduler, case).into_outcomes();
        let groups = PodGroup::group(case.pending.iter().cloned().map(Arc::new));
        let asked = groups.iter().flat_map(PodGroup::pods);
        let name = |pod: &Arc<Pod>| pod.metadata.name.clone();
        prop_assert!(
            asked.map(name).eq(outcomes.iter().map(|(pod, _)| name(pod))),
            "every pod, in order"
        );
        let (mut view, mut ledger) = (case.view(), Ledger::new(case));
        for (pod, outcome) in &outcomes {
            match outcome {
                Ok(placement) => {
                    let objection = ledger.objection(pod, &placement.node);
                    prop_assert!(
                        objection.is_none(),
                        "{} on {}: {:?}",
                        name(pod),
                        placement.node,
                        objection
                    );
                    ledger.bind(pod, &placement.node);
                    view.assume(pod, &placement.node);
                }
                Err(_) => {
                    let alone = scheduler.place(pod, &view);
                    prop_assert!(alone.is_err(), "{} was refused, but has {:?}", name(pod), alone);
                }
            }
        }
        Ok(())
    })
}

/// SC9: a pod that the view counts already gets the answer it would get otherwise.
///
/// # Errors
/// The smallest case found that breaks it.
pub fn sc9_a_pod_does_not_stand_in_its_own_way(scheduler: &dyn Scheduler) -> Result<(), Broken> {
    check(|case| {
        let mut view = case.view();
        for pod in &case.pending {
            let answer = scheduler.place(pod, &view);
            let Ok(placement) = &answer else { continue };
            view.assume(pod, &placement.node);
            prop_assert_eq!(&scheduler.place(pod, &view), &answer);
            let chosen = scheduler.explain(pod, &view).chosen;
            prop_assert_eq!(chosen.as_ref(), Some(&placement.node));
            view.forget(pod.metadata.uid);
        }
        Ok(())
    })
}

/// SC10: without nodes, and with nodes that have nothing, pods are unfit and nothing panics.
///
/// # Errors
/// The smallest case found that breaks it.
pub fn sc10_an_empty_cluster_is_no_error(scheduler: &dyn Scheduler) -> Result<(), Broken> {
    check(|case| {
        for pod in &case.pending {
            for view in [ClusterView::default(), ClusterView::of([Node::default()], [])] {
                let unfit = scheduler.place(pod, &view).err();
                prop_assert_eq!(unfit.map(|unfit| unfit.nodes), Some(view.len()));
                prop_assert_eq!(scheduler.explain(pod, &view).chosen, None);
            }
        }
        let empty = Scenario { nodes: Vec::new(), bound: Vec::new(), ..case.clone() };
        let outcomes = batch(scheduler, &empty).into_outcomes();
        prop_assert_eq!(outcomes.len(), case.pending.len());
        prop_assert!(outcomes.iter().all(|(_, outcome)| outcome.is_err()));
        Ok(())
    })
}

/// Places pod after pod, each on a view that has those before it, and asks the oracle of each placement.
fn each_placement(
    scheduler: &dyn Scheduler,
    case: &Scenario,
    objection: impl Fn(&Ledger, &Pod, &str) -> Option<String>,
) -> TestCaseResult {
    let (mut view, mut ledger) = (case.view(), Ledger::new(case));
    for pod in &case.pending {
        let Ok(placement) = scheduler.place(pod, &view) else { continue };
        let node = placement.node.as_str();
        let objection = objection(&ledger, pod, node);
        prop_assert!(objection.is_none(), "{} on {node}: {:?}", pod.metadata.name, objection);
        ledger.bind(pod, node);
        view.assume(pod, node);
    }
    Ok(())
}

fn batch(scheduler: &dyn Scheduler, case: &Scenario) -> Trial {
    let groups = PodGroup::group(case.pending.iter().cloned().map(Arc::new));
    let mut trial = Trial::new(case.view());
    scheduler.place_batch(&groups, &mut trial);
    trial
}

fn ghost() -> Node {
    Node { metadata: ObjectMeta::named("", "ghost"), ..Node::default() }
}

fn arrival(node: Node) -> ObjectChange {
    let key = Key::new(Kind::Node, "", &node.metadata.name);
    ObjectChange { key, revision: Revision(1), before: None, after: Some(Object::from(node)) }
}

fn departure(node: Node) -> ObjectChange {
    let key = Key::new(Kind::Node, "", &node.metadata.name);
    ObjectChange { key, revision: Revision(2), before: Some(Object::from(node)), after: None }
}
