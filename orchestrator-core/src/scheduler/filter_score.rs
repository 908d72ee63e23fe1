//! `FilterScore`: the default scheduler. Asks every node, filters, scores, takes the best.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Debug;
use std::sync::Arc;

use super::Scheduler;
use super::columns::BLOCK;
use super::demand::{Demand, identity};
use super::explain::{Explanation, ScoreLine};
use super::node_ref::NodeRef;
use super::placement::{Placement, Unfit};
use super::question::Question;
use super::reason::{Reason, ReasonKind};
use super::scan::{Block, Scan, UNFIT};
use super::score::{SCORE_MAX, SCORE_WEIGHT_MAX, Score, Weights};
use super::trial::{PodGroup, Trial};
use super::view::ClusterView;
use crate::model::Pod;

/// A check of your own, beyond those that every placement passes.
///
/// It sees one pod and one node, and must depend on nothing else.
pub trait CustomFilter: Debug + Send + Sync + 'static {
    /// The filter's name in explanations.
    fn name(&self) -> &str;

    /// Judges whether the pod may be on the node.
    ///
    /// # Errors
    /// Why not, for people.
    fn check(&self, pod: &Pod, node: NodeRef<'_>) -> Result<(), String>;
}

/// A score of your own.
///
/// It sees one pod and one node, and must depend on nothing else.
pub trait CustomScore: Debug + Send + Sync + 'static {
    /// The score's name in explanations.
    fn name(&self) -> &str;

    /// How good the node is for the pod: 0 to [`SCORE_MAX`]; what is outside is moved to the nearer end.
    fn score(&self, pod: &Pod, node: NodeRef<'_>) -> i64;
}

/// The default scheduler: of all nodes on which the pod fits, the one with the highest weighted sum of scores;
/// among equals the first by name.
///
/// It looks at every node each time (no sampling), over columns, so that 5,000 nodes take some ten microseconds.
///
/// ```
/// use orchestrator_core::scheduler::{FilterScore, Score};
///
/// let packs_but_keeps_replicas_apart =
///     FilterScore::empty("careful").weigh(Score::MostUsed, 1).weigh(Score::Spread, 3);
/// ```
#[derive(Clone, Debug)]
pub struct FilterScore {
    name: String,
    weights: Weights,
    filters: Vec<Arc<dyn CustomFilter>>,
    scores: Vec<(Arc<dyn CustomScore>, i64)>,
}

/// Little-used and balanced nodes, few replicas on each: about what Kubernetes does by default.
impl Default for FilterScore {
    fn default() -> Self {
        Self::empty("filter-score")
            .weigh(Score::BalancedUse, 1)
            .weigh(Score::LeastUsed, 1)
            .weigh(Score::PreferredTaints, 3)
            .weigh(Score::Spread, 2)
    }
}

impl FilterScore {
    /// Fills nodes one after the other, so that few are needed.
    pub fn bin_packing() -> Self {
        Self::empty("bin-packing")
            .weigh(Score::BalancedUse, 1)
            .weigh(Score::MostUsed, 4)
            .weigh(Score::PreferredTaints, 8)
    }

    /// Puts replicas apart before all else.
    pub fn spread() -> Self {
        Self::empty("spread")
            .weigh(Score::LeastUsed, 1)
            .weigh(Score::PreferredTaints, 8)
            .weigh(Score::Spread, 100)
    }

    /// Evens out CPU and memory over nodes.
    pub fn least_used() -> Self {
        Self::empty("least-used").weigh(Score::LeastUsed, 1).weigh(Score::PreferredTaints, 2)
    }

    /// Finds all nodes equal: takes the first by name on which the pod fits.
    pub fn empty(name: impl Into<String>) -> Self {
        let (filters, scores) = (Vec::new(), Vec::new());
        Self { name: name.into(), weights: Weights::default(), filters, scores }
    }

