//! The reports of one node, timed on a thread that has nothing else to do, as on a machine of its own: those of the herd stand behind one
//! another in their process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use orchestrator_core::node::NodeLink as _;
use orchestrator_http::{Client, HttpLink, JoinRole, JoinToken, Membership};

use super::agents::admit;
use crate::daemon::Failure;

/// The node's name.
const NODE: &str = "pulse";
/// How often a report is due. One that is made late, because the one before took long, is timed from when it was due.
const EVERY: Duration = Duration::from_millis(20);

/// A node that reports, again and again. Dropping it ends that.
pub struct Pulse {
    times: Arc<Times>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Times {
    is_over: AtomicBool,
    /// In milliseconds; endless for a report that failed.
    taken: Mutex<Vec<f64>>,
}

impl Pulse {
    /// Lets the node join the server of an administrator's client, and begins.
    pub async fn start(client: &Client, root_pem: &str) -> Result<Self, Failure> {
        let token = JoinToken::new(root_pem, JoinRole::Agent)?;
        admit(client, &token, NODE).await?;
        let joined = Membership::join(client.server(), &token, NODE).await?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let times = Arc::new(Times::default());
        let shared = Arc::clone(&times);
        let link = HttpLink::new(&joined)?;
        let thread = std::thread::spawn(move || runtime.block_on(report(&link, &shared)));
        Ok(Self { times, thread: Some(thread) })
    }

    /// Takes the times of reports since this was called last, in milliseconds.
    pub fn take_times(&self) -> Vec<f64> {
        std::mem::take(&mut self.times.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.times.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has no more to tell.
            let _ = thread.join();
        }
    }
}

async fn report(link: &HttpLink, times: &Times) {
    let mut due = tokio::time::interval(EVERY);
    while !times.is_over.load(Ordering::Relaxed) {
        let since = due.tick().await;
        let time = match link.report(None).await {
            Ok(()) => since.elapsed().as_secs_f64() * 1_000.0,
            Err(_) => f64::INFINITY,
        };
        times.taken.lock().unwrap_or_else(PoisonError::into_inner).push(time);
    }
}
