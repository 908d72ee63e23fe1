//! The schedulers of the crate against their suite, and the suite against schedulers that are wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use orchestrator_core::model::{Object, Pod, PodPhase, Revision};
use orchestrator_core::scheduler::{
    ClusterView, CustomFilter, CustomScore, Explanation, FilterScore, NodeRef, Placement, PodGroup,
    RoundRobin, Scheduler, Score, Trial, Unfit, admissible_on_node, feasible, feasible_on_node,
};
use orchestrator_core::testkit::scheduler::{Clause, check, clauses, oracle::Ledger};
use orchestrator_core::testkit::strategies::EXTENDED_RESOURCE;
use orchestrator_core::world::ObjectChange;
use proptest::prelude::*;

mod filter_score {
    use super::*;
    orchestrator_core::scheduler_conformance!(FilterScore::default());
}

mod bin_packing {
    use super::*;
    orchestrator_core::scheduler_conformance!(FilterScore::bin_packing());
}

mod spread {
    use super::*;
    orchestrator_core::scheduler_conformance!(FilterScore::spread());
}

mod least_used {
    use super::*;
    orchestrator_core::scheduler_conformance!(FilterScore::least_used());
}

mod with_custom_parts {
    use super::*;
    orchestrator_core::scheduler_conformance!(
        FilterScore::default().filter(EvenNodes).score(LastDigit, 5)
    );
}

mod round_robin {
    use super::*;
    orchestrator_core::scheduler_conformance!(RoundRobin);
}

/// Refuses nodes whose name ends with an odd digit.
#[derive(Debug)]
struct EvenNodes;

impl CustomFilter for EvenNodes {
    fn name(&self) -> &str {
        "even-nodes"
    }

    fn check(&self, _: &Pod, node: NodeRef<'_>) -> Result<(), String> {
        let odd = node.name().ends_with(['1', '3', '5', '7', '9']);
        if odd { Err("the name is odd".to_owned()) } else { Ok(()) }
    }
}

/// Likes nodes with a high last digit, beyond all bounds.
#[derive(Debug)]
struct LastDigit;

impl CustomScore for LastDigit {
    fn name(&self) -> &str {
        "last-digit"
    }

    fn score(&self, _: &Pod, node: NodeRef<'_>) -> i64 {
        node.name().bytes().last().map_or(-7, |byte| i64::from(byte) * 1_000)
    }
}

/// What a wrong scheduler does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    CountsNoPods,
    DependsOnCalls,
    DropsTheRestOfABatch,
    ExplainsAnotherChoice,
    IgnoresCordons,
    IgnoresSelectors,
    RefusesEverything,
    SeesItself,
    TrustsTheFirstNode,
    WantsANode,
}

/// First fit by name, with a fault.
#[derive(Debug)]
struct Wrong(Fault, AtomicUsize);

impl Scheduler for Wrong {
    fn name(&self) -> &str {
        "wrong"
    }

    fn place(&self, pod: &Pod, view: &ClusterView) -> Result<Placement, Unfit> {
        let call = self.1.fetch_add(1, Ordering::Relaxed);
        let mut asked = pod.clone();
        if self.0 == Fault::IgnoresSelectors {
            Arc::make_mut(&mut asked.spec).node_selector.clear();
        }
        let mut unfit = Unfit::new();
        let mut fitting = Vec::new();
        for node in view.nodes() {
            let reasons = node.fits(&asked).err().unwrap_or_default();
            let blind = match self.0 {
                Fault::CountsNoPods => reasons.iter().all(|it| it.to_string() == "Too many pods"),
                Fault::IgnoresCordons => {
                    reasons.iter().all(|it| it.to_string().ends_with("unschedulable"))
                }
                Fault::TrustsTheFirstNode => true,
                Fault::SeesItself => reasons.is_empty() && view.node_of(pod) != Some(node.name()),
                Fault::DependsOnCalls
                | Fault::DropsTheRestOfABatch
                | Fault::ExplainsAnotherChoice
                | Fault::IgnoresSelectors
                | Fault::RefusesEverything
                | Fault::WantsANode => reasons.is_empty(),
            };
            if blind && self.0 != Fault::RefusesEverything {
                fitting.push(node.name());
            } else {
                unfit.count(&reasons);
            }
        }
        if self.0 == Fault::WantsANode {
            let first = fitting.first().expect("there is always a node");
            return Ok(Placement::on(*first));
        }
        let turn = if self.0 == Fault::DependsOnCalls { call % fitting.len().max(1) } else { 0 };
        fitting.get(turn).map(|node| Placement::on(*node)).ok_or(unfit)
    }

