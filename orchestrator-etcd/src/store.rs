//! `EtcdStore`: the handle that callers hold.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use orchestrator_core::model::Revision;
use orchestrator_core::store::{
    CommitOutcome, Expect, Page, PageToken, RecordKey, StateStore, StoreError, Txn, Watch,
};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

use crate::client::{Client, Repeat};
use crate::error::OpenError;
use crate::failure::Failure;
use crate::fence::{Fences, Format, Standing, check_format};
use crate::history::{compact, keep_within};
use crate::layout::Layout;
use crate::options::{EtcdHistory, EtcdOptions};
use crate::page::{self, Position};
use crate::txn::{self, Answer, FENCE_IS_GONE, Fence, HEAD_IS_GONE};
use crate::watch::EtcdWatch;
use crate::wire::{KeyValue, RangeRequest, RangeResponse, TxnResponse};

/// The most transactions in flight; further callers wait for a place.
const IN_FLIGHT_MAX: u32 = 256;
/// The most times a commit is tried again because the fence has moved.
const FENCED_MAX: usize = 8;

/// Durable, revisioned records in etcd. Any number of stores, in as many processes, may be open on the same state.
///
/// A commit is answered once a majority of etcd's members has it on disk. Open it within a tokio runtime. Dropping the store closes
/// it, as [`EtcdStore::close`] does, but for waiting.
pub struct EtcdStore {
    compaction: Option<AbortHandle>,
    page_records_max: usize,
    places: Semaphore,
    prefix: String,
    shared: Arc<Shared>,
}

/// What the handle, its watches and its compaction share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub client: Client,
    pub closed: watch::Sender<bool>,
    pub fences: Fences,
    pub format: Format,
    pub layout: Layout,
}

impl EtcdStore {
    /// Opens the state below the prefix of the options, and begins one if there is none.
    ///
    /// # Errors
    /// [`OpenError`] when the state must not or cannot be used; it is then as it was.
    pub async fn open(options: EtcdOptions) -> Result<Self, OpenError> {
        Self::open_as(options, false).await
    }

    /// As [`EtcdStore::open`], and also when the state was left ([`EtcdStore::leave`]): for one who moves it once more because the
    /// first try was interrupted.
    ///
    /// # Errors
    /// [`OpenError`] when it must not or cannot be used; it is then as it was.
    pub async fn open_left(options: EtcdOptions) -> Result<Self, OpenError> {
        Self::open_as(options, true).await
    }

    async fn open_as(options: EtcdOptions, may_be_left: bool) -> Result<Self, OpenError> {
        let layout = Layout::new(&options.prefix);
        let client = Client::new(&options, &layout)?;
        let found = reached(find_or_begin(&client, &layout).await, &client, &options.prefix)?;
        let (fence, format) = check_format(&layout, &found)?;
        match format.standing {
            Standing::Unfinished => Err(OpenError::Unfinished { prefix: options.prefix }),
            Standing::Moved { to } if !may_be_left => {
                Err(OpenError::Moved { prefix: options.prefix, to })
            }
            Standing::Whole | Standing::Moved { .. } => {
                Ok(Self::new(options, client, layout, fence, format))
            }
        }
    }

    /// How the state below the prefix stands; `None` when there is none.
    ///
    /// # Errors
    /// [`OpenError`] when what is there is none of ours, or cannot be read.
    pub async fn standing(options: &EtcdOptions) -> Result<Option<Standing>, OpenError> {
        let layout = Layout::new(&options.prefix);
        let client = Client::new(options, &layout)?;
        let found = reached(find(&client, &layout).await, &client, &options.prefix)?;
        let format = found.map(|found| check_format(&layout, &found)).transpose()?;
        Ok(format.map(|(_, format)| format.standing))
    }

