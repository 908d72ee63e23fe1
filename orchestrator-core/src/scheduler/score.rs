//! `Score`: what makes one fitting node better than another.
//!
//! Every score depends on the pod and that node alone. So a placement changes the scores of one node, and a
//! batch of equal pods repairs one entry per pod instead of scanning again.

use serde::{Deserialize, Serialize};

use super::columns::BLOCK;
use super::question::Question;

/// The best value of every score; the worst is 0.
pub const SCORE_MAX: i64 = 10_000;
/// The largest weight of a score.
pub const SCORE_WEIGHT_MAX: u32 = 1_000_000;

/// A built-in score, from 0 to [`SCORE_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Score {
    /// High where CPU and memory are used to the same degree, so that neither is left without the other.
    BalancedUse,
    /// High where little of CPU and memory is used.
    LeastUsed,
    /// High where much of CPU and memory is used: packs.
    MostUsed,
    /// High where no `PreferNoSchedule` taint asks the pod to go elsewhere.
    PreferredTaints,
    /// High where few replicas of the pod are.
    Spread,
}

/// The weights of the built-in scores.
///
/// Weights, scores and their sums are whole numbers far below 2^53, so `f64` holds them exactly, and IEEE arithmetic
/// rounds alike on every machine. It is what vector instructions of every machine can do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Weights {
    balanced_use: f64,
    least_used: f64,
    most_used: f64,
    preferred_taints: f64,
    spread: f64,
}

impl Score {
    /// Every score.
    pub const ALL: [Self; 5] =
        [Self::BalancedUse, Self::LeastUsed, Self::MostUsed, Self::PreferredTaints, Self::Spread];

    /// The score's name in explanations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BalancedUse => "balancedUse",
            Self::LeastUsed => "leastUsed",
            Self::MostUsed => "mostUsed",
            Self::PreferredTaints => "preferredTaints",
            Self::Spread => "spread",
        }
    }

    /// The score of a slot, given the replicas of the pod there. Always a whole number.
    fn of(self, question: &Question<'_>, slot: usize, replicas: u32) -> f64 {
        let (cpu, memory) = question.use_with_pod(slot);
        match self {
            Self::BalancedUse => balanced_use(cpu, memory),
            Self::LeastUsed => least_used(cpu, memory),
            Self::MostUsed => most_used(cpu, memory),
            Self::PreferredTaints => shared(question.soft_taints(slot)),
            Self::Spread => shared(replicas),
        }
    }
}

impl Weights {
    pub(super) fn set(&mut self, score: Score, weight: u32) {
        *self.cell(score) = f64::from(weight.min(SCORE_WEIGHT_MAX));
    }

    fn get(mut self, score: Score) -> f64 {
        *self.cell(score)
    }

    fn cell(&mut self, score: Score) -> &mut f64 {
        match score {
            Score::BalancedUse => &mut self.balanced_use,
            Score::LeastUsed => &mut self.least_used,
            Score::MostUsed => &mut self.most_used,
            Score::PreferredTaints => &mut self.preferred_taints,
            Score::Spread => &mut self.spread,
        }
    }

    /// Each score that weighs something, with its weight and value.
    pub(super) fn parts(
        self,
        question: &Question<'_>,
        slot: usize,
        replicas: u32,
    ) -> impl Iterator<Item = (Score, i64, i64)> {
        let weighty = Score::ALL.into_iter().filter(move |score| self.get(*score) != 0.0);
        weighty.map(move |score| {
            (score, self.get(score) as i64, score.of(question, slot, replicas) as i64)
        })
    }

    /// The weighted sum of the scores of a slot.
    pub(super) fn total(&self, question: &Question<'_>, slot: usize, replicas: u32) -> i64 {
        self.parts(question, slot, replicas).map(|(_, weight, score)| weight * score).sum()
    }

    /// Sets the totals of a block to the weighted sum of the scores of CPU and memory.
    #[inline(always)]
    pub(super) fn score_use(
        &self,
        question: &Question<'_>,
        block: usize,
        totals: &mut [f64; BLOCK],
    ) {
        totals.fill(0.0);
        if self.balanced_use + self.least_used + self.most_used == 0.0 {
            return;
        }
        let (mut cpu, mut memory) = ([0.0; BLOCK], [0.0; BLOCK]);
        question.use_in_block(block, &mut cpu, &mut memory);
        if self.balanced_use != 0.0 {
            add(totals, self.balanced_use, |at| balanced_use(cpu[at], memory[at]));
        }
        if self.least_used != 0.0 {
            add(totals, self.least_used, |at| least_used(cpu[at], memory[at]));
        }
        if self.most_used != 0.0 {
            add(totals, self.most_used, |at| most_used(cpu[at], memory[at]));
        }
    }

    /// Adds to the totals of a block the other scores.
    #[inline(always)]
    pub(super) fn score_rest(
        &self,
        question: &Question<'_>,
        base: usize,
        replicas: &[(u32, u32)],
        totals: &mut [f64; BLOCK],
    ) {
        let alone = shared(0);
        if self.preferred_taints != 0.0 && question.is_open_block(base / BLOCK) {
            add(totals, self.preferred_taints, |_| alone);
        } else if self.preferred_taints != 0.0 {
            add(totals, self.preferred_taints, |at| shared(question.soft_taints(base + at)));
        }
        if self.spread != 0.0 {
            add(totals, self.spread, |_| alone);
            for (slot, count) in replicas {
                totals[*slot as usize - base] += self.spread * (shared(*count) - alone);
            }
        }
    }
}

#[inline(always)]
fn add(totals: &mut [f64; BLOCK], weight: f64, score: impl Fn(usize) -> f64) {
    for (at, total) in totals.iter_mut().enumerate() {
        *total += weight * score(at);
    }
}

#[inline(always)]
fn balanced_use(cpu: f64, memory: f64) -> f64 {
    scaled(1.0 - (cpu - memory).abs())
}

#[inline(always)]
fn least_used(cpu: f64, memory: f64) -> f64 {
    scaled(1.0 - 0.5 * (cpu + memory))
}

#[inline(always)]
fn most_used(cpu: f64, memory: f64) -> f64 {
    scaled(0.5 * (cpu + memory))
}

/// A part of 1 as a score.
#[inline(always)]
fn scaled(part: f64) -> f64 {
    // Numbers from 2^52 on have no fraction: adding it rounds to a whole number, ties to even.
    const ROUNDING: f64 = (1u64 << 52) as f64;
    (part * SCORE_MAX as f64 + ROUNDING) - ROUNDING
}

/// The full score shared with `others`, as a whole number.
fn shared(others: u32) -> f64 {
    (SCORE_MAX / (1 + i64::from(others))) as f64
}
