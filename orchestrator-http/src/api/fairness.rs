//! Fairness: how much of the server one identity may take, so that a client in a hot loop slows nobody else.
//!
//! Each identity has a lane of its own; nobody waits in another's. A request takes a token of the lane's rate and a place
//! among its requests in flight; if there is none it waits, within bounds, and is refused with 429 after that. Streams have
//! places of their own, which they keep as long as they last. Invariant: a place is given back when its [`Ticket`] is dropped,
//! and every refusal is counted under the name of the limit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::metrics::{InUse, LimitMetrics};
use crate::body::{self, Body};
use crate::node::NodeCall;
use crate::path::Route;
use crate::query::Query;
use crate::registry::Subresource;
use crate::status::Failure;
use crate::stream::Takeover;

/// The most identities with a lane of their own; the ones beyond share one.
const IDENTITIES_MAX: usize = 10_000;

/// How much of the server one identity (a user, a service account, a node) may take. The metrics name each limit as here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FairnessLimits {
    /// The most requests that are worked on at a time, until their answer begins; further ones wait. Enough to fill the
    /// commits that share a sync, few enough that somebody else's request finds a short queue at the processors.
    pub requests_in_flight_max: usize,
    /// The most requests that wait for their turn; further ones are refused.
    pub requests_waiting_max: usize,
    /// How long a request waits for its turn, in milliseconds; then it is refused.
    pub requests_wait_ms_max: u64,
    /// How many requests may come per second in the long run; further ones wait. Far above what controllers do, and what keeps
    /// a large machine from working for one loop alone.
    pub requests_per_second_max: u32,
    /// How many requests may come at once after a rest, before the rate counts.
    pub requests_burst_max: u32,
    /// The most streams at a time: watches, logs that are followed, exec, attach and port-forward. Further ones are refused.
    /// Fewer than a server's connections, so that one identity's watches leave some to others.
    pub streams_max: usize,
}

impl Default for FairnessLimits {
    fn default() -> Self {
        Self {
            requests_in_flight_max: 64,
            requests_waiting_max: 256,
            requests_wait_ms_max: 5_000,
            requests_per_second_max: 20_000,
            requests_burst_max: 20_000,
            streams_max: 1_500,
        }
    }
}

/// How a request is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Request,
    Stream,
}

impl Class {
    /// Tells requests that end soon from those that last.
    pub(super) fn of(method: &Method, route: &Route, query: &Query) -> Self {
        let lasts = match route {
            Route::Sub { sub: Subresource::Log, .. } => query.flag("follow") == Some(true),
            Route::Sub {
                sub: Subresource::Attach | Subresource::Exec | Subresource::PortForward,
                ..
            } => true,
            Route::Backups | Route::Node { call: NodeCall::Tunnel, .. } => true,
            route => route.is_watch(method, query),
        };
        if lasts { Self::Stream } else { Self::Request }
    }
}

/// A limit by which a request can be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    InFlight,
    Rate,
    Streams,
    Waiting,
}

impl Limit {
    pub(super) const ALL: [Self; 4] = [Self::InFlight, Self::Rate, Self::Streams, Self::Waiting];

    /// The field of [`FairnessLimits`].
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::InFlight => "requests_in_flight_max",
            Self::Rate => "requests_per_second_max",
            Self::Streams => "streams_max",
            Self::Waiting => "requests_waiting_max",
        }
    }
}

/// The lanes of every identity.
#[derive(Debug)]
pub(super) struct Fairness {
    limits: FairnessLimits,
    metrics: LimitMetrics,
    lanes: Mutex<HashMap<String, Arc<Lane>>>,
    /// Of the identities beyond [`IDENTITIES_MAX`].
    shared: Arc<Lane>,
}

/// What one identity has taken.
#[derive(Debug)]
struct Lane {
    in_flight: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    pace: Mutex<Pace>,
}

/// A place that a request holds.
#[derive(Debug)]
pub(super) struct Ticket {
    class: Class,
    _place: OwnedSemaphorePermit,
    _in_use: InUse,
}

impl Ticket {
    /// Gives the place back now that the answer begins; of a stream, when it ends.
    pub(super) fn keep_for(self, mut response: Response<Body>) -> Response<Body> {
        if self.class == Class::Request || !response.status().is_success() && !is_upgrade(&response)
        {
            return response;
        }
        if is_upgrade(&response) {
            Takeover::hold(response.extensions_mut(), self);
            return response;
        }
        response.map(|body| body::holding(body, self))
    }
}

fn is_upgrade(response: &Response<Body>) -> bool {
    response.status() == http::StatusCode::SWITCHING_PROTOCOLS
}

