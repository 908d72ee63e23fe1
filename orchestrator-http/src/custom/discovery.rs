//! Discovery of custom kinds, in both forms.

use std::collections::BTreeSet;

use orchestrator_core::world::World;
use serde_json::{Value, json};

use super::{Served, by_preference, served};
use crate::registry::{Subresource, VERBS};

/// The groups of custom kinds, by name.
fn groups(world: &World) -> BTreeSet<&'static str> {
    served(world).map(|served| served.kind.group()).collect()
}

/// The versions of a group, the preferred first.
fn versions(world: &World, group: &str) -> Vec<String> {
    let of_group = served(world).filter(|served| served.kind.group() == group);
    let found: BTreeSet<String> = of_group.map(|served| served.version.name.clone()).collect();
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by(|left, right| by_preference(left, right));
    found
}

/// `/apis/{group}`.
pub(crate) fn group(world: &World, name: &str) -> Value {
    let mut group = api_group(world, name);
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    group
}

fn api_group(world: &World, name: &str) -> Value {
    let version = |version: &String| json!({ "groupVersion": format!("{name}/{version}"), "version": version });
    let versions: Vec<_> = versions(world, name).iter().map(version).collect();
    json!({ "name": name, "versions": versions, "preferredVersion": versions.first() })
}

/// Adds to what `/apis` answers.
pub(crate) fn add_groups(world: &World, list: &mut Value) {
    if let Some(list) = list["groups"].as_array_mut() {
        list.extend(groups(world).into_iter().map(|group| api_group(world, group)));
    }
}

/// Group, version and kind of what a subresource answers with.
fn sub_kind<'s>(served: &'s Served<'_>, sub: Subresource) -> (&'s str, &'s str, &'s str) {
    match sub {
        Subresource::Scale => ("autoscaling", "v1", "Scale"),
        _ => (served.kind.group(), &served.version.name, served.kind.name()),
    }
}

/// `/apis/{group}/{version}`.
pub(crate) fn resource_list(world: &World, group: &str, version: &str) -> Value {
    let mut rows = Vec::new();
    let api_version = format!("{group}/{version}");
    for served in served(world).filter(|served| served.kind.api_version() == api_version) {
        let (kind, names) = (served.kind, &served.definition.status.accepted_names);
        let mut row = json!({
            "name": kind.plural(),
            "singularName": names.singular,
            "namespaced": kind.is_namespaced(),
            "kind": kind.name(),
            "verbs": VERBS,
        });
        add_names(&served, &mut row);
        rows.push(row);
        for sub in served.subresources() {
            let (sub_group, sub_version, sub_kind) = sub_kind(&served, sub);
            let mut row = json!({
                "name": format!("{}/{}", kind.plural(), sub.name()),
                "singularName": "",
                "namespaced": kind.is_namespaced(),
                "kind": sub_kind,
                "verbs": sub.verbs(),
            });
            if sub_group != group {
                row["group"] = sub_group.into();
                row["version"] = sub_version.into();
            }
            rows.push(row);
        }
    }
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": api_version,
        "resources": rows,
    })
}

fn add_names(served: &Served<'_>, row: &mut Value) {
    let names = &served.definition.status.accepted_names;
    if !names.short_names.is_empty() {
        row["shortNames"] = json!(names.short_names);
    }
    if !names.categories.is_empty() {
        row["categories"] = json!(names.categories);
    }
}

/// Adds to the aggregated document of all groups but the core group.
pub(crate) fn add_aggregated(world: &World, document: &mut Value) {
    let Some(items) = document["items"].as_array_mut() else { return };
    for group in groups(world) {
        let versions: Vec<_> = versions(world, group)
            .iter()
            .map(|version| {
                let api_version = format!("{group}/{version}");
                let resources: Vec<_> = served(world)
                    .filter(|served| served.kind.api_version() == api_version)
                    .map(|served| aggregated_resource(&served))
                    .collect();
                json!({ "version": version, "freshness": "Current", "resources": resources })
            })
            .collect();
        items.push(json!({ "metadata": { "name": group }, "versions": versions }));
    }
}

fn aggregated_resource(served: &Served<'_>) -> Value {
    let kind = served.kind;
    let subresources: Vec<_> = served
        .subresources()
        .map(|sub| {
            let (group, version, sub_kind) = sub_kind(served, sub);
            json!({
                "subresource": sub.name(),
                "responseKind": { "group": group, "version": version, "kind": sub_kind },
                "verbs": sub.verbs(),
            })
        })
        .collect();
    let mut row = json!({
        "resource": kind.plural(),
        "responseKind": {
            "group": kind.group(), "version": served.version.name, "kind": kind.name(),
        },
        "scope": if kind.is_namespaced() { "Namespaced" } else { "Cluster" },
        "singularResource": served.definition.status.accepted_names.singular,
        "verbs": VERBS,
    });
    add_names(served, &mut row);
    if !subresources.is_empty() {
        row["subresources"] = json!(subresources);
    }
    row
}
