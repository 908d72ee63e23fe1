//! `DefaultServiceAccounts`: every namespace has a service account `default`.
//!
//! Depends on `model` and `world`.

use std::collections::BTreeSet;

use super::ownership::{create_in_namespace, refusal};
use super::{Change, Controller, Decision};
use crate::model::{Key, Kind, ObjectMeta, ServiceAccount, Timestamp, Uid};
use crate::world::World;

/// The name of the service account that a namespace begins with.
const DEFAULT: &str = "default";

/// Makes the service account `default` where it is missing, as Kubernetes does.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultServiceAccounts;

impl Controller for DefaultServiceAccounts {
    fn name(&self) -> &'static str {
        "default-service-account"
    }

    fn interest(&self, change: &Change, keys: &mut BTreeSet<Key>) {
        let Change::Object(change) = change else { return };
        let namespace = match change.key.kind {
            Kind::Namespace => &change.key.name,
            Kind::ServiceAccount if *change.key.name == *DEFAULT => &change.key.namespace,
            _ => return,
        };
        keys.insert(Key::cluster(Kind::Namespace, namespace));
    }

    fn reconcile(&self, key: &Key, world: &World, now: Timestamp) -> Decision {
        let mut decision = Decision::nothing();
        let Some(namespace) = world.get(key).filter(|_| key.kind == Kind::Namespace) else {
            return decision;
        };
        let account = Key::new(Kind::ServiceAccount, &key.name, DEFAULT);
        let is_there = world.get(&account).is_some() || world.is_quarantined(&account);
        if is_there || refusal(world, &key.name).is_some() {
            return decision;
        }
        let metadata = ObjectMeta {
            creation_timestamp: Some(now.to_time()),
            uid: Uid::derived(namespace.object.meta().uid, DEFAULT, world.revision()),
            ..ObjectMeta::named(&key.name, DEFAULT)
        };
        let account = ServiceAccount { metadata, ..ServiceAccount::default() };
        decision.propose(create_in_namespace(world, account));
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Namespace;
    use crate::testkit::sandbox::Sandbox;
    use crate::world::graceful_delete;

    #[test]
    fn a_namespace_has_the_account_again_after_it_was_deleted_and_none_while_it_goes() {
        let mut sandbox = Sandbox::new(vec![Box::new(DefaultServiceAccounts)]);
        sandbox.put(Namespace { metadata: ObjectMeta::named("", "team"), ..Namespace::default() });
        let account = Key::new(Kind::ServiceAccount, "team", DEFAULT);
        sandbox.settle().expect("settled");
        let first = sandbox.world().get(&account).expect("made").clone();
        sandbox.commit(&crate::world::Proposal::delete(&first)).expect("no conflict");
        sandbox.settle().expect("settled");
        let second = sandbox.world().get(&account).expect("made again").clone();
        assert_ne!(second.object.meta().uid, first.object.meta().uid);

        let team = Key::cluster(Kind::Namespace, "team");
        let now = sandbox.now;
        sandbox.change(&team, |team: &mut Namespace| {
            team.metadata.deletion_timestamp = Some(now.to_time());
        });
        let goes = graceful_delete(&second, None, now).expect("a change");
        sandbox.commit(&goes).expect("no conflict");
        sandbox.settle().expect("settled");
        assert!(sandbox.world().get(&account).is_none());
    }
}
