//! Kinds that users define, with kube-rs: found by discovery and used without a type of their own, on a cluster in memory.

use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch,
    PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt as _};
use orchestrator_http::testkit::TestCluster;
use serde_json::json;

const DEFINITION: &str = "widgets.example.com";

/// Defines widgets, and finds them as a client does that knows their name only.
async fn defined(client: &Client) -> (Api<CustomResourceDefinition>, ApiResource) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let size = json!({ "type": "object", "properties": { "size": { "type": "integer" } } });
    let manifest = json!({
        "metadata": { "name": DEFINITION },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "kind": "Widget", "plural": "widgets" },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": {
                    "type": "object", "properties": { "spec": size, "status": size },
                } },
                "subresources": { "status": {}, "scale": {
                    "specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size",
                } },
            }],
        },
    });
    let manifest = serde_json::from_value(manifest).expect("a definition");
    definitions.create(&PostParams::default(), &manifest).await.expect("created");
    await_condition(definitions.clone(), DEFINITION, is_crd_established())
        .await
        .expect("established");
    let kind = GroupVersionKind::gvk("example.com", "v1", "Widget");
    let (resource, _) = kube::discovery::pinned_kind(client, &kind).await.expect("discovered");
    assert_eq!(resource.plural, "widgets");
    (definitions, resource)
}

fn widget(resource: &ApiResource, name: &str, size: i64) -> DynamicObject {
    let mut widget = DynamicObject::new(name, resource).data(json!({ "spec": { "size": size } }));
    widget.labels_mut().insert("name".to_owned(), name.to_owned());
    widget
}

#[tokio::test]
async fn kube_rs_uses_a_custom_kind_without_a_type_for_it() {
    let cluster = TestCluster::start().await;
    let client = Client::new(cluster.client(), "default");
    let (definitions, resource) = defined(&client).await;
    let widgets: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &resource);

    let start = widgets.list(&ListParams::default()).await.expect("listed").metadata;
    let revision = start.resource_version.expect("a revision");
    let mut watch =
        widgets.watch(&WatchParams::default(), &revision).await.expect("watched").boxed();
    for name in ["a", "b"] {
        let created = widgets.create(&PostParams::default(), &widget(&resource, name, 1)).await;
        assert_eq!(created.expect("created").data["spec"]["size"], 1);
    }
    let event = watch.try_next().await.expect("no error").expect("an event");
    assert!(matches!(event, WatchEvent::Added(widget) if widget.name_any() == "a"));
    let listed = widgets.list(&ListParams::default().labels("name=b")).await.expect("listed");
    assert_eq!(listed.items.iter().map(|item| item.name_any()).collect::<Vec<_>>(), ["b"]);

    changed(&widgets, &resource).await;

    widgets.delete("b", &DeleteParams::default()).await.expect("deleted");
    assert!(widgets.get_opt("b").await.expect("asked").is_none());
    definitions.delete(DEFINITION, &DeleteParams::default()).await.expect("deleted");
    cluster.settle().await;
    assert!(definitions.get_opt(DEFINITION).await.expect("asked").is_none());
    let gone = widgets.list(&ListParams::default()).await.expect_err("no such kind");
    assert!(matches!(gone, kube::Error::Api(status) if status.code == 404));
    defined(&client).await;
    assert!(widgets.list(&ListParams::default()).await.expect("listed").items.is_empty());
    cluster.shutdown().await;
}

async fn changed(widgets: &Api<DynamicObject>, resource: &ApiResource) {
    let params = PatchParams::default();
    let merge = Patch::Merge(json!({ "spec": { "size": 2 } }));
    let patched = widgets.patch("a", &params, &merge).await.expect("patched");
    assert_eq!(patched.data["spec"]["size"], 2);

    let apply = PatchParams::apply("kube-rs");
    let wanted = Patch::Apply(widget(resource, "a", 3));
    let conflict = widgets.patch("a", &apply, &wanted).await;
    assert!(matches!(conflict, Err(kube::Error::Api(status)) if status.code == 409));
    let applied = widgets.patch("a", &apply.force(), &wanted).await.expect("applied");
    assert_eq!(applied.data["spec"]["size"], 3);

    let status = Patch::Merge(json!({ "spec": { "size": 9 }, "status": { "size": 1 } }));
    let patched = widgets.patch_status("a", &params, &status).await.expect("patched");
    assert_eq!(patched.data, json!({ "spec": { "size": 3 }, "status": { "size": 1 } }));

    let scale = widgets.get_scale("a").await.expect("there");
    assert_eq!(scale.spec.and_then(|spec| spec.replicas), Some(3));
    assert_eq!(scale.status.map(|status| status.replicas), Some(1));
    let scale = Patch::Merge(json!({ "spec": { "replicas": 5 } }));
    widgets.patch_scale("a", &params, &scale).await.expect("scaled");
    assert_eq!(widgets.get("a").await.expect("there").data["spec"]["size"], 5);
}

#[tokio::test]
async fn a_namespace_with_custom_objects_in_it_ends() {
    let cluster = TestCluster::start().await;
    let client = Client::new(cluster.client(), "default");
    let (_, resource) = defined(&client).await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let team = serde_json::from_value(json!({ "metadata": { "name": "team" } }));
    let team = team.expect("a namespace");
    namespaces.create(&PostParams::default(), &team).await.expect("created");
    let widgets: Api<DynamicObject> = Api::namespaced_with(client, "team", &resource);
    let made = widget(&resource, "a", 1);
    widgets.create(&PostParams::default(), &made).await.expect("created");

    namespaces.delete("team", &DeleteParams::default()).await.expect("deleted");
    cluster.settle().await;
    assert!(namespaces.get_opt("team").await.expect("asked").is_none());
    assert!(widgets.get_opt("a").await.expect("asked").is_none());
    cluster.shutdown().await;
}
