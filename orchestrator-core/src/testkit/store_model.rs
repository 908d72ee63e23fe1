//! A naive model of `StateStore`, and the property that a store cannot be told apart from it.
//!
//! Random sequences of transactions of 1 to 50 operations, listings, watches, compactions and reopenings run
//! on both; outcomes, errors, records and batches must be equal (S1, S3, S4, S6, S9).

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::store::{DurableStoreFixture, StoreFixture, load_all, record_key, stuck};
use crate::model::Revision;
use crate::store::{
    Batch, CommitOutcome, Expect, Guard, Record, RecordChange, RecordKey, StateStore, StoreError,
    Txn, Watch, Write,
};

/// The sequences that a run of the property tries.
const CASES: u32 = 48;
/// The records that the sequences are about.
const KEYS: usize = 64;
/// The most operations in a transaction.
const OPERATIONS_MAX: usize = 50;
/// The most steps in a sequence.
const STEPS_MAX: usize = 40;
/// The most watches open at once.
const WATCHES_MAX: usize = 4;

/// Runs the property on stores made by `make`; panics with the smallest sequence that breaks it.
pub fn agrees_with_model<F: StoreFixture>(make: impl Fn() -> F) {
    check(make, None);
}

/// Runs the property with reopenings in the sequences.
pub fn agrees_with_model_across_reopening<F: DurableStoreFixture>(make: impl Fn() -> F) {
    check(make, Some(|fixture, store| fixture.reopen(store)));
}

type Reopen<F> =
    for<'a> fn(
        &'a F,
        Arc<<F as StoreFixture>::Store>,
    ) -> Pin<Box<dyn Future<Output = Arc<<F as StoreFixture>::Store>> + Send + 'a>>;

