//! `Client`: calls etcd, member after member, and says of a call that failed what it has done.
//!
//! One connection is used for everything, until a call on it fails; then the next member is asked. Invariants: a call that may have
//! been done is not made again unless it may be done twice; every answer comes from the same etcd cluster.

use std::fmt;
use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tonic::Streaming;

use crate::error::OpenError;
use crate::failure::{At, Failure};
use crate::layout::Layout;
use crate::link::{Link, late};
use crate::members::{Member, members};
use crate::options::{EtcdOptions, EtcdUser};
use crate::wire::{
    CompactionRequest, CompactionResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
    WatchRequest, WatchResponse,
};

/// The pause between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How many members, at least, a call that can be repeated has the time to ask.
const ATTEMPTS_MIN: u32 = 3;

const COMPACT: PathAndQuery = PathAndQuery::from_static("/etcdserverpb.KV/Compact");
const RANGE: PathAndQuery = PathAndQuery::from_static("/etcdserverpb.KV/Range");
const TXN: PathAndQuery = PathAndQuery::from_static("/etcdserverpb.KV/Txn");

/// Calls to one etcd cluster.
pub(crate) struct Client {
    members: Vec<Member>,
    probe: RangeRequest,
    request_max: Duration,
    // Held while connecting: one connects, and the others wait for the connection.
    state: Mutex<State>,
    user: Option<EtcdUser>,
}

#[derive(Default)]
struct State {
    /// Which etcd cluster it is, once known.
    cluster_id: Option<u64>,
    link: Option<Link>,
    links_made: usize,
}

/// Whether a call may be done twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    Always,
    /// Only if the first time did nothing.
    UnlessDone,
}

/// A watch that etcd has agreed to.
pub(crate) struct Watching {
    pub link: Link,
    pub responses: Streaming<WatchResponse>,
}

impl Client {
    /// Makes a client, which connects when it is needed.
    ///
    /// # Errors
    /// [`OpenError::Option`] when an option makes no sense.
    pub(crate) fn new(options: &EtcdOptions, layout: &Layout) -> Result<Self, OpenError> {
        options.check()?;
        let request_max = Duration::from_millis(options.request_ms_max);
        let key = layout.fence();
        // Any member answers it by itself.
        let probe =
            RangeRequest { key, keys_only: true, serializable: true, ..RangeRequest::default() };
        Ok(Self {
            members: members(options, request_max / ATTEMPTS_MIN)?,
            probe,
            request_max,
            state: Mutex::default(),
            user: options.user.clone(),
        })
    }

    /// The members, for messages.
    pub(crate) fn names(&self) -> String {
        self.members.iter().map(|member| &*member.name).collect::<Vec<_>>().join(", ")
    }

    /// When a call that begins now gives up.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.request_max
    }

    /// Reads keys, linearizably unless the request says otherwise.
    pub(crate) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Failure> {
        self.call(RANGE, request, Repeat::Always).await
    }

    /// Carries a transaction out.
    pub(crate) async fn txn(
        &self,
        request: TxnRequest,
        repeat: Repeat,
    ) -> Result<TxnResponse, Failure> {
        self.call(TXN, request, repeat).await
    }

    /// Forgets what was before a revision.
    pub(crate) async fn compact(&self, revision: i64) -> Result<(), Failure> {
        let request = CompactionRequest { revision };
        let response: Result<CompactionResponse, _> =
            self.call(COMPACT, request, Repeat::Always).await;
        response.map(|_| ())
    }

    /// Asks for a watch, once, and waits until etcd has agreed to it.
    pub(crate) async fn watch(&self, request: WatchRequest) -> Result<Watching, Failure> {
        let link = self.link().await?;
        let watching = timeout(self.request_max, link.watch(request)).await;
        let watching = watching.unwrap_or_else(|_| Err(Failure::Unknown(late(&link.member))));
        if watching.is_err() {
            self.abandon(&link).await;
        }
        Ok(Watching { responses: watching?, link })
    }

    /// Stops using a connection on which something failed.
    pub(crate) async fn abandon(&self, link: &Link) {
        let mut state = self.state.lock().await;
        if state.link.as_ref().is_some_and(|current| current.number == link.number) {
            state.link = None;
        }
    }

    /// The failure when etcd answers, but not with what must be there.
    pub(crate) fn damaged(&self, what: &'static str) -> Failure {
        Failure::Refused(At::new(&self.names(), what))
    }

    /// Waits a little, so that failures do not follow each other at once.
    pub(crate) async fn rest(&self) {
        tokio::time::sleep(RETRY_PAUSE).await;
    }

    /// Waits a little before the next attempt; `false` if it would come after `deadline`.
    pub(crate) async fn pause(&self, deadline: Instant) -> bool {
        let in_time = Instant::now() + RETRY_PAUSE < deadline;
        if in_time {
            self.rest().await;
        }
        in_time
    }

    async fn call<Q, A>(&self, path: PathAndQuery, message: Q, repeat: Repeat) -> Result<A, Failure>
    where
        Q: prost::Message + Clone + 'static,
        A: prost::Message + Default + 'static,
    {
        let deadline = self.deadline();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = match repeat {
                Repeat::Always => left.min(self.request_max / ATTEMPTS_MIN),
                Repeat::UnlessDone => left,
            };
            let failure = match self.attempt(&path, message.clone(), patience).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let again = match failure {
                Failure::Elsewhere(_) => true,
                Failure::Unknown(_) => repeat == Repeat::Always,
                Failure::Full(_)
                | Failure::OutOfRange(_)
                | Failure::Refused(_)
                | Failure::TooLarge(_) => false,
            };
            if !again || !self.pause(deadline).await {
                return Err(failure);
            }
            tracing::debug!(error = %failure.into_error(), "asking etcd again");
        }
    }

    async fn attempt<Q, A>(
        &self,
        path: &PathAndQuery,
        message: Q,
        patience: Duration,
    ) -> Result<A, Failure>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let begin = Instant::now();
        let link = timeout(patience, self.link())
            .await
            .unwrap_or_else(|_| Err(Failure::Elsewhere(late(&self.names()))))?;
        let patience = patience.saturating_sub(begin.elapsed());
        let answer = link.unary(path.clone(), message, patience).await;
        if let Err(Failure::Elsewhere(_) | Failure::Unknown(_)) = answer {
            self.abandon(&link).await;
        }
        answer
    }

    /// The connection in use, or a new one to the next member.
    async fn link(&self) -> Result<Link, Failure> {
        let mut state = self.state.lock().await;
        if let Some(link) = &state.link {
            return Ok(link.clone());
        }
        let number = state.links_made;
        state.links_made += 1;
        let member = &self.members[number % self.members.len()];
        let link = Link::connect(member, number, self.user.as_ref(), self.request_max).await?;
        let id = self.cluster_id(&link).await?;
        if *state.cluster_id.get_or_insert(id) != id {
            let error = "it belongs to another etcd cluster than the endpoints before it";
            return Err(link.elsewhere(error));
        }
        tracing::debug!(member = link.member, "connected to etcd");
        state.link = Some(link.clone());
        Ok(link)
    }

    async fn cluster_id(&self, link: &Link) -> Result<u64, Failure> {
        let answer = link.unary(RANGE, self.probe.clone(), self.request_max).await;
        let RangeResponse { header, .. } = answer.map_err(Failure::nothing_done)?;
        Ok(header.ok_or_else(|| link.elsewhere("its answer has no header"))?.cluster_id)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("members", &self.names()).finish_non_exhaustive()
    }
}
