//! Who may do what, and that nobody gives what they do not hold.

use serde_json::{Value, json};

use super::*;
use crate::api::tests::{Bench, apply, create, delete, deployment, key, merge, patch, pod};
use crate::api::{DeleteOptions, Patch, Rejection, Request};
use crate::model::{Key, Kind, Part};

/// A world with the built-in roles, in which `jane` is bound to a role in the namespace `default`.
fn bench(role: &str) -> Bench {
    let mut bench = Bench::new();
    bench.create(Kind::Namespace, "", json!({ "metadata": { "name": "other" } }));
    for object in built_in_access() {
        bench.create(object.kind(), "", object.to_value());
    }
    bench.create(Kind::RoleBinding, "default", binding("jane", "ClusterRole", role));
    bench
}

fn binding(user: &str, kind: &str, role: &str) -> Value {
    json!({
        "metadata": { "name": format!("{user}-{role}") },
        "roleRef": { "kind": kind, "name": role },
        "subjects": [{ "kind": "User", "name": user }],
    })
}

fn role(name: &str, rules: Value) -> Value {
    json!({ "metadata": { "name": name }, "rules": rules })
}

fn jane() -> Caller {
    Caller::user("jane", [])
}

#[track_caller]
fn check(bench: &Bench, verb: &str, key: &Key, subresource: &str, expected: bool) {
    let attributes = Attributes::of_key(verb, key, subresource);
    let permitted = permits(&bench.world, &jane(), &attributes);
    assert_eq!(permitted, expected, "{verb} {key} {subresource}");
}

fn other(kind: Kind, name: &str) -> Key {
    Key::new(kind, "other", name)
}

#[test]
fn the_built_in_roles_permit_what_they_do_in_kubernetes() {
    let view = bench("view");
    check(&view, "list", &key(Kind::Pod, ""), "", true);
    check(&view, "get", &key(Kind::Pod, "web"), "log", true);
    check(&view, "watch", &key(Kind::Deployment, ""), "", true);
    for (verb, kind, subresource) in [
        ("get", Kind::Secret, ""),
        ("list", Kind::RoleBinding, ""),
        ("create", Kind::Pod, ""),
        ("create", Kind::Pod, "exec"),
        ("patch", Kind::Deployment, "scale"),
        ("list", Kind::Node, ""),
    ] {
        check(&view, verb, &key(kind, "web"), subresource, false);
    }
    check(&view, "list", &other(Kind::Pod, ""), "", false);
    check(&view, "list", &Key::cluster(Kind::Pod, ""), "", false);

    let edit = bench("edit");
    check(&edit, "create", &key(Kind::Pod, "web"), "exec", true);
    check(&edit, "get", &key(Kind::Secret, "keys"), "", true);
    check(&edit, "deletecollection", &key(Kind::ConfigMap, ""), "", true);
    check(&edit, "create", &key(Kind::RoleBinding, ""), "", false);
    check(&edit, "patch", &key(Kind::Pod, "web"), "status", false);
    let admin = bench("admin");
    check(&admin, "create", &key(Kind::RoleBinding, ""), "", true);
    check(&admin, "delete", &Key::cluster(Kind::Namespace, "default"), "", false);
    check(&admin, "get", &other(Kind::Secret, "keys"), "", false);
}

#[test]
fn a_rule_names_verbs_groups_resources_subresources_and_names() {
    let mut bench = bench("nothing");
    let rules = json!([
        { "verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"] },
        { "verbs": ["*"], "apiGroups": ["apps"], "resources": ["*/scale"] },
        { "verbs": ["update"], "apiGroups": ["*"], "resources": ["pods/status"] },
    ]);
    bench.create(Kind::Role, "default", role("odd", rules));
    bench.create(Kind::RoleBinding, "default", binding("jane", "Role", "odd"));
    check(&bench, "get", &key(Kind::ConfigMap, "a"), "", true);
    check(&bench, "get", &key(Kind::ConfigMap, "b"), "", false);
    check(&bench, "list", &key(Kind::ConfigMap, ""), "", false);
    check(&bench, "patch", &key(Kind::Deployment, "web"), "scale", true);
    check(&bench, "patch", &key(Kind::Deployment, "web"), "", false);
    check(&bench, "update", &key(Kind::Pod, "web"), "status", true);
    check(&bench, "update", &key(Kind::Pod, "web"), "", false);
}

#[test]
fn groups_service_accounts_and_paths_are_told_apart() {
    let mut bench = bench("view");
    let mut sent = binding("x", "ClusterRole", "cluster-admin");
    sent["subjects"] = json!([
        { "kind": "ServiceAccount", "name": "robot", "namespace": "default" },
        { "kind": "Group", "name": "operators" },
    ]);
    bench.create(Kind::ClusterRoleBinding, "", sent);
    let nodes = Attributes::collection("list", Kind::Node, "");
    let may = |caller: &Caller, asked: &Attributes| permits(&bench.world, caller, asked);
    assert!(may(&Caller::service_account("default", "robot"), &nodes));
    assert!(!may(&Caller::service_account("other", "robot"), &nodes));
    assert!(may(&Caller::user("joe", ["operators".to_owned()]), &nodes));
    assert!(!may(&Caller::user("operators", []), &nodes));
    assert_eq!(
        Caller::user("root", [GROUP_MASTERS.to_owned()]),
        Caller::Admin { name: "root".to_owned() }
    );
    for (path, expected) in
        [("/apis/apps/v1", true), ("/version", true), ("/metrics", false), ("/apix", false)]
    {
        assert_eq!(may(&jane(), &Attributes::path("get", path)), expected, "{path}");
    }
}

