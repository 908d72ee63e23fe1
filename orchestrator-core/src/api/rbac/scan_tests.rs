//! Rights found by the index of subjects are those that a look at every binding finds.

use proptest::prelude::*;

use super::*;
use crate::model::{Key, Kind, ObjectMeta, RBAC_GROUP, Subject};
use crate::testkit::sandbox::Sandbox;

const USERS: [&str; 4] = ["jane", "system:serviceaccount:a:bot", "system:serviceaccount:b:bot", ""];
const GROUPS: [&str; 3] = ["staff", GROUP_AUTHENTICATED, GROUP_SERVICE_ACCOUNTS];
const NAMESPACES: [&str; 2] = ["a", "b"];

/// What happens to a binding: it is written, or removed.
#[derive(Clone, Debug)]
struct Step {
    name: String,
    /// Where; cluster-wide when empty.
    namespace: &'static str,
    subjects: Option<Vec<Subject>>,
}

fn some_subject() -> impl Strategy<Value = Subject> {
    let kinds = ["User", "Group", "ServiceAccount", "Robot"];
    let names = USERS.into_iter().chain(GROUPS).chain(["bot", "a:bot"]).collect::<Vec<_>>();
    let spaces = vec!["a", "b", "", "a:bot"];
    let all = (
        prop::sample::select(kinds.to_vec()),
        prop::sample::select(names),
        prop::sample::select(spaces),
    );
    all.prop_map(|(kind, name, namespace)| Subject {
        kind: kind.to_owned(),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        ..Subject::default()
    })
}

fn some_step() -> impl Strategy<Value = Step> {
    let subjects = prop::collection::vec(some_subject(), 0..4);
    let namespace = prop::sample::select(vec!["", "a", "b"]);
    (0..3u8, namespace, prop::option::weighted(0.8, subjects)).prop_map(
        |(name, namespace, subjects)| Step { name: format!("b{name}"), namespace, subjects },
    )
}

/// Makes a step. Each binding is to a role of its name, whose one rule names it.
fn make(sandbox: &mut Sandbox, step: &Step) {
    let metadata = ObjectMeta::named(step.namespace, &step.name);
    let role_ref = RoleRef {
        api_group: RBAC_GROUP.to_owned(),
        kind: Kind::ClusterRole.name().to_owned(),
        name: format!("{}{}", step.namespace, step.name),
    };
    let kind = if step.namespace.is_empty() { Kind::ClusterRoleBinding } else { Kind::RoleBinding };
    let key = Key::new(kind, step.namespace, &step.name);
    match (&step.subjects, kind) {
        (None, _) if sandbox.world().get(&key).is_none() => {}
        (None, _) => sandbox.remove(&key),
        (Some(subjects), Kind::RoleBinding) => {
            let subjects = subjects.clone();
            sandbox.put(RoleBinding { metadata, role_ref, subjects, ..RoleBinding::default() });
        }
        (Some(subjects), _) => {
            let subjects = subjects.clone();
            let new = ClusterRoleBinding { metadata, role_ref, subjects, ..Default::default() };
            sandbox.put(new);
        }
    }
}

fn roles(sandbox: &mut Sandbox) {
    for name in
        ["", "a", "b"].iter().flat_map(|space| (0..3).map(move |it| format!("{space}b{it}")))
    {
        let rule = PolicyRule { verbs: vec![name.clone()], ..PolicyRule::default() };
        let metadata = ObjectMeta::named("", &name);
        sandbox.put(ClusterRole { metadata, rules: vec![rule], ..ClusterRole::default() });
    }
}

/// Looks at every binding there is.
fn scanned(world: &World, user: &str, groups: &[String], namespace: &str) -> Vec<PolicyRule> {
    let is_meant = |subjects: &[Subject]| {
        subjects.iter().any(|subject| match &*subject.kind {
            "User" => subject.name == user,
            "Group" => groups.contains(&subject.name),
            "ServiceAccount" => {
                ServiceAccount::of_user(user) == Some((&*subject.namespace, &*subject.name))
            }
            _ => false,
        })
    };
    let mut found = Vec::new();
    for binding in world.all::<ClusterRoleBinding>(None) {
        if is_meant(&binding.subjects) {
            found.extend_from_slice(cluster_rules(world, &binding.role_ref));
        }
    }
    for binding in world.all::<RoleBinding>(None) {
        if is_meant(&binding.subjects) && binding.metadata.namespace == namespace {
            found.extend_from_slice(rules_of(world, namespace, &binding.role_ref));
        }
    }
    found.sort();
    found.dedup();
    found
}

proptest! {
    #[test]
    fn rights_are_those_that_a_look_at_every_binding_finds(
        steps in prop::collection::vec(some_step(), 1..12),
        group_count in 0..3usize,
    ) {
        let mut sandbox = Sandbox::new(Vec::new());
        roles(&mut sandbox);
        for step in steps {
            make(&mut sandbox, &step);
            let world = sandbox.world();
            for user in USERS {
                let caller = Caller::user(user, GROUPS[..group_count].iter().map(|it| (*it).to_owned()));
                for namespace in NAMESPACES.into_iter().chain([""]) {
                    let expected = scanned(world, user, &caller.groups(), namespace);
                    let found = permitted_rules(world, &caller, namespace);
                    prop_assert_eq!(found, expected, "{} in {:?}", user, namespace);
                }
            }
        }
    }
}
