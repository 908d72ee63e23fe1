//! Commits as etcd's transactions, and etcd's answers as outcomes. Pure.
//!
//! Each precondition is a comparison of the record's `mod_revision`, which is 0 for a record that is not there; one more demands
//! that the fence is where the writer last saw it. If all hold, the writes happen in their order and the head after them, which
//! holds how many they were. If not, the same transaction reads every record that was compared, so that the conflict told is the
//! one that happened. A transaction without writes reads the head instead.

use bytes::Bytes;
use orchestrator_core::model::Revision;
use orchestrator_core::store::{
    CommitOutcome, Expect, RecordKey, TXN_GUARDS_MAX, TXN_WRITES_MAX, Txn, Write,
};

use crate::layout::Layout;
use crate::wire::{
    Compare, DeleteRangeRequest, KeyValue, Operation, PutRequest, RangeRequest, Relation,
    RequestOp, Target, TxnRequest, TxnResponse,
};

/// The most comparisons, and the most steps on either side, that etcd takes unless told otherwise (`--max-txn-ops`).
const TXN_OPS_MAX: usize = 128;
// One more than the preconditions for the fence, and one more than the writes for the head.
const _: () = assert!(TXN_GUARDS_MAX + TXN_WRITES_MAX < TXN_OPS_MAX);

/// What is wrong when a transaction does not find the fence.
pub(crate) const FENCE_IS_GONE: &str = "the fence is gone: somebody has deleted the state's keys";
/// What is wrong when a transaction does not find the head.
pub(crate) const HEAD_IS_GONE: &str = "the head is gone: somebody has deleted the state's keys";

/// The fence as a writer last saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fence(pub i64);

/// What etcd's answer to a commit means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The transaction's fate.
    Outcome(CommitOutcome),
    /// Nothing was written, because somebody has moved the fence: it is to be tried again with the fence as it is now.
    Fenced(KeyValue),
    /// The state in etcd is not what it must be.
    Damaged(&'static str),
}

/// Makes etcd's transaction of a commit.
///
/// # Errors
/// Why there is none: a name that cannot be a key.
pub(crate) fn request(layout: &Layout, txn: &Txn, fence: Fence) -> Result<TxnRequest, String> {
    let mut compare = vec![at(layout.fence(), fence.0)];
    let mut failure = vec![read(layout.fence())];
    for (key, expect) in preconditions(txn) {
        let key = layout.record(key)?;
        compare.push(expectation(layout, key.clone(), expect));
        let range = RangeRequest { key, keys_only: true, ..RangeRequest::default() };
        failure.push(step(Operation::Range(range)));
    }
    let mut success = Vec::new();
    for write in &txn.writes {
        let key = layout.record(write.key())?;
        success.push(match write {
            Write::Delete { .. } => {
                step(Operation::DeleteRange(DeleteRangeRequest { key, range_end: Bytes::new() }))
            }
            Write::Put { value, .. } => put(key, value.clone()),
        });
    }
    success.push(match txn.writes.len() {
        0 => read(layout.head()),
        changes => put(layout.head(), changes.to_string().into()),
    });
    Ok(TxnRequest { compare, success, failure })
}

/// Says what etcd's answer means for a commit that demanded `fence`.
pub(crate) fn answer(layout: &Layout, txn: &Txn, fence: Fence, response: TxnResponse) -> Answer {
    if response.succeeded {
        return committed(layout, txn, &response)
            .map_or(Answer::Damaged(HEAD_IS_GONE), |revision| {
                Answer::Outcome(CommitOutcome::Committed(revision))
            });
    }
    let mut found = response.responses.into_iter().map(|step| step.range?.kvs.into_iter().next());
    let Some(Some(now)) = found.next() else { return Answer::Damaged(FENCE_IS_GONE) };
    for ((key, expect), found) in preconditions(txn).zip(found) {
        let current = found.map(|record| layout.revision(record.mod_revision));
        if !holds(expect, current) {
            return Answer::Outcome(CommitOutcome::Conflict { key: key.clone(), current });
        }
    }
    if Fence(now.mod_revision) == fence {
        return Answer::Damaged("a transaction failed though all it demands is so");
    }
    Answer::Fenced(now)
}