impl Fairness {
    pub(super) fn new(limits: FairnessLimits, metrics: LimitMetrics) -> Self {
        let countable = |number: usize| number.min(Semaphore::MAX_PERMITS);
        let limits = FairnessLimits {
            requests_in_flight_max: countable(limits.requests_in_flight_max),
            requests_waiting_max: countable(limits.requests_waiting_max),
            streams_max: countable(limits.streams_max),
            ..limits
        };
        let shared = Arc::new(Lane::new(&limits));
        Self { limits, metrics, lanes: Mutex::default(), shared }
    }

    /// Lets a request in, at once or after a while.
    ///
    /// # Errors
    /// 429 when the identity has as much under way as it may.
    pub(super) async fn admit(&self, identity: &str, class: Class) -> Result<Ticket, Failure> {
        let lane = self.lane(identity);
        let wait = Duration::from_millis(self.limits.requests_wait_ms_max);
        let delay = lane.pace.lock().unwrap_or_else(PoisonError::into_inner).take(
            Instant::now(),
            &self.limits,
            wait,
        );
        let delay = delay.map_err(|later| self.refuse(Limit::Rate, later))?;
        let (places, limit) = match class {
            Class::Request => (&lane.in_flight, Limit::InFlight),
            Class::Stream => (&lane.streams, Limit::Streams),
        };
        if delay.is_zero() {
            if let Ok(place) = Arc::clone(places).try_acquire_owned() {
                return Ok(self.ticket(class, limit, place));
            }
            if class == Class::Stream {
                return Err(self.refuse(limit, Duration::ZERO));
            }
        }
        let Ok(_waiting) = Arc::clone(&lane.waiting).try_acquire_owned() else {
            return Err(self.refuse(Limit::Waiting, Duration::ZERO));
        };
        let _in_use = self.metrics.in_use(Limit::Waiting);
        let place = tokio::time::timeout(wait, async {
            tokio::time::sleep(delay).await;
            Arc::clone(places).acquire_owned().await
        });
        match place.await {
            Ok(Ok(place)) => Ok(self.ticket(class, limit, place)),
            Ok(Err(_)) | Err(_) => Err(self.refuse(limit, Duration::ZERO)),
        }
    }

    fn ticket(&self, class: Class, limit: Limit, place: OwnedSemaphorePermit) -> Ticket {
        Ticket { class, _place: place, _in_use: self.metrics.in_use(limit) }
    }

    fn refuse(&self, limit: Limit, later: Duration) -> Failure {
        self.metrics.refused(limit);
        let (name, limits) = (limit.name(), &self.limits);
        let message = match limit {
            Limit::InFlight => format!(
                "too many requests of yours are under way ({name} is {}) and none ended within {} ms",
                limits.requests_in_flight_max, limits.requests_wait_ms_max
            ),
            Limit::Rate => {
                format!("your requests come too fast: {name} is {}", limits.requests_per_second_max)
            }
            Limit::Streams => format!(
                "too many watches and other streams of yours are open: {name} is {}",
                limits.streams_max
            ),
            Limit::Waiting => format!(
                "too many requests of yours wait for their turn: {name} is {}",
                limits.requests_waiting_max
            ),
        };
        let seconds = later.as_secs() + u64::from(later.subsec_nanos() > 0);
        Failure::too_many_requests(message, seconds.max(1))
    }

    fn lane(&self, identity: &str) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(identity) {
            return Arc::clone(lane);
        }
        if lanes.len() >= IDENTITIES_MAX {
            let now = Instant::now();
            lanes.retain(|_, lane| !lane.is_idle(&self.limits, now));
        }
        if lanes.len() >= IDENTITIES_MAX {
            return Arc::clone(&self.shared);
        }
        let lane = Arc::new(Lane::new(&self.limits));
        lanes.insert(identity.to_owned(), Arc::clone(&lane));
        lane
    }
}

impl Lane {
    fn new(limits: &FairnessLimits) -> Self {
        let places = |number| Arc::new(Semaphore::new(number));
        Self {
            in_flight: places(limits.requests_in_flight_max),
            waiting: places(limits.requests_waiting_max),
            streams: places(limits.streams_max),
            pace: Mutex::default(),
        }
    }

    /// Whether forgetting the lane would give its identity nothing.
    fn is_idle(self: &Arc<Self>, limits: &FairnessLimits, now: Instant) -> bool {
        let is_rested = self.pace.lock().unwrap_or_else(PoisonError::into_inner).is_rested(now);
        is_rested
            && Arc::strong_count(self) == 1
            && self.in_flight.available_permits() == limits.requests_in_flight_max
            && self.streams.available_permits() == limits.streams_max
    }
}