#[test]
fn each_verb_asks_for_its_own_right() {
    let mut bench = bench("nothing");
    bench.create(Kind::Deployment, "default", deployment("web"));
    bench.create(Kind::Role, "default", role("one", json!([])));
    bench.create(Kind::RoleBinding, "default", binding("jane", "Role", "one"));
    let web = key(Kind::Deployment, "web");
    let options = DeleteOptions::default();
    let collection = DeleteOptions { of_collection: true, ..options };
    let whole = bench.json(&web);
    let scale = |replicas| Request::Scale {
        key: web.clone(),
        replicas,
        preconditions: Default::default(),
        options: Default::default(),
    };
    let requests = [
        ("create", "deployments", create(Kind::Deployment, "default", deployment("new"))),
        ("patch", "deployments", merge(&web, json!({ "metadata": { "labels": { "a": "b" } } }))),
        (
            "patch",
            "deployments/status",
            patch(&web, Part::Status, Patch::Merge(json!({ "status": { "replicas": 1 } }))),
        ),
        ("update", "deployments", crate::api::tests::update(&web, Part::Main, whole)),
        ("patch", "deployments/scale", scale(3)),
        ("deletecollection", "deployments", delete(&web, collection)),
        ("delete", "deployments", delete(&web, options)),
    ];
    for (verb, resource, request) in &requests {
        for (other_verb, other_resource, _) in &requests {
            let rule = json!([
                { "verbs": [other_verb], "apiGroups": ["apps"], "resources": [other_resource] },
            ]);
            let mut bench = bench.clone();
            bench.submit(&merge(&key(Kind::Role, "one"), json!({ "rules": rule }))).expect("set");
            bench.caller = jane();
            let outcome = bench.decide(request);
            if (verb, resource) == (other_verb, other_resource) {
                outcome.unwrap_or_else(|rejection| panic!("{verb} {resource}: {rejection}"));
            } else {
                let refused = outcome.expect_err("another right");
                assert!(matches!(refused, Rejection::Forbidden { .. }), "{verb}: {refused}");
            }
        }
    }
}

#[test]
fn who_is_refused_is_told_in_the_words_of_kubernetes_and_learns_nothing_else() {
    let mut bench = bench("view");
    bench.caller = jane();
    assert_eq!(
        bench.refuse(&delete(&key(Kind::Deployment, "not-there"), DeleteOptions::default())),
        "deployments.apps \"not-there\" is forbidden: User \"jane\" cannot delete resource \"deployments\" in API group \
         \"apps\" in the namespace \"default\""
    );
    assert_eq!(
        bench.refuse(&create(Kind::Namespace, "", json!({ "nonsense": 1 }))),
        "namespaces is forbidden: User \"jane\" cannot create resource \"namespaces\" in API group \"\" at the cluster scope"
    );
}

#[test]
fn an_apply_that_finds_nothing_needs_the_right_to_create() {
    let mut bench = bench("nothing");
    let rules = json!([{ "verbs": ["patch"], "apiGroups": [""], "resources": ["pods"] }]);
    bench.create(Kind::Role, "default", role("patcher", rules));
    bench.create(Kind::RoleBinding, "default", binding("jane", "Role", "patcher"));
    bench.caller = jane();
    let web = key(Kind::Pod, "web");
    let refused = bench.refuse(&apply(&web, pod("web")));
    assert!(refused.contains("cannot create resource \"pods\""), "{refused}");
}

#[test]
fn nobody_makes_a_role_with_rights_they_do_not_hold() {
    let mut bench = bench("admin");
    bench.caller = jane();
    let rule = |verbs: &[&str], resource: &str| json!([{ "verbs": verbs, "apiGroups": [""], "resources": [resource] }]);
    let mut make =
        |name: &str, rules: Value| bench.submit(&create(Kind::Role, "default", role(name, rules)));
    make("reader", rule(&["get", "list"], "pods")).expect("she holds it");
    // From two roles that she holds together.
    make("both", rule(&["get", "create"], "secrets")).expect("she holds it");
    for (rules, missing) in [
        (rule(&["*"], "pods"), "* pods"),
        (rule(&["get"], "nodes"), "get nodes"),
        (rule(&["get"], "*"), "get *"),
        (rule(&["patch"], "pods/status"), "patch pods/status"),
    ] {
        let refused = make("greedy", rules).expect_err(missing).to_string();
        assert!(refused.contains(&format!("do not hold: {missing};")), "{refused}");
    }
    let grown = json!({ "rules": rule(&["get"], "nodes") });
    bench.submit(&merge(&key(Kind::Role, "reader"), grown)).expect_err("by changing one");
    let label = json!({ "metadata": { "labels": { "a": "b" } } });
    bench.submit(&merge(&key(Kind::Role, "reader"), label)).expect("gives nothing");
}

