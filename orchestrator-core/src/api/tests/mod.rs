//! The verbs on a world that a small store feeds: every proposal is committed with its preconditions.

mod apply;
mod bad_input;
mod create;
mod delete;
mod evict;
mod kept;
mod nodes;
mod properties;
mod unreadable;
mod update;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::model::{Kind, Object, Part, Revision};
use crate::store::{Batch, Expect, RecordChange, RecordKey, Txn, Write};
use crate::world::Proposal;

/// A second that every test begins at.
pub(super) const NOW: Timestamp = Timestamp::from_millis(1_000_000_500);

/// A world, and the revisions of its records.
#[derive(Clone)]
pub(super) struct Bench {
    pub(super) world: World,
    pub(super) caller: Caller,
    pub(super) now: Timestamp,
    records: BTreeMap<RecordKey, Revision>,
    uids: u128,
}

impl Bench {
    /// Makes a world with the namespace `default`.
    pub(super) fn new() -> Self {
        let mut bench = Self {
            world: World::default(),
            caller: admin(),
            now: NOW,
            records: BTreeMap::new(),
            uids: 0,
        };
        bench.create(Kind::Namespace, "", json!({ "metadata": { "name": "default" } }));
        bench
    }

    /// Decides a request without committing it.
    pub(super) fn decide(&mut self, request: &Request) -> Result<Effect, Rejection> {
        self.uids += 1;
        let fresh = Uid::from_uuid(uuid::Uuid::from_u128(self.uids));
        decide(&self.world, &self.caller, request, self.now, fresh)
    }

    /// Decides a request and commits what it comes to.
    #[track_caller]
    pub(super) fn submit(&mut self, request: &Request) -> Result<Effect, Rejection> {
        let effect = self.decide(request)?;
        if let Some(proposal) = &effect.proposal {
            self.commit(proposal).expect("preconditions of this very world");
        }
        Ok(effect)
    }

    /// Commits a proposal, or returns the record whose precondition fails.
    #[track_caller]
    pub(super) fn commit(&mut self, proposal: &Proposal) -> Result<(), RecordKey> {
        let txn = proposal.to_txn();
        assert_eq!(txn.defect(), None);
        self.check(&txn)?;
        let revision = Revision(self.world.revision().0 + 1);
        let mut changes = Vec::new();
        for write in txn.writes {
            let (key, value) = match write {
                Write::Delete { key, .. } => {
                    self.records.remove(&key);
                    (key, None)
                }
                Write::Put { key, value, .. } => {
                    self.records.insert(key.clone(), revision);
                    (key, Some(value))
                }
            };
            changes.push(RecordChange { key, value });
        }
        self.world.apply(&Batch { revision, changes });
        Ok(())
    }

    fn check(&self, txn: &Txn) -> Result<(), RecordKey> {
        let guards = txn.guards.iter().map(|guard| (&guard.key, guard.expect));
        let writes = txn.writes.iter().map(|write| (write.key(), write.expect()));
        for (key, expect) in guards.chain(writes) {
            let holds = match expect {
                Expect::Absent => !self.records.contains_key(key),
                Expect::At(revision) => self.records.get(key) == Some(&revision),
            };
            if !holds {
                return Err(key.clone());
            }
        }
        Ok(())
    }

    #[track_caller]
    pub(super) fn create(&mut self, kind: Kind, namespace: &str, object: Value) -> Object {
        let request = create(kind, namespace, object);
        self.submit(&request).unwrap_or_else(|rejection| panic!("{rejection}")).reply
    }

    #[track_caller]
    pub(super) fn refuse(&mut self, request: &Request) -> String {
        match self.decide(request) {
            Ok(effect) => panic!("accepted: {effect:?}"),
            Err(rejection) => rejection.to_string(),
        }
    }

    #[track_caller]
    pub(super) fn get(&self, key: &Key) -> Object {
        self.world.get(key).unwrap_or_else(|| panic!("no {key}")).object.clone()
    }

    #[track_caller]
    pub(super) fn json(&self, key: &Key) -> Value {
        self.get(key).to_value()
    }
}

pub(super) fn admin() -> Caller {
    Caller::Admin { name: "root".to_owned() }
}

pub(super) fn create(kind: Kind, namespace: &str, object: Value) -> Request {
    let options = WriteOptions::default();
    Request::Create { kind, namespace: namespace.to_owned(), object, options }
}

pub(super) fn update(key: &Key, part: Part, object: Value) -> Request {
    Request::Update { key: key.clone(), part, object, options: WriteOptions::default() }
}

pub(super) fn patch(key: &Key, part: Part, patch: Patch) -> Request {
    Request::Patch {
        key: key.clone(),
        part,
        patch,
        preconditions: Preconditions::default(),
        options: WriteOptions::default(),
    }
}

pub(super) fn merge(key: &Key, change: Value) -> Request {
    patch(key, Part::Main, Patch::Merge(change))
}

pub(super) fn apply(key: &Key, manifest: Value) -> Request {
    patch(key, Part::Main, Patch::Apply(manifest))
}

pub(super) fn delete(key: &Key, options: DeleteOptions) -> Request {
    Request::Delete { key: key.clone(), options }
}

pub(super) fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": {
                    "containers": [{
                        "name": "main",
                        "image": "nginx:1.27",
                        "ports": [{ "containerPort": 80 }],
                        "env": [{ "name": "A", "value": "1" }],
                    }],
                },
            },
        },
    })
}

pub(super) fn pod(name: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "containers": [{ "name": "main", "image": "nginx:1.27" }] },
    })
}

pub(super) fn node(name: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "status": { "capacity": { "cpu": "2", "memory": "4Gi" } },
    })
}

pub(super) fn key(kind: Kind, name: &str) -> Key {
    Key::new(kind, "default", name)
}