    fn place_batch(&self, groups: &[PodGroup], trial: &mut Trial) {
        for group in groups {
            for pod in group.pods() {
                match self.place(pod, trial.view()) {
                    Ok(placement) => trial.place(pod, placement),
                    Err(unfit) => trial.refuse(pod, unfit),
                }
                if self.0 == Fault::DropsTheRestOfABatch {
                    break;
                }
            }
        }
    }

    fn explain(&self, pod: &Pod, view: &ClusterView) -> Explanation {
        let mut explanation = FilterScore::empty("wrong").explain(pod, view);
        if self.0 == Fault::ExplainsAnotherChoice {
            explanation.chosen = view.nodes().last().map(|node| node.name().to_owned());
        }
        explanation
    }
}

#[test]
fn each_wrong_scheduler_breaks_its_clause() {
    let cases: [(Fault, Clause); 10] = [
        (Fault::TrustsTheFirstNode, clauses::sc1_placements_never_over_commit),
        (Fault::CountsNoPods, clauses::sc1_placements_never_over_commit),
        (Fault::IgnoresCordons, clauses::sc2_unready_cordoned_and_tainted_nodes_get_nothing),
        (Fault::IgnoresSelectors, clauses::sc3_selector_host_ports_and_named_node_are_kept),
        (Fault::DependsOnCalls, clauses::sc4_equal_questions_get_equal_answers),
        (Fault::RefusesEverything, clauses::sc6_unfit_counts_what_stands_in_the_way),
        (Fault::ExplainsAnotherChoice, clauses::sc7_explain_agrees_with_place),
        (Fault::DropsTheRestOfABatch, clauses::sc8_a_batch_holds_step_by_step),
        (Fault::SeesItself, clauses::sc9_a_pod_does_not_stand_in_its_own_way),
        (Fault::WantsANode, clauses::sc10_an_empty_cluster_is_no_error),
    ];
    for (fault, clause) in cases {
        let broken = clause(&Wrong(fault, AtomicUsize::new(0)));
        assert!(broken.is_err(), "{fault:?} was not noticed");
    }
}

#[test]
fn feasible_agrees_with_a_plain_count() {
    check(|case| {
        let (view, ledger) = (case.view(), Ledger::new(case));
        for pod in case.pending.iter().chain(&case.bound) {
            for node in &case.nodes {
                let name = node.metadata.name.as_str();
                let judged = feasible(pod, name, &view);
                let objection = ledger.objection(pod, name);
                prop_assert_eq!(
                    judged.is_ok(),
                    objection.is_none(),
                    "{:?} {:?}",
                    judged,
                    objection
                );
            }
        }
        Ok(())
    })
    .expect("one judge");
}

#[test]
fn an_agent_judges_as_the_scheduler_does() {
    check(|case| {
        let view = case.view();
        for pod in &case.pending {
            for node in &case.nodes {
                let name = &node.metadata.name;
                let others = || case.bound.iter().filter(|other| other.node_name == *name);
                let here = feasible_on_node(pod, node, others());
                prop_assert_eq!(&here, &feasible(pod, name, &view));
                let kept = |reasons: Vec<_>| -> Vec<_> {
                    let bars = orchestrator_core::scheduler::Reason::bars_bound_pods;
                    reasons.into_iter().filter(bars).collect()
                };
                let admitted = admissible_on_node(pod, node, others()).err().unwrap_or_default();
                prop_assert_eq!(admitted, kept(here.err().unwrap_or_default()));
            }
        }
        Ok(())
    })
    .expect("one judge");
}

#[test]
fn a_batch_of_equal_pods_ends_as_one_after_the_other() {
    let flavours = [
        FilterScore::default(),
        FilterScore::bin_packing(),
        FilterScore::spread(),
        FilterScore::least_used(),
        FilterScore::empty("odd").weigh(Score::BalancedUse, 3).weigh(Score::Spread, 1),
    ];
    for scheduler in flavours {
        check(|case| {
            let groups = PodGroup::group(case.pending.iter().cloned().map(Arc::new));
            let (mut batch, mut single) = (Trial::new(case.view()), Trial::new(case.view()));
            scheduler.place_batch(&groups, &mut batch);
            for pod in groups.iter().flat_map(PodGroup::pods) {
                match scheduler.place(pod, single.view()) {
                    Ok(placement) => single.place(pod, placement),
                    Err(unfit) => single.refuse(pod, unfit),
                }
            }
            prop_assert_eq!(batch.outcomes(), single.outcomes());
            Ok(())
        })
        .expect("the same outcome");
    }
}

#[test]
fn an_explanation_comes_back_from_its_json() {
    check(|case| {
        for pod in &case.pending {
            let explanation = FilterScore::default().explain(pod, &case.view());
            let json = serde_json::to_string(&explanation).expect("it serialises");
            let back: Explanation = serde_json::from_str(&json).expect("own output");
            prop_assert_eq!(back, explanation);
        }
        Ok(())
    })
    .expect("the same explanation");
}