    /// Sets the weight of a built-in score, at most [`SCORE_WEIGHT_MAX`]; 0 leaves it out.
    #[must_use]
    pub fn weigh(mut self, score: Score, weight: u32) -> Self {
        self.weights.set(score, weight);
        self
    }

    /// Adds a score of your own, with a weight of at most [`SCORE_WEIGHT_MAX`].
    #[must_use]
    pub fn score(mut self, score: impl CustomScore, weight: u32) -> Self {
        self.scores.push((Arc::new(score), i64::from(weight.min(SCORE_WEIGHT_MAX))));
        self
    }

    /// Adds a filter of your own.
    #[must_use]
    pub fn filter(mut self, filter: impl CustomFilter) -> Self {
        self.filters.push(Arc::new(filter));
        self
    }

    /// The best slot with its total, over all slots in question.
    fn best(&self, question: &Question<'_>, pod: &Pod, view: &ClusterView) -> Option<(i64, usize)> {
        let mut best: Option<(f64, usize)> = None;
        self.each_block(question, pod, view, |block| {
            let highest = block.highest();
            if highest < 0.0 || best.is_some_and(|(most, _)| highest < most) {
                return;
            }
            let equal = block.iter().filter(|(_, total)| *total == highest);
            let Some((slot, _)) = equal.min_by_key(|(slot, _)| question.rank(*slot)) else {
                return;
            };
            let better = best
                .is_none_or(|(most, at)| highest > most || question.rank(slot) < question.rank(at));
            if better {
                best = Some((highest, slot));
            }
        });
        best.map(|(total, slot)| (total as i64, slot))
    }

    /// Calls back with every block in which the pod fits somewhere.
    #[inline(always)]
    fn each_block(
        &self,
        question: &Question<'_>,
        pod: &Pod,
        view: &ClusterView,
        mut found: impl FnMut(&Block),
    ) {
        let (mut scan, mut block) = (Scan::new(question, &self.weights), Block::new());
        while scan.advance(&mut block) {
            if !self.is_plain() {
                self.add_custom(pod, view, &mut block);
            }
            found(&block);
        }
    }

    /// Lets the user's filters and scores have their say about a block.
    fn add_custom(&self, pod: &Pod, view: &ClusterView, block: &mut Block) {
        for at in 0..BLOCK {
            if block.totals[at] < 0.0 {
                continue;
            }
            let node = NodeRef::new(view, block.base + at);
            if self.refusals(pod, node).next().is_some() {
                block.totals[at] = UNFIT;
                continue;
            }
            let custom = self.custom_scores(pod, node);
            block.totals[at] += custom.map(|(_, weight, it)| (weight * it) as f64).sum::<f64>();
        }
    }

    fn is_plain(&self) -> bool {
        self.filters.is_empty() && self.scores.is_empty()
    }