/// The transaction that reads the fence and the head.
pub(crate) fn look(layout: &Layout) -> TxnRequest {
    TxnRequest {
        compare: Vec::new(),
        success: vec![read(layout.fence()), read(layout.head())],
        failure: Vec::new(),
    }
}

/// The transaction that begins a state where there is none, or reads the fence of one that is there.
pub(crate) fn begin(layout: &Layout, format: Bytes) -> TxnRequest {
    TxnRequest {
        compare: vec![at(layout.fence(), 0)],
        success: vec![put(layout.head(), "0".into()), put(layout.fence(), format)],
        failure: vec![read(layout.fence())],
    }
}

/// The transaction that takes every record of a state away that was not filled to its end, and begins it again.
pub(crate) fn begin_again(layout: &Layout, fence: Fence, format: Bytes) -> TxnRequest {
    // What comes after the head.
    let (key, range_end) = (layout.with_suffix(b"\0"), layout.end());
    let records = DeleteRangeRequest { key, range_end };
    let success = vec![
        step(Operation::DeleteRange(records)),
        put(layout.head(), "0".into()),
        put(layout.fence(), format),
    ];
    TxnRequest {
        compare: vec![at(layout.fence(), fence.0)],
        success,
        failure: vec![read(layout.fence())],
    }
}

/// The transaction that moves the fence from where it was last seen, or reads where it is.
pub(crate) fn move_fence(layout: &Layout, fence: Fence, format: Bytes) -> TxnRequest {
    TxnRequest {
        compare: vec![at(layout.fence(), fence.0)],
        success: vec![put(layout.fence(), format)],
        failure: vec![read(layout.fence())],
    }
}

/// The transaction that moves the fence if nothing was committed after etcd's revision `head`.
pub(crate) fn move_fence_at(layout: &Layout, fence: Fence, head: i64, format: Bytes) -> TxnRequest {
    let mut request = move_fence(layout, fence, format);
    request.compare.push(at(layout.head(), head));
    request
}

/// Whether a record that was last written by `current` is as expected.
pub(crate) fn holds(expect: Expect, current: Option<Revision>) -> bool {
    match expect {
        Expect::Absent => current.is_none(),
        Expect::At(revision) => current == Some(revision),
    }
}

/// Guards in order, then writes in order: how conflicts are looked for.
fn preconditions(txn: &Txn) -> impl Iterator<Item = (&RecordKey, Expect)> {
    let guards = txn.guards.iter().map(|guard| (&guard.key, guard.expect));
    guards.chain(txn.writes.iter().map(|write| (write.key(), write.expect())))
}

fn expectation(layout: &Layout, key: Bytes, expect: Expect) -> Compare {
    match expect {
        Expect::Absent => at(key, 0),
        Expect::At(revision) => match layout.of_etcd(revision) {
            // What is not there has revision 0, and no record has it.
            ..=0 => compare(key, Relation::Less, 0),
            of_etcd => at(key, of_etcd),
        },
    }
}

fn committed(layout: &Layout, txn: &Txn, response: &TxnResponse) -> Option<Revision> {
    if !txn.writes.is_empty() {
        return Some(layout.revision(response.header.as_ref()?.revision));
    }
    let head = response.responses.first()?.range.as_ref()?.kvs.first()?;
    Some(layout.revision(head.mod_revision))
}

fn at(key: Bytes, mod_revision: i64) -> Compare {
    compare(key, Relation::Equal, mod_revision)
}

fn compare(key: Bytes, relation: Relation, mod_revision: i64) -> Compare {
    Compare {
        result: relation.into(),
        target: Target::Mod.into(),
        key,
        mod_revision: Some(mod_revision),
    }
}

fn put(key: Bytes, value: Bytes) -> RequestOp {
    step(Operation::Put(PutRequest { key, value }))
}

