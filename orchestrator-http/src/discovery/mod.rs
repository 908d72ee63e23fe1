//! Discovery: which groups, versions and resources there are, in the old form and in the aggregated one.

mod entry;
mod own;

use serde_json::{Value, json};

use crate::absent::{ABSENT, ABSENT_VERBS, Absent};
use crate::registry::{ANSWERED, Answered, GROUPS, RESOURCES, Resource, VERSION};

pub(crate) use entry::Entry;

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

/// Everything of a group, from every table.
fn entries(group: &str) -> impl Iterator<Item = Entry<'static>> {
    let resources = RESOURCES.iter().filter(move |resource| resource.kind.group() == group);
    let absent = ABSENT.iter().filter(move |absent| absent.group == group);
    let version = version_of(group);
    let is_told =
        move |answered: &&Answered| (answered.group, answered.version) == (group, version);
    let answered = ANSWERED.iter().filter(is_told);
    resources
        .map(Resource::entry)
        .chain(absent.map(Absent::entry))
        .chain(answered.map(Answered::entry))
}

impl Resource {
    fn entry(&self) -> Entry<'_> {
        Entry {
            group: self.kind.group(),
            version: VERSION,
            kind: self.kind.name(),
            plural: self.kind.plural(),
            singular: self.singular.into(),
            is_namespaced: self.kind.is_namespaced(),
            verbs: self.verbs().collect(),
            short_names: self.short_names.to_vec(),
            categories: self.categories.to_vec(),
            subresources: self.subresources.to_vec(),
        }
    }
}

impl Absent {
    fn entry(&self) -> Entry<'_> {
        Entry {
            group: self.group,
            version: self.version,
            kind: self.kind,
            plural: self.plural,
            singular: self.singular().into(),
            is_namespaced: self.is_namespaced,
            verbs: ABSENT_VERBS.to_vec(),
            short_names: self.short_names.to_vec(),
            categories: self.categories().to_vec(),
            subresources: Vec::new(),
        }
    }
}

impl Answered {
    fn entry(&self) -> Entry<'_> {
        Entry {
            group: self.group,
            version: self.version,
            kind: self.kind_name,
            plural: self.plural,
            singular: "".into(),
            is_namespaced: self.is_namespaced,
            verbs: self.verbs.to_vec(),
            short_names: Vec::new(),
            categories: Vec::new(),
            subresources: Vec::new(),
        }
    }
}

/// `/api/v1` and `/apis/{group}/{version}`.
pub(crate) fn resource_list(group: &str) -> Value {
    let version = version_of(group);
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut list = list_of(&group_version, entries(group));
    add_row(&mut list, own::row(group));
    list
}

fn add_row(list: &mut Value, row: Option<Value>) {
    if let (Some(rows), Some(row)) = (list["resources"].as_array_mut(), row) {
        rows.push(row);
    }
}

/// The old form of what there is of a group in a version.
pub(crate) fn list_of<'e>(group_version: &str, entries: impl Iterator<Item = Entry<'e>>) -> Value {
    let rows: Vec<_> = entries.flat_map(|entry| entry.rows()).collect();
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": rows,
    })
}

/// The aggregated form of what there is of a group in a version.
pub(crate) fn aggregated_version<'e>(
    version: &str,
    entries: impl Iterator<Item = Entry<'e>>,
) -> Value {
    let resources: Vec<_> = entries.map(|entry| entry.aggregated()).collect();
    json!({ "version": version, "freshness": "Current", "resources": resources })
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
    let metadata = if group.is_empty() { json!({}) } else { json!({ "name": group }) };
    let mut version = aggregated_version(version_of(group), entries(group));
    add_row(&mut version, own::aggregated(group));
    json!({ "metadata": metadata, "versions": [version] })
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

    #[test]
    fn explain_is_found_below_pods_in_both_forms() {
        let legacy = resource_list("orchestrator.dev");
        assert_eq!(legacy["resources"][0]["name"], "pods/explain");
        let aggregated = aggregated("v2", false);
        let own = &aggregated["items"][groups().count() - 1];
        assert_eq!(own["metadata"]["name"], "orchestrator.dev");
        let parent = &own["versions"][0]["resources"][0];
        assert_eq!((&parent["resource"], &parent["verbs"]), (&json!("pods"), &json!([])));
        assert_eq!(parent["subresources"][0]["subresource"], "explain");
    }
}
