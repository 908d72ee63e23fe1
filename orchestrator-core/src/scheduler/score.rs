//! `Score`: what makes one fitting node better than another.
//!
//! Every score depends on the pod and that node alone. So a placement changes the scores of one node, and a
//! batch of equal pods repairs one entry per pod instead of scanning again.

use serde::{Deserialize, Serialize};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weights {
    balanced_use: i64,
    least_used: i64,
    most_used: i64,
    preferred_taints: i64,
    spread: i64,
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

    /// The score of a slot, given the replicas of the pod there.
    #[inline(always)]
    fn of(self, question: &Question<'_>, slot: usize, replicas: u32) -> i64 {
        match self {
            Self::BalancedUse => {
                let (cpu, memory) = question.use_with_pod(slot);
                scaled(1.0 - (cpu - memory).abs())
            }
            Self::LeastUsed => {
                let (cpu, memory) = question.use_with_pod(slot);
                scaled(1.0 - 0.5 * (cpu + memory))
            }
            Self::MostUsed => {
                let (cpu, memory) = question.use_with_pod(slot);
                scaled(0.5 * (cpu + memory))
            }
            Self::PreferredTaints => shared(question.soft_taints(slot)),
            Self::Spread => shared(replicas),
        }
    }
}

impl Weights {
    pub(super) fn set(&mut self, score: Score, weight: u32) {
        *self.cell(score) = i64::from(weight.min(SCORE_WEIGHT_MAX));
    }

    pub(super) fn get(mut self, score: Score) -> i64 {
        *self.cell(score)
    }

    fn cell(&mut self, score: Score) -> &mut i64 {
        match score {
            Score::BalancedUse => &mut self.balanced_use,
            Score::LeastUsed => &mut self.least_used,
            Score::MostUsed => &mut self.most_used,
            Score::PreferredTaints => &mut self.preferred_taints,
            Score::Spread => &mut self.spread,
        }
    }

    /// The weighted sum of the scores of a slot.
    #[inline(always)]
    pub(super) fn total(&self, question: &Question<'_>, slot: usize, replicas: u32) -> i64 {
        let mut total = 0;
        for score in Score::ALL {
            let weight = self.get(score);
            if weight != 0 {
                total += weight * score.of(question, slot, replicas);
            }
        }
        total
    }

    /// Each score with its weight and value.
    pub(super) fn parts(
        self,
        question: &Question<'_>,
        slot: usize,
    ) -> impl Iterator<Item = (Score, i64, i64)> {
        let replicas = question.replicas(slot);
        Score::ALL
            .into_iter()
            .map(move |score| (score, self.get(score), score.of(question, slot, replicas)))
            .filter(|(_, weight, _)| *weight != 0)
    }
}

/// A part of 1 as a score. Deterministic: IEEE arithmetic rounds alike on every machine.
#[inline(always)]
fn scaled(part: f64) -> i64 {
    (part * SCORE_MAX as f64) as i64
}

/// The full score shared with `others`.
#[inline(always)]
fn shared(others: u32) -> i64 {
    SCORE_MAX / (1 + i64::from(others))
}
