//! What watches promise: every matching event once and in order (S6), bookmarks only behind events (S7), list and
//! watch together equal a later list (S9).

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use orchestrator_http::{Body, Transport};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixture::{Fixture, MAPS, config_map};

/// A watch being read.
pub(crate) struct Events {
    body: Body,
    buffer: Vec<u8>,
}

impl Events {
    async fn open(f: &Fixture, query: &str) -> Self {
        Self::open_by(f, Transport::Unix, query).await
    }

    pub(crate) async fn open_by(f: &Fixture, transport: Transport, query: &str) -> Self {
        Self::open_at(f, transport, &format!("{MAPS}?watch=true&{query}")).await
    }

    pub(crate) async fn open_at(f: &Fixture, transport: Transport, path: &str) -> Self {
        Self::open_as(f, transport, path, "application/json").await
    }

    /// Opens a watch whose objects are tables of a row.
    pub(crate) async fn open_table(f: &Fixture, path: &str) -> Self {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        Self::open_as(f, Transport::Unix, path, table).await
    }

    async fn open_as(f: &Fixture, transport: Transport, path: &str, accept: &str) -> Self {
        let request = Request::builder().uri(path).header("accept", accept);
        let request = request.body(Full::<bytes::Bytes>::default()).expect("fine");
        let response = f.api.handle(request, transport).await;
        assert_eq!(response.status().as_u16(), 200);
        Self { body: response.into_body(), buffer: Vec::new() }
    }

    /// Waits for the next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let mut event: Value = serde_json::from_slice(&line).expect("a JSON line");
                let object = event["object"].take();
                return Some((event["type"].as_str().unwrap_or_default().to_owned(), object));
            }
            let frame = tokio::time::timeout(Duration::from_secs(30), self.body.frame());
            let frame = frame.await.expect("an event comes or the watch ends")?;
            self.buffer.extend(frame.expect("bodies do not fail").into_data().expect("data"));
        }
    }

    pub(crate) async fn expect(&mut self, kind: &str, name: &str) -> Value {
        let (found, object) = self.next().await.expect("the watch goes on");
        assert_eq!((found.as_str(), object["metadata"]["name"].as_str()), (kind, Some(name)));
        object
    }
}

async fn delete(f: &Fixture, name: &str) {
    f.send(Method::DELETE, &format!("{MAPS}/{name}"), &[], "").await.expect(200);
}

async fn label(f: &Fixture, name: &str, labels: Value) {
    let patch = json!({ "metadata": { "labels": labels } }).to_string();
    f.patch(&format!("{MAPS}/{name}"), "application/merge-patch+json", &patch).await.expect(200);
}

