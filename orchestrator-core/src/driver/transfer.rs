//! Moving what a store holds into another one: `Dumper` reads everything at one revision, `Filler` writes it into an empty store.
//!
//! Knows stores by their trait alone. Invariant: a dump shows one revision, whatever is written meanwhile.

use std::sync::Arc;

use bytes::Bytes;

use crate::dump::{DumpError, DumpHeader, DumpItem, DumpWriter};
use crate::model::{Key, Kind, Part, Revision, Time};
use crate::store::{
    CommitOutcome, Expect, Page, PageToken, Record, RecordKey, StateStore, StoreError,
    TXN_BYTES_MAX, TXN_WRITES_MAX, Txn, Write,
};
use crate::world::{CodecError, World, decode_main, encode};

/// The annotation of the namespace `kube-system` that says which history the cluster's revisions belong to, when it is not the first.
const EPOCH_ANNOTATION: &str = "orchestrator.dev/epoch";
/// The epoch of a cluster that never was restored.
const EPOCH_FIRST: u64 = 1;
/// The most times a transaction is tried again whose fate is not known.
const UNKNOWN_MAX: usize = 8;

/// Why records were not moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// A record is too large for a dump.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// The store that is filled has records already, or somebody else writes into it.
    #[error("{key} is in the store already, which must be empty")]
    NotEmpty {
        /// The record.
        key: String,
    },
    /// What lies in the store that was filled is not what was written.
    #[error(
        "the store holds {found} records after {written} were written, or they are not the same"
    )]
    NotTheSame {
        /// How many were written.
        written: u64,
        /// How many there are.
        found: u64,
    },
    /// The object that every cluster has cannot be read.
    #[error("the namespace kube-system cannot be read")]
    Codec(#[from] CodecError),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store does not say whether it has done something.
    #[error("the store has left a transaction's fate open {UNKNOWN_MAX} times")]
    Unknown,
}

/// Reads everything a store holds, at one revision, as the bytes of a dump.
#[derive(Debug)]
pub struct Dumper {
    store: Arc<dyn StateStore>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Begin { taken_at: Time },
    Page { writer: DumpWriter, token: PageToken },
    End { writer: DumpWriter },
    Over,
}

impl Dumper {
    /// Dumps a store. Its records are dumped as they lie there.
    pub const fn new(store: Arc<dyn StateStore>, taken_at: Time) -> Self {
        Self { store, stage: Stage::Begin { taken_at } }
    }

    /// Reads a page, and returns the bytes of it; `None` at the end.
    ///
    /// # Errors
    /// [`TransferError`]; the dump is not to be gone on with.
    pub async fn next(&mut self) -> Result<Option<Bytes>, TransferError> {
        let (mut bytes, writer, page) = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Begin { taken_at } => {
                let page = self.store.load(None).await?;
                let version = env!("CARGO_PKG_VERSION").to_owned();
                let header = DumpHeader { revision: page.revision, taken_at, version };
                let (writer, begin) = DumpWriter::begin(&header)?;
                (begin.to_vec(), writer, page)
            }
            Stage::Page { writer, token } => {
                (Vec::new(), writer, self.store.load(Some(token)).await?)
            }
            Stage::End { writer } => return Ok(Some(writer.end())),
            Stage::Over => return Ok(None),
        };
        self.stage = add(&mut bytes, writer, page)?;
        Ok(Some(bytes.into()))
    }
}

/// Puts a page behind what there is, and says what comes after it.
fn add(bytes: &mut Vec<u8>, mut writer: DumpWriter, page: Page) -> Result<Stage, DumpError> {
    let Page { records, quarantined, next, .. } = page;
    let records = records.into_iter().map(DumpItem::Record);
    for item in records.chain(quarantined.into_iter().map(DumpItem::Unreadable)) {
        bytes.extend_from_slice(&writer.item(&item)?);
    }
    Ok(match next {
        Some(token) => Stage::Page { writer, token },
        None => Stage::End { writer },
    })
}

/// Writes records into an empty store, as the beginning of a new epoch: agents then end nothing on the proof of one list (S19).
#[derive(Debug)]
pub struct Filler {
    store: Arc<dyn StateStore>,
    epoch: u64,
    writes: Vec<Write>,
    bytes: usize,
    sum: Sum,
}

