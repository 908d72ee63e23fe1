//! What must be true of a world and is not: looked at from outside, as `orchd check` does, and never by those who decide.
//!
//! Pure. The numbers are those of the invariants. What may be so for a moment, between two commits, is no defect.

use std::collections::BTreeMap;

use crate::model::{Key, Kind, Node, Pod, Resource, Uid};
use crate::scheduler::Demand;
use crate::world::World;

/// The most defects that are listed; whoever sees so many needs not see more.
pub const DEFECTS_MAX: usize = 1_000;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    /// The invariant that is broken.
    pub invariant: &'static str,
    /// The object that is to blame, as far as one is.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
}

/// Lists what is wrong with a world, at most [`DEFECTS_MAX`].
pub fn defects(world: &World) -> Vec<Defect> {
    let mut found = unreadable(world);
    found.extend(one_uid_each(world));
    found.extend(one_controller_each(world));
    found.extend(one_pod_a_slot(world));
    found.extend(within_capacity(world));
    found.truncate(DEFECTS_MAX);
    found
}

/// S11: every record can be read.
fn unreadable(world: &World) -> Vec<Defect> {
    let defect = |(key, reason): (&String, &String)| Defect {
        invariant: "S11",
        key: key.clone(),
        what: format!("cannot be read: {reason}"),
    };
    world.quarantined().map(defect).collect()
}

/// S5: a uid is one life of one object.
fn one_uid_each(world: &World) -> Vec<Defect> {
    let mut owners: BTreeMap<Uid, &Key> = BTreeMap::new();
    let mut found = Vec::new();
    for kind in Kind::ALL.into_iter().chain(world.custom_kinds_kept()) {
        for (key, stored) in world.list(kind, None) {
            if let Some(other) = owners.insert(stored.object.meta().uid, key) {
                let what = format!("has the uid of {other}");
                found.push(Defect { invariant: "S5", key: key.to_string(), what });
            }
        }
    }
    found
}

/// S23: an object has at most one controller.
fn one_controller_each(world: &World) -> Vec<Defect> {
    let mut found = Vec::new();
    for kind in Kind::ALL {
        for (key, stored) in world.list(kind, None) {
            let owners = &stored.object.meta().owner_references;
            let controllers = owners.iter().filter(|owner| owner.controller).count();
            if controllers > 1 {
                let what = format!("has {controllers} controllers");
                found.push(Defect { invariant: "S23", key: key.to_string(), what });
            }
        }
    }
    found
}

/// S26: a replica set has at most one pod that lives in each slot.
fn one_pod_a_slot(world: &World) -> Vec<Defect> {
    let mut slots: BTreeMap<(Uid, &str), Key> = BTreeMap::new();
    let mut found = Vec::new();
    for pod in world.all::<Pod>(None).filter(|pod| pod.is_active()) {
        let slot = pod.metadata.annotations.get(crate::model::SLOT_ANNOTATION);
        if let (Some(owner), Some(slot)) = (pod.metadata.controller(), slot)
            && let Some(other) = slots.insert((owner.uid, slot.as_str()), pod.key())
        {
            let what = format!("is in slot {slot} of {:?}, as {other} is", owner.name);
            found.push(Defect { invariant: "S26", key: pod.key().to_string(), what });
        }
    }
    found
}

/// S12: the pods of a node ask for no more than it has.
fn within_capacity(world: &World) -> Vec<Defect> {
    let mut found = Vec::new();
    for node in world.all::<Node>(None) {
        let pods = world.pods_on(&node.metadata.name).filter(|pod| !pod.is_finished());
        let mut asked: BTreeMap<String, i128> = BTreeMap::new();
        for pod in pods {
            *asked.entry("pods".to_owned()).or_default() += 1_000;
            for (name, quantity) in Demand::of(pod).to_resources() {
                if name != "pods" {
                    *asked.entry(name).or_default() += i128::from(quantity.milli());
                }
            }
        }
        for (name, asked) in asked {
            // A node that has not said yet what it has is judged when it has.
            let has = node.status.allocatable.get(&name).map(|has| has.milli());
            if let Some(has) = has.filter(|has| asked > i128::from(*has)) {
                let what = format!(
                    "its pods ask for {name} {} and it has {}",
                    thousandths(asked),
                    thousandths(i128::from(has))
                );
                found.push(Defect { invariant: "S12", key: node.key().to_string(), what });
            }
        }
    }
    found
}

