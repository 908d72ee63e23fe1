//! The trait `Scheduler`: where a pod should run, and why not elsewhere.
//!
//! Pure and synchronous. The view is the engine's, kept incrementally in columns; a scheduler proposes, the
//! engine's commit gate checks with the same `feasible`. Depends on `model` and `world`.

mod accounts;
mod bits;
mod columns;
mod demand;
mod explain;
mod feasible;
mod filter_score;
mod node_ref;
mod placement;
mod question;
mod reason;
mod round_robin;
mod scan;
mod score;
mod trial;
mod verdict;
mod view;

use std::fmt::Debug;
use std::sync::Arc;

use crate::model::Pod;

pub use columns::PODS_PER_NODE_DEFAULT;
pub use demand::{Demand, HostPort, SCORED_CPU_MILLI, SCORED_MEMORY_BYTES};
pub use explain::{Explanation, Failure, NodeVerdict, ScoreLine};
pub use feasible::{admissible_on_node, feasible, feasible_on_node};
pub use filter_score::{CustomFilter, CustomScore, FilterScore};
pub use node_ref::{Amounts, NodeRef};
pub use placement::{Placement, UNFIT_PRINTED_MAX, Unfit};
pub use reason::{Filter, Reason, ReasonKind};
pub use round_robin::RoundRobin;
pub use score::{SCORE_MAX, SCORE_WEIGHT_MAX, Score};
pub use trial::{Mark, PodGroup, Trial};
pub use view::ClusterView;

/// Says where pods should run.
///
/// A scheduler proposes; the engine's commit gate judges every placement again with [`feasible`], so a wrong one
/// can waste a placement but never over-commit a node.
///
/// # Duties (each is a test of the conformance suite)
/// - **SC1** Never over-commits: CPU, memory, other resources and the number of pods stay within what the node has (S12).
/// - **SC2** Never places on a node that is not ready or cordoned, or has a taint that the pod does not tolerate.
/// - **SC3** Keeps to the pod: its node selector, its host ports, the node it names.
/// - **SC4** Is a function: equal pods and views give equal answers.
/// - **SC5** Its answer does not depend on the order in which nodes and pods came into the view.
/// - **SC6** Says `Unfit` only of a pod that fits nowhere by its own rules, and counts every node of the view; the built-in
///   reasons it counts are those of [`feasible`].
/// - **SC7** `explain` agrees with `place`: same choice, every node once and in name order, a failure on every node that
///   does not fit, and the chosen node among those that do.
/// - **SC8** `place_batch` decides on every pod, in order, and each placement holds on a view with all earlier ones; it
///   refuses no pod that `place` would have placed then.
/// - **SC9** A pod that is counted in the view already (bound, or bind in flight) does not stand in its own way.
/// - **SC10** A view with no nodes makes every pod `Unfit`; nothing makes a scheduler panic.
///
/// # Example
/// ```
/// use orchestrator_core::model::{Node, Pod};
/// use orchestrator_core::scheduler::{ClusterView, Placement, Scheduler, Unfit};
///
/// /// Takes the last node by name on which the pod fits.
/// #[derive(Debug)]
/// struct LastFit;
///
/// impl Scheduler for LastFit {
///     fn name(&self) -> &str { "last-fit" }
///
///     fn place(&self, pod: &Pod, view: &ClusterView) -> Result<Placement, Unfit> {
///         let mut unfit = Unfit::new();
///         let mut last = None;
///         for node in view.nodes() {
///             match node.fits(pod) {
///                 Ok(()) => last = Some(Placement::on(node.name())),
///                 Err(reasons) => unfit.count(&reasons),
///             }
///         }
///         last.ok_or(unfit)
///     }
/// }
///
/// let unfit = LastFit.place(&Pod::new("web", "nginx"), &ClusterView::default()).unwrap_err();
/// assert_eq!(unfit.to_string(), "no nodes available to schedule pods");
/// let _ = LastFit.explain(&Pod::new("web", "nginx"), &ClusterView::of([Node::default()], []));
/// ```
pub trait Scheduler: Debug + Send + Sync + 'static {
    /// A short, unique name for metrics, events and explanations.
    fn name(&self) -> &str;

    /// Says where a pod should run.
    ///
    /// # Errors
    /// [`Unfit`] counts the reasons when it can run nowhere.
    fn place(&self, pod: &Pod, view: &ClusterView) -> Result<Placement, Unfit>;

    /// Places every pod of every group in turn, each on a view that has the placements before it.
    ///
    /// Provided: asks [`Scheduler::place`] for one after the other. Override it to share work between equal pods.
    fn place_batch(&self, groups: &[PodGroup], trial: &mut Trial) {
        for pod in groups.iter().flat_map(PodGroup::pods) {
            place_one(self, pod, trial);
        }
    }

    /// Says what the scheduler thinks of every node.
    ///
    /// Provided: asks [`Scheduler::place`] for each node alone. Override it to tell scores apart.
    fn explain(&self, pod: &Pod, view: &ClusterView) -> Explanation {
        explain::by_asking(self, pod, view)
    }
}

fn place_one<S: Scheduler + ?Sized>(scheduler: &S, pod: &Arc<Pod>, trial: &mut Trial) {
    match scheduler.place(pod, trial.view()) {
        Ok(placement) => trial.place(pod, placement),
        Err(unfit) => trial.refuse(pod, unfit),
    }
}