/// What records come to: how many, and a checksum over keys and values in their order.
#[derive(Clone, Debug, Default)]
struct Sum {
    records: u64,
    checksum: crc32fast::Hasher,
}

impl Sum {
    fn add(&mut self, key: &RecordKey, value: &[u8]) {
        self.records += 1;
        for text in [key.object.to_string().as_bytes(), format!("{:?}", key.part).as_bytes(), value]
        {
            self.checksum.update(&(text.len() as u64).to_le_bytes());
            self.checksum.update(text);
        }
    }

    fn is(self, other: Self) -> bool {
        self.records == other.records && self.checksum.finalize() == other.checksum.finalize()
    }
}

impl Filler {
    /// Fills a store, which must be empty. No cluster that any of the agents has known may have been in this epoch.
    pub fn new(store: Arc<dyn StateStore>, epoch: u64) -> Self {
        Self { store, epoch, writes: Vec::new(), bytes: 0, sum: Sum::default() }
    }

    /// Takes a record to write, in key order. It gets a revision of the store's own.
    ///
    /// # Errors
    /// [`TransferError`]; the store is then filled in part.
    pub async fn add(&mut self, record: Record) -> Result<(), TransferError> {
        let Record { key, mut value, .. } = record;
        if key == bearer() {
            value = with_epoch(&key, &value, self.epoch)?;
        }
        let is_full =
            self.writes.len() == TXN_WRITES_MAX || self.bytes + value.len() > TXN_BYTES_MAX;
        if is_full {
            self.flush().await?;
        }
        self.sum.add(&key, &value);
        self.bytes += value.len();
        self.writes.push(Write::Put { key, expect: Expect::Absent, value });
        Ok(())
    }