#[test]
fn nobody_binds_a_role_with_rights_they_do_not_hold() {
    let mut bench = bench("admin");
    let secret = [(
        "operator",
        json!([
            { "verbs": ["list"], "apiGroups": [""], "resources": ["nodes"] },
        ]),
    )];
    for (name, rules) in secret {
        bench.create(Kind::ClusterRole, "", role(name, rules));
    }
    bench.caller = jane();
    bench
        .submit(&create(Kind::RoleBinding, "default", binding("joe", "ClusterRole", "edit")))
        .expect("held");
    let refused = bench.refuse(&create(
        Kind::RoleBinding,
        "default",
        binding("joe", "ClusterRole", "operator"),
    ));
    assert!(refused.contains("list nodes"), "{refused}");
    let refused = bench.refuse(&create(
        Kind::RoleBinding,
        "default",
        binding("joe", "ClusterRole", "cluster-admin"),
    ));
    assert!(refused.contains("permissions not currently held"), "{refused}");
    let refused =
        bench.refuse(&create(Kind::RoleBinding, "default", binding("joe", "Role", "later")));
    assert!(refused.contains("not found"), "{refused}");
    // With the verb `bind` on the role, she may.
    bench.caller = crate::api::tests::admin();
    let bind = json!([{
        "verbs": ["bind"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"],
        "resourceNames": ["operator"],
    }]);
    bench.create(Kind::Role, "default", role("binder", bind));
    bench.create(Kind::RoleBinding, "default", binding("jane", "Role", "binder"));
    bench.caller = jane();
    bench
        .submit(&create(Kind::RoleBinding, "default", binding("joe", "ClusterRole", "operator")))
        .expect("bind");
}

#[test]
fn a_role_that_others_add_to_is_for_those_who_hold_everything() {
    let mut bench = bench("nothing");
    let rules = json!([
        { "verbs": ["*"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"],
          "resourceNames": [] },
    ]);
    let mut writer = rules;
    writer[0]["verbs"] = json!(["create", "update", "patch"]);
    bench.create(Kind::ClusterRole, "", role("writer", writer));
    bench.create(Kind::ClusterRoleBinding, "", binding("jane", "ClusterRole", "writer"));
    bench.caller = jane();
    let mut sent = role("trap", json!([]));
    sent["aggregationRule"] =
        json!({ "clusterRoleSelectors": [{ "matchLabels": { "any": "thing" } }] });
    let refused = bench.refuse(&create(Kind::ClusterRole, "", sent));
    assert!(refused.contains("do not hold: * *"), "{refused}");
}

#[test]
fn a_label_that_makes_a_role_a_part_of_others_is_a_right() {
    let mut bench = bench("nothing");
    let rules = json!([{
        "verbs": ["get", "patch", "create"], "apiGroups": ["rbac.authorization.k8s.io"],
        "resources": ["clusterroles"],
    }]);
    bench.create(Kind::ClusterRole, "", role("labeller", rules));
    bench.create(Kind::ClusterRoleBinding, "", binding("jane", "ClusterRole", "labeller"));
    bench.caller = jane();
    let label = json!({ "metadata": {
        "labels": { "rbac.authorization.k8s.io/aggregate-to-view": "true" },
    } });
    let target = Key::cluster(Kind::ClusterRole, "cluster-admin");
    let refused = bench.refuse(&merge(&target, label.clone()));
    assert!(refused.contains("not currently held"), "{refused}");
    let own = Key::cluster(Kind::ClusterRole, "labeller");
    bench.submit(&merge(&own, label)).expect("she holds all of it");
    let owners = json!({ "metadata": { "finalizers": ["example.com/x"] } });
    bench.submit(&merge(&target, owners)).expect("gives nothing");
}

#[test]
fn who_may_look_at_a_namespace_may_look_at_it_itself() {
    let view = bench("view");
    check(&view, "get", &Key::cluster(Kind::Namespace, "default"), "", true);
    check(&view, "get", &Key::cluster(Kind::Namespace, "other"), "", false);
    check(&view, "list", &Key::cluster(Kind::Namespace, ""), "", false);
    check(&view, "delete", &Key::cluster(Kind::Namespace, "default"), "", false);
}

#[test]
fn what_is_listed_is_what_is_permitted() {
    let bench = bench("view");
    let rules = permitted_rules(&bench.world, &jane(), "default");
    assert!(rules.iter().any(|rule| rule.resources.contains(&"pods".to_owned())));
    assert!(
        permitted_rules(&bench.world, &jane(), "other")
            .iter()
            .all(|rule| { !rule.resources.contains(&"pods".to_owned()) })
    );
}