fn thousandths(milli: i128) -> String {
    match (milli / 1_000, milli % 1_000) {
        (whole, 0) => whole.to_string(),
        (whole, rest) => format!("{whole}.{rest:03}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Object, ObjectMeta, OwnerReference, Part, Quantity, Revision, SLOT_ANNOTATION,
    };
    use crate::store::{Page, Quarantined, Record, RecordKey};
    use crate::world::encode;

    fn uid(name: &str) -> Uid {
        Uid::derived(Uid::default(), name, Revision(1))
    }

    fn pod(name: &str, cpu_milli: i64) -> Pod {
        let mut pod = Pod::new(name, "nginx");
        let resources = &mut std::sync::Arc::make_mut(&mut pod.spec).containers[0].resources;
        resources.requests.insert("cpu".to_owned(), Quantity::from_milli(cpu_milli));
        pod.metadata.uid = uid(name);
        pod.node_name = "n1".to_owned();
        pod
    }

    fn node() -> Node {
        let mut node = Node { metadata: ObjectMeta::named("", "n1"), ..Node::default() };
        node.metadata.uid = uid("n1");
        node.status.allocatable.insert("cpu".to_owned(), Quantity::from_milli(1_000));
        node.status.allocatable.insert("pods".to_owned(), Quantity::from_milli(2_000));
        node
    }

    fn world(objects: Vec<Object>, quarantined: Vec<Quarantined>) -> World {
        let mut records = Vec::new();
        for object in objects {
            for part in [Part::Main, Part::Status] {
                let key = RecordKey { object: object.key(), part };
                let value = encode(&object, part);
                records.push(Record { key, revision: Revision(1), value });
            }
        }
        records.sort_by(|a, b| a.key.cmp(&b.key));
        World::from_pages([Page { revision: Revision(1), records, quarantined, next: None }])
    }

    fn invariants(world: &World) -> Vec<&'static str> {
        defects(world).into_iter().map(|defect| defect.invariant).collect()
    }

    #[test]
    fn a_sound_world_has_no_defects() {
        let objects = vec![node().into(), pod("a", 500).into(), pod("b", 500).into()];
        assert_eq!(defects(&world(objects, vec![])), []);
    }

    #[test]
    fn each_defect_is_told_with_its_invariant() {
        let too_much = vec![node().into(), pod("a", 500).into(), pod("b", 501).into()];
        assert_eq!(invariants(&world(too_much, vec![])), ["S12"]);
        let too_many =
            vec![node().into(), pod("a", 0).into(), pod("b", 0).into(), pod("c", 0).into()];
        let found = defects(&world(too_many, vec![]));
        assert_eq!(found[0].what, "its pods ask for pods 3 and it has 2");

        let same_uid = Pod {
            metadata: ObjectMeta { uid: pod("a", 0).metadata.uid, ..pod("b", 0).metadata },
            ..pod("b", 0)
        };
        assert_eq!(invariants(&world(vec![pod("a", 0).into(), same_uid.into()], vec![])), ["S5"]);

        let owner = OwnerReference {
            controller: true,
            name: "web".into(),
            uid: uid("owner"),
            ..OwnerReference::default()
        };
        let slotted = |name| {
            let mut pod = pod(name, 0);
            pod.metadata.owner_references.push(owner.clone());
            pod.metadata.annotations.insert(SLOT_ANNOTATION.to_owned(), "0".to_owned());
            pod
        };
        let both = vec![slotted("a").into(), slotted("b").into()];
        assert_eq!(invariants(&world(both, vec![])), ["S26"]);
        let mut torn = slotted("a");
        torn.metadata.owner_references.push(OwnerReference { uid: uid("other"), ..owner.clone() });
        assert_eq!(invariants(&world(vec![torn.into()], vec![])), ["S23"]);

        let lost = Quarantined {
            key: "Secret/a/b".to_owned(),
            reason: "no key".to_owned(),
            revision: None,
        };
        assert_eq!(invariants(&world(vec![], vec![lost])), ["S11"]);
    }
}