    /// Writes what is left, and reads everything back to compare; returns how many records there are.
    ///
    /// # Errors
    /// [`TransferError`]; the store is then not what it should be.
    pub async fn finish(mut self) -> Result<u64, TransferError> {
        self.flush().await?;
        let (mut found, mut token) = (Sum::default(), None);
        loop {
            let page = self.store.load(token).await?;
            for Record { key, value, .. } in page.records {
                found.add(&key, &value);
            }
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        let (written, records) = (self.sum.records, found.records);
        match self.sum.is(found) {
            true => Ok(written),
            false => Err(TransferError::NotTheSame { written, found: records }),
        }
    }

    async fn flush(&mut self) -> Result<(), TransferError> {
        self.bytes = 0;
        let writes = std::mem::take(&mut self.writes);
        if writes.is_empty() {
            return Ok(());
        }
        let mut is_doubtful = false;
        for _ in 0..UNKNOWN_MAX {
            let txn = Txn { guards: Vec::new(), writes: writes.clone() };
            match self.store.commit(txn).await? {
                CommitOutcome::Committed(_) => return Ok(()),
                // It was done though nobody said so: what it wrote is there.
                CommitOutcome::Conflict { .. } if is_doubtful => return Ok(()),
                CommitOutcome::Conflict { key, .. } => {
                    return Err(TransferError::NotEmpty { key: key.object.to_string() });
                }
                CommitOutcome::Unknown => {
                    is_doubtful = true;
                    let _newest: Revision = self.store.revision().await?;
                }
            }
        }
        Err(TransferError::Unknown)
    }
}

/// The record that says which epoch it is.
fn bearer() -> RecordKey {
    RecordKey::main(Key::cluster(Kind::Namespace, "kube-system"))
}

fn with_epoch(key: &RecordKey, value: &[u8], epoch: u64) -> Result<Bytes, CodecError> {
    let mut system = decode_main(&key.object, value)?;
    system.meta_mut().annotations.insert(EPOCH_ANNOTATION.to_owned(), epoch.to_string());
    Ok(encode(&system, Part::Main))
}

/// Which history the revisions of a world belong to.
pub(super) fn epoch(world: &World) -> u64 {
    let system = world.get(&bearer().object);
    let said = system.and_then(|stored| stored.object.meta().annotations.get(EPOCH_ANNOTATION));
    said.and_then(|said| said.parse().ok()).unwrap_or(EPOCH_FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::DumpReader;
    use crate::mem::MemStore;
    use crate::model::{Namespace, ObjectMeta};
    use crate::testkit::fault_store::{CommitFault, FaultScript, FaultStore};
    use crate::testkit::store::{commit, load_all, put, record_key};

    async fn filled(records: usize) -> MemStore {
        let store = MemStore::new().with_page_max(7);
        for n in 0..records {
            let value = format!("{n}").repeat(n * 37 % 1_000);
            commit(&store, put(record_key(n), Expect::Absent, &value)).await;
        }
        store
    }

    async fn read(dumper: &mut Dumper) -> (DumpHeader, Vec<Record>) {
        let (mut reader, mut records) = (DumpReader::default(), Vec::new());
        while let Some(bytes) = dumper.next().await.expect("dumped") {
            reader.push(&bytes);
            while let Some(item) = reader.next_item().expect("whole") {
                match item {
                    DumpItem::Record(record) => records.push(record),
                    other => panic!("{other:?}"),
                }
            }
        }
        reader.finish().expect("whole");
        (reader.header().expect("a header").clone(), records)
    }

    #[tokio::test]
    async fn a_dump_shows_one_revision_while_writers_go_on() {
        let store = filled(30).await;
        let (revision, before) = load_all(&store).await;
        let mut dumper = Dumper::new(Arc::new(store.clone()), Time::from_seconds(1));
        let first = dumper.next().await.expect("dumped").expect("a page");
        commit(&store, put(record_key(29), Expect::At(revision), "changed")).await;
        commit(&store, put(record_key(99), Expect::Absent, "new")).await;
        let mut reader = DumpReader::default();
        reader.push(&first);
        let mut records = Vec::new();
        loop {
            while let Some(DumpItem::Record(record)) = reader.next_item().expect("whole") {
                records.push(record);
            }
            let Some(bytes) = dumper.next().await.expect("dumped") else { break };
            reader.push(&bytes);
        }
        reader.finish().expect("whole");
        assert_eq!(records, before);
        assert_eq!(reader.header().expect("a header").revision, revision);
    }

    #[tokio::test]
    async fn what_was_dumped_fills_another_store() {
        let (_, records) =
            read(&mut Dumper::new(Arc::new(filled(200).await), Time::from_seconds(1))).await;
        let target = MemStore::new();
        let mut filler = Filler::new(Arc::new(target.clone()), 2);
        for record in records.clone() {
            filler.add(record).await.expect("written");
        }
        assert_eq!(filler.finish().await.expect("the same"), 200);
        let (_, found) = load_all(&target).await;
        let plain = |records: Vec<Record>| -> Vec<_> {
            records.into_iter().map(|record| (record.key, record.value)).collect()
        };
        assert_eq!(plain(found), plain(records));
    }

    #[tokio::test]
    async fn what_fills_a_store_begins_an_epoch() {
        let namespace =
            Namespace { metadata: ObjectMeta::named("", "kube-system"), ..Namespace::default() };
        let value = encode(&namespace.into(), Part::Main);
        let store = MemStore::new();
        let mut filler = Filler::new(Arc::new(store.clone()), 7);
        filler.add(Record { key: bearer(), revision: Revision(1), value }).await.expect("taken");
        filler.finish().await.expect("written");
        let page = store.load(None).await.expect("loaded");
        assert_eq!(epoch(&World::from_pages([page])), 7);
        assert_eq!(epoch(&World::default()), EPOCH_FIRST);
    }

    #[tokio::test]
    async fn a_commit_that_nobody_tells_of_is_asked_for_again_and_written_once() {
        for fault in [CommitFault::UnknownDone, CommitFault::UnknownLost] {
            let store = MemStore::new();
            let mut plan = FaultScript::default();
            plan.commits.insert(0, fault);
            let faulty = FaultStore::new(Arc::new(store.clone()), plan);
            let mut filler = Filler::new(Arc::new(faulty), 2);
            let (key, value) = (record_key(1), "v".into());
            let record = Record { key, revision: Revision(1), value };
            filler.add(record).await.expect("taken");
            assert_eq!(filler.finish().await.expect("written"), 1, "{fault:?}");
        }
    }

    #[tokio::test]
    async fn a_store_that_is_not_empty_is_not_filled() {
        let store = filled(3).await;
        let mut filler = Filler::new(Arc::new(store), 2);
        let (key, value) = (record_key(1), "v".into());
        filler.add(Record { key, revision: Revision(1), value }).await.expect("taken");
        let error = filler.finish().await.expect_err("it is there").to_string();
        assert!(error.contains("must be empty"), "{error}");
    }
}
