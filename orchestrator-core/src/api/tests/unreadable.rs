//! What cannot be read is neither taken for absent nor in the way for ever (S11).

use super::*;
use crate::store::{Page, Quarantined, Record};

/// A world as it is loaded with a config map and its status in it, of which the main record is damaged.
fn with_a_damaged_map() -> (Bench, Key) {
    let (mut bench, map) = with_a_status();
    let damaged = [RecordKey::main(map.clone()), RecordKey::status(map.clone())];
    load(&mut bench, &damaged);
    (bench, map)
}

/// A world with a config map that has a status.
fn with_a_status() -> (Bench, Key) {
    let mut bench = Bench::new();
    bench.create(Kind::ConfigMap, "default", map());
    let map = key(Kind::ConfigMap, "map");
    let main = bench.records[&RecordKey::main(map.clone())];
    bench.records.insert(RecordKey::status(map.clone()), main);
    (bench, map)
}

/// Loads a world anew, in which records are damaged.
fn load(bench: &mut Bench, damaged: &[RecordKey]) {
    let unread = damaged.iter().map(|key| Quarantined {
        key: key.to_string(),
        reason: "checksum does not match".to_owned(),
        revision: Some(bench.records[key]),
    });
    let read = bench.world.iter().map(|(key, stored)| Record {
        key: RecordKey::main(key.clone()),
        revision: stored.main,
        value: crate::world::encode(&stored.object, Part::Main),
    });
    let page = Page {
        revision: bench.world.revision(),
        records: read.filter(|record| !damaged.contains(&record.key)).collect(),
        quarantined: unread.collect(),
        next: None,
    };
    bench.world = World::from_pages([page]);
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

#[test]
fn s11_what_cannot_be_read_is_not_deleted_by_who_wants_to_keep_what_it_owns() {
    let (mut bench, key) = with_a_damaged_map();
    let orphan = DeleteOptions { cascade: Cascade::Orphan, ..DeleteOptions::default() };
    assert!(bench.refuse(&delete(&key, orphan)).contains("without orphaning"));
    assert_eq!(bench.world.quarantined().count(), 2);
}

#[test]
fn s11_an_object_whose_status_alone_cannot_be_read_is_there_and_goes_with_it() {
    let (mut bench, key) = with_a_status();
    load(&mut bench, &[RecordKey::status(key.clone())]);
    assert_eq!(bench.get(&key).key(), key);
    let effect = bench.submit(&delete(&key, DeleteOptions::default())).expect("valid");
    assert!(effect.deleted);
    assert_eq!((bench.world.get(&key), bench.world.quarantined().count()), (None, 0));
    assert!(!bench.records.contains_key(&RecordKey::status(key)), "nothing is left");
}