fn read(key: Bytes) -> RequestOp {
    step(Operation::Range(RangeRequest { key, ..RangeRequest::default() }))
}

const fn step(operation: Operation) -> RequestOp {
    RequestOp { request: Some(operation) }
}

#[cfg(test)]
mod tests {
    use orchestrator_core::model::Key;
    use orchestrator_core::store::Guard;

    use super::*;
    use crate::wire::{RangeResponse, ResponseHeader, ResponseOp};

    const FENCE: Fence = Fence(3);

    fn key(n: usize) -> RecordKey {
        RecordKey::main(Key::pod("default", &format!("p{n}")))
    }

    /// A guard on record 0, a new record 1, and record 2 deleted.
    fn txn() -> Txn {
        let new = Write::Put { key: key(1), expect: Expect::Absent, value: "v".into() };
        let writes = vec![new, Write::Delete { key: key(2), expect: Revision(8) }];
        Txn { guards: vec![Guard { key: key(0), expect: Expect::At(Revision(7)) }], writes }
    }

    /// What a failed transaction reads: the fence, then records by their revisions, 0 for none.
    fn failed(revisions: [i64; 4]) -> TxnResponse {
        let step = |mod_revision| {
            let found = KeyValue { mod_revision, ..KeyValue::default() };
            let kvs = if mod_revision == 0 { vec![] } else { vec![found] };
            ResponseOp { range: Some(RangeResponse { kvs, ..RangeResponse::default() }) }
        };
        TxnResponse { responses: revisions.map(step).into(), ..TxnResponse::default() }
    }

    #[test]
    fn a_commit_is_one_transaction_that_ends_with_the_head() {
        let layout = Layout::new("/a");
        let TxnRequest { compare, success, failure } =
            request(&layout, &txn(), FENCE).expect("good names");
        let revisions: Vec<_> = compare.iter().map(|it| it.mod_revision).collect();
        assert_eq!(revisions, [Some(3), Some(7), Some(0), Some(8)]);
        assert_eq!((success.len(), failure.len()), (3, 4));
        assert_eq!(success.last(), Some(&put(layout.head(), "2".into())));
    }

    #[test]
    fn a_conflict_names_the_first_offender_also_when_the_fence_has_moved() {
        let cases = [
            ([3, 9, 9, 9], 0, Some(9)),
            ([4, 7, 9, 9], 1, Some(9)),
            ([3, 7, 0, 0], 2, None),
            ([4, 0, 0, 8], 0, None),
        ];
        for (found, n, current) in cases {
            let current = current.map(Revision);
            let conflict = Answer::Outcome(CommitOutcome::Conflict { key: key(n), current });
            assert_eq!(
                answer(&Layout::new("/a"), &txn(), FENCE, failed(found)),
                conflict,
                "{found:?}"
            );
        }
        let fenced = answer(&Layout::new("/a"), &txn(), FENCE, failed([4, 7, 0, 8]));
        assert!(matches!(fenced, Answer::Fenced(KeyValue { mod_revision: 4, .. })), "{fenced:?}");
        for damaged in [[0, 7, 0, 8], [3, 7, 0, 8]] {
            let answer = answer(&Layout::new("/a"), &txn(), FENCE, failed(damaged));
            assert!(matches!(answer, Answer::Damaged(_)), "{answer:?}");
        }
    }

    #[test]
    fn no_record_has_revision_zero() {
        let Compare { result, mod_revision, .. } =
            expectation(&Layout::new("/a"), "k".into(), Expect::At(Revision::ZERO));
        assert_eq!((result, mod_revision), (Relation::Less.into(), Some(0)));
    }

    #[test]
    fn a_commit_has_the_revision_of_its_transaction() {
        let header = Some(ResponseHeader { cluster_id: 1, revision: 12 });
        let response = TxnResponse { header, succeeded: true, responses: vec![] };
        let committed = Answer::Outcome(CommitOutcome::Committed(Revision(12)));
        assert_eq!(answer(&Layout::new("/a"), &txn(), FENCE, response), committed);
    }
}
