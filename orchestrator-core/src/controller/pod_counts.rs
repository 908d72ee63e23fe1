//! How the pods of an owner stand: the figures of every status roll-up.

use crate::model::{ObjectMeta, StringMap, Timestamp};
use crate::world::{PodTally, World};

/// How a set of pods stands at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PodCounts {
    /// Ready for at least the minimum time.
    pub available: i32,
    /// Run to their end.
    pub finished: i32,
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
    /// Counts the pods that an owner manages against a template's labels and a minimum ready time in seconds.
    pub(super) fn of(
        world: &World,
        owner: &ObjectMeta,
        labels: &StringMap,
        min_ready_seconds: i32,
        now: Timestamp,
    ) -> Self {
        world.tally(owner.uid, &owner.namespace).map_or_else(Self::default, |tally| {
            Self::tallied(tally, labels, min_ready_seconds, now)
        })
    }

    fn tallied(
        tally: &PodTally,
        labels: &StringMap,
        min_ready_seconds: i32,
        now: Timestamp,
    ) -> Self {
        let mut counts = Self::default();
        let add = |sum: &mut i32, count: usize| {
            *sum = sum.saturating_add(i32::try_from(count).unwrap_or(i32::MAX));
        };
        let wait_ms = i64::from(min_ready_seconds).saturating_mul(1000);
        for (found, pods) in tally.alike() {
            add(&mut counts.finished, pods.finished);
            add(&mut counts.ready, pods.ready);
            add(&mut counts.replicas, pods.active());
            add(&mut counts.terminating, pods.terminating);
            if labels.iter().all(|(name, value)| found.get(name) == Some(value)) {
                add(&mut counts.fully_labeled, pods.active());
            }
            if wait_ms <= 0 {
                add(&mut counts.available, pods.ready);
                continue;
            }
            let since = now.plus_millis(-wait_ms).to_time();
            add(&mut counts.available, pods.ready_since(since));
            let next = pods.next_ready(since).map(|next| next.to_timestamp().plus_millis(wait_ms));
            counts.next_available = [counts.next_available, next].into_iter().flatten().min();
        }
        counts
    }

    /// How many pods there are, in whatever state.
    pub(super) const fn pods(&self) -> i32 {
        self.replicas.saturating_add(self.terminating).saturating_add(self.finished)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};
    use proptest::{collection::vec, option, sample};

    use super::*;
    use crate::controller::ownership::children;
    use crate::model::{
        Condition, ConditionStatus, Kind, Object, OwnerReference, Pod, PodPhase, Time, Uid,
    };
    use crate::testkit::sandbox::Sandbox;

    /// The same, by a look at each pod.
    fn counted(
        world: &World,
        owner: &ObjectMeta,
        labels: &StringMap,
        min_ready_seconds: i32,
        now: Timestamp,
    ) -> PodCounts {
        let mut counts = PodCounts::default();
        for (_, pod) in children::<Pod>(world, owner) {
            counts.finished += i32::from(pod.is_finished());
            counts.terminating += i32::from(pod.metadata.is_deleting() && !pod.is_finished());
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

    /// When a ready pod counts as available; `None` if it does not say since when it is ready.
    fn available_at(pod: &Pod, min_ready_seconds: i32) -> Option<Timestamp> {
        let ready = pod.status.conditions.iter().find(|condition| condition.kind == "Ready")?;
        if min_ready_seconds <= 0 {
            return Some(Timestamp::default());
        }
        let since = ready.last_transition_time?.to_timestamp();
        Some(since.plus_millis(i64::from(min_ready_seconds) * 1000))
    }

    /// A change of a pod: its name, whose it is, where, its label, how it stands; without a standing it is gone.
    type Step = (&'static str, (u128, bool), &'static str, &'static str, Option<(u8, Option<i64>)>);

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let owner = (0..3u128, any::<bool>());
        let labels = sample::select(vec!["web", "db", ""]);
        let stands = option::weighted(0.8, (0..6u8, option::of(0..4i64)));
        let (names, places) =
            (sample::select(vec!["a", "b", "c", "d"]), sample::select(vec!["default", "other"]));
        vec((names, owner, places, labels, stands), 1..40)
    }

    fn owner(id: u128, namespace: &str) -> ObjectMeta {
        let uid = Uid::from_uuid(uuid::Uuid::from_u128(id));
        ObjectMeta { uid, ..ObjectMeta::named(namespace, "owner") }
    }

    fn pod(step: &Step) -> Pod {
        let (name, (id, is_controller), namespace, label, stands) = *step;
        let mut pod = Pod { metadata: ObjectMeta::named(namespace, name), ..Pod::default() };
        pod.metadata.labels = app(label);
        if id > 0 {
            let uid = owner(id, namespace).uid;
            let reference =
                OwnerReference { controller: is_controller, uid, ..OwnerReference::default() };
            pod.metadata.owner_references.push(reference);
        }
        let (state, since) = stands.unwrap_or_default();
        pod.metadata.deletion_timestamp = (state == 1).then_some(Time::from_seconds(1));
        pod.status.phase = if state == 2 { PodPhase::Failed } else { PodPhase::Running };
        pod.status.conditions.push(Condition {
            kind: "Ready".to_owned(),
            status: if state > 3 { ConditionStatus::True } else { ConditionStatus::False },
            last_transition_time: since.map(Time::from_seconds),
            ..Condition::default()
        });
        pod
    }

    fn app(label: &str) -> StringMap {
        [("app".to_owned(), label.to_owned())].into_iter().filter(|_| !label.is_empty()).collect()
    }

    proptest! {
        #[test]
        fn what_is_counted_as_pods_change_is_what_a_look_at_each_would_count(steps in steps()) {
            let mut sandbox = Sandbox::new(Vec::new());
            for step in &steps {
                match step.4 {
                    Some(_) => sandbox.put(pod(step)),
                    None => sandbox.remove(&Object::from(pod(step)).key()),
                }
                let world = sandbox.world();
                // An owner without an identity manages nothing.
                for (id, namespace) in [0, 1, 2].map(|id| [(id, "default"), (id, "other")]).concat() {
                    let owner = owner(id, namespace);
                    for (labels, wait, now) in [(app("web"), 0, 0), (app(""), 2, 3_999), (app("db"), 1, 4_000)] {
                        let now = Timestamp::from_millis(now);
                        let counts = PodCounts::of(world, &owner, &labels, wait, now);
                        prop_assert_eq!(counts, counted(world, &owner, &labels, wait, now));
                    }
                }
                let all = ["default", "other"].map(|namespace| -> usize {
                    world.tallies(namespace).map(|(_, tally)| tally.pods()).sum()
                });
                prop_assert_eq!(all.iter().sum::<usize>(), world.count(Kind::Pod));
            }
        }
    }
}
