//! `SealedStore`: a store in front of another one; what is secret is sealed on its way there, and opened on its way back.

use std::sync::Arc;

use async_trait::async_trait;
use orchestrator_core::model::{Kind, Revision};
use orchestrator_core::store::{
    Batch, CommitOutcome, Expect, Page, PageToken, Quarantined, Record, RecordKey, StateStore,
    StoreError, Txn, Watch, Write,
};

use crate::envelope::{open, seal, sealed_by};
use crate::keys::KeyRing;

/// The most times everything is looked through until all of it is sealed with the newest key.
const PASSES_MAX: usize = 8;

/// Seals Secrets (or what else it is told to) and leaves everything else as it is.
///
/// A value that does not open is quarantined in listings, with the key's id and file, and stays where it is; everything else is served.
#[derive(Clone, Debug)]
pub struct SealedStore {
    inner: Arc<dyn StateStore>,
    keys: Arc<KeyRing>,
    which: fn(&RecordKey) -> bool,
}

/// What was sealed with the newest key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sealing {
    /// How many records.
    pub sealed: u64,
    /// Those that did not open, and so are as they were.
    pub unreadable: Vec<Quarantined>,
}

impl SealedStore {
    /// Seals the Secrets in a store.
    pub fn new(inner: Arc<dyn StateStore>, keys: Arc<KeyRing>) -> Self {
        Self::sealing(inner, keys, |key| key.object.kind == Kind::Secret)
    }

    /// Seals the records that `which` picks.
    pub fn sealing(
        inner: Arc<dyn StateStore>,
        keys: Arc<KeyRing>,
        which: fn(&RecordKey) -> bool,
    ) -> Self {
        Self { inner, keys, which }
    }

    /// The keys.
    pub const fn keys(&self) -> &Arc<KeyRing> {
        &self.keys
    }

    /// The store behind, where secrets are sealed.
    pub const fn inner(&self) -> &Arc<dyn StateStore> {
        &self.inner
    }

    /// Seals everything with the newest key that lies in clear or is sealed with another one. Others may write meanwhile.
    ///
    /// # Errors
    /// [`StoreError`]; what has been sealed so far stays so, and the next call goes on.
    pub async fn seal_all(&self) -> Result<Sealing, StoreError> {
        let mut outcome = Sealing::default();
        for _ in 0..PASSES_MAX {
            outcome.unreadable.clear();
            let (mut token, mut left) = (None, 0_u64);
            loop {
                let page = self.inner.load(token).await?;
                for record in page.records {
                    match self.seal_anew(record).await? {
                        Anew::Is => {}
                        Anew::Sealed => outcome.sealed += 1,
                        Anew::Conflict => left += 1,
                        Anew::Unreadable(quarantined) => outcome.unreadable.push(quarantined),
                    }
                }
                token = page.next;
                if token.is_none() {
                    break;
                }
            }
            if left == 0 {
                return Ok(outcome);
            }
        }
        Err(StoreError::Backend("secrets change faster than they can be sealed anew".into()))
    }

    async fn seal_anew(&self, record: Record) -> Result<Anew, StoreError> {
        let Record { key, revision, value } = record;
        if !(self.which)(&key) || sealed_by(&value) == Some(self.keys.current()) {
            return Ok(Anew::Is);
        }
        let value = match open(&self.keys, &key, &value) {
            Ok(value) => value,
            Err(error) => return Ok(Anew::Unreadable(quarantined(&key, revision, &error))),
        };
        let write = Write::Put { key, expect: Expect::At(revision), value };
        match self.commit(Txn { guards: vec![], writes: vec![write] }).await? {
            CommitOutcome::Committed(_) => Ok(Anew::Sealed),
            CommitOutcome::Conflict { .. } | CommitOutcome::Unknown => Ok(Anew::Conflict),
        }
    }

    fn sealed(&self, write: Write) -> Result<Write, StoreError> {
        match write {
            Write::Put { key, expect, value } if (self.which)(&key) => {
                let value = seal(&self.keys, &key, &value)
                    .map_err(|error| StoreError::Backend(error.into()))?;
                Ok(Write::Put { key, expect, value })
            }
            other => Ok(other),
        }
    }
}

/// What became of a record that is to be sealed with the newest key.
enum Anew {
    /// Somebody has written it meanwhile, or may have.
    Conflict,
    /// There was nothing to do.
    Is,
    Sealed,
    Unreadable(Quarantined),
}

fn quarantined(key: &RecordKey, revision: Revision, error: &dyn std::error::Error) -> Quarantined {
    Quarantined { key: key.to_string(), reason: error.to_string(), revision: Some(revision) }
}

#[async_trait]
impl StateStore for SealedStore {
    async fn revision(&self) -> Result<Revision, StoreError> {
        self.inner.revision().await
    }

    async fn load(&self, page: Option<PageToken>) -> Result<Page, StoreError> {
        let mut page = self.inner.load(page).await?;
        let records = std::mem::take(&mut page.records);
        for Record { key, revision, value } in records {
            match (self.which)(&key).then(|| open(&self.keys, &key, &value)) {
                None => page.records.push(Record { key, revision, value }),
                Some(Ok(value)) => page.records.push(Record { key, revision, value }),
                Some(Err(error)) => {
                    tracing::error!(key = %key.object, %error, "a secret does not open");
                    page.quarantined.push(quarantined(&key, revision, &error));
                }
            }
        }
        Ok(page)
    }

    async fn commit(&self, txn: Txn) -> Result<CommitOutcome, StoreError> {
        if let Some(reason) = txn.defect() {
            return Err(StoreError::Malformed { reason });
        }
        let Txn { guards, writes } = txn;
        let writes =
            writes.into_iter().map(|write| self.sealed(write)).collect::<Result<_, _>>()?;
        self.inner.commit(Txn { guards, writes }).await
    }

    async fn watch(&self, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        let inner = self.inner.watch(after).await?;
        Ok(Box::new(SealedWatch { inner, keys: Arc::clone(&self.keys), which: self.which }))
    }
}

/// A watch on a `SealedStore`.
#[derive(Debug)]
struct SealedWatch {
    inner: Box<dyn Watch>,
    keys: Arc<KeyRing>,
    which: fn(&RecordKey) -> bool,
}

#[async_trait]
impl Watch for SealedWatch {
    async fn next(&mut self) -> Result<Batch, StoreError> {
        let mut batch = self.inner.next().await?;
        for change in &mut batch.changes {
            if let Some(value) = change.value.as_mut().filter(|_| (self.which)(&change.key)) {
                match open(&self.keys, &change.key, value) {
                    Ok(opened) => *value = opened,
                    // It stays sealed, which is no object: whoever reads it puts it into quarantine.
                    Err(error) => {
                        tracing::error!(key = %change.key.object, %error, "a secret does not open");
                    }
                }
            }
        }
        Ok(batch)
    }
}
