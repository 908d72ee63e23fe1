//! Kinds of which there is nothing: empty lists, watches in which nothing happens, and no writes.

use http::Method;
use serde_json::{Value, json};

use crate::fixture::Fixture;

const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";

#[tokio::test]
async fn a_kind_that_is_absent_is_discovered_listed_as_empty_and_found_nowhere() {
    let f = Fixture::new().await;
    let resources = f.get("/apis/batch/v1").await.expect(200);
    let jobs = resources["resources"].as_array().expect("rows").iter();
    let jobs: Vec<&Value> = jobs.filter(|row| row["name"] == "jobs").collect();
    assert_eq!(jobs.len(), 1, "{resources}");
    assert_eq!(jobs[0]["verbs"], json!(["get", "list", "watch"]));
    for path in [JOBS, "/apis/batch/v1/jobs", &format!("{JOBS}?fieldSelector=status.successful=1")]
    {
        let list = f.get(path).await.expect(200);
        assert_eq!((&list["kind"], &list["items"]), (&"JobList".into(), &json!([])), "{path}");
        assert_eq!(list["metadata"]["resourceVersion"], f.cluster.world().revision().to_string());
    }
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = f.send(Method::GET, JOBS, &accept, "").await.expect(200);
    assert_eq!((&table["kind"], &table["rows"]), (&"Table".into(), &json!([])));
    let missing = f.get(&format!("{JOBS}/a")).await.refused(404, "NotFound");
    assert_eq!(missing, "jobs.batch \"a\" not found");
    f.get(&format!("{JOBS}/a/status")).await.refused(404, "NotFound");
    f.get(&format!("{JOBS}?resourceVersion=99999")).await.refused(504, "Timeout");
    f.get(&format!("{JOBS}?sendInitialEvents=true")).await.refused(422, "Invalid");
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn a_kind_that_is_absent_is_never_written_and_says_so() {
    let f = Fixture::new().await;
    let job = json!({ "metadata": { "name": "a" } });
    let before = f.cluster.world().revision();
    for (method, path) in [
        (Method::POST, JOBS.to_owned()),
        (Method::PUT, format!("{JOBS}/a")),
        (Method::PATCH, format!("{JOBS}/a?fieldManager=me&force=true")),
        (Method::DELETE, JOBS.to_owned()),
    ] {
        let answer = f.send(method, &path, &[], job.to_string()).await;
        let message = answer.refused(501, "NotImplemented");
        assert_eq!(message, "jobs.batch is not implemented by this server yet");
    }
    // There is none, so it is gone already: who cleans up is not stopped.
    f.send(Method::DELETE, &format!("{JOBS}/a"), &[], "").await.refused(404, "NotFound");
    assert_eq!(f.cluster.world().revision(), before);
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn in_a_watch_of_a_kind_that_is_absent_nothing_happens_but_bookmarks() {
    let f = Fixture::new().await;
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1";
    let answer = f.get(&format!("{JOBS}?{query}")).await;
    let text = String::from_utf8_lossy(&answer.bytes).into_owned();
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines.iter().all(|line| line["type"] == "BOOKMARK"), "{text}");
    let first = &lines[0]["object"];
    assert_eq!((&first["kind"], &first["apiVersion"]), (&"Job".into(), &"batch/v1".into()));
    assert_eq!(first["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(lines[1]["object"]["metadata"]["annotations"], Value::Null);
    let silent = f.get(&format!("{JOBS}?watch=1&timeoutSeconds=1")).await;
    assert_eq!((silent.code, silent.bytes.len()), (200, 0));
    f.cluster.shutdown(false).await;
}
