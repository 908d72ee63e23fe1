//! The grammar of paths below the groups of custom kinds.

use orchestrator_core::world::World;

use super::{Served, find, served};
use crate::path::{Route, below_resource, decoded};
use crate::status::Failure;

/// Finds what a path names; `None` when it is not about a custom kind.
pub(crate) fn route(world: &World, path: &str) -> Option<Result<Route, Failure>> {
    let segments = decoded(path).ok()?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let in_group = |group: &str| served(world).find(|served| served.kind.group() == group);
    let has_version = |group: &str, version: &str| {
        let api_version = format!("{group}/{version}");
        served(world).any(|served| served.kind.api_version() == api_version)
    };
    match segments.as_slice() {
        ["openapi", "v3", "apis", group, version] if has_version(group, version) => {
            let (group, version) = ((*group).to_owned(), (*version).to_owned());
            Some(Ok(Route::CustomOpenApi { group, version }))
        }
        ["apis", group] => {
            in_group(group).map(|_| Ok(Route::CustomGroup { group: (*group).to_owned() }))
        }
        ["apis", group, version] if has_version(group, version) => {
            let (group, version) = ((*group).to_owned(), (*version).to_owned());
            Some(Ok(Route::CustomResources { group, version }))
        }
        ["apis", group, version, "namespaces", namespace, plural, rest @ ..] => {
            find(world, group, version, plural)
                .map(|served| in_resource(served, Some(namespace), rest))
        }
        ["apis", group, version, plural, rest @ ..] => {
            find(world, group, version, plural).map(|served| in_resource(served, None, rest))
        }
        _ => None,
    }
}

fn in_resource(
    served: Served<'_>,
    namespace: Option<&str>,
    rest: &[&str],
) -> Result<Route, Failure> {
    below_resource(served.kind, namespace, rest, |key, name| {
        let found = served.subresources().find(|found| found.name() == name);
        let sub = found.ok_or_else(Failure::no_such_path)?;
        Ok(Route::Sub { key, sub })
    })
}
