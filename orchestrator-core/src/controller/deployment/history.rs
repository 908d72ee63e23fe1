//! The numbers of a deployment's replica sets, and how many old ones are kept.

use super::Run;
use super::member::is_private;
use crate::model::{REVISION_ANNOTATION, ReplicaSet};
use crate::world::graceful_delete;

/// The annotation with the earlier numbers of a replica set that became current again.
pub(super) const HISTORY_ANNOTATION: &str = "deployment.kubernetes.io/revision-history";
/// How many old replica sets are kept when the deployment does not say.
const HISTORY_LIMIT: i32 = 10;
/// The most old replica sets a decision deletes.
const HISTORY_BURST_MAX: usize = 50;

impl Run<'_> {
    /// Gives the current replica set the highest number, and what it shares with the deployment.
    pub(super) fn number_current(&mut self) {
        let Some(current) = self.current else { return };
        let others = self.members.iter().enumerate().filter(|(index, _)| *index != current);
        let newest = others.map(|(_, other)| other.revision()).max().unwrap_or(0);
        let revision = self.members[current].revision().max(newest.saturating_add(1));
        let deployment = self.deployment;
        inherit(self.members[current].edit(), deployment, revision);
    }

    /// The number that a replica set made now gets.
    pub(super) fn next_revision(&self) -> i64 {
        let newest = self.members.iter().map(|member| member.revision()).max();
        newest.unwrap_or(0).saturating_add(1)
    }

    /// Deletes the oldest replica sets that have nothing left, beyond the number that is kept.
    pub(super) fn clear_history(&mut self) {
        let limit = self.deployment.spec.revision_history_limit.unwrap_or(HISTORY_LIMIT);
        let limit = usize::try_from(limit).unwrap_or(0);
        let current = self.current;
        let mut spent: Vec<_> = self.members.iter().enumerate().collect();
        spent.retain(|(index, member)| {
            Some(*index) != current
                && member.is_editable()
                && member.wanted() == 0
                && member.counts.pods() == 0
                && member.set.status.observed_generation >= member.set.metadata.generation
        });
        spent.sort_by_key(|(_, member)| (member.revision(), member.age()));
        let surplus = spent.len().saturating_sub(limit).min(HISTORY_BURST_MAX);
        for (_, member) in spent.into_iter().take(surplus) {
            if let Some(deletion) = graceful_delete(member.stored, None, self.now) {
                self.decision.propose(deletion.guarded_by_main(self.stored));
            }
        }
    }
}

/// Gives a current replica set its number and the deployment's annotations and minimum ready time.
pub(super) fn inherit(set: &mut ReplicaSet, deployment: &crate::model::Deployment, revision: i64) {
    set.spec.min_ready_seconds = deployment.spec.min_ready_seconds;
    let annotations = &mut set.metadata.annotations;
    let shared = deployment.metadata.annotations.iter().filter(|(name, _)| !is_private(name));
    annotations.extend(shared.map(|(name, value)| (name.clone(), value.clone())));
    let revision = revision.to_string();
    let earlier = annotations.insert(REVISION_ANNOTATION.to_owned(), revision.clone());
    if let Some(earlier) = earlier.filter(|earlier| *earlier != revision) {
        let history = annotations.entry(HISTORY_ANNOTATION.to_owned()).or_default();
        if !history.is_empty() {
            history.push(',');
        }
        history.push_str(&earlier);
    }
}
