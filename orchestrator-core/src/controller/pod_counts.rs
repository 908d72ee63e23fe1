//! How the pods of an owner stand: the figures of every status roll-up.

use crate::model::{ConditionStatus, Pod, StringMap, Timestamp};

/// How a set of pods stands at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PodCounts {
    /// Ready for at least the minimum time.
    pub available: i32,
    /// Having all labels of the template.
    pub fully_labeled: i32,
    /// When the next ready pod will be available; `None` if none waits.
    pub next_available: Option<Timestamp>,
    /// Ready.
    pub ready: i32,
    /// Neither finished nor being deleted.
    pub replicas: i32,
    /// Being deleted, not gone and not finished.
    pub terminating: i32,
}

impl PodCounts {
    /// Counts pods against a template's labels and a minimum ready time in seconds.
    pub(super) fn of<'p>(
        pods: impl Iterator<Item = &'p Pod>,
        labels: &StringMap,
        min_ready_seconds: i32,
        now: Timestamp,
    ) -> Self {
        let mut counts = Self::default();
        for pod in pods {
            if pod.metadata.is_deleting() && !pod.is_finished() {
                counts.terminating += 1;
            }
            if !pod.is_active() {
                continue;
            }
            counts.replicas += 1;
            let has = |(name, value)| pod.metadata.labels.get(name) == Some(value);
            counts.fully_labeled += i32::from(labels.iter().all(has));
            if !pod.is_ready() {
                continue;
            }
            counts.ready += 1;
            match available_at(pod, min_ready_seconds) {
                Some(at) if at <= now => counts.available += 1,
                Some(at) => {
                    let earlier = counts.next_available.is_none_or(|known| at < known);
                    counts.next_available = if earlier { Some(at) } else { counts.next_available };
                }
                None => {}
            }
        }
        counts
    }
}

/// When a ready pod counts as available; `None` if it is not ready or does not say since when.
pub(super) fn available_at(pod: &Pod, min_ready_seconds: i32) -> Option<Timestamp> {
    let ready =
        pod.status.conditions.iter().find(|condition| {
            condition.kind == "Ready" && condition.status == ConditionStatus::True
        })?;
    if min_ready_seconds <= 0 {
        return Some(Timestamp::default());
    }
    let since = ready.last_transition_time?.to_timestamp();
    Some(since.plus_millis(i64::from(min_ready_seconds) * 1000))
}