fn check<F: StoreFixture>(make: impl Fn() -> F, reopen: Option<Reopen<F>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system gives a runtime");
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let steps = proptest::collection::vec(step(), 1..STEPS_MAX);
    let outcome = TestRunner::new(config).run(&steps, |steps| {
        let fixture = make();
        runtime.block_on(async {
            let store = fixture.fresh().await;
            let model = Model::new(store.revision().await.expect("open"));
            let mut pair = Pair { fixture: &fixture, model, reopen, store, watches: vec![] };
            for step in steps {
                pair.step(step).await?;
            }
            pair.step(Step::Load).await?;
            pair.step(Step::Follow).await
        })
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// One step of a sequence.
#[derive(Clone, Debug)]
enum Step {
    Commit(Plan),
    /// Compacts up to that many commits before the newest.
    Compact(usize),
    /// Reads every watch to the end.
    Follow,
    Load,
    Reopen,
    /// Opens a watch that many commits before the newest.
    Watch(usize),
}

/// A transaction, told by what its writer knows rather than by revisions.
#[derive(Clone, Debug)]
struct Plan {
    guards: Vec<(usize, Belief)>,
    writes: Vec<(usize, Belief, Option<Vec<u8>>)>,
    /// Whether every belief is to be replaced by the truth.
    well_informed: bool,
}

/// What the writer of a transaction believes about a record.
#[derive(Clone, Copy, Debug)]
enum Belief {
    Absent,
    /// It was written that many revisions ago.
    Ago(u64),
    Truth,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => plan().prop_map(Step::Commit),
        1 => (0..8_usize).prop_map(Step::Compact),
        2 => Just(Step::Follow),
        1 => Just(Step::Load),
        1 => Just(Step::Reopen),
        2 => (0..8_usize).prop_map(Step::Watch),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let value = proptest::option::weighted(0.7, proptest::collection::vec(any::<u8>(), 0..64));
    let write = (0..KEYS, belief(), value);
    let operations = prop_oneof![3 => 1..6_usize, 1 => 1..=OPERATIONS_MAX];
    let writes =
        operations.prop_flat_map(move |count| proptest::collection::vec(write.clone(), count));
    let guards = proptest::collection::vec((0..KEYS, belief()), 0..3);
    // Now and then a key twice, to be refused.
    let repeats = prop::bool::weighted(0.05);
    (guards, writes, prop::bool::weighted(0.8), repeats).prop_map(
        |(mut guards, mut writes, well_informed, repeats)| {
            if !repeats {
                let mut seen = [false; KEYS];
                let mut is_new = |key: usize| !std::mem::replace(&mut seen[key], true);
                guards.retain(|(key, _)| is_new(*key));
                writes.retain(|(key, ..)| is_new(*key));
            }
            Plan { guards, writes, well_informed }
        },
    )
}

fn belief() -> impl Strategy<Value = Belief> + Clone {
    prop_oneof![
        8 => Just(Belief::Truth),
        1 => Just(Belief::Absent),
        1 => (0..6_u64).prop_map(Belief::Ago),
    ]
}

/// What a store must look like from outside.
struct Model {
    batches: Vec<Batch>,
    begin: Revision,
    compacted: Revision,
    records: BTreeMap<RecordKey, (Revision, Bytes)>,
}

impl Model {
    fn new(begin: Revision) -> Self {
        Self { batches: vec![], begin, compacted: Revision::ZERO, records: BTreeMap::new() }
    }

    fn newest(&self) -> Revision {
        self.batches.last().map_or(self.begin, |batch| batch.revision)
    }

    /// The revision of that many commits before the newest.
    fn ago(&self, commits: usize) -> Revision {
        let index = self.batches.len().checked_sub(commits + 1);
        index.map_or(self.begin, |index| self.batches[index].revision)
    }

    fn current(&self, key: &RecordKey) -> Option<Revision> {
        self.records.get(key).map(|(revision, _)| *revision)
    }

    fn believe(&self, key: &RecordKey, belief: Belief) -> Expect {
        match belief {
            Belief::Absent => Expect::Absent,
            Belief::Ago(revisions) => {
                Expect::At(Revision(self.newest().0.saturating_sub(revisions)))
            }
            Belief::Truth => self.current(key).map_or(Expect::Absent, Expect::At),
        }
    }

    fn txn(&self, plan: &Plan) -> Txn {
        let believe = |key: &RecordKey, belief| {
            self.believe(key, if plan.well_informed { Belief::Truth } else { belief })
        };
        let guards = plan.guards.iter().map(|(n, belief)| {
            let key = record_key(*n);
            Guard { expect: believe(&key, *belief), key }
        });
        let writes = plan.writes.iter().map(|(n, belief, value)| {
            let key = record_key(*n);
            let expect = believe(&key, *belief);
            match (expect, value) {
                (Expect::At(expect), None) => Write::Delete { key, expect },
                (expect, value) => {
                    let value = Bytes::from(value.clone().unwrap_or_default());
                    Write::Put { key, expect, value }
                }
            }
        });
        Txn { guards: guards.collect(), writes: writes.collect() }
    }

    /// The outcome of `txn`, and if it commits its effect, at a revision that the store chose.
    fn commit(&mut self, txn: &Txn, chosen: Revision) -> CommitOutcome {
        let mut preconditions: Vec<_> =
            txn.guards.iter().map(|guard| (guard.key.clone(), guard.expect)).collect();
        preconditions.extend(txn.writes.iter().map(|write| (write.key().clone(), write.expect())));
        for (key, expect) in preconditions {
            let current = self.current(&key);
            let wanted = match expect {
                Expect::Absent => None,
                Expect::At(revision) => Some(revision),
            };
            if current != wanted {
                return CommitOutcome::Conflict { key, current };
            }
        }
        let mut changes = Vec::new();
        for write in &txn.writes {
            let key = write.key().clone();
            let value = match write {
                Write::Delete { .. } => None,
                Write::Put { value, .. } => Some(value.clone()),
            };
            match &value {
                None => _ = self.records.remove(&key),
                Some(value) => _ = self.records.insert(key.clone(), (chosen, value.clone())),
            }
            changes.push(RecordChange { key, value });
        }
        if changes.is_empty() {
            return CommitOutcome::Committed(self.newest());
        }
        self.batches.push(Batch { revision: chosen, changes });
        CommitOutcome::Committed(chosen)
    }

    fn next(&self, after: Revision) -> Option<&Batch> {
        self.batches.iter().find(|batch| batch.revision > after)
    }
}

/// The store and the model, side by side.
struct Pair<'a, F: StoreFixture> {
    fixture: &'a F,
    model: Model,
    reopen: Option<Reopen<F>>,
    store: Arc<F::Store>,
    watches: Vec<(Revision, Box<dyn Watch>)>,
}

impl<F: StoreFixture> Pair<'_, F> {
    async fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Commit(plan) => self.commit(&plan).await,
            Step::Compact(commits) => {
                let revision = self.model.ago(commits);
                self.fixture.compact(&self.store, revision).await;
                if revision > self.model.begin {
                    self.model.compacted = self.model.compacted.max(revision);
                }
                Ok(())
            }
            Step::Follow => self.follow().await,
            Step::Load => self.load().await,
            Step::Reopen => self.reopen().await,
            Step::Watch(commits) => self.watch(self.model.ago(commits)).await,
        }
    }

    async fn commit(&mut self, plan: &Plan) -> Result<(), TestCaseError> {
        let txn = self.model.txn(plan);
        let newest = self.model.newest();
        let outcome = stuck("commit", self.store.commit(txn.clone())).await;
        if txn.defect().is_some() {
            prop_assert!(matches!(outcome, Err(StoreError::Malformed { .. })), "{:?}", outcome);
            return Ok(());
        }
        let outcome = outcome.map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
        let chosen = match outcome {
            CommitOutcome::Committed(revision) => revision,
            CommitOutcome::Conflict { .. } | CommitOutcome::Unknown => Revision(newest.0 + 1),
        };
        prop_assert!(chosen > newest || txn.writes.is_empty(), "{} is used again", chosen);
        prop_assert_eq!(outcome, self.model.commit(&txn, chosen));
        let revision = self.store.revision().await.expect("open");
        prop_assert_eq!(revision, self.model.newest());
        Ok(())
    }

    async fn load(&mut self) -> Result<(), TestCaseError> {
        let wanted = self.model.records.iter().map(|(key, (revision, value))| Record {
            key: key.clone(),
            revision: *revision,
            value: value.clone(),
        });
        let wanted: Vec<_> = wanted.collect();
        prop_assert_eq!(load_all(&*self.store).await, (self.model.newest(), wanted));
        Ok(())
    }

    async fn watch(&mut self, after: Revision) -> Result<(), TestCaseError> {
        if self.watches.len() == WATCHES_MAX {
            self.watches.remove(0);
        }
        match stuck("watch", self.store.watch(after)).await {
            Ok(watch) => self.watches.push((after, watch)),
            Err(error) => self.compacted(after, &error)?,
        }
        Ok(())
    }

    /// Reads every watch until it has what the model has, or was rightly told that history is gone.
    async fn follow(&mut self) -> Result<(), TestCaseError> {
        for (mut after, mut watch) in std::mem::take(&mut self.watches) {
            let ended = loop {
                let Some(wanted) = self.model.next(after) else { break false };
                match stuck("watch", watch.next()).await {
                    Ok(batch) => {
                        prop_assert_eq!(&batch, wanted);
                        after = batch.revision;
                    }
                    Err(error) => {
                        self.compacted(after, &error)?;
                        break true;
                    }
                }
            };
            if !ended {
                self.watches.push((after, watch));
            }
        }
        Ok(())
    }

    /// Checks that a watch at `after` may have failed so.
    fn compacted(&self, after: Revision, error: &StoreError) -> Result<(), TestCaseError> {
        let StoreError::Compacted { oldest } = error else {
            return Err(TestCaseError::fail(format!("{error:?}")));
        };
        prop_assert!(after < self.model.compacted, "nothing after {} is compacted", after);
        prop_assert!(after < *oldest && *oldest <= self.model.newest(), "{}", oldest);
        Ok(())
    }

    async fn reopen(&mut self) -> Result<(), TestCaseError> {
        let Some(reopen) = self.reopen else { return Ok(()) };
        self.watches.clear();
        let (fixture, store) = (self.fixture, self.store.clone());
        // The pair must not hold the store that is closed.
        self.store = fixture.fresh().await;
        self.store = reopen(fixture, store).await;
        prop_assert_eq!(self.store.revision().await.expect("open"), self.model.newest());
        Ok(())
    }
}
