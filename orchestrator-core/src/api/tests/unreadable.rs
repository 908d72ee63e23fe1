//! What cannot be read is neither taken for absent nor in the way for ever (S11).

use super::*;
use crate::store::{Page, Quarantined};

/// A world as it is loaded with a config map and its status in it, of which the main record is damaged.
fn with_a_damaged_map() -> (Bench, Key) {
    let mut bench = Bench::new();
    bench.create(Kind::ConfigMap, "default", map());
    let map = key(Kind::ConfigMap, "map");
    let quarantined = |key: RecordKey, revision| Quarantined {
        key: key.to_string(),
        reason: "checksum does not match".to_owned(),
        revision: Some(revision),
    };
    let main = RecordKey::main(map.clone());
    let status = RecordKey::status(map.clone());
    bench.records.insert(status.clone(), bench.records[&main]);
    let damaged = [main, status].map(|key| quarantined(key.clone(), bench.records[&key]));
    let (revision, namespace) = (bench.world.revision(), Key::cluster(Kind::Namespace, "default"));
    let stored = bench.world.get(&namespace).expect("there");
    let value = crate::world::encode(&stored.object, Part::Main);
    let record =
        crate::store::Record { key: RecordKey::main(namespace), revision: stored.main, value };
    let page = Page { revision, records: vec![record], quarantined: damaged.into(), next: None };
    bench.world = World::from_pages([page]);
    (bench, map)
}

fn map() -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "map" } })
}

#[test]
fn s11_what_cannot_be_read_is_not_made_a_second_time_and_not_changed() {
    let (mut bench, key) = with_a_damaged_map();
    for request in [
        create(Kind::ConfigMap, "default", map()),
        apply(&key, map()),
        merge(&key, json!({ "data": { "a": "b" } })),
        update(&key, Part::Main, map()),
    ] {
        let said = bench.refuse(&request);
        assert!(said.contains("\"map\" cannot be read: checksum"), "{request:?}: {said}");
    }
}

#[test]
fn s11_what_cannot_be_read_goes_when_it_is_deleted_by_name_and_can_be_made_anew() {
    let (mut bench, key) = with_a_damaged_map();
    let dry = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
    assert_eq!(bench.submit(&delete(&key, dry)).expect("valid").proposal, None);
    let effect = bench.submit(&delete(&key, DeleteOptions::default())).expect("valid");
    assert!(effect.deleted && effect.reply.key() == key, "{effect:?}");
    assert_eq!(bench.world.quarantined().count(), 0);
    bench.create(Kind::ConfigMap, "default", map());
    assert_eq!(bench.get(&key).key(), key);
}

#[test]
fn s11_nobody_deletes_what_cannot_be_read_for_what_it_should_be() {
    let (mut bench, key) = with_a_damaged_map();
    let preconditions = Preconditions { uid: None, revision: Some(Revision(2)) };
    let pinned = DeleteOptions { preconditions, ..DeleteOptions::default() };
    assert!(bench.refuse(&delete(&key, pinned)).contains("cannot be read"));
    bench.caller = Caller::Node { name: "n1".to_owned() };
    bench.refuse(&delete(&key, DeleteOptions::default()));
}
