//! Discovery of custom kinds, in both forms.

use std::collections::BTreeSet;

use orchestrator_core::world::World;
use serde_json::{Value, json};

use super::{Served, by_preference, served};
use crate::discovery::{self, Entry};
use crate::registry::VERBS;

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

/// `/apis/{group}/{version}`.
pub(crate) fn resource_list(world: &World, group: &str, version: &str) -> Value {
    let api_version = format!("{group}/{version}");
    discovery::list_of(&api_version, entries(world, &api_version))
}

/// Adds to the aggregated document of all groups but the core group.
pub(crate) fn add_aggregated(world: &World, document: &mut Value) {
    let Some(items) = document["items"].as_array_mut() else { return };
    for group in groups(world) {
        let versions: Vec<_> = versions(world, group)
            .iter()
            .map(|version| {
                let api_version = format!("{group}/{version}");
                discovery::aggregated_version(version, entries(world, &api_version))
            })
            .collect();
        items.push(json!({ "metadata": { "name": group }, "versions": versions }));
    }
}

/// The kinds of a group in a version.
fn entries<'w>(world: &'w World, api_version: &str) -> impl Iterator<Item = Entry<'w>> {
    served(world).filter(move |served| served.kind.api_version() == api_version).map(entry)
}

fn entry(served: Served<'_>) -> Entry<'_> {
    let names = &served.definition.status.accepted_names;
    Entry {
        group: served.kind.group(),
        version: &served.version.name,
        kind: served.kind.name(),
        plural: served.kind.plural(),
        singular: names.singular.as_str().into(),
        is_namespaced: served.kind.is_namespaced(),
        verbs: VERBS.to_vec(),
        short_names: names.short_names.iter().map(String::as_str).collect(),
        categories: names.categories.iter().map(String::as_str).collect(),
        subresources: served.subresources().collect(),
    }
}
