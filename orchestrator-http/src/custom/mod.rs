//! Custom kinds: what is served besides the table of resources, as the definitions in a world say.
//!
//! Everything here is a function of a world, so that a definition counts from the moment it is recorded.

mod columns;
mod definition;
mod discovery;
mod openapi;
mod route;
mod scale;

use std::cmp::Ordering;

use orchestrator_core::model::{CustomResourceDefinition, DefinitionVersion, Key, Kind, Resource};
use orchestrator_core::world::{ObjectChange, World};

use crate::registry::Subresource;

pub(crate) use columns::{cells, columns, of_kind};
pub(crate) use definition::definition_schema;
pub(crate) use discovery::{add_aggregated, add_groups, group, resource_list};
pub(crate) use openapi::{add_to_index, document};
pub(crate) use route::route;
pub(crate) use scale::scale_of;

/// A kind that is served in a version.
#[derive(Clone, Copy)]
struct Served<'w> {
    definition: &'w CustomResourceDefinition,
    version: &'w DefinitionVersion,
    kind: Kind,
}

impl Served<'_> {
    fn subresources(&self) -> impl Iterator<Item = Subresource> {
        let scale = self.version.scale().map(|_| Subresource::Scale);
        let status = self.version.has_status().then_some(Subresource::Status);
        scale.into_iter().chain(status)
    }
}

/// Lists every kind in every version that is served, by name of the definition.
fn served(world: &World) -> impl Iterator<Item = Served<'_>> {
    world
        .all::<CustomResourceDefinition>(None)
        .filter(|definition| definition.is_established())
        .flat_map(|definition| {
            let kind = definition.kind();
            definition.spec.versions.iter().filter(|version| version.served).filter_map(
                move |version| {
                    let kind = Kind::Custom(kind?.at_version(&version.name)?);
                    Some(Served { definition, version, kind })
                },
            )
        })
}

/// Finds a kind by its path.
fn find<'w>(world: &'w World, group: &str, version: &str, plural: &str) -> Option<Served<'w>> {
    let key = Key::cluster(Kind::CustomResourceDefinition, &format!("{plural}.{group}"));
    let definition = world.at::<CustomResourceDefinition>(&key)?;
    let version = definition.served(version).filter(|_| definition.is_established())?;
    let kind = Kind::Custom(definition.kind()?.at_version(&version.name)?);
    Some(Served { definition, version, kind })
}

/// Finds what is served of a kind in the version in which it is spoken of.
fn of(world: &World, kind: Kind) -> Option<Served<'_>> {
    let kind = kind.custom()?;
    find(world, kind.group(), kind.version(), kind.plural())
}

/// Whether with a change a kind came to be served no more in the version in which it is spoken of. One that is served again since
/// then never ended, to who hears of it only now.
pub(crate) fn ends(world: &World, change: &ObjectChange, kind: Kind) -> bool {
    let Some(custom) = kind.custom() else { return false };
    let before = change.before.as_ref().and_then(CustomResourceDefinition::from_object);
    before.is_some_and(|definition| definition.defines(custom)) && of(world, kind).is_none()
}

/// The name of a list of a kind.
pub(crate) fn list_kind(world: &World, kind: Kind) -> String {
    match of(world, kind) {
        Some(found) => found.definition.spec.names.list_kind.clone(),
        None => format!("{kind}List"),
    }
}

/// The warning that a version is on its way out, if it is.
pub(crate) fn deprecation(world: &World, kind: Kind) -> Option<String> {
    let found = of(world, kind).filter(|found| found.version.deprecated)?;
    let text = found.version.deprecation_warning.clone();
    Some(text.unwrap_or_else(|| format!("{} {kind} is deprecated", kind.api_version())))
}

/// Orders versions as Kubernetes does, the preferred first: `v2`, `v1`, `v2beta1`, `v1alpha1`, then others by name.
fn by_preference(left: &str, right: &str) -> Ordering {
    match (rank(left), rank(right)) {
        (Some(left), Some(right)) => right.cmp(&left),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => left.cmp(right),
    }
}

/// Stability, major and minor of a version such as `v1beta2`.
fn rank(version: &str) -> Option<(u8, u32, u32)> {
    let version = version.strip_prefix('v')?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    let (major, rest) = version.split_at(digits);
    let major = major.parse().ok()?;
    if rest.is_empty() {
        return Some((2, major, 0));
    }
    let (stability, minor) = match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
        (Some(minor), _) => (1, minor),
        (None, Some(minor)) => (0, minor),
        (None, None) => return None,
    };
    Some((stability, major, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_versions_come_before_new_ones_before_odd_ones() {
        let mut versions = ["foo1", "v1alpha1", "v1", "v10", "v2", "v3beta1", "v12alpha1", "foo10"];
        versions.sort_by(|left, right| by_preference(left, right));
        let right = ["v10", "v2", "v1", "v3beta1", "v12alpha1", "v1alpha1", "foo1", "foo10"];
        assert_eq!(versions, right);
    }
}
