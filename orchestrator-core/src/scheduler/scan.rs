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

/// Slots in a row: which of them fit, and how they score.
pub(super) struct Block {
    /// The first slot.
    pub(super) base: usize,
    /// A bit per slot on which the pod fits.
    pub(super) fitting: u64,
    /// The weighted sums of the scores of slots that fit; others hold anything.
    pub(super) totals: [f64; BLOCK],
}

impl Block {
    pub(super) const fn new() -> Self {
        Self { base: 0, fitting: 0, totals: [0.0; BLOCK] }
    }

    /// The slots that fit, ascending, with their totals.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, f64)> {
        let mut rest = self.fitting;
        std::iter::from_fn(move || {
            if rest == 0 {
                return None;
            }
            let at = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            Some((self.base + at, self.totals[at % BLOCK]))
        })
    }
}

impl<'a> Scan<'a> {
    pub(super) fn new(question: &'a Question<'a>, weights: &'a Weights) -> Self {
        let next = question.slots().start / BLOCK * BLOCK;
        let passed = question.replicas.partition_point(|(slot, _)| (*slot as usize) < next);
        Self { question, weights, next, replicas: &question.replicas[passed..] }
    }

    /// Looks at the next block in which the pod fits somewhere. Returns whether there was one.
    pub(super) fn advance(&mut self, block: &mut Block) -> bool {
        let slots = self.question.slots();
        while self.next < slots.end {
            block.base = self.next;
            self.next += BLOCK;
            let (mut fitting, open) = self.question.rough(block.base / BLOCK);
            for (edge, outside) in [(slots.start, true), (slots.end, false)] {
                // Only a question about one slot begins or ends within a block.
                if (block.base..block.base + BLOCK).contains(&edge) {
                    let below = (1u64 << (edge - block.base)) - 1;
                    fitting &= if outside { !below } else { below };
                }
            }
            block.fitting = fitting & open;
            if self.question.has_extras() || fitting != block.fitting {
                block.fitting = self.narrow(block.base, fitting);
            }
            if block.fitting != 0 {
                self.score(block, fitting & open == fitting);
                return true;
            }
        }
        false
    }

    /// Asks of each slot what the columns cannot tell.
    fn narrow(&self, base: usize, rough: u64) -> u64 {
        let (mut rest, mut fitting) = (rough, 0);
        while rest != 0 {
            let bit = rest & rest.wrapping_neg();
            if self.question.fits(base + bit.trailing_zeros() as usize) {
                fitting |= bit;
            }
            rest ^= bit;
        }
        fitting
    }

    fn score(&mut self, block: &mut Block, all_open: bool) {
        let behind = self.replicas.partition_point(|(slot, _)| (*slot as usize) < block.base);
        self.replicas = &self.replicas[behind..];
        let end = block.base + BLOCK;
        let count = self.replicas.iter().take_while(|(slot, _)| (*slot as usize) < end).count();
        let (here, beyond) = self.replicas.split_at(count);
        self.replicas = beyond;
        self.weights.score_use(self.question, block.base / BLOCK, &mut block.totals);
        self.weights.score_rest(self.question, block.base, all_open, here, &mut block.totals);
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
