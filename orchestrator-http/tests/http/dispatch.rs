//! What requests mean.

use http::Method;
use orchestrator_http::BODY_BYTES_MAX;
use serde_json::{Value, json};

use crate::fixture::{Answer, Fixture, MAPS, config_map, deployment};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

#[tokio::test]
async fn an_object_is_created_read_changed_and_deleted() {
    let f = Fixture::new().await;
    let made = f.post(MAPS, &config_map("a", &json!({}))).await.expect(201);
    assert_eq!(made["kind"], "ConfigMap");
    assert!(made["metadata"]["uid"].is_string());
    let read = f.get(&format!("{MAPS}/a")).await.expect(200);
    assert_eq!(read, made);

    let mut changed = read.clone();
    changed["data"]["a"] = "c".into();
    let put = |body: &Value| {
        let body = body.to_string();
        async { f.send(Method::PUT, &format!("{MAPS}/a"), &[], body).await }
    };
    let after = put(&changed).await.expect(200);
    assert_eq!(after["data"]["a"], "c");
    assert_ne!(after["metadata"]["resourceVersion"], read["metadata"]["resourceVersion"]);
    let message = put(&changed).await.refused(409, "Conflict");
    assert!(message.starts_with("Operation cannot be fulfilled on configmaps \"a\""), "{message}");

    let merge = "application/merge-patch+json";
    let patched = f.patch(&format!("{MAPS}/a"), merge, r#"{"data":{"a":null,"x":"y"}}"#).await;
    assert_eq!(patched.expect(200)["data"], json!({ "x": "y" }));
    let gone = f.send(Method::DELETE, &format!("{MAPS}/a"), &[], "").await.expect(200);
    assert_eq!(gone["status"], "Success");
    assert_eq!(gone["details"]["uid"], made["metadata"]["uid"]);
    f.get(&format!("{MAPS}/a")).await.refused(404, "NotFound");
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn apply_creates_changes_and_removes_what_the_manifest_dropped() {
    let f = Fixture::new().await;
    let path = format!("{MAPS}/a");
    let apply = "application/vnd.orchestrator.apply+yaml";
    let first =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  x: \"1\"\n  y: \"2\"\n";
    f.patch(&path, apply, first).await.expect(201);
    let second = first.replace("  y: \"2\"\n", "");
    let changed = f.patch(&path, apply, &second).await.expect(200);
    assert_eq!(changed["data"], json!({ "x": "1" }));
    let same = f.patch(&path, apply, &second).await.expect(200);
    assert_eq!(same["metadata"]["resourceVersion"], changed["metadata"]["resourceVersion"]);
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn bad_input_gets_a_precise_answer_and_changes_nothing() {
    let f = Fixture::new().await;
    let before = f.cluster.world();
    let check = |answer: Answer, code: u16, part: &str| {
        let status = answer.expect(code);
        let message = status["message"].as_str().unwrap_or_default();
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    };
    let strict = format!("{DEPLOYMENTS}?fieldValidation=Strict");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut object = deployment("web");
        change(&mut object);
        object
    };
    let body = with(&|d| d["spec"]["bogus"] = 1.into());
    check(f.post(&strict, &body).await, 400, "unknown field \"spec.bogus\"");
    let body = with(&|d| d["spec"]["replicas"] = "x".into());
    check(f.post(&strict, &body).await, 400, "spec.replicas");
    let body = with(&|d| d["spec"]["replicas"] = (-1).into());
    check(f.post(&strict, &body).await, 422, "spec.replicas: Invalid value: -1");
    let body = with(&|d| d["spec"]["selector"]["matchLabels"]["app"] = "other".into());
    check(f.post(&strict, &body).await, 422, "spec.template.metadata.labels");
    let body = with(&|d| d["kind"] = "Gadget".into());
    check(f.post(&strict, &body).await, 400, "kind: \"Gadget\" does not match");
    let body = with(&|d| d["metadata"]["name"] = "../x".into());
    check(f.post(&strict, &body).await, 422, "metadata.name");
    let body = with(&|d| d["metadata"]["namespace"] = "elsewhere".into());
    check(f.post(&strict, &body).await, 400, "namespace");
    let raw = |body: Vec<u8>, media_type: &'static str| {
        let headers = [("content-type", media_type)];
        let f = &f;
        let strict = &strict;
        async move { f.send(Method::POST, strict, &headers, body).await }
    };
    const JSON: &str = "application/json";
    const YAML: &str = "application/yaml";
    let huge = format!(r#"{{"a":"{}"}}"#, "x".repeat(10 << 20));
    check(raw(huge.into_bytes(), JSON).await, 413, &BODY_BYTES_MAX.to_string());
    let deep = format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200));
    check(raw(deep.into_bytes(), JSON).await, 400, "cannot be read as JSON");
    check(raw(b"{\"a\":\"\xff\"}".to_vec(), JSON).await, 400, "cannot be read as JSON");
    check(raw(b"{\"spec\":{},\"spec\":{}}".to_vec(), JSON).await, 400, "duplicate field \"spec\"");
    check(raw(b"[]".to_vec(), JSON).await, 400, "must be a JSON object");
    check(raw(Vec::new(), JSON).await, 400, "cannot be read as JSON");
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..10 {
        let refs = vec![format!("*a{}", level - 1); 9].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{refs}]\n"));
    }
    check(raw(bomb.into_bytes(), YAML).await, 400, "aliases blow");
    check(raw(b"a: 1\n---\nb: 2".to_vec(), YAML).await, 400, "more than one document");
    check(raw(b"{}".to_vec(), "application/cbor").await, 415, "application/json");
    check(f.get("/apis/batch/v1beta1/namespaces/default/jobs").await, 404, "could not find");
    check(f.get(&format!("{DEPLOYMENTS}/..%2fx")).await, 400, "../x");
    let cbor = "application/apply-patch+cbor";
    check(f.patch(&format!("{DEPLOYMENTS}/web"), cbor, "{}").await, 415, "merge-patch+json");
    let (web, merge) = (format!("{DEPLOYMENTS}/web"), "application/merge-patch+json");
    check(f.patch(&format!("{web}?force=true"), merge, "{}").await, 422, "force: Forbidden");
    let nobodys = f.patch(&web, "application/apply-patch+yaml", "{}").await;
    check(nobodys, 422, "fieldManager: Required value: is required for apply patch");
    check(f.send(Method::PUT, DEPLOYMENTS, &[], "{}").await, 405, "method");
    check(f.post("/api/v1/pods", &json!({})).await, 405, "method");
    let nowhere = "/apis/apps/v1/namespaces/nowhere/deployments";
    check(f.post(nowhere, &deployment("web")).await, 404, "namespaces \"nowhere\" not found");
    assert_eq!(f.cluster.world().revision(), before.revision());
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn bodies_in_yaml_that_are_no_objects_of_their_own_are_read_too() {
    let f = Fixture::new().await;
    f.config_map("a", &json!({})).await;
    let (yaml, path) = ([("content-type", "application/yaml")], format!("{MAPS}/a"));
    let wrong = f.send(Method::DELETE, &path, &yaml, "propagationPolicy: Sideways\n").await;
    assert!(wrong.refused(400, "BadRequest").contains("Sideways"));
    let tried = f.send(Method::DELETE, &path, &yaml, "dryRun: [All]\n").await;
    tried.expect(200);
    f.get(&path).await.expect(200);
    let review = "spec:\n  resourceAttributes:\n    verb: get\n    resource: pods\n";
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = f.send(Method::POST, reviews, &yaml, review).await.expect(201);
    assert_eq!(answer["status"]["allowed"], true);
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn unknown_fields_warn_unless_asked_to_be_strict() {
    let f = Fixture::new().await;
    let mut object = deployment("web");
    object["spec"]["bogus"] = 1.into();
    let answer = f.post(&format!("{DEPLOYMENTS}?dryRun=All"), &object).await;
    answer.expect(201);
    assert!(answer.header("warning").contains("spec.bogus"), "{:?}", answer.headers);
    f.get(&format!("{DEPLOYMENTS}/web")).await.refused(404, "NotFound");
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn lists_select_by_labels_and_fields_and_come_in_pages_of_one_revision() {
    let f = Fixture::new().await;
    for name in ["a", "b", "c", "d"] {
        f.config_map(name, &json!({ "odd": (name == "a" || name == "c").to_string() })).await;
    }
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().expect("items");
        items
            .iter()
            .map(|item| item["metadata"]["name"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let list = |query: &str| {
        let path = format!("{MAPS}?{query}");
        let f = &f;
        async move { f.get(&path).await }
    };
    assert_eq!(names(&list("labelSelector=odd%3Dtrue").await.expect(200)), ["a", "c"]);
    assert_eq!(
        names(&list("fieldSelector=metadata.name%21%3Da").await.expect(200)),
        ["b", "c", "d"]
    );
    assert_eq!(names(&f.get("/api/v1/configmaps").await.expect(200)), ["a", "b", "c", "d"]);
    assert!(names(&f.get("/api/v1/namespaces/other/configmaps").await.expect(200)).is_empty());

    let first = list("limit=2").await.expect(200);
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 2);
    f.config_map("bb", &json!({})).await;
    let token = first["metadata"]["continue"].as_str().expect("a token");
    let second = list(&format!("limit=2&continue={token}")).await.expect(200);
    assert_eq!(names(&second), ["c", "d"], "what came later is not on a later page");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert!(second["metadata"]["continue"].is_null());
    list("continue=nonsense").await.refused(400, "BadRequest");
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn a_revision_of_the_future_is_504_and_an_exact_old_one_410() {
    let f = Fixture::new().await;
    let old = f.config_map("a", &json!({})).await;
    f.config_map("b", &json!({})).await;
    let answer = f.get(&format!("{MAPS}?resourceVersion=999999")).await;
    answer.refused(504, "Timeout");
    assert_eq!(answer.header("retry-after"), "1");
    let exact = |revision: &str| {
        let path = format!("{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact");
        let f = &f;
        async move { f.get(&path).await }
    };
    exact(&old).await.refused(410, "Expired");
    f.get(&format!("{MAPS}?resourceVersion={old}")).await.expect(200);
    f.get(&format!("{MAPS}?resourceVersion=0")).await.expect(200);
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn scale_is_an_object_of_its_own() {
    let f = Fixture::new().await;
    f.post(DEPLOYMENTS, &deployment("web")).await.expect(201);
    let path = format!("{DEPLOYMENTS}/web/scale");
    let scale = f.get(&path).await.expect(200);
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&"Scale".into(), &2.into()));
    assert_eq!(scale["status"]["selector"], "app=web");
    let patch = f.patch(&path, "application/merge-patch+json", r#"{"spec":{"replicas":5}}"#).await;
    assert_eq!(patch.expect(200)["spec"]["replicas"], 5);
    // kubectl leaves the type out here.
    f.send(Method::PUT, &path, &[], scale.to_string()).await.refused(409, "Conflict");
    let put = f.send(Method::PUT, &path, &[], r#"{"spec":{"replicas":1}}"#).await.expect(200);
    assert_eq!(put["spec"]["replicas"], 1);
    let json = |replicas: i64| {
        let test = json!({ "op": "test", "path": "/spec/replicas", "value": replicas });
        let replace = json!({ "op": "replace", "path": "/spec/replicas", "value": 4 });
        json!([test, replace]).to_string()
    };
    let patch = f.patch(&path, "application/json-patch+json", &json(1)).await;
    assert_eq!(patch.expect(200)["spec"]["replicas"], 4);
    let tested = f.patch(&path, "application/json-patch+json", &json(1)).await;
    assert!(tested.refused(422, "Invalid").contains("operation 0 tests for another value"));
    let bad = f.send(Method::PUT, &path, &[], r#"{"spec":{"replicas":"x"}}"#).await;
    bad.refused(400, "BadRequest");
    f.send(Method::PUT, &path, &[], r#"{"spec":{"replicas":-1}}"#).await.refused(422, "Invalid");
    f.get(&format!("{MAPS}/a/scale")).await.refused(404, "NotFound");
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let f = Fixture::new().await;
    f.config_map("a", &json!({ "x": "1" })).await;
    f.config_map("b", &json!({ "x": "2" })).await;
    let path = format!("{MAPS}?labelSelector=x%3D1");
    let gone = f.send(Method::DELETE, &path, &[], "").await.expect(200);
    assert_eq!(gone["items"].as_array().map(Vec::len), Some(1));
    f.get(&format!("{MAPS}/a")).await.refused(404, "NotFound");
    f.get(&format!("{MAPS}/b")).await.expect(200);
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn no_more_is_deleted_than_was_asked_for() {
    let f = Fixture::new().await;
    for name in ["a", "b", "c"] {
        f.config_map(name, &json!({})).await;
    }
    let gone = f.send(Method::DELETE, &format!("{MAPS}?limit=1"), &[], "").await.expect(200);
    assert_eq!(gone["items"].as_array().map(Vec::len), Some(1));
    let resumed = f.send(Method::DELETE, &format!("{MAPS}?limit=1&continue=x"), &[], "").await;
    assert!(resumed.refused(400, "BadRequest").contains("continue"));
    assert_eq!(f.get(MAPS).await.json()["items"].as_array().map(Vec::len), Some(2));

    let namespaces = "/api/v1/namespaces";
    f.post(namespaces, &json!({ "metadata": { "name": "aaa" } })).await.expect(201);
    let all = f.send(Method::DELETE, namespaces, &[], "").await;
    all.refused(405, "MethodNotAllowed");
    let left = f.get("/api/v1/namespaces/aaa").await.expect(200);
    assert_eq!(left["metadata"]["deletionTimestamp"], Value::Null);
}

#[tokio::test]
async fn tables_and_metadata_are_served_to_who_asks_for_them() {
    let f = Fixture::new().await;
    f.config_map("a", &json!({})).await;
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let answer = f.send(Method::GET, MAPS, &table, "").await.expect(200);
    assert_eq!(answer["kind"], "Table");
    assert_eq!(answer["rows"][0]["cells"][0], "a");
    assert_eq!(answer["rows"][0]["object"]["metadata"]["namespace"], "default");
    let partial = [("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")];
    let answer = f.send(Method::GET, MAPS, &partial, "").await.expect(200);
    assert!(answer["items"][0]["data"].is_null());
    let other = [("accept", "application/vnd.kubernetes.protobuf")];
    f.send(Method::GET, MAPS, &other, "").await.refused(406, "NotAcceptable");
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn the_server_tells_about_itself() {
    let f = Fixture::new().await;
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(&f.get(path).await.bytes[..], b"ok", "{path}");
    }
    let verbose = |answer: Answer| String::from_utf8_lossy(&answer.bytes).into_owned();
    assert_eq!(
        verbose(f.get("/readyz?verbose").await),
        "[+]ping ok\n[+]control-plane ok\nreadyz check passed\n"
    );
    assert_eq!(verbose(f.get("/livez?verbose=1").await), "[+]ping ok\nlivez check passed\n");
    assert!(
        f.get("/version").await.expect(200)["gitVersion"]
            .as_str()
            .is_some_and(|v| v.starts_with("v1.32"))
    );
    assert_eq!(f.get("/api").await.expect(200)["kind"], "APIVersions");
    assert_eq!(f.get("/apis/apps/v1").await.expect(200)["groupVersion"], "apps/v1");
    let accept =
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let answer = f.send(Method::GET, "/apis", &[("accept", accept)], "").await;
    assert_eq!(answer.expect(200)["kind"], "APIGroupDiscoveryList");
    assert!(answer.header("content-type").contains("as=APIGroupDiscoveryList"));
    let metrics = f.get("/metrics").await;
    let text = String::from_utf8_lossy(&metrics.bytes).into_owned();
    for series in
        ["orchestrator_http_requests_total{", "orchestrator_revision ", "orchestrator_objects "]
    {
        assert!(text.contains(series), "{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn a_pod_without_a_node_is_explained_and_has_no_log() {
    let f = Fixture::new().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({ "metadata": { "name": "a" }, "spec": { "containers": [{ "name": "m", "image": "x" }] } });
    f.post(pods, &pod).await.expect(201);
    let why =
        f.get("/apis/orchestrator.dev/v1/namespaces/default/pods/a/explain").await.expect(200);
    assert_eq!((&why["kind"], &why["pod"]), (&"Explanation".into(), &"a".into()));
    // As a table it has a row for each node.
    f.post("/api/v1/nodes", &json!({ "metadata": { "name": "n1" } })).await.expect(201);
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let path = "/apis/orchestrator.dev/v1/namespaces/default/pods/a/explain";
    let table = f.send(Method::GET, path, &accept, "").await.expect(200);
    assert_eq!(table["kind"], "Table");
    let cells = table["rows"][0]["cells"].as_array().expect("a row");
    assert_eq!((&cells[0], &cells[1]), (&"n1".into(), &"no".into()), "{table}");
    assert!(cells[3].as_str().is_some_and(|why| !why.is_empty()), "{table}");
    assert_eq!(table["columnDefinitions"].as_array().map(Vec::len), Some(cells.len()));
    f.get("/apis/orchestrator.dev/v1/namespaces/default/pods/b/explain")
        .await
        .refused(404, "NotFound");
    f.get(&format!("{pods}/a/log")).await.refused(400, "BadRequest");
    f.get(&format!("{pods}/a/log?tailLines=-1")).await.refused(400, "BadRequest");
    f.get(&format!("{pods}/a/log?sinceTime=yesterday")).await.refused(400, "BadRequest");
    f.get(&format!("{pods}/b/log")).await.refused(404, "NotFound");
    f.get(&format!("{pods}/a/proxy")).await.refused(501, "NotImplemented");
    let binding = json!({ "target": { "kind": "Node", "name": "nowhere" } });
    assert!(f.post(&format!("{pods}/a/binding"), &binding).await.code >= 400);
    f.post(&format!("{pods}/a/binding"), &json!({})).await.refused(400, "BadRequest");
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn evictions_reviews_and_impersonation_are_not_taken_for_something_else() {
    let f = Fixture::new().await;
    let pods = "/api/v1/namespaces/default/pods";
    let spec = json!({ "containers": [{ "name": "main", "image": "nginx" }] });
    f.post(pods, &json!({ "metadata": { "name": "a" }, "spec": spec })).await.expect(201);
    let evict = format!("{pods}/a/eviction");
    for wrong in [
        json!([1]),
        json!({ "kind": "ConfigMap" }),
        json!({ "kind": "Eviction", "apiVersion": "v1" }),
        json!({ "metadata": { "name": "b" } }),
        json!({ "metadata": { "namespace": "other" } }),
    ] {
        f.post(&evict, &wrong).await.refused(400, "BadRequest");
    }
    f.get(&format!("{pods}/a")).await.expect(200);
    f.post(&evict, &json!({ "kind": "Eviction", "apiVersion": "policy/v1" })).await.expect(201);
    f.get(&format!("{pods}/a")).await.refused(404, "NotFound");

    let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    f.post(review, &json!([])).await.refused(400, "BadRequest");
    f.post(review, &json!({})).await.refused(400, "BadRequest");
    let asked = json!({ "spec": { "resourceAttributes": { "verb": "*", "resource": "*" } } });
    assert_eq!(f.post(review, &asked).await.expect(201)["status"]["allowed"], true);
    // Bob has no rights, whoever asks for him.
    let as_bob = [("impersonate-user", "bob")];
    let refused = f.send(Method::GET, pods, &as_bob, "").await.refused(403, "Forbidden");
    assert!(refused.contains("User \"bob\""), "{refused}");
    let as_nobody = [("impersonate-uid", "7")];
    f.send(Method::GET, pods, &as_nobody, "").await.refused(403, "Forbidden");
    f.cluster.shutdown(false).await;
}

#[tokio::test]
async fn a_small_json_patch_does_not_grow_without_bound() {
    let f = Fixture::new().await;
    f.config_map("a", &json!({})).await;
    let mut operations =
        vec![json!({ "op": "add", "path": "/data", "value": { "a": "x".repeat(100) } })];
    operations.extend(
        (0..34).map(|n| json!({ "op": "copy", "from": "/data", "path": format!("/data/c{n}") })),
    );
    let patch = Value::Array(operations).to_string();
    let answer = f.patch(&format!("{MAPS}/a"), "application/json-patch+json", &patch).await;
    assert!(answer.refused(400, "BadRequest").contains("copies more than"));
    f.cluster.shutdown(false).await;
}