    /// Begins a state that takes another one's place, whose revisions went up to `after`. Until [`EtcdStore::finish`] nobody else
    /// can open it. One that was not filled to its end is begun again.
    ///
    /// # Errors
    /// [`OpenError`] when it cannot be begun, or there is a whole one.
    pub async fn begin(options: EtcdOptions, after: Revision) -> Result<Self, OpenError> {
        let layout = Layout::new(&options.prefix);
        let client = Client::new(&options, &layout)?;
        let format = Format { base: after, standing: Standing::Unfinished };
        let answer = client.txn(txn::begin(&layout, format.bytes()), Repeat::Always).await;
        let mut answer = reached(answer, &client, &options.prefix)?;
        if !answer.succeeded {
            let gone = || OpenError::NotEmpty { prefix: options.prefix.clone() };
            let found = fence_of(answer, &format).ok_or_else(gone)?;
            let (fence, found) = check_format(&layout, &found)?;
            if found.standing != Standing::Unfinished {
                return Err(gone());
            }
            let again = txn::begin_again(&layout, fence, format.bytes());
            let again = client.txn(again, Repeat::UnlessDone).await;
            answer = reached(again, &client, &options.prefix)?;
            if !answer.succeeded {
                return Err(OpenError::Unfinished { prefix: options.prefix });
            }
        }
        let fence = Fence(answer.header.map_or(0, |header| header.revision));
        Ok(Self::new(options, client, layout, fence, format))
    }

    /// Says that a state that was begun is whole, and closes the store: from now on it can be opened.
    ///
    /// # Errors
    /// [`StoreError`] when that cannot be written.
    pub async fn finish(&self) -> Result<(), StoreError> {
        self.check_open()?;
        self.shared.settle().await?;
        let Shared { client, fences, format, layout, .. } = &*self.shared;
        let whole = Format { base: format.base, standing: Standing::Whole };
        let request = txn::move_fence(layout, fences.current(), whole.bytes());
        let answer = client.txn(request, Repeat::Always).await?;
        let found = fence_of(answer, &whole).ok_or_else(|| client.damaged(FENCE_IS_GONE))?;
        if found.value != whole.bytes() {
            return Err(StoreError::Backend("somebody else fills the same state".into()));
        }
        self.close().await;
        Ok(())
    }

    /// Says that the state goes on elsewhere, and closes the store: from now on nobody can open it, and whoever has it open writes no
    /// more. Returns `false`, and has done nothing, when something was committed after `revision`. What lies in it stays.
    ///
    /// # Errors
    /// [`StoreError`] when that cannot be written, or it is not known whether it is.
    pub async fn leave(&self, revision: Revision, to: &str) -> Result<bool, StoreError> {
        self.check_open()?;
        self.shared.settle().await?;
        let Shared { client, fences, format, layout, .. } = &*self.shared;
        let moved = Format { base: format.base, standing: Standing::Moved { to: to.to_owned() } };
        let (fence, head) = (fences.current(), layout.of_etcd(revision));
        let request = txn::move_fence_at(layout, fence, head, moved.bytes());
        let answer = client.txn(request, Repeat::Always).await?;
        let found = fence_of(answer, &moved).ok_or_else(|| client.damaged(FENCE_IS_GONE))?;
        // Asked twice it finds what it has done itself.
        let is_left = found.value == moved.bytes();
        if is_left {
            self.close().await;
        }
        Ok(is_left)
    }

    fn new(
        options: EtcdOptions,
        client: Client,
        layout: Layout,
        fence: Fence,
        format: Format,
    ) -> Self {
        let layout = layout.counting_after(format.base);
        let (closed, fences) = (watch::Sender::new(false), Fences::new(fence));
        let shared = Arc::new(Shared { client, closed, fences, format, layout });
        let compaction = match options.history {
            EtcdHistory::Age(age) => {
                Some(tokio::spawn(keep_within(Arc::clone(&shared), age)).abort_handle())
            }
            EtcdHistory::KeptByOthers => None,
        };
        let EtcdOptions { page_records_max, prefix, .. } = options;
        let places = Semaphore::new(IN_FLIGHT_MAX as usize);
        Self { compaction, page_records_max, places, prefix, shared }
    }

    /// Where in etcd the state lies.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Waits for the commits in flight and ends every watch. Further calls fail with `Closed`.
    pub async fn close(&self) {
        // Nobody gets them all a second time, which does no harm.
        let everyone = self.places.acquire_many(IN_FLIGHT_MAX).await;
        self.end();
        drop(everyone);
    }

