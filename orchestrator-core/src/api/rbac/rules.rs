//! What a rule says: whether it permits something, and whether rules hold all that another one gives.

use std::sync::LazyLock;

use super::attributes::{Asked, Attributes};
use crate::model::PolicyRule;

/// The most single rights that are looked at to tell whether somebody holds what they give.
pub(super) const RIGHTS_MAX: usize = 100_000;

const ALL: &str = "*";

/// The rules of those who may do everything.
pub(super) fn everything() -> &'static [PolicyRule] {
    static EVERYTHING: LazyLock<[PolicyRule; 2]> = LazyLock::new(|| {
        let all = || vec![ALL.to_owned()];
        let resources = PolicyRule {
            api_groups: all(),
            resources: all(),
            verbs: all(),
            ..PolicyRule::default()
        };
        let paths = PolicyRule { non_resource_urls: all(), verbs: all(), ..PolicyRule::default() };
        [resources, paths]
    });
    &*EVERYTHING
}

/// Whether a rule permits what is asked.
pub(super) fn matches(rule: &PolicyRule, attributes: &Attributes) -> bool {
    has(&rule.verbs, &attributes.verb)
        && match &attributes.asked {
            Asked::Path(path) => rule.non_resource_urls.iter().any(|url| url_covers(url, path)),
            Asked::Resource { group, resource, subresource, name, .. } => {
                has(&rule.api_groups, group)
                    && has_resource(rule, resource, subresource)
                    && (rule.resource_names.is_empty() || rule.resource_names.contains(name))
            }
        }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == ALL || one == wanted)
}

fn has_resource(rule: &PolicyRule, resource: &str, subresource: &str) -> bool {
    rule.resources.iter().any(|one| match one.split_once('/') {
        None => one == ALL || (one == resource && subresource.is_empty()),
        Some((of, sub)) => {
            (of == ALL || of == resource) && sub == subresource && !subresource.is_empty()
        }
    })
}

fn url_covers(url: &str, path: &str) -> bool {
    match url.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => url == path,
    }
}

/// Finds a right that `given` gives and nobody of `held` has. Rights are looked at one by one: several rules together may
/// hold what no single one does. `Err` when there are more of them than [`RIGHTS_MAX`].
pub(super) fn missing(held: &[&PolicyRule], given: &[PolicyRule]) -> Result<Option<String>, usize> {
    let mut looked_at = 0usize;
    for rule in given {
        // The usual case, and the cheap one.
        if held.iter().any(|held| covers(held, rule)) {
            continue;
        }
        for right in rights(rule) {
            looked_at += 1;
            if looked_at > RIGHTS_MAX {
                return Err(RIGHTS_MAX);
            }
            if !held.iter().any(|held| covers(held, &right)) {
                return Ok(Some(words(&right)));
            }
        }
    }
    Ok(None)
}

/// Whether one rule holds all of another.
fn covers(held: &PolicyRule, given: &PolicyRule) -> bool {
    let all_of = |held: &[String], given: &[String]| given.iter().all(|one| has(held, one));
    if !all_of(&held.verbs, &given.verbs) {
        return false;
    }
    if !given.non_resource_urls.is_empty() {
        let urls = &held.non_resource_urls;
        // `/a*` holds `/ab*`, too.
        return given.non_resource_urls.iter().all(|url| urls.iter().any(|it| url_covers(it, url)));
    }
    let resource = |one: &String| {
        held.resources.iter().any(|held| {
            held == one
                || held == ALL
                || matches!((held.split_once('/'), one.split_once('/')),
                    (Some((ALL, held)), Some((_, one))) if held == one)
        })
    };
    let names = held.resource_names.is_empty()
        || (!given.resource_names.is_empty() && all_names(held, given));
    all_of(&held.api_groups, &given.api_groups) && given.resources.iter().all(resource) && names
}

fn all_names(held: &PolicyRule, given: &PolicyRule) -> bool {
    given.resource_names.iter().all(|name| held.resource_names.contains(name))
}

/// The single rights of a rule, one verb on one thing each.
fn rights(rule: &PolicyRule) -> impl Iterator<Item = PolicyRule> + '_ {
    let paths = rule.verbs.iter().flat_map(|verb| {
        rule.non_resource_urls.iter().map(|url| PolicyRule {
            non_resource_urls: vec![url.clone()],
            verbs: vec![verb.clone()],
            ..PolicyRule::default()
        })
    });
    let names = || {
        let any = rule.resource_names.is_empty().then(Vec::new);
        any.into_iter().chain(rule.resource_names.iter().map(|name| vec![name.clone()]))
    };
    let resources = rule.verbs.iter().flat_map(move |verb| {
        rule.api_groups.iter().flat_map(move |group| {
            rule.resources.iter().flat_map(move |resource| {
                names().map(move |resource_names| PolicyRule {
                    api_groups: vec![group.clone()],
                    resource_names,
                    resources: vec![resource.clone()],
                    verbs: vec![verb.clone()],
                    ..PolicyRule::default()
                })
            })
        })
    });
    paths.chain(resources)
}

/// Words a single right.
fn words(right: &PolicyRule) -> String {
    let verb = right.verbs.join(",");
    if let [url] = right.non_resource_urls.as_slice() {
        return format!("{verb} {url}");
    }
    let mut text = format!("{verb} {}", right.resources.join(","));
    match right.api_groups.as_slice() {
        [group] if !group.is_empty() => text.push_str(&format!(".{group}")),
        _ => {}
    }
    if let [name] = right.resource_names.as_slice() {
        text.push_str(&format!(" {name:?}"));
    }
    text
}
