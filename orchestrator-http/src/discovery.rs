//! Discovery: which groups, versions and resources there are, in the old form and in the aggregated one.

use serde_json::{Value, json};

use crate::absent::{ABSENT, ABSENT_VERBS, Absent};
use crate::registry::{ANSWERED, Answered, GROUPS, RESOURCES, Resource, VERSION};

/// The version a client is told; clients compare it with their own.
pub(crate) fn version() -> Value {
    json!({
        "major": "1",
        "minor": "32",
        "gitVersion": concat!("v1.32.0+orchd.", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, architecture()),
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `/api`.
pub(crate) fn core_versions() -> Value {
    json!({
        "kind": "APIVersions",
        "versions": [VERSION],
        "serverAddressByClientCIDRs": [],
    })
}

/// The groups beside the core group.
fn groups() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().map(|(group, _)| *group).filter(|group| !group.is_empty())
}

fn version_of(group: &str) -> &'static str {
    GROUPS.iter().find(|(found, _)| *found == group).map_or(VERSION, |(_, version)| version)
}

/// `/apis`.
pub(crate) fn group_list() -> Value {
    let groups: Vec<_> = groups().map(api_group).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/{group}`.
pub(crate) fn group(name: &str) -> Value {
    let mut group = api_group(name);
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    group
}

fn api_group(name: &str) -> Value {
    let version = version_of(name);
    let version = json!({ "groupVersion": format!("{name}/{version}"), "version": version });
    json!({ "name": name, "versions": [version], "preferredVersion": version })
}

fn resources_of(group: &str) -> impl Iterator<Item = &'static Resource> {
    RESOURCES.iter().filter(move |resource| resource.kind.group() == group)
}

fn absent_of(group: &str) -> impl Iterator<Item = &'static Absent> {
    ABSENT.iter().filter(move |absent| absent.group == group)
}

fn add_names(row: &mut Value, short_names: &[&str], categories: &[&str]) {
    for (field, names) in [("shortNames", short_names), ("categories", categories)] {
        if !names.is_empty() {
            row[field] = json!(names);
        }
    }
}

/// `/api/v1` and `/apis/{group}/{version}`.
pub(crate) fn resource_list(group: &str) -> Value {
    let mut rows = Vec::new();
    for resource in resources_of(group) {
        let kind = resource.kind;
        let mut row = json!({
            "name": kind.plural(),
            "singularName": resource.singular,
            "namespaced": kind.is_namespaced(),
            "kind": kind.name(),
            "verbs": resource.verbs().collect::<Vec<_>>(),
        });
        add_names(&mut row, resource.short_names, resource.categories);
        rows.push(row);
        for sub in resource.subresources {
            let (group, version, sub_kind) = sub_kind(resource, sub.name());
            let mut row = json!({
                "name": format!("{}/{}", kind.plural(), sub.name()),
                "singularName": "",
                "namespaced": kind.is_namespaced(),
                "kind": sub_kind,
                "verbs": sub.verbs(),
            });
            if group != kind.group() {
                row["group"] = group.into();
                row["version"] = version.into();
            }
            rows.push(row);
        }
    }
    for absent in absent_of(group) {
        let mut row = json!({
            "name": absent.plural,
            "singularName": absent.singular(),
            "namespaced": absent.is_namespaced,
            "kind": absent.kind,
            "verbs": ABSENT_VERBS,
        });
        add_names(&mut row, absent.short_names, absent.categories());
        rows.push(row);
    }
    for answered in ANSWERED.iter().filter(|answered| answered.group == group) {
        rows.push(json!({
            "name": answered.plural,
            "singularName": "",
            "namespaced": answered.is_namespaced,
            "kind": answered.kind_name,
            "verbs": answered.verbs,
        }));
    }
    let version = version_of(group);
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": rows,
    })
}

/// Group, version and kind of what a subresource answers with.
fn sub_kind(resource: &Resource, sub: &str) -> (&'static str, &'static str, &'static str) {
    match sub {
        "scale" => ("autoscaling", "v1", "Scale"),
        "attach" => ("", "v1", "PodAttachOptions"),
        "binding" => ("", "v1", "Binding"),
        "eviction" => ("policy", "v1", "Eviction"),
        "exec" => ("", "v1", "PodExecOptions"),
        "portforward" => ("", "v1", "PodPortForwardOptions"),
        _ => (resource.kind.group(), VERSION, resource.kind.name()),
    }
}

/// The aggregated document: of the core group, or of all others.
pub(crate) fn aggregated(format_version: &str, core: bool) -> Value {
    let groups: Vec<&str> = if core { vec![""] } else { groups().collect() };
    let items: Vec<_> = groups.into_iter().map(aggregated_group).collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{format_version}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated_group(group: &str) -> Value {
    let answered = ANSWERED.iter().filter(|answered| answered.group == group);
    let resources: Vec<_> = resources_of(group)
        .map(aggregated_resource)
        .chain(absent_of(group).map(aggregated_absent))
        .chain(answered.map(|answered| aggregated_answered(group, answered)))
        .collect();
    let metadata = if group.is_empty() { json!({}) } else { json!({ "name": group }) };
    json!({
        "metadata": metadata,
        "versions": [{
            "version": version_of(group), "freshness": "Current", "resources": resources,
        }],
    })
}

fn aggregated_absent(absent: &Absent) -> Value {
    let mut row = json!({
        "resource": absent.plural,
        "responseKind": {
            "group": absent.group, "version": absent.version, "kind": absent.kind,
        },
        "scope": if absent.is_namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": absent.singular(),
        "verbs": ABSENT_VERBS,
    });
    add_names(&mut row, absent.short_names, absent.categories());
    row
}

fn aggregated_answered(group: &str, answered: &Answered) -> Value {
    let (version, kind) = (answered.version, answered.kind_name);
    json!({
        "resource": answered.plural,
        "responseKind": { "group": group, "version": version, "kind": kind },
        "scope": if answered.is_namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": "",
        "verbs": answered.verbs,
    })
}

fn aggregated_resource(resource: &Resource) -> Value {
    let kind = resource.kind;
    let subresources: Vec<_> = resource
        .subresources
        .iter()
        .map(|sub| {
            let (group, version, sub_kind) = sub_kind(resource, sub.name());
            json!({
                "subresource": sub.name(),
                "responseKind": { "group": group, "version": version, "kind": sub_kind },
                "verbs": sub.verbs(),
            })
        })
        .collect();
    let mut row = json!({
        "resource": kind.plural(),
        "responseKind": { "group": kind.group(), "version": VERSION, "kind": kind.name() },
        "scope": if kind.is_namespaced() { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs().collect::<Vec<_>>(),
    });
    add_names(&mut row, resource.short_names, resource.categories);
    if !subresources.is_empty() {
        row["subresources"] = json!(subresources);
    }
    row
}

/// The smallest OpenAPI v2 document in protobuf: version and title. With it kubectl leaves validation to the server
/// (`fieldValidation=Strict`), where the model is.
pub(crate) const OPENAPI_V2: &[u8] = b"\x0a\x032.0\x12\x0b\x0a\x05orchd\x12\x02v1";
/// Its media type.
pub(crate) const OPENAPI_V2_TYPE: &str =
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_discovery_tell_the_same_resources() {
        for (group, core) in [("", true), ("apps", false)] {
            let legacy = resource_list(group);
            let names: Vec<_> = legacy["resources"]
                .as_array()
                .expect("rows")
                .iter()
                .filter_map(|row| row["name"].as_str())
                .filter(|name| !name.contains('/'))
                .collect();
            let aggregated = aggregated("v2", core);
            let mut items = aggregated["items"].as_array().expect("groups").iter();
            let item =
                items.find(|item| item["metadata"]["name"].as_str().unwrap_or_default() == group);
            let item = item.expect("the group");
            let new: Vec<_> = item["versions"][0]["resources"]
                .as_array()
                .expect("rows")
                .iter()
                .filter_map(|row| row["resource"].as_str())
                .collect();
            assert_eq!(names, new);
            assert!(!names.is_empty());
        }
    }
}
