//! `OwnTime`: a tokio runtime on a thread of its own, whose time stands still until it is moved.
//!
//! Everything that waits in the runtime waits for the same time: the engine's timers, the agents', limits of calls, and the
//! timers of controllers under test. When it is moved it jumps from one timer to the next, and everything that a timer sets off is
//! done before the next; so what happens is what would have happened, in the same order. This is tokio's own paused time with
//! its auto-advance, which a blocking task holds back in between.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// How long tokio keeps the thread that holds time back, while time moves.
const HOLD_THREAD_KEPT: Duration = Duration::from_secs(60);

/// A runtime with a time of its own. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct OwnTime {
    runtime: Handle,
    rest: Arc<Rest>,
    hold: Arc<Mutex<Option<Hold>>>,
    /// Two movements of time do not overlap.
    moving: tokio::sync::Mutex<()>,
    /// The runtime ends when this is dropped.
    _stop: oneshot::Sender<()>,
}

/// Keeps time from moving as long as it lives.
#[derive(Debug)]
struct Hold {
    _until_dropped: mpsc::Sender<()>,
}

impl Hold {
    /// Holds the time of the runtime from this moment on.
    fn new(runtime: &Handle) -> Self {
        let (until_dropped, dropped) = mpsc::channel::<()>();
        // Tokio's paused time does not move on its own while a blocking task is there.
        runtime.spawn_blocking(move || {
            let _ = dropped.recv();
        });
        Self { _until_dropped: until_dropped }
    }
}

/// Tells when the runtime has nothing left to do.
#[derive(Debug)]
struct Rest {
    /// The newest question whose task the runtime has run.
    asked: AtomicU64,
    /// The newest question asked before the runtime went to sleep.
    answered: watch::Sender<u64>,
    next: AtomicU64,
}

impl Rest {
    /// The runtime goes to sleep: all that was woken before a question was asked has been done.
    fn sleeps(&self) {
        let asked = self.asked.load(Ordering::SeqCst);
        self.answered.send_if_modified(|answered| {
            let is_new = *answered < asked;
            *answered = asked;
            is_new
        });
    }
}

impl OwnTime {
    /// Starts the runtime.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub(super) fn start() -> io::Result<Self> {
        let answered = watch::Sender::new(0);
        let rest = Arc::new(Rest { asked: 0.into(), answered, next: 1.into() });
        let sleeps = Arc::clone(&rest);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .thread_keep_alive(HOLD_THREAD_KEPT)
            .on_thread_park(move || sleeps.sleeps())
            .build()?;
        let handle = runtime.handle().clone();
        let hold = Hold::new(&handle);
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new().name("test-cluster".to_owned()).spawn(move || {
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Self {
            runtime: handle,
            rest,
            hold: Arc::new(Mutex::new(Some(hold))),
            moving: tokio::sync::Mutex::default(),
            _stop: stop,
        })
    }

    /// Runs a future in the runtime.
    pub(super) fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.runtime.spawn(future)
    }

    /// Waits until nothing in the runtime can go on without time moving or somebody outside doing something.
    pub(super) async fn settle(&self) {
        let question = self.rest.next.fetch_add(1, Ordering::SeqCst);
        let rest = Arc::clone(&self.rest);
        // Its turn comes after everything that is awake already; whatever that wakes is done before the runtime sleeps.
        let ask = self.spawn(async move { rest.asked.fetch_max(question, Ordering::SeqCst) });
        ask.await.expect("the runtime lives as long as this");
        let mut answered = self.rest.answered.subscribe();
        // The sender is ours: it does not go away meanwhile.
        let _ = answered.wait_for(|answered| *answered >= question).await;
    }

    /// Moves time, and waits until everything that became due on the way is done.
    pub(super) async fn advance(&self, by: Duration) {
        let _alone = self.moving.lock().await;
        self.settle().await;
        let (hold, runtime) = (Arc::clone(&self.hold), self.runtime.clone());
        let set = move |value| {
            *hold.lock().unwrap_or_else(PoisonError::into_inner) = value;
        };
        // In a task of its own, so that time is held again also when the caller goes away.
        let moved = self.spawn(async move {
            let end = tokio::time::sleep(by);
            set(None);
            end.await;
            // Nothing runs in between: the runtime has this one thread.
            set(Some(Hold::new(&runtime)));
        });
        moved.await.expect("the runtime lives as long as this");
        self.settle().await;
    }
}
