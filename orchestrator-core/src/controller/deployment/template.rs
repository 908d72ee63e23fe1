//! Which replica set is current, and how a new one is made.
//!
//! The current one is that whose template equals the deployment's; the hash in its name only makes a name.

use crate::controller::ownership::child_name;
use crate::hash::name_suffix;
use crate::model::admit::complete_pod_spec;
use crate::model::{
    Deployment, Key, Kind, ObjectMeta, OwnerReference, PodSpec, PodTemplate, ReplicaSet,
    ReplicaSetSpec, TEMPLATE_HASH_LABEL, Timestamp, Uid,
};
use crate::world::World;

/// The most names tried for a new replica set.
const NAME_ATTEMPTS_MAX: u32 = 16;
/// The letters and digits of a template's hash.
const HASH_LENGTH: usize = 10;

/// Whether two templates make the same pods. The label that tells replica sets apart does not count, nor whether a
/// default is written out: one of them may have been recorded by a version that had fewer.
pub(super) fn same_template(left: &PodTemplate, right: &PodTemplate) -> bool {
    bare(&left.metadata) == bare(&right.metadata)
        && (left.spec == right.spec || completed(&left.spec) == completed(&right.spec))
}

fn completed(spec: &PodSpec) -> PodSpec {
    let mut spec = spec.clone();
    complete_pod_spec(&mut spec);
    spec
}

fn bare(metadata: &ObjectMeta) -> ObjectMeta {
    let mut bare = metadata.clone();
    bare.labels.remove(TEMPLATE_HASH_LABEL);
    bare
}

/// Makes the replica set of the deployment's template, without pods; `None` if no name is free.
pub(super) fn new_replica_set(
    deployment: &Deployment,
    world: &World,
    now: Timestamp,
) -> Option<ReplicaSet> {
    let owner = &deployment.metadata;
    let (name, hash) = (0..NAME_ATTEMPTS_MAX)
        .map(|attempt| {
            let hash = template_hash(&deployment.spec.template, attempt);
            (child_name(&owner.name, &hash), hash)
        })
        .find(|(name, _)| {
            let key = Key::new(Kind::ReplicaSet, &owner.namespace, name);
            world.get(&key).is_none() && !world.is_quarantined(&key)
        })?;
    let label = (TEMPLATE_HASH_LABEL.to_owned(), hash);
    let mut template = deployment.spec.template.clone();
    template.metadata.labels.extend([label.clone()]);
    let mut selector = deployment.spec.selector.clone();
    selector.match_labels.extend([label]);
    let metadata = ObjectMeta {
        creation_timestamp: Some(now.to_time()),
        generation: 1,
        labels: template.metadata.labels.clone(),
        owner_references: vec![OwnerReference::controller_of(Kind::Deployment, owner)],
        uid: Uid::derived(owner.uid, &name, world.revision()),
        ..ObjectMeta::named(&owner.namespace, &name)
    };
    let spec = ReplicaSetSpec {
        min_ready_seconds: deployment.spec.min_ready_seconds,
        replicas: Some(0),
        selector,
        template,
        ..ReplicaSetSpec::default()
    };
    Some(ReplicaSet { metadata, spec, ..ReplicaSet::default() })
}

fn template_hash(template: &PodTemplate, attempt: u32) -> String {
    let bare = PodTemplate { metadata: bare(&template.metadata), spec: template.spec.clone() };
    let bytes = serde_json::to_vec(&bare).expect("maps of the model have string keys");
    name_suffix(&[&bytes, &attempt.to_be_bytes()], HASH_LENGTH)
}
