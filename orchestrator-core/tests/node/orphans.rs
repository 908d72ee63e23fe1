//! What a list of pods proves (S19), and how many finished pods are kept.

use std::collections::BTreeSet;

use orchestrator_core::model::*;
use orchestrator_core::node::*;
use orchestrator_core::runtime::*;

fn uid(number: u64) -> Uid {
    Uid::derived(Uid::default(), "pod", Revision(number))
}

fn observed(pods: std::ops::Range<u64>, state: &ContainerRunState) -> Vec<SandboxObservation> {
    let sandbox = |number| {
        let scope = Scope { cluster: "c".to_owned(), node: "n1".to_owned() };
        let key = SandboxKey { scope, pod: uid(number), attempt: 0 };
        let container = ContainerObservation {
            key: ContainerKey { sandbox: key.clone(), name: "main".to_owned(), attempt: 0 },
            id: String::new(),
            image: String::new(),
            image_id: String::new(),
            state: state.clone(),
        };
        SandboxObservation {
            key,
            namespace: "default".to_owned(),
            name: format!("pod-{number}"),
            ready: true,
            ip: None,
            created_at: None,
            containers: vec![container],
        }
    };
    pods.map(sandbox).collect()
}

fn running(pods: std::ops::Range<u64>) -> Vec<SandboxObservation> {
    observed(pods, &ContainerRunState::Running { started_at: None })
}

fn list(epoch: u64, revision: u64, pods: std::ops::Range<u64>) -> CompleteList {
    CompleteList { epoch, revision: Revision(revision), pods: pods.map(uid).collect() }
}

fn set(pods: std::ops::Range<u64>) -> BTreeSet<Uid> {
    pods.map(uid).collect()
}

#[test]
fn a_pod_that_a_complete_list_does_not_name_is_gone() {
    let mut guard = OrphanGuard::default();
    assert_eq!(guard.gone(&running(0..5), &list(1, 10, 1..5)), set(0..1));
    assert_eq!(guard.gone(&running(1..5), &list(1, 11, 1..5)), set(0..0));
}

#[test]
fn a_list_older_than_one_heard_before_proves_nothing() {
    let mut guard = OrphanGuard::default();
    guard.gone(&running(0..5), &list(1, 10, 0..5));
    assert_eq!(guard.gone(&running(0..5), &list(1, 9, 0..4)), set(0..0));
}

#[test]
fn more_than_half_of_the_pods_end_only_on_a_second_list() {
    let mut guard = OrphanGuard::default();
    assert_eq!(guard.gone(&running(0..6), &list(1, 10, 0..2)), set(0..0));
    assert!(guard.wants_another_list(&running(0..6)));
    assert_eq!(guard.gone(&running(0..6), &list(1, 10, 0..2)), set(2..6));

    let mut guard = OrphanGuard::default();
    guard.gone(&running(0..6), &list(1, 10, 0..0));
    assert_eq!(guard.gone(&running(0..6), &list(1, 11, 0..6)), set(0..0), "they came back");
    assert_eq!(guard.gone(&running(0..6), &list(1, 12, 0..0)), set(0..0), "not in a row");
}

#[test]
fn a_pod_or_two_are_no_mass_and_half_is_not_more_than_half() {
    assert_eq!(OrphanGuard::default().gone(&running(0..2), &list(1, 1, 0..0)), set(0..2));
    assert_eq!(OrphanGuard::default().gone(&running(0..8), &list(1, 1, 4..8)), set(0..4));
}

#[test]
fn another_history_needs_a_second_list_even_for_one_pod() {
    let mut guard = OrphanGuard::default();
    guard.gone(&running(0..5), &list(1, 10, 0..5));
    assert_eq!(guard.gone(&running(0..5), &list(2, 1, 0..4)), set(0..0));
    assert_eq!(guard.gone(&running(0..5), &list(2, 1, 0..4)), set(4..5));
}

#[test]
fn gone_pods_are_stopped_before_they_are_removed() {
    let sandboxes = running(0..1);
    let ops = orphan_removal(&sandboxes.iter().collect::<Vec<_>>());
    assert!(matches!(&ops[0], RuntimeOp::Stop { grace_ms: ORPHAN_GRACE_MS, .. }));
    assert!(matches!(&ops[1], RuntimeOp::RemoveSandbox(_)));
    assert_eq!(ops.len(), 2);
}

#[test]
fn the_finished_pods_that_ended_first_go_first() {
    let mut sandboxes = Vec::new();
    for number in 0..5_u64 {
        let finished_at = Some(Time::from_seconds(100 - i64::try_from(number).expect("small")));
        let exit = Exit { finished_at, ..Exit::default() };
        sandboxes.extend(observed(number..number + 1, &ContainerRunState::Exited(exit)));
    }
    let surplus = surplus_finished(&sandboxes, &set(0..4), 2);
    let pods: BTreeSet<Uid> = surplus.iter().map(|key| key.pod).collect();
    assert_eq!(pods, set(2..4), "the fifth is not finished, though it ended first");
}
