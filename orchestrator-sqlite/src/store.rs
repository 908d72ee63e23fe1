//! `SqliteStore`: the handle that callers hold; it talks to the writer thread and to the readers.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use orchestrator_core::history::{History, HistoryLimits};
use orchestrator_core::model::Revision;
use orchestrator_core::store::{
    CommitOutcome, Page, PageToken, StateStore, StoreError, Txn, Watch,
};
use tokio::sync::{Semaphore, oneshot};

use crate::error::OpenError;
use crate::open::{Opened, open};
use crate::options::SqliteOptions;
use crate::reader::Readers;
use crate::reply::Reply;
use crate::schema::newest_revision;
use crate::watch::SqliteWatch;
use crate::writer::{Command, Pending, run};

/// The most transactions that wait for the writer; further callers wait for a place.
const QUEUE_MAX: usize = 1_024;

/// Durable, revisioned records in one SQLite database, which this store alone has open.
///
/// A commit is answered once it has been synced to disk; commits made at the same time share one sync.
/// Dropping the store waits for what was asked for and closes the database, as [`SqliteStore::close`] does.
pub struct SqliteStore {
    commands: Sender<Command>,
    path: PathBuf,
    places: Arc<Semaphore>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the handle, its watches and the writer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub history: History,
    pub readers: Readers,
}

impl SqliteStore {
    /// Opens the database at `path`, and creates it if there is none.
    ///
    /// # Errors
    /// [`OpenError`] when the file must not or cannot be used; it is then as it was.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with(path, SqliteOptions::default()).await
    }

    /// Opens the database at `path` with other limits than the usual.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub async fn open_with(
        path: impl AsRef<Path>,
        options: SqliteOptions,
    ) -> Result<Self, OpenError> {
        let path = path.as_ref().to_owned();
        let (commands, receiver) = channel();
        let (ready, opened) = oneshot::channel();
        let asked_path = path.clone();
        let spawned =
            thread::Builder::new().name("orchd-sqlite-writer".to_owned()).spawn(move || {
                match prepare(&path, &options) {
                    Err(error) => _ = ready.send(Err(error)),
                    Ok((opened, shared)) => run(opened, &options, shared, &receiver, ready),
                }
            });
        let thread = spawned.map_err(|error| OpenError::from_io(&asked_path, error))?;
        let shared = match opened.await {
            Ok(result) => result?,
            Err(_) => {
                let source = "the writer thread ended".into();
                return Err(OpenError::Backend { path: asked_path, source });
            }
        };
        let places = Arc::new(Semaphore::new(QUEUE_MAX));
        Ok(Self { commands, path: asked_path, places, shared, thread: Mutex::new(Some(thread)) })
    }

    /// The path it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Finishes what was asked for, closes the database and unlocks it. Further calls fail with `Closed`.
    pub async fn close(&self) {
        self.places.close();
        _ = self.commands.send(Command::Close);
        self.shared.history.reached(Revision(u64::MAX)).await;
        // The thread ends with closing the history: joining it does not block.
        self.join();
    }

    /// Forgets the history up to `revision`: a watch that starts before it fails with `Compacted`.
    ///
    /// History is also forgotten without being asked, by the limits in [`SqliteOptions`].
    ///
    /// # Errors
    /// [`StoreError::Backend`] when the database failed, [`StoreError::Closed`] after closing.
    pub async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Compact(revision, reply);
        self.commands.send(command).map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the writer thread panicked");
        }
    }

    fn check_open(&self) -> Result<(), StoreError> {
        if self.shared.history.is_closed() { Err(StoreError::Closed) } else { Ok(()) }
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        _ = self.commands.send(Command::Close);
        self.join();
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.path)
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl StateStore for SqliteStore {
    async fn revision(&self) -> Result<Revision, StoreError> {
        self.check_open()?;
        Ok(self.shared.history.newest())
    }

    async fn load(&self, page: Option<PageToken>) -> Result<Page, StoreError> {
        self.check_open()?;
        let shared = self.shared.clone();
        let page = blocking(move || shared.readers.page(page.as_ref())).await?;
        // A commit is visible to readers shortly before the writer has published it.
        self.shared.history.reached(page.revision).await;
        Ok(page)
    }

    async fn commit(&self, txn: Txn) -> Result<CommitOutcome, StoreError> {
        if let Some(reason) = txn.defect() {
            return Err(StoreError::Malformed { reason });
        }
        let place = self.places.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = Reply::new(place);
        self.commands
            .send(Command::Commit(Pending { reply, txn }))
            .map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Ok(CommitOutcome::Unknown))
    }

    async fn watch(&self, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.check_open()?;
        let mut watch = SqliteWatch::new(self.shared.history.cursor(after), self.shared.clone());
        if after < self.shared.history.oldest() {
            watch.catch_up().await?;
        }
        Ok(Box::new(watch))
    }
}

/// Runs `work`, which waits for the disk, where it does not hold up other tasks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Backend(error.into())),
    }
}

fn prepare(path: &Path, options: &SqliteOptions) -> Result<(Opened, Arc<Shared>), OpenError> {
    let opened = open(path, options)?;
    let newest = newest_revision(&opened.connection)
        .map_err(|error| OpenError::from_sqlite(&opened.path, error))?;
    let limits = HistoryLimits {
        batches_max: options.recent_batches_max,
        bytes_max: options.recent_bytes_max,
    };
    let history = History::new(Revision(newest), limits);
    let readers = Readers::new(opened.path.clone(), options.page_records_max);
    Ok((opened, Arc::new(Shared { history, readers })))
}
