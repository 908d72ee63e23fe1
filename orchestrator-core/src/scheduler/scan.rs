//! `Scan`: asks a question of all slots, a block at a time.
//!
//! Within a block everything is a loop over columns of a fixed length without branches, which compilers turn into
//! vector instructions; only what the columns cannot tell is asked of [`Question::fits`], slot by slot.

use super::columns::BLOCK;
use super::question::Question;
use super::score::Weights;

/// Walks over the slots in question.
pub(super) struct Scan<'a> {
    question: &'a Question<'a>,
    weights: &'a Weights,
    next: usize,
    /// The replicas on slots not yet passed.
    replicas: &'a [(u32, u32)],
}

/// Slots in a row, and how they score.
pub(super) struct Block {
    /// The first slot.
    pub(super) base: usize,
    /// The weighted sums of the scores; below zero where the pod does not fit.
    pub(super) totals: [f64; BLOCK],
}

/// The total of a slot on which the pod does not fit.
pub(super) const UNFIT: f64 = -1.0;

impl Block {
    pub(super) const fn new() -> Self {
        Self { base: 0, totals: [UNFIT; BLOCK] }
    }

    /// The slots that fit, ascending, with their totals.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, f64)> {
        let all = self.totals.iter().enumerate().filter(|(_, total)| **total >= 0.0);
        all.map(|(at, total)| (self.base + at, *total))
    }

    /// The highest total.
    #[inline(always)]
    pub(super) fn highest(&self) -> f64 {
        let mut lanes = [UNFIT; 8];
        for eight in self.totals.as_chunks::<8>().0 {
            for (most, total) in lanes.iter_mut().zip(eight) {
                *most = if *total > *most { *total } else { *most };
            }
        }
        lanes.into_iter().fold(UNFIT, f64::max)
    }
}

impl<'a> Scan<'a> {
    pub(super) fn new(question: &'a Question<'a>, weights: &'a Weights) -> Self {
        let next = question.slots().start / BLOCK * BLOCK;
        Self { question, weights, next, replicas: question.replicas }
    }

    /// Looks at the next block in which the pod fits somewhere. Returns whether there was one.
    pub(super) fn advance(&mut self, block: &mut Block) -> bool {
        let slots = self.question.slots();
        let mut lack = [0; BLOCK];
        while self.next < slots.end {
            block.base = self.next;
            self.next += BLOCK;
            if !self.question.fits_in_block(block.base / BLOCK, &mut lack) {
                continue;
            }
            if slots.len() < BLOCK {
                let outside = |at: &usize| !slots.contains(&(block.base + at));
                (0..BLOCK).filter(outside).for_each(|at| lack[at] = -1);
            }
            self.score(block);
            for (total, lack) in block.totals.iter_mut().zip(&lack) {
                *total = if *lack < 0 { UNFIT } else { *total };
            }
            return true;
        }
        false
    }

    #[inline(always)]
    fn score(&mut self, block: &mut Block) {
        let behind = |(slot, _): &&(u32, u32)| (*slot as usize) < block.base;
        let passed = self.replicas.iter().take_while(behind).count();
        let rest = &self.replicas[passed..];
        let within = |(slot, _): &&(u32, u32)| (*slot as usize) < block.base + BLOCK;
        let (here, beyond) = rest.split_at(rest.iter().take_while(within).count());
        self.replicas = beyond;
        self.weights.score_use(self.question, block.base / BLOCK, &mut block.totals);
        self.weights.score_rest(self.question, block.base, here, &mut block.totals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Node, NodeCondition, ObjectMeta, Pod, Quantity, Taint, TaintEffect};
    use crate::scheduler::{ClusterView, Demand, Score};

    fn node(number: i64) -> Node {
        let mut node =
            Node { metadata: ObjectMeta::named("", &format!("n{number:03}")), ..Node::default() };
        let amounts = [("cpu", number % 7 * 500), ("memory", number % 5 * (100 << 30))];
        let amounts = amounts.map(|(name, it)| (name.to_owned(), Quantity::from_milli(it)));
        node.status.allocatable = amounts.into();
        let ready = NodeCondition { kind: "Ready".to_owned(), ..NodeCondition::default() };
        node.status.conditions = vec![NodeCondition { status: (number % 11 != 0).into(), ..ready }];
        let effects = [TaintEffect::NoSchedule, TaintEffect::PreferNoSchedule];
        if let Some(effect) = effects.get(number as usize % 6) {
            node.spec.taints = vec![Taint { effect: *effect, ..Taint::default() }];
        }
        node
    }

    fn pod(name: &str, node: &str) -> Pod {
        let container = crate::model::Container::new("c", "i").requests(400, 50 << 20);
        let mut pod = Pod::of(name, vec![container]);
        pod.metadata.labels.insert("app".to_owned(), "web".to_owned());
        Pod { node_name: node.to_owned(), ..pod }
    }

    #[test]
    fn blocks_say_what_single_slots_say() {
        let weights = Score::ALL.into_iter().zip([3, 5, 1, 7, 9]);
        let weights = weights.fold(Weights::default(), |mut weights, (score, weight)| {
            weights.set(score, weight);
            weights
        });
        for nodes in [0, 1, 63, 64, 65, 200] {
            let bound =
                (0..nodes).step_by(3).map(|at| pod(&format!("p{at}"), &format!("n{at:03}")));
            let view = ClusterView::of((0..nodes).map(node), bound);
            let asked = pod("p", "");
            let demand = Demand::of(&asked);
            for view in [view.only("n064"), view.only("n001"), view] {
                let question = Question::new(&demand, &asked, &view);
                let fitting = question.slots().filter(|slot| question.fits(*slot));
                let total = |slot| (slot, weights.total(&question, slot, question.replicas(slot)));
                let singly: Vec<_> = fitting.map(total).collect();
                let (mut scan, mut block) = (Scan::new(&question, &weights), Block::new());
                let mut blockwise = Vec::new();
                while scan.advance(&mut block) {
                    blockwise.extend(block.iter().map(|(slot, total)| (slot, total as i64)));
                }
                assert_eq!(blockwise, singly, "{nodes} nodes");
            }
        }
    }
}
