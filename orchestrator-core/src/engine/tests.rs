//! What the engine must not forget between its inputs.

use super::*;
use crate::model::Object;
use crate::model::{Node, NodeCondition, ObjectMeta, Part, Pod, Quantity, Resource};
use crate::scheduler::FilterScore;
use crate::store::{RecordChange, RecordKey};
use crate::world::encode;

/// A batch that records objects whole.
fn batch(revision: u64, objects: &[Object]) -> Batch {
    let changes = objects.iter().flat_map(|object| {
        [Part::Main, Part::Status].map(|part| RecordChange {
            key: RecordKey { object: object.key(), part },
            value: Some(encode(object, part)),
        })
    });
    Batch { revision: Revision(revision), changes: changes.collect() }
}

fn node() -> Node {
    let mut node = Node { metadata: ObjectMeta::named("", "n1"), ..Node::default() };
    node.status.allocatable.insert("cpu".to_owned(), Quantity::from_units(4));
    node.status.allocatable.insert("memory".to_owned(), Quantity::from_bytes(1 << 30));
    node.status.allocatable.insert("pods".to_owned(), Quantity::from_units(10));
    node.status.conditions =
        vec![NodeCondition { kind: "Ready".to_owned(), status: true.into(), ..Default::default() }];
    node
}

fn commits(engine: &mut Engine, now: Timestamp) -> Vec<(Ticket, Txn)> {
    let mut commits = Vec::new();
    while let Some(output) = engine.poll_output(now) {
        if let Output::Commit { ticket, txn } = output {
            commits.push((ticket, txn));
        }
    }
    commits
}

#[test]
fn l4_a_pod_whose_commit_conflicted_is_tried_again_though_nothing_comes_after() {
    let now = Timestamp::from_millis(1_700_000_000_000);
    let mut cordoned = node();
    cordoned.spec.unschedulable = true;
    let pod = Pod::new("web", "nginx");
    let mut world = World::default();
    world.apply(&batch(1, &[cordoned.into(), pod.clone().into()]));
    let mut engine = Engine::new(world, Arc::new(FilterScore::default()), Vec::new(), now);
    let is_of = |txn: &Txn, key: &Key| txn.writes.iter().any(|write| write.key().object == *key);
    let first = commits(&mut engine, now);
    let why = first.iter().find(|(_, txn)| is_of(txn, &pod.key()));
    let (ticket, _) = why.expect("it is told why it has no node").clone();

    // Somebody else writes the pod's status, and the node takes pods again, before the fate of the commit is known.
    let mut touched = pod.clone();
    touched.status.message = "touched".to_owned();
    engine.handle_batch(&batch(2, &[touched.into(), node().into()]));
    let again = commits(&mut engine, now);
    let conflict = CommitOutcome::Conflict {
        key: RecordKey { object: pod.key(), part: Part::Status },
        current: Some(Revision(2)),
    };
    engine.handle_committed(ticket, conflict.clone(), Revision(2), now);
    for (ticket, _) in again.iter().filter(|(_, txn)| is_of(txn, &pod.key())) {
        engine.handle_committed(*ticket, conflict.clone(), Revision(2), now);
    }
    let last = commits(&mut engine, now);
    assert!(last.iter().any(|(_, txn)| is_of(txn, &pod.key())), "it is bound: {last:?}");
}

#[test]
fn a_pod_is_said_to_be_scheduled_once_its_bind_is_seen_and_not_before() {
    let now = Timestamp::from_millis(1_700_000_000_000);
    let pod = Pod::new("web", "nginx");
    let mut world = World::default();
    world.apply(&batch(1, &[node().into(), pod.clone().into()]));
    let mut engine = Engine::new(world, Arc::new(FilterScore::default()), Vec::new(), now);
    let told = |commits: &[(Ticket, Txn)]| -> Vec<String> {
        let writes = commits.iter().flat_map(|(_, txn)| &txn.writes);
        let events = writes.filter(|write| write.key().object.kind == Kind::Event);
        events.map(|write| format!("{write:?}")).collect()
    };
    let first = commits(&mut engine, now);
    assert_eq!(told(&first), [""; 0], "nobody knows yet whether the bind succeeds");
    let (ticket, _) = first[0].clone();
    engine.handle_committed(ticket, CommitOutcome::Committed(Revision(2)), Revision(2), now);
    let mut bound = pod;
    bound.node_name = "n1".to_owned();
    engine.handle_batch(&batch(2, &[bound.into()]));
    let events = told(&commits(&mut engine, now));
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].contains("Scheduled"), "{events:?}");
    assert!(events[0].contains("Successfully assigned default/web to n1"), "{events:?}");
}
