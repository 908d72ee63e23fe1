//! Custom kinds over the API: defined, served like every other kind, and gone with their definition.

use http::Method;
use orchestrator_core::model::{CustomResourceDefinition, Key, Kind};
use orchestrator_http::Transport;
use serde_json::{Value, json};

use super::fixture::Fixture;
use super::watch::Events;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";
const MERGE: &str = "application/merge-patch+json";

/// `widgets.example.com` in `v1` (stored) and `v2`, with a status and a scale.
fn definition() -> Value {
    let version = |name: &str, storage: bool| {
        json!({
            "name": name, "served": true, "storage": storage,
            "schema": { "openAPIV3Schema": { "type": "object", "properties": {
                "spec": {
                    "type": "object", "description": "What is wanted.", "required": ["size"],
                    "properties": {
                        "size": { "type": "integer", "minimum": 1, "description": "How big." },
                        "color": { "type": "string", "default": "red" },
                        "ports": {
                            "type": "array", "x-kubernetes-list-type": "map",
                            "x-kubernetes-list-map-keys": ["name"],
                            "items": {
                                "type": "object", "required": ["name"], "properties": {
                                    "name": { "type": "string" }, "port": { "type": "integer" },
                                },
                            },
                        },
                    },
                },
                "status": { "type": "object", "properties": {
                    "size": { "type": "integer" }, "selector": { "type": "string" },
                } },
            } } },
            "subresources": { "status": {}, "scale": {
                "specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size",
                "labelSelectorPath": ".status.selector",
            } },
            "additionalPrinterColumns": [
                { "name": "Size", "type": "integer", "jsonPath": ".spec.size" },
                { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
            ],
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "kind": "Widget", "plural": "widgets", "shortNames": ["wd"], "categories": ["all"] },
            "versions": [version("v1", true), version("v2", false)],
        },
    })
}

async fn defined() -> Fixture {
    let fixture = Fixture::new().await;
    fixture.post(DEFINITIONS, &definition()).await.expect(201);
    established(&fixture).await;
    fixture
}

async fn established(fixture: &Fixture) {
    let key = Key::cluster(Kind::CustomResourceDefinition, "widgets.example.com");
    let wait = fixture.cluster.wait_for(|world| {
        world.at::<CustomResourceDefinition>(&key).is_some_and(|found| found.is_established())
    });
    wait.await.expect("names are accepted");
}

fn widget(name: &str, size: i64) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": { "name": name }, "spec": { "size": size },
    })
}

#[tokio::test]
async fn a_custom_object_is_created_read_listed_changed_and_deleted() {
    let fixture = defined().await;
    let made = fixture.post(WIDGETS, &widget("a", 3)).await.expect(201);
    assert_eq!(made["spec"], json!({ "size": 3, "color": "red" }), "the default is filled in");
    assert_eq!((&made["kind"], &made["apiVersion"]), (&json!("Widget"), &json!("example.com/v1")));
    assert_eq!(made["metadata"]["generation"], 1);
    let one = format!("{WIDGETS}/a");
    assert_eq!(fixture.get(&one).await.expect(200), made);
    let list = fixture.get(WIDGETS).await.expect(200);
    assert_eq!((&list["kind"], &list["items"][0]), (&json!("WidgetList"), &made));
    let all = fixture.get("/apis/example.com/v1/widgets?labelSelector=x").await.expect(200);
    assert_eq!(all["items"], json!([]));
    let patch = r#"{"spec":{"size":4},"metadata":{"labels":{"a":"b"}}}"#;
    let patched = fixture.patch(&one, MERGE, patch).await.expect(200);
    assert_eq!(
        (&patched["spec"]["size"], &patched["metadata"]["generation"]),
        (&json!(4), &json!(2))
    );
    let operations = r#"[{"op":"replace","path":"/spec/size","value":5}]"#;
    let patched = fixture.patch(&one, "application/json-patch+json", operations).await.expect(200);
    assert_eq!(patched["spec"]["size"], 5);
    let strategic = fixture.patch(&one, "application/strategic-merge-patch+json", "{}").await;
    strategic.refused(415, "UnsupportedMediaType");
    fixture.send(Method::DELETE, &one, &[], "").await.expect(200);
    let message = fixture.get(&one).await.refused(404, "NotFound");
    assert_eq!(message, "widgets.example.com \"a\" not found");
}

