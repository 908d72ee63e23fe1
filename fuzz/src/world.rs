//! A world with an object of each kind, for requests whose commits are applied at once.

use std::cell::Cell;

use orchestrator_core::api::{
    Caller, Effect, FieldValidation, Rejection, Request, WriteOptions, decide,
};
use orchestrator_core::model::{Key, Kind, Revision, Timestamp, Uid};
use orchestrator_core::store::{Batch, RecordChange, Write};
use orchestrator_core::world::World;
use serde_json::{Value, json};

/// The most bytes that a refusal may take beside four times the input's: it names values and paths.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// When every request comes.
const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A world that requests change.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) world: World,
    uids: Cell<u128>,
}

thread_local! {
    static FURNISHED: Bench = furnish();
}

/// The namespace `default`, and an object `a` of each kind.
pub(crate) fn bench() -> Bench {
    FURNISHED.with(Bench::clone)
}

fn furnish() -> Bench {
    let mut bench = Bench { world: World::default(), uids: Cell::new(0) };
    bench.create(
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "default" } }),
    );
    for kind in Kind::ALL {
        let seed = SEEDS.iter().find(|(name, _)| *name == kind.name());
        if let Some((_, seed)) = seed {
            bench.create(serde_json::from_str(seed).expect("a seed is JSON"));
        }
    }
    bench
}

/// An object of each kind that is patched.
const SEEDS: [(&str, &str); 15] = [
    ("ClusterRole", include_str!("../objects/ClusterRole.json")),
    ("ClusterRoleBinding", include_str!("../objects/ClusterRoleBinding.json")),
    ("ConfigMap", include_str!("../objects/ConfigMap.json")),
    ("Deployment", include_str!("../objects/Deployment.json")),
    ("Event", include_str!("../objects/Event.json")),
    ("Lease", include_str!("../objects/Lease.json")),
    ("Node", include_str!("../objects/Node.json")),
    ("Pod", include_str!("../objects/Pod.json")),
    ("PodDisruptionBudget", include_str!("../objects/PodDisruptionBudget.json")),
    ("ReplicaSet", include_str!("../objects/ReplicaSet.json")),
    ("Role", include_str!("../objects/Role.json")),
    ("RoleBinding", include_str!("../objects/RoleBinding.json")),
    ("Secret", include_str!("../objects/Secret.json")),
    ("Service", include_str!("../objects/Service.json")),
    ("ServiceAccount", include_str!("../objects/ServiceAccount.json")),
];

impl Bench {
    fn create(&mut self, object: Value) {
        let kind = object["kind"].as_str().and_then(Kind::from_name).expect("a kind of ours");
        let namespace = if kind.is_namespaced() { "default" } else { "" }.to_owned();
        let request = Request::Create { kind, namespace, object, options: options() };
        self.submit(&request).unwrap_or_else(|rejection| panic!("{kind}: {rejection}"));
    }

    /// Decides a request, and applies what it comes to.
    pub(crate) fn submit(&mut self, request: &Request) -> Result<Effect, Rejection> {
        let uid = self.uids.get() + 1;
        self.uids.set(uid);
        let fresh = Uid::from_uuid(uuid::Uuid::from_u128(uid));
        let caller = Caller::Admin { name: "fuzz".to_owned() };
        let effect = decide(&self.world, &caller, request, NOW, fresh)?;
        if let Some(proposal) = &effect.proposal {
            let txn = proposal.to_txn();
            assert_eq!(txn.defect(), None, "a transaction is well-formed");
            let revision = Revision(self.world.revision().0 + 1);
            let change = |write| match write {
                Write::Delete { key, .. } => RecordChange { key, value: None },
                Write::Put { key, value, .. } => RecordChange { key, value: Some(value) },
            };
            let changes = txn.writes.into_iter().map(change).collect();
            self.world.apply(&Batch { revision, changes });
        }
        Ok(effect)
    }

    /// The object as the world holds it.
    pub(crate) fn value(&self, key: &Key) -> Option<Value> {
        Some(self.world.get(key)?.object.to_value())
    }
}

/// Unknown fields are dropped, so that what lies behind them is looked at too.
pub(crate) fn options() -> WriteOptions {
    WriteOptions { validation: FieldValidation::Ignore, ..WriteOptions::default() }
}

/// Checks that a refusal of an input is told in few words. The input was not taken.
pub(crate) fn is_short(rejection: &Rejection, input: &[u8]) -> bool {
    let length = rejection.to_string().len();
    assert!(length <= REFUSAL_BYTES_MAX + 4 * input.len(), "a refusal of {length} bytes");
    false
}

/// The kind that the first word of an input names, and what comes after its line.
pub(crate) fn kind_of(input: &[u8]) -> (Kind, &[u8]) {
    let (line, rest) = first_line(input);
    let index = line.iter().map(|byte| usize::from(*byte)).sum::<usize>() % Kind::ALL.len();
    let word = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    let kind = std::str::from_utf8(word).ok().and_then(Kind::from_name);
    (kind.unwrap_or(Kind::ALL[index]), rest)
}

/// The first line of an input, and the rest.
pub(crate) fn first_line(input: &[u8]) -> (&[u8], &[u8]) {
    match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &[]),
    }
}