#[tokio::test]
async fn a_watch_from_a_revision_tells_what_came_after_it() {
    let f = Fixture::new().await;
    let before = f.config_map("a", &json!({})).await;
    f.config_map("b", &json!({})).await;
    let mut events = Events::open(&f, &format!("resourceVersion={before}")).await;
    events.expect("ADDED", "b").await;
    label(&f, "a", json!({ "x": "1" })).await;
    events.expect("MODIFIED", "a").await;
    delete(&f, "a").await;
    let last = events.expect("DELETED", "a").await;
    assert_eq!(last["metadata"]["labels"]["x"], "1", "the last value is told");
    assert_eq!(last["metadata"]["resourceVersion"], f.cluster.world().revision().to_string());
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn a_watch_without_a_revision_tells_what_there_is_first() {
    let f = Fixture::new().await;
    f.config_map("a", &json!({})).await;
    f.config_map("b", &json!({})).await;
    for query in ["", "resourceVersion=0"] {
        let mut events = Events::open(&f, query).await;
        events.expect("ADDED", "a").await;
        events.expect("ADDED", "b").await;
    }
    let initial =
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = Events::open(&f, initial).await;
    events.expect("ADDED", "a").await;
    events.expect("ADDED", "b").await;
    let (kind, bookmark) = events.next().await.expect("the end of the initial events");
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(bookmark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(bookmark["metadata"]["resourceVersion"], f.cluster.world().revision().to_string());
    f.config_map("c", &json!({})).await;
    events.expect("ADDED", "c").await;
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn an_object_that_stops_being_selected_is_gone_and_one_that_begins_is_new() {
    let f = Fixture::new().await;
    f.config_map("a", &json!({ "in": "no" })).await;
    let revision = f.cluster.world().revision();
    let mut events =
        Events::open(&f, &format!("resourceVersion={revision}&labelSelector=in%3Dyes")).await;
    label(&f, "a", json!({ "in": "yes" })).await;
    events.expect("ADDED", "a").await;
    label(&f, "a", json!({ "more": "1" })).await;
    events.expect("MODIFIED", "a").await;
    label(&f, "a", json!({ "in": "no" })).await;
    let gone = events.expect("DELETED", "a").await;
    assert_eq!(gone["metadata"]["labels"]["in"], "yes", "the last value that was selected");
    delete(&f, "a").await;
    f.config_map("b", &json!({ "in": "yes" })).await;
    events.expect("ADDED", "b").await;
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn a_revision_that_is_not_remembered_ends_the_watch_with_expired() {
    let f = Fixture::new().await;
    let oldest = f.config_map("a", &json!({})).await;
    let commits = orchestrator_core::driver::CHANGES_KEPT_MAX;
    for n in 0..=commits {
        label(&f, "a", json!({ "n": n.to_string() })).await;
    }
    let mut events = Events::open(&f, &format!("resourceVersion={oldest}")).await;
    let (kind, status) = events.next().await.expect("an event");
    assert_eq!(
        (kind.as_str(), &status["code"], &status["reason"]),
        ("ERROR", &410.into(), &"Expired".into())
    );
    assert!(events.next().await.is_none());
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn a_client_that_stops_reading_is_told_expired_and_nothing_waits_for_it() {
    let f = Fixture::new().await;
    f.config_map("a", &json!({})).await;
    let mut events = Events::open(&f, "resourceVersion=0").await;
    events.expect("ADDED", "a").await;
    // It reads no more while more is written than the history keeps.
    let data = "x".repeat(1 << 19);
    let map = |n: usize| json!({ "metadata": { "name": format!("m{n}") }, "data": { "a": data } });
    for n in 0..=orchestrator_core::driver::CHANGES_BYTES_MAX / data.len() {
        f.post(MAPS, &map(n)).await.expect(201);
        f.send(Method::DELETE, &format!("{MAPS}/m{n}"), &[], "").await.expect(200);
    }
    // Had anything been queued for it, that would come first.
    let (kind, status) = events.next().await.expect("an event");
    assert_eq!((kind.as_str(), &status["reason"]), ("ERROR", &"Expired".into()));
    assert!(events.next().await.is_none());
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn an_object_is_encoded_once_however_many_watches_tell_of_it() {
    let f = Fixture::new().await;
    let start = f.config_map("a", &json!({ "in": "no" })).await;
    let mut watches = Vec::new();
    for n in 0..20 {
        let selector = if n % 2 == 0 { "" } else { "&labelSelector=in%3Dyes" };
        watches.push(Events::open(&f, &format!("resourceVersion={start}{selector}")).await);
    }
    label(&f, "a", json!({ "in": "yes" })).await;
    label(&f, "a", json!({ "in": "yes", "more": "1" })).await;
    delete(&f, "a").await;
    let mut told = Vec::new();
    for events in &mut watches {
        let mut own = Vec::new();
        while own.last().is_none_or(|(kind, _)| kind != "DELETED") {
            own.push(events.next().await.expect("the watch goes on"));
        }
        told.push(own);
    }
    assert_eq!(told[0][0].0, "MODIFIED", "this one has seen it before");
    assert_eq!(told[1][0].0, "ADDED", "to this one it is new");
    for (n, own) in told.iter().enumerate() {
        assert_eq!(own, &told[n % 2]);
        assert_eq!(own[2], told[0][2]);
    }
    let metrics = f.get("/metrics").await;
    let text = String::from_utf8_lossy(&metrics.bytes).into_owned();
    assert!(text.contains("\norchestrator_http_objects_encoded_total 3\n"), "{text}");
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn a_watch_ends_by_itself_when_its_time_is_over() {
    let f = Fixture::new().await;
    let mut events = Events::open(&f, "timeoutSeconds=1&resourceVersion=0").await;
    assert!(events.next().await.is_none());
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn a_bookmark_comes_only_behind_every_event_up_to_it() {
    let f = Fixture::new().await;
    let start = f.config_map("a", &json!({})).await;
    let query = format!("timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion={start}");
    let mut events = Events::open(&f, &query).await;
    let mut told = Vec::new();
    let mut bookmark = None;
    let mut n = 0;
    // Writes go on while the watch runs into its end.
    loop {
        tokio::select! {
            biased;
            event = events.next() => match event {
                Some((kind, object)) if kind == "BOOKMARK" => bookmark = Some(revision_of(&object)),
                Some((_, object)) => {
                    assert!(bookmark.is_none(), "an event behind the last bookmark");
                    told.push(revision_of(&object));
                }
                None => break,
            },
            () = label(&f, "a", json!({ "n": n.to_string() })) => n += 1,
        }
    }
    let bookmark = bookmark.expect("a watch ends with a bookmark");
    let mut all = f.cluster.changes(start.parse().expect("a revision"));
    let mut expected = Vec::new();
    while let Some(change) = all.try_next().expect("nothing is compacted") {
        let is_told = change.key.kind == orchestrator_core::model::Kind::ConfigMap;
        if is_told && change.revision.0 <= bookmark {
            expected.push(change.revision.0);
        }
    }
    assert!(!told.is_empty());
    assert_eq!(told, expected, "S7");
    f.cluster.shutdown(false).await;
}

/// A step of a random history of a few config maps.
#[derive(Clone, Debug)]
enum Step {
    Create(u8, bool),
    Delete(u8),
    Label(u8, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4u8, any::<bool>()).prop_map(|(name, selected)| Step::Create(name, selected)),
        (0..4u8).prop_map(Step::Delete),
        (0..4u8, any::<bool>()).prop_map(|(name, selected)| Step::Label(name, selected)),
    ]
}

async fn take(f: &Fixture, step: &Step) {
    let selected = |selected: &bool| json!({ "in": selected.to_string() });
    // Steps on what is not there, or is there already, are refused; that is fine.
    match step {
        Step::Create(name, is_in) => {
            f.post(MAPS, &config_map(&format!("m{name}"), &selected(is_in))).await;
        }
        Step::Delete(name) => {
            f.send(Method::DELETE, &format!("{MAPS}/m{name}"), &[], "").await;
        }
        Step::Label(name, is_in) => {
            let patch = json!({ "metadata": { "labels": selected(is_in) } }).to_string();
            let path = format!("{MAPS}/m{name}");
            f.patch(&path, "application/merge-patch+json", &patch).await;
        }
    }
}

type Seen = BTreeMap<String, Value>;

async fn list(f: &Fixture, selector: &str) -> (String, Seen) {
    let list = f.get(&format!("{MAPS}?{selector}")).await.expect(200);
    let revision = list["metadata"]["resourceVersion"].as_str().expect("a revision").to_owned();
    let items = list["items"].as_array().expect("items").iter();
    (revision, items.map(|item| (item["metadata"]["name"].to_string(), item.clone())).collect())
}

fn revision_of(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("a revision")
}

async fn replay_equals_list(steps: Vec<Step>, selector: &str) {
    let f = Fixture::new().await;
    let mut starts = Vec::new();
    for step in &steps {
        starts.push(list(&f, selector).await);
        take(&f, step).await;
    }
    // The end of the history, so that every watch can be read up to it.
    f.config_map("last", &json!({ "in": "true" })).await;
    let (end, expected) = list(&f, selector).await;
    for (start, mut seen) in starts {
        let mut events = Events::open(&f, &format!("resourceVersion={start}&{selector}")).await;
        let mut newest = start.parse().expect("a number");
        loop {
            let (kind, object) = events.next().await.expect("the watch goes on");
            let name = object["metadata"]["name"].to_string();
            let revision = revision_of(&object);
            assert!(revision > newest, "{revision} after {newest}: each once and in order (S6)");
            newest = revision;
            match kind.as_str() {
                "ADDED" => assert!(seen.insert(name, object).is_none(), "added twice"),
                "MODIFIED" => {
                    assert!(seen.insert(name, object).is_some(), "changed before it was added")
                }
                "DELETED" => assert!(seen.remove(&name).is_some(), "deleted before it was added"),
                other => panic!("{other}"),
            }
            if newest.to_string() == end {
                break;
            }
        }
        assert_eq!(seen, expected, "list and watch equal a later list (S9)");
    }
    f.cluster.shutdown(false).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_list_and_the_watch_after_it_equal_every_later_list(
        steps in proptest::collection::vec(step(), 1..16),
        select in any::<bool>(),
    ) {
        let selector = if select { "labelSelector=in%3Dtrue" } else { "" };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(replay_equals_list(steps, selector));
    }
}
