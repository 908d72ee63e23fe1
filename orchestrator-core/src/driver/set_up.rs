//! What every cluster has from the start: namespaces, and the built-in roles and bindings.

use super::submit::Submitter;
use crate::api::{AUTO_UPDATE_ANNOTATION, Rejection, built_in_access};
use crate::model::{
    ClusterRole, ClusterRoleBinding, LABEL_NAMESPACE_NAME, NAMESPACE_FINALIZER, Namespace,
    NamespacePhase, Object, ObjectMeta,
};
use crate::world::{Proposal, World};

/// The namespaces every cluster has.
const NAMESPACES: [&str; 2] = ["default", "kube-system"];

/// Records what is missing, in one transaction, and returns the cluster's id: from the uid of `kube-system`, as is
/// customary for Kubernetes clusters.
pub(super) async fn set_up(submitter: &Submitter) -> Result<String, Rejection> {
    submitter
        .propose(|world, now| {
            let mut all = Proposal::default();
            for mut object in namespaces().chain(built_in_access()) {
                let meta = object.meta_mut();
                meta.uid = (submitter.uids.0)();
                meta.creation_timestamp = Some(now.to_time());
                all = all.and(wanted(world, object));
            }
            all
        })
        .await?;
    let world = submitter.history.world();
    let system = world.find::<Namespace>("", NAMESPACES[1]);
    let uid = system.map(|namespace| namespace.metadata.uid.to_string()).unwrap_or_default();
    // The end of a UUIDv7 is random; the beginning is the time.
    Ok(format!("c{}", &uid[uid.len().saturating_sub(12)..]))
}

/// What has to be written for an object to be there with all it needs.
fn wanted(world: &World, object: Object) -> Proposal {
    match world.get(&object.key()) {
        None if world.is_quarantined(&object.key()) => Proposal::default(),
        None => Proposal::create(object),
        Some(stored) => match repaired(&stored.object, &object) {
            Some(repaired) => Proposal::put_main(stored, repaired),
            None => Proposal::default(),
        },
    }
}

fn namespaces() -> impl Iterator<Item = Object> {
    NAMESPACES.into_iter().map(|name| {
        let metadata = ObjectMeta { generation: 1, ..ObjectMeta::named("", name) };
        let mut namespace = Namespace { metadata, ..Namespace::default() };
        namespace.metadata.labels.insert(LABEL_NAMESPACE_NAME.to_owned(), name.to_owned());
        namespace.spec.finalizers.push(NAMESPACE_FINALIZER.to_owned());
        namespace.status.phase = Some(NamespacePhase::Active);
        namespace.into()
    })
}

/// Gives a built-in role or binding back what it is missing, unless it says to be left alone.
fn repaired(found: &Object, built_in: &Object) -> Option<Object> {
    let meta = found.meta();
    let is_own = meta.annotations.get(AUTO_UPDATE_ANNOTATION).is_some_and(|it| it != "true");
    if is_own || meta.is_deleting() {
        return None;
    }
    match (found, built_in) {
        // The rules of a role that consists of others are its controller's to write.
        (Object::ClusterRole(found), Object::ClusterRole(built_in)) => {
            let ClusterRole { rules, aggregation_rule: None, .. } = &**built_in else {
                return None;
            };
            let rules = completed(&found.rules, rules)?;
            Some(ClusterRole { rules, ..(**found).clone() }.into())
        }
        (Object::ClusterRoleBinding(found), Object::ClusterRoleBinding(built_in)) => {
            let subjects = completed(&found.subjects, &built_in.subjects)?;
            Some(ClusterRoleBinding { subjects, ..(**found).clone() }.into())
        }
        _ => None,
    }
}

/// Returns what was found together with what it lacks; `None` when it lacks nothing.
fn completed<T: Clone + PartialEq>(found: &[T], wanted: &[T]) -> Option<Vec<T>> {
    let lacking: Vec<T> = wanted.iter().filter(|one| !found.contains(one)).cloned().collect();
    (!lacking.is_empty()).then(|| [found, &lacking].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Cluster;
    use crate::mem::MemStore;
    use crate::model::PolicyRule;

    fn role<'w>(world: &'w World, name: &str) -> &'w ClusterRole {
        world.find::<ClusterRole>("", name).expect("built in")
    }

    #[test]
    fn what_is_set_up_is_as_admission_would_leave_it() {
        for mut object in namespaces().chain(built_in_access()) {
            object.meta_mut().uid = crate::model::Uid::from_uuid(uuid::Uuid::from_u128(1));
            let admitted = crate::model::admit::admit(None, object.clone()).expect("valid");
            assert_eq!(admitted, object);
            assert_eq!(object.meta().generation, i64::from(object.kind().has_status()));
        }
    }

    #[tokio::test]
    async fn a_cluster_has_its_roles_at_once_and_gets_lost_rights_back_at_a_start() {
        let store: std::sync::Arc<dyn crate::store::StateStore> =
            std::sync::Arc::new(MemStore::new());
        let start = || Cluster::builder().shared_store(std::sync::Arc::clone(&store)).start();
        let cluster = start().await.expect("started");
        let revision = cluster.world().revision();
        assert!(role(&cluster.world(), "view").rules.len() > 3);
        cluster.shutdown(false).await;

        let cluster = start().await.expect("started");
        assert_eq!(cluster.world().revision(), revision, "nothing is missing");
        for (name, auto_update) in [("system:discovery", "true"), ("system:basic-user", "false")] {
            let mut role = role(&cluster.world(), name).clone();
            role.rules =
                vec![PolicyRule { verbs: vec!["own".to_owned()], ..role.rules[0].clone() }];
            role.metadata
                .annotations
                .insert(AUTO_UPDATE_ANNOTATION.to_owned(), auto_update.to_owned());
            cluster.apply(role).await.expect("applied");
        }
        cluster.shutdown(false).await;

        let cluster = start().await.expect("started");
        let world = cluster.world();
        assert_eq!(role(&world, "system:discovery").rules.len(), 2, "its own and ours");
        assert_eq!(role(&world, "system:basic-user").rules.len(), 1, "it wants to be left alone");
        cluster.shutdown(false).await;
    }
}