#[test]
fn totals_of_an_explanation_are_the_scores_of_placements() {
    check(|case| {
        let scheduler = FilterScore::default().score(LastDigit, 2);
        for pod in &case.pending {
            let view = case.view();
            let explanation = scheduler.explain(pod, &view);
            for verdict in explanation.nodes.iter().filter(|verdict| verdict.fits) {
                let alone = scheduler.place(pod, &view.only(&verdict.node)).expect("it fits");
                prop_assert_eq!(Some(alone.score), verdict.total);
            }
            if let Ok(best) = scheduler.place(pod, &view) {
                let fitting = explanation.nodes.iter().filter(|verdict| verdict.fits);
                prop_assert_eq!(fitting.map(|verdict| verdict.total).max(), Some(Some(best.score)));
            }
        }
        Ok(())
    })
    .expect("equal sums");
}

#[test]
fn a_view_kept_by_changes_equals_one_built_anew() {
    let change = |before: Option<Object>, after: Option<Object>| {
        let key = before.as_ref().or(after.as_ref()).expect("a side").key();
        ObjectChange { key, revision: Revision(1), before, after }
    };
    check(|case| {
        let mut kept = ClusterView::of(case.nodes.iter().skip(3).cloned(), case.bound.clone());
        for (number, node) in case.nodes.iter().enumerate().rev() {
            let mut smaller = node.clone();
            smaller.status.allocatable.remove("cpu");
            smaller.metadata.labels.clear();
            let (first, then) = (Object::from(smaller), Object::from(node.clone()));
            if number >= 3 {
                kept.apply(&change(Some(then.clone()), None));
            }
            kept.apply(&change(None, Some(first.clone())));
            kept.apply(&change(Some(first), Some(then)));
        }
        for pod in &case.bound {
            let pending = Object::from(Pod { node_name: String::new(), ..pod.clone() });
            let bound = Object::from(pod.clone());
            kept.apply(&change(Some(bound.clone()), None));
            kept.apply(&change(None, Some(pending.clone())));
            kept.assume(pod, "node-00");
            kept.apply(&change(Some(pending), Some(bound)));
        }
        for pod in &case.pending {
            kept.assume(pod, "node-01");
            kept.forget(pod.metadata.uid);
        }
        let anew = case.view();
        for (kept, anew) in kept.nodes().zip(anew.nodes()) {
            prop_assert_eq!((kept.name(), kept.node()), (anew.name(), anew.node()));
            prop_assert_eq!((kept.allocatable(), kept.used()), (anew.allocatable(), anew.used()));
            prop_assert_eq!(kept.used_of(EXTENDED_RESOURCE), anew.used_of(EXTENDED_RESOURCE));
            for pod in &case.pending {
                prop_assert_eq!(kept.replicas_of(pod), anew.replicas_of(pod));
                prop_assert_eq!(kept.fits(pod), anew.fits(pod));
            }
        }
        for pod in &case.pending {
            let scheduler = FilterScore::default();
            prop_assert_eq!(scheduler.place(pod, &kept), scheduler.place(pod, &anew));
        }
        Ok(())
    })
    .expect("the same view");
}

#[test]
fn among_many_nodes_the_best_is_taken_and_the_first_of_equals() {
    check(|case| {
        let copies = (0..20).rev().flat_map(|copy| {
            case.nodes.iter().cloned().map(move |mut node| {
                node.metadata.name = format!("{}-{copy:02}", node.metadata.name);
                node
            })
        });
        let view = ClusterView::of(copies, []);
        let scheduler = FilterScore::default();
        for pod in case.pending.iter().take(4) {
            let explanation = scheduler.explain(pod, &view);
            let fitting = explanation.nodes.iter().filter(|verdict| verdict.fits);
            let best = fitting.clone().map(|verdict| verdict.total).max();
            let mut equals = fitting.filter(|verdict| Some(verdict.total) == best);
            let first = equals.next().map(|verdict| verdict.node.clone());
            prop_assert_eq!(scheduler.place(pod, &view).ok().map(|it| it.node), first);
        }
        Ok(())
    })
    .expect("the first of the best");
}

#[test]
fn finished_pods_take_nothing() {
    check(|case| {
        let mut done = case.bound.clone();
        done.iter_mut().for_each(|pod| pod.status.phase = PodPhase::Succeeded);
        let view = ClusterView::of(case.nodes.clone(), done);
        let idle = ClusterView::of(case.nodes.clone(), []);
        for (node, other) in view.nodes().zip(idle.nodes()) {
            prop_assert_eq!(node.used(), other.used());
        }
        Ok(())
    })
    .expect("nothing taken");
}
