//! `ClusterRoles`: keeps the rules of cluster roles that consist of others.
//!
//! Depends on `model` and `world`. The rules are those of all selected roles, sorted and each once, so that an order of
//! events makes no difference.

use std::collections::BTreeSet;

use super::{Change, Controller, Decision};
use crate::model::admit::RULES_MAX;
use crate::model::{ClusterRole, EventType, Key, Kind, PolicyRule, Resource, Timestamp};
use crate::world::{EventNote, Proposal, World};

/// Writes the rules of cluster roles with an `aggregationRule`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClusterRoles;

impl Controller for ClusterRoles {
    fn name(&self) -> &'static str {
        "cluster-role"
    }

    fn interest(&self, change: &Change, keys: &mut BTreeSet<Key>) {
        let Change::Object(change) = change else { return };
        if change.key.kind == Kind::ClusterRole {
            // One key for all: which roles the changed one is or was a part of, it does not tell. No role has this name.
            keys.insert(Key::cluster(Kind::ClusterRole, ""));
        }
    }

    /// Looks at every role that consists of others, whatever the key.
    fn reconcile(&self, key: &Key, world: &World, _now: Timestamp) -> Decision {
        let mut decision = Decision::nothing();
        if key.kind != Kind::ClusterRole {
            return decision;
        }
        for (_, stored) in world.list(Kind::ClusterRole, None) {
            let Some(role) = ClusterRole::from_object(&stored.object) else { continue };
            let Some(rules) = parts(role, world) else { continue };
            if rules.len() > RULES_MAX {
                decision.events.push(EventNote {
                    about: stored.object.key(),
                    uid: role.metadata.uid,
                    kind: EventType::Warning,
                    reason: "TooManyRules".to_owned(),
                    message: format!(
                        "the roles that this one consists of have {} rules; it may have {RULES_MAX}",
                        rules.len()
                    ),
                });
            } else if rules != role.rules && !role.metadata.is_deleting() {
                let role = ClusterRole { rules, ..(**role).clone() };
                decision.propose(Proposal::put_main(stored, role));
                // One at a time: roles that consist of each other would swap their rules for ever.
                return decision;
            }
        }
        decision
    }
}

/// The rules of the roles that one consists of; `None` when it has rules of its own.
fn parts(role: &ClusterRole, world: &World) -> Option<Vec<PolicyRule>> {
    let selectors = &role.aggregation_rule.as_ref()?.cluster_role_selectors;
    let rules: BTreeSet<&PolicyRule> = world
        .all::<ClusterRole>(None)
        .filter(|part| part.metadata.name != role.metadata.name)
        .filter(|part| selectors.iter().any(|it| it.matches(&part.metadata.labels)))
        .flat_map(|part| &part.rules)
        .collect();
    Some(rules.into_iter().cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::built_in_access;
    use crate::model::{AggregationRule, LabelSelector, ObjectMeta};
    use crate::testkit::sandbox::Sandbox;

    #[test]
    fn built_in_roles_are_as_their_controller_leaves_them() {
        let mut sandbox = Sandbox::new(vec![Box::new(ClusterRoles)]);
        built_in_access().into_iter().for_each(|object| sandbox.put(object));
        sandbox.settle().expect("settled");
        assert_eq!(sandbox.commits, 0);
    }

    #[test]
    fn roles_that_consist_of_each_other_come_to_rest() {
        let mut sandbox = Sandbox::new(vec![Box::new(ClusterRoles)]);
        for (name, part_of, made_of, verb) in [("a", "x", "y", "get"), ("b", "y", "x", "list")] {
            let selector = LabelSelector::from_labels([("part".into(), made_of.into())].into());
            let aggregation_rule = Some(AggregationRule { cluster_role_selectors: vec![selector] });
            let rules = vec![PolicyRule { verbs: vec![verb.into()], ..PolicyRule::default() }];
            let mut metadata = ObjectMeta::named("", name);
            metadata.labels.insert("part".into(), part_of.into());
            sandbox.put(ClusterRole { aggregation_rule, metadata, rules, ..Default::default() });
        }
        sandbox.settle().expect("settled");
        let rules =
            |name| sandbox.world().find::<ClusterRole>("", name).expect("there").rules.clone();
        assert_eq!(rules("a"), rules("b"));
    }

    #[test]
    fn a_labelled_role_becomes_part_of_the_built_in_ones_and_leaves_with_its_label() {
        let mut sandbox = Sandbox::new(vec![Box::new(ClusterRoles)]);
        built_in_access().into_iter().for_each(|object| sandbox.put(object));
        let rule = PolicyRule {
            api_groups: vec!["example.com".to_owned()],
            resources: vec!["widgets".to_owned()],
            verbs: vec!["get".to_owned()],
            ..PolicyRule::default()
        };
        let mut part = ClusterRole { rules: vec![rule.clone()], ..ClusterRole::default() };
        part.metadata.name = "widgets".to_owned();
        let label = "rbac.authorization.k8s.io/aggregate-to-view";
        part.metadata.labels.insert(label.to_owned(), "true".to_owned());
        sandbox.put(part);
        let have = |sandbox: &mut Sandbox| {
            sandbox.settle().expect("settled");
            ["admin", "edit", "view"].map(|name| {
                let role = sandbox.world().find::<ClusterRole>("", name).expect("built in");
                role.rules.contains(&rule)
            })
        };
        assert_eq!(have(&mut sandbox), [true; 3], "through the roles that view is a part of");
        let key = Key::cluster(Kind::ClusterRole, "widgets");
        sandbox.change(&key, |role: &mut ClusterRole| role.metadata.labels.clear());
        assert_eq!(have(&mut sandbox), [false; 3]);
    }
}