    /// Which of the user's filters refuse the node, and why.
    fn refusals<'a>(
        &'a self,
        pod: &'a Pod,
        node: NodeRef<'a>,
    ) -> impl Iterator<Item = (&'a str, String)> {
        let refuse = move |filter: &'a Arc<dyn CustomFilter>| {
            filter.check(pod, node).err().map(|message| (filter.name(), message))
        };
        self.filters.iter().filter_map(refuse)
    }

    fn custom_scores<'a>(
        &'a self,
        pod: &'a Pod,
        node: NodeRef<'a>,
    ) -> impl Iterator<Item = (&'a str, i64, i64)> {
        self.scores.iter().map(move |(score, weight)| {
            (score.name(), *weight, score.score(pod, node).clamp(0, SCORE_MAX))
        })
    }

    fn unfit(&self, question: &Question<'_>, pod: &Pod, view: &ClusterView) -> Unfit {
        let mut unfit = question.unfit();
        if self.filters.is_empty() {
            return unfit;
        }
        for node in view.nodes() {
            for (by, _) in self.refusals(pod, node) {
                *unfit.counts.entry(ReasonKind::Refused(by.to_owned())).or_default() += 1;
            }
        }
        unfit
    }

    /// Places equal pods, none of which the trial's view counts yet: scores every node once, then takes the best
    /// and repairs the one entry that a placement changes. Stops at a pod that the view counts already.
    fn place_equal(&self, pods: &[Arc<Pod>], trial: &mut Trial) -> usize {
        let Some(first) = pods.first() else { return 0 };
        let demand = Arc::new(Demand::of(first));
        let mut heap = BinaryHeap::new();
        let question = Question::new(&demand, first, trial.view());
        let entry = |total, rank, slot: usize| (total, Reverse(rank), slot);
        self.each_block(&question, first, trial.view(), |block| {
            let entries = block.iter();
            heap.extend(
                entries.map(|(slot, total)| entry(total as i64, question.rank(slot), slot)),
            );
        });
        let mut unfit: Option<Unfit> = None;
        for (done, pod) in pods.iter().enumerate() {
            if trial.holds(identity(pod)) {
                return done;
            }
            let Some((total, _, slot)) = heap.pop() else {
                let unfit = unfit.get_or_insert_with(|| {
                    let question = Question::new(&demand, first, trial.view());
                    self.unfit(&question, first, trial.view())
                });
                trial.refuse(pod, unfit.clone());
                continue;
            };
            let node = NodeRef::new(trial.view(), slot).name().to_owned();
            trial.place_demand(pod, &demand, Placement::on(node).scored(total));
            let question = Question::at(&demand, first, trial.view(), slot);
            if question.fits(slot) {
                let total = self.weights.total(&question, slot, question.replicas(slot));
                heap.push(entry(total, question.rank(slot), slot));
            }
        }
        pods.len()
    }
}

impl Scheduler for FilterScore {
    fn name(&self) -> &str {
        &self.name
    }

    fn place(&self, pod: &Pod, view: &ClusterView) -> Result<Placement, Unfit> {
        if view.holds(identity(pod)) {
            return self.place(pod, &view.without(pod));
        }
        let demand = Demand::of(pod);
        let question = Question::new(&demand, pod, view);
        match self.best(&question, pod, view) {
            Some((total, slot)) => Ok(Placement::on(NodeRef::new(view, slot).name()).scored(total)),
            None => Err(self.unfit(&question, pod, view)),
        }
    }

    fn place_batch(&self, groups: &[PodGroup], trial: &mut Trial) {
        for group in groups {
            let mut rest = group.pods();
            while let [pod, others @ ..] = rest {
                let done = if self.is_plain() && !others.is_empty() && !pod.is_bound() {
                    self.place_equal(rest, trial)
                } else {
                    0
                };
                rest = &rest[done..];
                // One that the view counts already, or that differs to the user's parts.
                if let [pod, others @ ..] = rest {
                    super::place_one(self, pod, trial);
                    rest = others;
                }
            }
        }
    }

    fn explain(&self, pod: &Pod, view: &ClusterView) -> Explanation {
        let (pod, view, mut explanation) = super::explain::begin(self, pod, view);
        let demand = Demand::of(&pod);
        let question = Question::new(&demand, &pod, &view);
        for node in view.nodes() {
            let slot = node.slot();
            let mut reasons = question.reasons(slot);
            reasons.extend(
                self.refusals(&pod, node)
                    .map(|(by, message)| Reason::Refused { by: by.to_owned(), message }),
            );
            let built_in = self.weights.parts(&question, slot, question.replicas(slot));
            let built_in =
                built_in.map(|(score, weight, value)| ScoreLine::new(score.name(), weight, value));
            let custom = self.custom_scores(&pod, node);
            let custom = custom.map(|(name, weight, value)| ScoreLine::new(name, weight, value));
            let scores: Vec<_> = built_in.chain(custom).collect();
            let total = scores.iter().map(ScoreLine::weighted).sum();
            explanation.add(node.name(), reasons, scores, Some(total));
        }
        explanation
    }
}
