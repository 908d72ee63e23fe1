//! `Record`: what engines tell of containers, and what the test did to machines, in the order in which it happened.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

/// How long to wait before an engine that ended its stream of events is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// How much later than another an engine may tell what happened before it, in nanoseconds: things that end together are told
/// in any order.
const LATE_NANOS_MAX: u64 = 1_000_000_000;

/// A run of a container, as its labels tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// The node whose engine runs it.
    pub node: String,
    /// The engine's id of it.
    pub id: String,
    /// The pod's uid.
    pub uid: String,
    /// The pod's namespace and name.
    pub pod: (String, String),
    /// The container's name; empty for the sandbox.
    pub container: String,
}

/// Something that matters to an oracle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// A container was started.
    Started(Run),
    /// A container ended.
    Ended(Run),
    /// The test is about to end a container by itself.
    Meant {
        /// The engine's id of it.
        id: String,
    },
    /// An engine starts after a crash, and ends what it finds running.
    EngineStarted {
        /// The engine's node.
        node: String,
    },
    /// A user said of a node that it is no more: from then on its names are free, whatever still runs there.
    NodeRemoved {
        /// The node.
        node: String,
    },
    /// A machine lost its power, and with it all that ran there.
    MachineLost {
        /// The machine's node.
        node: String,
    },
}

/// What an engine has told already.
struct Told {
    newest: u64,
    events: BTreeSet<(u64, String)>,
}

/// What happened, and when, in nanoseconds since 1970. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Record {
    entries: Arc<Mutex<Vec<(u64, Happened)>>>,
}

impl Record {
    /// Puts down that something happens now.
    pub fn note(&self, happened: Happened) {
        self.put(now(), happened);
    }

    /// Everything so far, in the order in which it happened.
    pub fn entries(&self) -> Vec<Happened> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone();
        entries.sort_by_key(|(at, _)| *at);
        entries.into_iter().map(|(_, happened)| happened).collect()
    }

    /// Forgets everything so far: for a test of the oracle, which has seen what it wanted.
    pub fn forget(&self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How many containers (not sandboxes) were started on a node so far.
    pub fn started_on(&self, node: &str) -> usize {
        let started = |it: &&Happened| matches!(it, Happened::Started(run) if run.node == node && !run.container.is_empty());
        self.entries().iter().filter(started).count()
    }

    /// Puts down from now on what the engine at a socket tells.
    pub(super) fn listen(&self, node: &str, socket: &Path) {
        let (record, node, socket) = (self.clone(), node.to_owned(), socket.to_owned());
        tokio::spawn(async move {
            let mut told = Told { newest: now(), events: BTreeSet::new() };
            loop {
                // An engine that is down has nothing to tell.
                let _ = record.follow(&node, &socket, &mut told).await;
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        });
    }

    async fn follow(&self, node: &str, socket: &PathBuf, told: &mut Told) -> std::io::Result<()> {
        let mut stream = UnixStream::connect(socket).await?;
        let since = told.newest.saturating_sub(LATE_NANOS_MAX);
        let since_seconds = format!("{}.{:09}", since / 1_000_000_000, since % 1_000_000_000);
        let request = format!("GET /events?since={since_seconds} HTTP/1.0\r\nHost: engine\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut lines = BufReader::new(stream).lines();
        while let Some(line) = lines.next_line().await? {
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            let at = event["timeNano"].as_u64().unwrap_or_default();
            let Some(happened) = read(node, &event) else { continue };
            if told.events.insert((at, line)) {
                told.newest = told.newest.max(at);
                self.put(at, happened);
            }
        }
        Ok(())
    }

    fn put(&self, at: u64, happened: Happened) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push((at, happened));
    }
}

/// Understands an event of an engine's, if it is of interest.
fn read(node: &str, event: &Value) -> Option<Happened> {
    let labels = &event["Actor"]["Attributes"];
    let label = |name: &str| labels[format!("orchestrator.dev/{name}")].as_str().map(str::to_owned);
    let run = Run {
        node: node.to_owned(),
        id: event["Actor"]["ID"].as_str()?.to_owned(),
        uid: label("pod-uid")?,
        pod: (label("pod-namespace")?, label("pod-name")?),
        container: label("container").unwrap_or_default(),
    };
    match event["Action"].as_str()? {
        "start" => Some(Happened::Started(run)),
        "die" => Some(Happened::Ended(run)),
        _ => None,
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