#[tokio::test]
async fn what_the_schema_forbids_is_refused_and_what_it_does_not_know_goes() {
    let fixture = defined().await;
    let message = fixture.post(WIDGETS, &widget("a", 0)).await.refused(422, "Invalid");
    assert!(
        message.contains("spec.size in body should be greater than or equal to 1"),
        "{message}"
    );
    let mut odd = widget("a", 1);
    odd["spec"]["sice"] = 7.into();
    let strict = format!("{WIDGETS}?fieldValidation=Strict");
    let message = fixture.post(&strict, &odd).await.refused(400, "BadRequest");
    assert!(message.contains("unknown field \"spec.sice\""), "{message}");
    let made = fixture.post(&format!("{WIDGETS}?fieldValidation=Warn"), &odd).await;
    assert_eq!(made.header("warning"), "299 - \"unknown field \\\"spec.sice\\\"\"");
    assert!(made.expect(201)["spec"].get("sice").is_none());
    let gadget = json!({ "kind": "Gadget", "metadata": { "name": "x" }, "spec": { "size": 1 } });
    fixture.post(WIDGETS, &gadget).await.refused(400, "BadRequest");
}

#[tokio::test]
async fn spec_and_status_are_written_apart_and_the_scale_reads_both() {
    let fixture = defined().await;
    let mut new = widget("a", 3);
    new["status"] = json!({ "size": 99 });
    let made = fixture.post(WIDGETS, &new).await.expect(201);
    assert!(made.get("status").is_none(), "{made}");
    let status = format!("{WIDGETS}/a/status");
    let body = r#"{"spec":{"size":77},"status":{"size":2,"selector":"app=a"}}"#;
    let written = fixture.patch(&status, MERGE, body).await.expect(200);
    assert_eq!((&written["spec"]["size"], &written["status"]["size"]), (&json!(3), &json!(2)));
    assert_eq!(written["metadata"]["generation"], 1);
    let body = r#"{"spec":{"size":4},"status":{"size":50}}"#;
    let written = fixture.patch(&format!("{WIDGETS}/a"), MERGE, body).await.expect(200);
    assert_eq!((&written["spec"]["size"], &written["status"]["size"]), (&json!(4), &json!(2)));
    let scale = format!("{WIDGETS}/a/scale");
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let table = fixture.send(Method::GET, &scale, &accept, "").await.expect(200);
    let columns = table["columnDefinitions"].as_array().expect("a list").iter();
    let columns: Vec<_> = columns.map(|column| column["name"].as_str().expect("a name")).collect();
    assert_eq!(columns, ["Name", "Desired", "Available", "Age"]);
    let read = fixture.get(&scale).await.expect(200);
    let cells = table["rows"][0]["cells"].as_array().expect("a list");
    assert_eq!(cells.len(), 4);
    assert_eq!(cells[1], read["spec"]["replicas"]);
    assert_eq!(read["spec"]["replicas"], 4);
    assert_eq!(read["status"], json!({ "replicas": 2, "selector": "app=a" }));
    let scaled = fixture.patch(&scale, MERGE, r#"{"spec":{"replicas":9}}"#).await.expect(200);
    assert_eq!(scaled["spec"]["replicas"], 9);
    let read = fixture.get(&format!("{WIDGETS}/a")).await.expect(200);
    assert_eq!((&read["spec"]["size"], &read["metadata"]["generation"]), (&json!(9), &json!(3)));
    fixture.patch(&scale, MERGE, r#"{"spec":{"replicas":0}}"#).await.refused(422, "Invalid");
}

#[tokio::test]
async fn an_object_reads_in_each_version_and_is_stored_in_one() {
    let fixture = defined().await;
    let in_v2 = "/apis/example.com/v2/namespaces/default/widgets";
    let mut new = widget("a", 1);
    new["apiVersion"] = "example.com/v2".into();
    let made = fixture.post(in_v2, &new).await.expect(201);
    assert_eq!(made["apiVersion"], "example.com/v2");
    let read = fixture.get(&format!("{WIDGETS}/a")).await.expect(200);
    assert_eq!(read["apiVersion"], "example.com/v1");
    let list = fixture.get(in_v2).await.expect(200);
    assert_eq!(list["apiVersion"], "example.com/v2");
    assert_eq!(list["items"][0]["apiVersion"], "example.com/v2");
    let patched = fixture.patch(&format!("{in_v2}/a"), MERGE, r#"{"spec":{"size":2}}"#).await;
    assert_eq!(patched.expect(200)["apiVersion"], "example.com/v2");
    let stored = fixture.get(&format!("{DEFINITIONS}/widgets.example.com")).await.expect(200);
    assert_eq!(stored["status"]["storedVersions"], json!(["v1"]));
    fixture.get("/apis/example.com/v3/namespaces/default/widgets").await.refused(404, "NotFound");
}

#[tokio::test]
async fn discovery_and_openapi_tell_of_custom_kinds_at_once() {
    let fixture = defined().await;
    let groups = fixture.get("/apis").await.expect(200);
    let group =
        groups["groups"].as_array().expect("groups").iter().find(|it| it["name"] == "example.com");
    assert_eq!(group.expect("listed")["preferredVersion"]["version"], "v2");
    let list = fixture.get("/apis/example.com/v1").await.expect(200);
    let rows: Vec<_> =
        list["resources"].as_array().expect("rows").iter().map(|row| row["name"].clone()).collect();
    assert_eq!(rows, ["widgets", "widgets/scale", "widgets/status"]);
    assert_eq!(list["resources"][0]["shortNames"], json!(["wd"]));
    let accept =
        [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let aggregated = fixture.send(Method::GET, "/apis", &accept, "").await.expect(200);
    assert!(aggregated.to_string().contains("\"resource\":\"widgets\""), "{aggregated}");
    let index = fixture.get("/openapi/v3").await.expect(200);
    let url = index["paths"]["apis/example.com/v1"]["serverRelativeURL"].as_str().expect("a path");
    let document = fixture.get(url).await.expect(200);
    let schema = &document["components"]["schemas"]["com.example.v1.Widget"];
    assert_eq!(schema["properties"]["spec"]["properties"]["size"]["description"], "How big.");
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    fixture.post(WIDGETS, &widget("a", 3)).await.expect(201);
    let shown = fixture.send(Method::GET, WIDGETS, &table, "").await.expect(200);
    assert_eq!(shown["columnDefinitions"][1]["name"], "Size");
    let cells = &shown["rows"][0]["cells"];
    assert_eq!((&cells[0], &cells[1]), (&json!("a"), &json!(3)));
}

#[tokio::test]
async fn a_definition_takes_its_objects_along_and_its_paths_are_gone() {
    let fixture = defined().await;
    let mut held = widget("held", 1);
    held["metadata"]["finalizers"] = json!(["example.com/backup"]);
    fixture.post(WIDGETS, &held).await.expect(201);
    fixture.post(WIDGETS, &widget("a", 1)).await.expect(201);
    let one = format!("{DEFINITIONS}/widgets.example.com");
    let marked = fixture.send(Method::DELETE, &one, &[], "").await.expect(200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string(), "{marked}");
    let kind = marked["spec"]["names"]["kind"].clone();
    assert_eq!(kind, "Widget");
    let count = |world: &orchestrator_core::world::World| {
        let kinds: Vec<_> = world.custom_kinds_kept().collect();
        kinds.iter().map(|kind| world.list(*kind, None).count()).sum::<usize>()
    };
    fixture.cluster.wait_for(|world| count(world) == 1).await.expect("the other one goes");
    fixture.post(WIDGETS, &widget("late", 1)).await.refused(403, "Forbidden");
    let release = r#"{"metadata":{"finalizers":null}}"#;
    fixture.patch(&format!("{WIDGETS}/held"), MERGE, release).await.expect(200);
    let key = Key::cluster(Kind::CustomResourceDefinition, "widgets.example.com");
    fixture.cluster.wait_for(|world| world.get(&key).is_none()).await.expect("it goes last");
    fixture.get(WIDGETS).await.refused(404, "NotFound");
    fixture.get("/apis/example.com").await.refused(404, "NotFound");
    // And it may come again.
    fixture.post(DEFINITIONS, &definition()).await.expect(201);
    established(&fixture).await;
    assert_eq!(fixture.get(WIDGETS).await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn a_watch_of_a_custom_kind_goes_on_while_its_definition_changes() {
    let fixture = defined().await;
    let in_v1 = format!("{WIDGETS}?watch=true");
    let in_v2 = in_v1.replace("/v1/", "/v2/");
    let mut first = Events::open_at(&fixture, Transport::Unix, &in_v1).await;
    let mut second = Events::open_at(&fixture, Transport::Unix, &in_v2).await;
    let mut rows = Events::open_table(&fixture, &in_v1).await;
    fixture.post(WIDGETS, &widget("a", 1)).await.expect(201);
    assert_eq!(first.expect("ADDED", "a").await["apiVersion"], "example.com/v1");
    assert_eq!(second.expect("ADDED", "a").await["apiVersion"], "example.com/v2");
    let (kind, table) = rows.next().await.expect("a row");
    assert_eq!((kind.as_str(), &table["columnDefinitions"][1]["name"]), ("ADDED", &json!("Size")));

    // A field more, and no column of its own any more.
    let mut changed = definition();
    for version in changed["spec"]["versions"].as_array_mut().expect("versions") {
        version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["weight"] =
            json!({ "type": "integer", "default": 7 });
        version["additionalPrinterColumns"] = json!([]);
    }
    let patch = json!({ "spec": { "versions": changed["spec"]["versions"] } }).to_string();
    let one = format!("{DEFINITIONS}/widgets.example.com");
    fixture.patch(&one, MERGE, &patch).await.expect(200);
    fixture.post(WIDGETS, &widget("b", 2)).await.expect(201);
    for events in [&mut first, &mut second] {
        let told = events.expect("ADDED", "b").await;
        assert_eq!(told["spec"], json!({ "size": 2, "color": "red", "weight": 7 }));
    }
    // The rows of a watch have the columns that it has told; who begins now is told others.
    let (_, table) = rows.next().await.expect("a row");
    let cells = table["rows"][0]["cells"].as_array().expect("cells");
    assert_eq!(cells[..2], [json!("b"), json!(2)]);
    let mut later = Events::open_table(&fixture, &in_v1).await;
    let (_, table) = later.next().await.expect("a row");
    assert_eq!(table["columnDefinitions"][1]["name"], "Age", "{table}");
    fixture.cluster.shutdown(false).await;
}

#[tokio::test]
async fn a_watch_of_a_custom_kind_tells_of_every_object_that_goes_with_the_definition() {
    let fixture = defined().await;
    let mut held = widget("held", 1);
    held["metadata"]["finalizers"] = json!(["example.com/backup"]);
    fixture.post(WIDGETS, &held).await.expect(201);
    fixture.post(WIDGETS, &widget("a", 1)).await.expect(201);
    let path = format!("{WIDGETS}?watch=true");
    let mut events = Events::open_at(&fixture, Transport::Unix, &path).await;
    events.expect("ADDED", "a").await;
    events.expect("ADDED", "held").await;
    let one = format!("{DEFINITIONS}/widgets.example.com");
    fixture.send(Method::DELETE, &one, &[], "").await.expect(200);
    let mut told = Vec::new();
    for _ in 0..2 {
        let (kind, object) = events.next().await.expect("the watch goes on");
        told.push((object["metadata"]["name"].to_string(), kind, object));
    }
    told.sort_by(|left, right| left.0.cmp(&right.0));
    assert_eq!((told[0].0.as_str(), told[0].1.as_str()), ("\"a\"", "DELETED"));
    assert_eq!((told[1].0.as_str(), told[1].1.as_str()), ("\"held\"", "MODIFIED"));
    assert!(told[1].2["metadata"]["deletionTimestamp"].is_string(), "it waits to be released");
    let release = r#"{"metadata":{"finalizers":null}}"#;
    fixture.patch(&format!("{WIDGETS}/held"), MERGE, release).await.expect(200);
    let last = events.expect("DELETED", "held").await;
    let key = Key::cluster(Kind::CustomResourceDefinition, "widgets.example.com");
    fixture.cluster.wait_for(|world| world.get(&key).is_none()).await.expect("it goes last");
    assert_eq!(events.next().await, None, "what is served no more is not watched any more");
    fixture.get(&path).await.refused(404, "NotFound");

    // A life later: who goes on from the last word is told of what is new, and of nothing twice.
    fixture.post(DEFINITIONS, &definition()).await.expect(201);
    established(&fixture).await;
    fixture.post(WIDGETS, &widget("new", 1)).await.expect(201);
    let after = last["metadata"]["resourceVersion"].as_str().expect("a revision");
    let path = format!("{path}&resourceVersion={after}");
    let mut events = Events::open_at(&fixture, Transport::Unix, &path).await;
    events.expect("ADDED", "new").await;
    fixture.cluster.shutdown(false).await;
}

#[tokio::test]
async fn fields_of_custom_objects_have_owners() {
    let fixture = defined().await;
    let one = format!("{WIDGETS}/a");
    let apply = |manager: &str, spec: Value| {
        let path = format!("{one}?fieldManager={manager}");
        let mut manifest = widget("a", 1);
        manifest["spec"] = spec;
        let fixture = &fixture;
        async move { fixture.patch(&path, "application/apply-patch+yaml", &manifest.to_string()).await }
    };
    apply("one", json!({ "size": 1, "color": "blue" })).await.expect(201);
    let message = apply("two", json!({ "size": 2 })).await.refused(409, "Conflict");
    assert!(message.contains("conflict with \"one\": .spec.size"), "{message}");
    let applied = apply("one", json!({ "size": 1 })).await.expect(200);
    assert_eq!(applied["spec"]["color"], "red", "dropped, and the default is back");
}

#[tokio::test]
async fn elements_of_a_custom_list_have_owners_of_their_own() {
    let fixture = defined().await;
    let apply = |manager: &str, ports: Value, finalizer: &str| {
        let path = format!("{WIDGETS}/a?fieldManager={manager}");
        let mut manifest = widget("a", 1);
        manifest["spec"]["ports"] = ports;
        manifest["metadata"]["finalizers"] = json!([finalizer]);
        let fixture = &fixture;
        async move { fixture.patch(&path, "application/apply-patch+yaml", &manifest.to_string()).await }
    };
    let http = json!({ "name": "http", "port": 80 });
    apply("one", json!([http]), "example.com/one").await.expect(201);
    let dns = json!({ "name": "dns", "port": 53 });
    let applied = apply("two", json!([dns]), "example.com/two").await.expect(200);
    assert_eq!(applied["spec"]["ports"], json!([http, dns]));
    assert_eq!(applied["metadata"]["finalizers"], json!(["example.com/one", "example.com/two"]));
    let port = json!([{ "name": "http", "port": 81 }]);
    let message = apply("two", port, "example.com/two").await.refused(409, "Conflict");
    assert!(message.contains("with \"one\": .spec.ports[name=\"http\"].port"), "{message}");
    let applied = apply("one", json!([]), "example.com/one").await.expect(200);
    assert_eq!(applied["spec"]["ports"], json!([dns]));
    let twice = r#"{"spec":{"ports":[{"name":"a"},{"name":"a"}]}}"#;
    let message =
        fixture.patch(&format!("{WIDGETS}/a"), MERGE, twice).await.refused(422, "Invalid");
    assert!(message.contains(r#"spec.ports[1]: Duplicate value: {"name":"a"}"#), "{message}");
}

#[tokio::test]
async fn a_definition_that_is_wrong_is_refused_with_the_field() {
    let fixture = Fixture::new().await;
    let wrong = async |change: fn(&mut Value), expected: &str| {
        let mut definition = definition();
        change(&mut definition);
        let message = fixture.post(DEFINITIONS, &definition).await.refused(422, "Invalid");
        assert!(message.contains(expected), "{message}");
    };
    wrong(|it| it["metadata"]["name"] = "gadgets.example.com".into(), "metadata.name: Invalid")
        .await;
    wrong(|it| it["spec"]["group"] = "apps".into(), "spec.group: Invalid value").await;
    wrong(|it| it["spec"]["scope"] = "Global".into(), "spec.scope: Unsupported value").await;
    wrong(
        |it| it["spec"]["conversion"] = json!({ "strategy": "Webhook" }),
        "Webhook conversion is not implemented",
    )
    .await;
    wrong(
        |it| {
            it["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] =
                json!([{ "rule": "self.spec.size < 9" }]);
        },
        "CEL rules are not evaluated by this server",
    )
    .await;
    wrong(|it| it["spec"]["versions"][1]["storage"] = true.into(), "exactly one version").await;
}