/// A rate with a burst, as the time up to which the requests so far have been paid for (the generic cell rate algorithm).
#[derive(Debug, Default)]
struct Pace {
    paid_until: Option<Instant>,
}

impl Pace {
    /// Takes a turn, and says in how long it is; with an error, that it would be later than `wait`, and takes none.
    fn take(
        &mut self,
        now: Instant,
        limits: &FairnessLimits,
        wait: Duration,
    ) -> Result<Duration, Duration> {
        let each = Duration::from_secs(1) / limits.requests_per_second_max.max(1);
        let burst = each * limits.requests_burst_max.max(1);
        let paid_until = self.paid_until.map_or(now, |until| until.max(now)) + each;
        let delay = paid_until.saturating_duration_since(now).saturating_sub(burst);
        if delay > wait {
            return Err(delay - wait);
        }
        self.paid_until = Some(paid_until);
        Ok(delay)
    }

    fn is_rested(&self, now: Instant) -> bool {
        self.paid_until.is_none_or(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn fairness(limits: FairnessLimits) -> Fairness {
        Fairness::new(limits, LimitMetrics::default())
    }

    fn strict() -> FairnessLimits {
        FairnessLimits {
            requests_in_flight_max: 2,
            requests_waiting_max: 1,
            requests_wait_ms_max: 60_000,
            streams_max: 1,
            ..FairnessLimits::default()
        }
    }

    #[tokio::test]
    async fn who_has_taken_its_places_waits_then_is_refused_and_others_are_served() {
        let fairness = fairness(strict());
        let first = fairness.admit("loop", Class::Request).await.expect("a place");
        let second = fairness.admit("loop", Class::Request).await.expect("a place");
        let mut third = std::pin::pin!(fairness.admit("loop", Class::Request));
        assert!(third.as_mut().now_or_never().is_none(), "the third waits");
        let refused = fairness.admit("loop", Class::Request).await.expect_err("nobody else waits");
        assert_eq!((refused.code.as_u16(), refused.reason), (429, "TooManyRequests"));
        assert!(refused.message.contains("requests_waiting_max is 1"), "{}", refused.message);
        fairness.admit("other", Class::Request).await.expect("another's lane is free");
        drop(first);
        third.await.expect("a place became free");
        drop(second);
    }

    #[tokio::test]
    async fn streams_have_places_of_their_own() {
        let fairness = fairness(strict());
        let stream = fairness.admit("a", Class::Stream).await.expect("a place");
        let refused = fairness.admit("a", Class::Stream).await.expect_err("one is the limit");
        assert!(refused.message.contains("streams_max is 1"), "{}", refused.message);
        fairness.admit("a", Class::Request).await.expect("a stream takes no place of a request");
        fairness.admit("b", Class::Stream).await.expect("another's lane is free");
        drop(stream);
        fairness.admit("a", Class::Stream).await.expect("the place came back");
    }

    #[test]
    fn a_burst_passes_then_the_rate_counts_and_a_rest_gives_the_burst_back() {
        let limits = FairnessLimits {
            requests_per_second_max: 10,
            requests_burst_max: 3,
            ..FairnessLimits::default()
        };
        let (mut pace, start) = (Pace::default(), Instant::now());
        let ms = Duration::from_millis;
        let mut take = |at: u64, wait: u64| pace.take(start + ms(at), &limits, ms(wait));
        for _ in 0..3 {
            assert_eq!(take(0, 250), Ok(ms(0)));
        }
        assert_eq!((take(0, 250), take(0, 250)), (Ok(ms(100)), Ok(ms(200))));
        assert_eq!(take(0, 250), Err(ms(50)), "in 50 ms a turn is near enough to wait for");
        assert_eq!(take(50, 250), Ok(ms(250)), "a refusal took no turn");
        for _ in 0..3 {
            assert_eq!(take(10_000, 0), Ok(ms(0)), "the burst is back, and no more than it");
        }
        assert_eq!(take(10_000, 0), Err(ms(100)));
    }

    #[tokio::test]
    async fn lanes_are_bounded_and_forgotten_only_when_idle() {
        let fairness = fairness(strict());
        let stream = fairness.admit("busy", Class::Stream).await.expect("a place");
        for n in 0..2 * IDENTITIES_MAX {
            fairness.admit(&format!("user {n}"), Class::Request).await.expect("a place");
        }
        assert!(fairness.lanes.lock().expect("no panic").len() <= IDENTITIES_MAX);
        assert!(fairness.admit("busy", Class::Stream).await.is_err(), "it still holds its place");
        drop(stream);
    }
}
