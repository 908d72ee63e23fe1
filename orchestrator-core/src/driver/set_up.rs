//! What every cluster has from the start: namespaces, and the built-in roles and bindings.

use super::submit::Submitter;
use crate::api::{
    AUTO_UPDATE_ANNOTATION, Caller, Patch, Preconditions, Rejection, Request, WriteOptions,
    built_in_access,
};
use crate::model::{ClusterRole, ClusterRoleBinding, Namespace, Object, ObjectMeta, Part};
use crate::world::World;

/// The namespaces every cluster has.
const NAMESPACES: [&str; 2] = ["default", "kube-system"];

/// Records what is missing, in one transaction, and returns the cluster's id: from the uid of `kube-system`, as is
/// customary for Kubernetes clusters.
pub(super) async fn set_up(submitter: &Submitter, caller: &Caller) -> Result<String, Rejection> {
    submitter.submit_all(caller, missing).await?;
    let world = submitter.history.world();
    let system = world.find::<Namespace>("", NAMESPACES[1]);
    let uid = system.map(|namespace| namespace.metadata.uid.to_string()).unwrap_or_default();
    // The end of a UUIDv7 is random; the beginning is the time.
    Ok(format!("c{}", &uid[uid.len().saturating_sub(12)..]))
}

/// What a world lacks.
fn missing(world: &World) -> Vec<Request> {
    let namespaces = NAMESPACES.map(|name| {
        Object::from(Namespace {
            metadata: ObjectMeta { name: name.to_owned(), ..ObjectMeta::default() },
            ..Namespace::default()
        })
    });
    let all = namespaces.into_iter().chain(built_in_access());
    all.filter_map(|object| match world.get(&object.key()) {
        None => Some(create(&object)),
        Some(stored) => repair(&stored.object, &object),
    })
    .collect()
}

fn create(object: &Object) -> Request {
    Request::Create {
        kind: object.kind(),
        namespace: String::new(),
        object: object.to_value(),
        options: WriteOptions::default(),
    }
}

/// Gives a built-in role or binding back what it is missing, unless it says to be left alone.
fn repair(found: &Object, built_in: &Object) -> Option<Request> {
    let meta = found.meta();
    let is_own = meta.annotations.get(AUTO_UPDATE_ANNOTATION).is_some_and(|it| it != "true");
    if is_own || meta.is_deleting() {
        return None;
    }
    let change = match (found, built_in) {
        // The rules of a role that consists of others are its controller's to write.
        (Object::ClusterRole(found), Object::ClusterRole(built_in)) => {
            let ClusterRole { rules, aggregation_rule: None, .. } = &**built_in else {
                return None;
            };
            let rules = completed(&found.rules, rules)?;
            serde_json::json!({ "rules": rules })
        }
        (Object::ClusterRoleBinding(found), Object::ClusterRoleBinding(built_in)) => {
            let ClusterRoleBinding { subjects, .. } = &**built_in;
            let subjects = completed(&found.subjects, subjects)?;
            serde_json::json!({ "subjects": subjects })
        }
        _ => return None,
    };
    Some(Request::Patch {
        key: found.key(),
        part: Part::Main,
        patch: Patch::Merge(change),
        preconditions: Preconditions::default(),
        options: WriteOptions::default(),
    })
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
