//! One identity's requests have bounds: what is above them waits or is refused, by a named limit, and health is answered always.

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use http::{Method, Request};
use http_body::Frame;
use http_body_util::StreamBody;
use orchestrator_http::{Api, FairnessLimits, Transport};
use serde_json::json;

use crate::fixture::{Fixture, MAPS, cluster};

async fn fixture(limits: FairnessLimits) -> Fixture {
    let cluster = cluster().await;
    Fixture { api: Api::with_limits(cluster.clone(), limits), cluster }
}

/// A request whose body never ends.
fn endless() -> Request<impl http_body::Body<Data = Bytes, Error = String> + Send> {
    let request = Request::post(MAPS).header("content-type", "application/json");
    request
        .body(StreamBody::new(stream::pending::<Result<Frame<Bytes>, String>>()))
        .expect("a well-formed request")
}

#[tokio::test]
async fn requests_above_the_limit_are_refused_by_name_and_counted_and_health_is_answered() {
    let limits = FairnessLimits {
        requests_in_flight_max: 2,
        requests_waiting_max: 0,
        ..FairnessLimits::default()
    };
    let f = fixture(limits).await;
    let mut first = Box::pin(f.api.handle(endless(), Transport::Unix));
    let mut second = Box::pin(f.api.handle(endless(), Transport::Unix));
    assert!((&mut first).now_or_never().is_none());
    assert!((&mut second).now_or_never().is_none());
    for path in [MAPS, "/version", "/no/such/path"] {
        let answer = f.get(path).await;
        let message = answer.refused(429, "TooManyRequests");
        assert!(message.contains("requests_waiting_max is 0"), "{message}");
        assert_eq!(answer.header("retry-after"), "1");
        assert_eq!(answer.json()["details"]["retryAfterSeconds"], 1);
    }
    assert_eq!(f.get("/livez").await.code, 200);
    drop(first);
    let metrics = f.get("/metrics").await;
    let text = String::from_utf8_lossy(&metrics.bytes).into_owned();
    for line in [
        "orchestrator_http_limit_refused_total{limit=\"requests_waiting_max\"} 3",
        "orchestrator_http_limit_refused_total{limit=\"streams_max\"} 0",
        "orchestrator_http_limit_refused_total{limit=\"requests_per_second_max\"} 0",
        "orchestrator_http_limit_in_use{limit=\"requests_waiting_max\"} 0",
        // The other one without an end, and this one.
        "orchestrator_http_limit_in_use{limit=\"requests_in_flight_max\"} 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    drop(second);
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn a_watch_holds_a_place_of_a_stream_until_it_ends_and_none_of_a_request() {
    let limits =
        FairnessLimits { requests_in_flight_max: 1, streams_max: 1, ..FairnessLimits::default() };
    let f = fixture(limits).await;
    f.config_map("a", &json!({})).await;
    let one = format!("{MAPS}/a");
    for path in [MAPS, &one, "/apis/batch/v1/jobs"] {
        let watch = || {
            let request = Request::get(format!("{path}?watch=true&resourceVersion=0"));
            request.body(http_body_util::Empty::<Bytes>::new()).expect("a well-formed request")
        };
        let first = f.api.handle(watch(), Transport::Unix).await;
        assert_eq!(first.status(), 200);
        let message = f.get(&format!("{path}?watch=true")).await.refused(429, "TooManyRequests");
        assert!(message.contains("streams_max is 1"), "{path}: {message}");
        f.get(path).await.expect(200);
        drop(first);
        assert_eq!(f.api.handle(watch(), Transport::Unix).await.status(), 200);
    }
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn a_loop_that_is_too_fast_is_refused_and_told_when_to_come_again() {
    let limits = FairnessLimits {
        requests_per_second_max: 1,
        requests_burst_max: 5,
        requests_wait_ms_max: 0,
        ..FairnessLimits::default()
    };
    let f = fixture(limits).await;
    // However slow the machine is, some five requests come within their five seconds.
    let requests = stream::repeat(()).then(|()| f.send(Method::GET, MAPS, &[], ""));
    let mut refused = Box::pin(requests.filter(|answer| std::future::ready(answer.code == 429)));
    let answer = refused.next().await.expect("the loop goes on");
    let message = answer.refused(429, "TooManyRequests");
    assert!(message.contains("requests_per_second_max is 1"), "{message}");
    assert_eq!(answer.header("retry-after"), "1");
    f.cluster.shutdown(false).await;
}