    /// Forgets the history up to `revision`, for all users of this etcd: a watch that starts before it fails with `Compacted`.
    ///
    /// History is also forgotten without being asked, as [`EtcdOptions::history`] says.
    ///
    /// # Errors
    /// [`StoreError::Backend`] when etcd failed, [`StoreError::Closed`] after closing.
    pub async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.check_open()?;
        Ok(compact(&self.shared, self.shared.layout.of_etcd(revision)).await?)
    }

    /// What a commit comes to that has failed, and whose fate is decided.
    async fn not_done(&self, txn: &Txn, failure: Failure) -> Result<CommitOutcome, StoreError> {
        if let Failure::Full(_) = failure
            && let Some(first) = txn.writes.first()
            && !self.shared.holds(first.key(), first.expect()).await.unwrap_or(false)
        {
            return Ok(CommitOutcome::Unknown);
        }
        Err(failure.into())
    }

    fn end(&self) {
        self.places.close();
        self.shared.closed.send_replace(true);
        if let Some(compaction) = &self.compaction {
            compaction.abort();
        }
    }

    fn check_open(&self) -> Result<(), StoreError> {
        if *self.shared.closed.borrow() { Err(StoreError::Closed) } else { Ok(()) }
    }

    /// Reads a page of at most `records_max` records, beginning where `begin` says.
    async fn page(&self, begin: &Position, records_max: usize) -> Result<Page, Failure> {
        let Shared { client, layout, .. } = &*self.shared;
        let Position { read_at, revision, last } = begin;
        let request = page::request(layout, last, *read_at, records_max);
        Ok(page::page(layout, *read_at, *revision, client.range(request).await?))
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdStore")
            .field("prefix", &self.prefix)
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl StateStore for EtcdStore {
    async fn revision(&self) -> Result<Revision, StoreError> {
        self.check_open()?;
        self.shared.settle().await?;
        let newest = self.shared.newest().await?;
        Ok(self.shared.layout.revision(newest))
    }

    async fn load(&self, page: Option<PageToken>) -> Result<Page, StoreError> {
        self.check_open()?;
        let begin = match page {
            Some(token) => {
                Position::parse(&self.shared.layout, &token).ok_or(StoreError::StalePage)?
            }
            None => {
                let (read_at, newest) = self.shared.head().await?;
                Position { read_at, revision: self.shared.layout.revision(newest), last: vec![] }
            }
        };
        let mut records_max = self.page_records_max;
        loop {
            match self.page(&begin, records_max).await {
                Ok(page) => return Ok(page),
                // A single record is never too large.
                Err(Failure::TooLarge(_)) if records_max > 1 => records_max /= 2,
                Err(Failure::OutOfRange(_)) => return Err(StoreError::StalePage),
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    async fn commit(&self, txn: Txn) -> Result<CommitOutcome, StoreError> {
        if let Some(reason) = txn.defect() {
            return Err(StoreError::Malformed { reason });
        }
        let _place = self.places.acquire().await.map_err(|_| StoreError::Closed)?;
        let Shared { client, fences, layout, .. } = &*self.shared;
        for _ in 0..FENCED_MAX {
            let fence = fences.current();
            let request = txn::request(layout, &txn, fence)
                .map_err(|reason| StoreError::Malformed { reason })?;
            let doubt = fences.doubt(fence);
            let response = match client.txn(request, Repeat::UnlessDone).await {
                Ok(response) => response,
                Err(Failure::Unknown(at) | Failure::TooLarge(at)) => {
                    let error: &dyn std::error::Error = &at;
                    tracing::warn!(error, "nobody knows what became of a commit");
                    return Ok(CommitOutcome::Unknown);
                }
                Err(failure) => {
                    doubt.dispel();
                    return self.not_done(&txn, failure).await;
                }
            };
            doubt.dispel();
            match txn::answer(layout, &txn, fence, response) {
                Answer::Outcome(outcome) => return Ok(outcome),
                Answer::Fenced(now) => self.shared.saw_fence(&now)?,
                Answer::Damaged(what) => return Err(client.damaged(what).into()),
            }
        }
        Err(StoreError::Backend(format!("the fence has moved {FENCED_MAX} times").into()))
    }

    async fn watch(&self, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.check_open()?;
        Ok(Box::new(EtcdWatch::open(Arc::clone(&self.shared), after).await?))
    }
}

impl Shared {
    /// Reads etcd's own newest revision, and that of the newest commit.
    pub(crate) async fn head(&self) -> Result<(i64, i64), Failure> {
        let request = RangeRequest { key: self.layout.head(), ..RangeRequest::default() };
        let RangeResponse { header, kvs, .. } = self.client.range(request).await?;
        let now = header.map(|header| header.revision);
        let head = kvs.first().map(|head| head.mod_revision);
        now.zip(head).ok_or_else(|| self.client.damaged(HEAD_IS_GONE))
    }

    /// Reads etcd's revision of the newest commit; an error when the state is not to be used here any more.
    async fn newest(&self) -> Result<i64, StoreError> {
        let answer = self.client.txn(txn::look(&self.layout), Repeat::Always).await?;
        let mut found = answer.responses.into_iter().map(|step| step.range?.kvs.into_iter().next());
        let fence = found.next().flatten().ok_or_else(|| self.client.damaged(FENCE_IS_GONE))?;
        let head = found.next().flatten().ok_or_else(|| self.client.damaged(HEAD_IS_GONE))?;
        self.saw_fence(&fence)?;
        Ok(head.mod_revision)
    }

    /// Whether a record is as expected; `None` when that cannot be read.
    async fn holds(&self, key: &RecordKey, expect: Expect) -> Option<bool> {
        let key = self.layout.record(key).ok()?;
        let request = RangeRequest { key, keys_only: true, ..RangeRequest::default() };
        let found = self.client.range(request).await.ok()?;
        let current = found.kvs.first().map(|record| self.layout.revision(record.mod_revision));
        Some(txn::holds(expect, current))
    }

    /// Makes sure that no commit of unknown fate can happen any more.
    async fn settle(&self) -> Result<(), StoreError> {
        while self.fences.is_in_doubt() {
            let request = txn::move_fence(&self.layout, self.fences.current(), self.format.bytes());
            let answer = self.client.txn(request, Repeat::Always).await?;
            let found = fence_of(answer, &self.format);
            self.saw_fence(&found.ok_or_else(|| self.client.damaged(FENCE_IS_GONE))?)?;
        }
        Ok(())
    }

    fn saw_fence(&self, found: &KeyValue) -> Result<(), StoreError> {
        let (fence, format) =
            check_format(&self.layout, found).map_err(|error| StoreError::Backend(error.into()))?;
        if format == self.format {
            self.fences.saw(fence);
            return Ok(());
        }
        let why = match format.standing {
            Standing::Moved { to } => format!("the state has been moved to {to}"),
            Standing::Whole | Standing::Unfinished => {
                "another state has taken the place of this one".to_owned()
            }
        };
        Err(StoreError::Backend(why.into()))
    }
}

/// What etcd has answered at the opening of a store, or why it has not.
fn reached<T>(answer: Result<T, Failure>, client: &Client, prefix: &str) -> Result<T, OpenError> {
    answer.map_err(|failure| match failure {
        Failure::Refused(at) => OpenError::Refused { prefix: prefix.to_owned(), source: at.into() },
        other => {
            let source = other.into_error().into();
            OpenError::Unreachable { endpoints: client.names(), source }
        }
    })
}

async fn find_or_begin(client: &Client, layout: &Layout) -> Result<KeyValue, Failure> {
    // Looked for first: an etcd that is full still lets one read.
    if let Some(found) = find(client, layout).await? {
        return Ok(found);
    }
    let answer = client.txn(txn::begin(layout, Format::default().bytes()), Repeat::Always);
    fence_of(answer.await?, &Format::default()).ok_or_else(|| client.damaged(FENCE_IS_GONE))
}

async fn find(client: &Client, layout: &Layout) -> Result<Option<KeyValue>, Failure> {
    let range = RangeRequest { key: layout.fence(), ..RangeRequest::default() };
    Ok(client.range(range).await?.kvs.into_iter().next())
}

/// The fence after a transaction that writes it so, or reads it first.
fn fence_of(answer: TxnResponse, format: &Format) -> Option<KeyValue> {
    let TxnResponse { header, succeeded, responses } = answer;
    if succeeded {
        let mod_revision = header?.revision;
        return Some(KeyValue { mod_revision, value: format.bytes(), ..KeyValue::default() });
    }
    responses.into_iter().next()?.range?.kvs.into_iter().next()
}
