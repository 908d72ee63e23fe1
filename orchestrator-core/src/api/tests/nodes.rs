//! S40: what a node may do, as a matrix of (verb, object, field) against a predicate written down independently.

use crate::model::{AGENT_ANNOTATION, NETWORK_KEY_ANNOTATION, Node};
use crate::world::Signal;

use super::*;

/// The node that asks is always `n1`.
const ME: &str = "n1";

/// How an object stands to the node that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    /// It is the node, or a pod bound to it.
    Own,
    /// A pod bound to it, marked for deletion.
    OwnMarked,
    /// Another node, a pod bound to another node or to none, or anything else.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Apply,
    Bind,
    Create,
    DeleteWithGrace,
    DeleteNow,
    MergeMain,
    MergeStatus,
    Scale,
    UpdateMain,
    UpdateStatus,
}

/// What the reference insists on; left out one at a time, to show that the matrix would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    ConfirmsOnlyMarks,
    ConfirmsOnly,
    NeverApplies,
    NeverBinds,
    NeverScales,
    OnlyItself,
    OnlyOwnStatus,
    OnlyReportableFields,
    OnlyTheNode,
}

const RULES: [Rule; 9] = [
    Rule::ConfirmsOnlyMarks,
    Rule::ConfirmsOnly,
    Rule::NeverApplies,
    Rule::NeverBinds,
    Rule::NeverScales,
    Rule::OnlyItself,
    Rule::OnlyOwnStatus,
    Rule::OnlyReportableFields,
    Rule::OnlyTheNode,
];

/// The reference: the whole of what a node may do.
fn may(verb: Verb, kind: Kind, relation: Relation, field: &str) -> bool {
    may_without(None, verb, kind, relation, field)
}

/// The reference without one of its rules.
fn may_without(
    rule: Option<Rule>,
    verb: Verb,
    kind: Kind,
    relation: Relation,
    field: &str,
) -> bool {
    let holds = |of: Rule, what: bool| rule == Some(of) || what;
    let is_own = relation != Relation::Other;
    let is_reportable = [
        "",
        "annotation agent",
        "annotation key",
        "label arch",
        "label os",
        "label hostname",
        "status",
    ]
    .contains(&field);
    match verb {
        Verb::Create | Verb::UpdateMain | Verb::MergeMain => {
            holds(Rule::OnlyTheNode, kind == Kind::Node)
                && holds(Rule::OnlyItself, is_own)
                && holds(Rule::OnlyReportableFields, is_reportable)
        }
        Verb::UpdateStatus | Verb::MergeStatus => {
            matches!(kind, Kind::Node | Kind::Pod) && holds(Rule::OnlyOwnStatus, is_own)
        }
        Verb::DeleteNow => {
            is_own && holds(Rule::ConfirmsOnlyMarks, relation == Relation::OwnMarked)
        }
        Verb::DeleteWithGrace => rule == Some(Rule::ConfirmsOnly),
        Verb::Apply => rule == Some(Rule::NeverApplies),
        Verb::Bind => rule == Some(Rule::NeverBinds),
        Verb::Scale => rule == Some(Rule::NeverScales),
    }
}

const FIELDS: [(&str, &str, &str); 15] = [
    ("", "/metadata/name", ""),
    ("annotation", "/metadata/annotations", r#"{ "a": "b" }"#),
    ("annotation agent", "/metadata/annotations", r#"{ "orchestrator.dev/agent": "0a.1b" }"#),
    ("annotation key", "/metadata/annotations", r#"{ "orchestrator.dev/network-key": "k" }"#),
    ("label", "/metadata/labels", r#"{ "tier": "gold" }"#),
    ("label arch", "/metadata/labels", r#"{ "kubernetes.io/arch": "arm64" }"#),
    ("label os", "/metadata/labels", r#"{ "kubernetes.io/os": "plan9" }"#),
    ("label hostname", "/metadata/labels", r#"{ "kubernetes.io/hostname": "n1" }"#),
    ("label of another host", "/metadata/labels", r#"{ "kubernetes.io/hostname": "n2" }"#),
    ("finalizer", "/metadata/finalizers", r#"["example.com/x"]"#),
    (
        "owner",
        "/metadata/ownerReferences",
        r#"[{ "apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "00000000-0000-0000-0000-0000000000ff" }]"#,
    ),
    ("taint", "/spec/taints", r#"[{ "key": "a", "effect": "NoSchedule" }]"#),
    ("unschedulable", "/spec/unschedulable", "true"),
    ("kept field", "/spec/providerID", r#""x""#),
    ("status", "/status/conditions", r#"[{ "type": "Ready", "status": "False" }]"#),
];

const KEPT: &str = "kept field";

fn with_field(mut object: Value, pointer: &str, value: &str) -> Value {
    if value.is_empty() {
        return object;
    }
    let value: Value = serde_json::from_str(value).expect("valid JSON");
    let names: Vec<_> = pointer.split('/').skip(1).collect();
    object[names[0]][names[1]] = value;
    object
}

/// A world with two nodes, pods in every relation, and one object of every other kind; and those objects.
fn world() -> (Bench, Vec<(Key, Relation)>) {
    let mut bench = Bench::new();
    let mut objects = vec![(Key::cluster(Kind::Namespace, "default"), Relation::Other)];
    for (name, relation) in [("n1", Relation::Own), ("n2", Relation::Other)] {
        let mut sent = node(name);
        sent["metadata"]["labels"] = json!(null);
        bench.create(Kind::Node, "", sent);
        objects.push((Key::node(name), relation));
    }
    for (name, node, is_marked, relation) in [
        ("own", Some("n1"), false, Relation::Own),
        ("own-marked", Some("n1"), true, Relation::OwnMarked),
        ("other", Some("n2"), false, Relation::Other),
        ("other-marked", Some("n2"), true, Relation::Other),
        ("free", None, false, Relation::Other),
    ] {
        let mut sent = pod(name);
        sent["spec"]["nodeName"] = json!(node);
        bench.create(Kind::Pod, "default", sent);
        let key = key(Kind::Pod, name);
        if is_marked {
            bench.submit(&delete(&key, DeleteOptions::default())).expect("marked");
        }
        objects.push((key, relation));
    }
    for (kind, sent) in others() {
        bench.create(kind, "default", sent);
        objects.push((key(kind, "x"), Relation::Other));
    }
    bench.caller = Caller::Node { name: ME.to_owned() };
    (bench, objects)
}

fn others() -> Vec<(Kind, Value)> {
    let set = json!({
        "metadata": { "name": "x" },
        "spec": deployment("x")["spec"].clone(),
    });
    let binding = json!({
        "metadata": { "name": "x" }, "roleRef": { "kind": "ClusterRole", "name": "view" },
    });
    vec![
        (Kind::ConfigMap, json!({ "metadata": { "name": "x" } })),
        (Kind::Deployment, deployment("x")),
        (
            Kind::Event,
            json!({ "metadata": { "name": "x" }, "involvedObject": { "namespace": "default" } }),
        ),
        (Kind::ClusterRole, json!({ "metadata": { "name": "x" } })),
        (Kind::ClusterRoleBinding, binding.clone()),
        (Kind::PodDisruptionBudget, json!({ "metadata": { "name": "x" } })),
        (Kind::ReplicaSet, set),
        (Kind::Role, json!({ "metadata": { "name": "x" } })),
        (Kind::RoleBinding, binding),
        (Kind::ServiceAccount, json!({ "metadata": { "name": "x" } })),
        (Kind::Secret, json!({ "metadata": { "name": "x" } })),
        (
            Kind::Service,
            json!({ "metadata": { "name": "x" }, "spec": { "ports": [{ "port": 80 }] } }),
        ),
    ]
}

#[track_caller]
fn check(bench: &mut Bench, request: &Request, expected: bool, cell: &str) {
    let outcome = bench.decide(request);
    match &outcome {
        Ok(_) => assert!(expected, "{cell} is allowed"),
        Err(Rejection::Forbidden { .. }) => assert!(!expected, "{cell} is forbidden"),
        Err(other) => panic!("{cell}: {other}"),
    }
}

fn scale(key: &Key) -> Request {
    Request::Scale {
        key: key.clone(),
        replicas: 3,
        preconditions: Preconditions::default(),
        options: WriteOptions::default(),
    }
}

#[test]
fn a_node_may_do_exactly_what_the_reference_allows() {
    let (mut bench, objects) = world();
    let mut cells = Vec::new();
    for (key, relation) in &objects {
        let live = bench.json(key);
        for (field, pointer, value) in FIELDS {
            let is_for_nodes = pointer.starts_with("/spec") || pointer.starts_with("/status");
            if is_for_nodes && key.kind != Kind::Node {
                continue;
            }
            let changed = with_field(live.clone(), pointer, value);
            let difference = with_field(json!({}), pointer, value);
            let manifest = json!({ "metadata": { "name": &*key.name } });
            for (verb, request) in [
                (Verb::Apply, apply(key, with_field(manifest, pointer, value))),
                (Verb::MergeMain, merge(key, difference.clone())),
                (Verb::MergeStatus, patch(key, Part::Status, Patch::Merge(difference))),
                (Verb::UpdateMain, update(key, Part::Main, changed.clone())),
                (Verb::UpdateStatus, update(key, Part::Status, changed)),
            ] {
                let expected = may(verb, key.kind, *relation, field);
                check(&mut bench, &request, expected, &format!("{verb:?} {key} {field:?}"));
                cells.push((verb, key.kind, *relation, field));
            }
        }
        let grace = |grace_seconds| DeleteOptions { grace_seconds, ..DeleteOptions::default() };
        for (verb, request) in [
            (Verb::Bind, Request::Bind { pod: key.clone(), node: ME.to_owned() }),
            (Verb::DeleteWithGrace, delete(key, grace(None))),
            (Verb::DeleteWithGrace, delete(key, grace(Some(5)))),
            (Verb::DeleteNow, delete(key, grace(Some(0)))),
            (Verb::Scale, scale(key)),
        ] {
            let has_replicas = matches!(key.kind, Kind::Deployment | Kind::ReplicaSet);
            if verb == Verb::Scale && !has_replicas {
                continue;
            }
            let expected = may(verb, key.kind, *relation, "");
            check(&mut bench, &request, expected, &format!("{verb:?} {key}"));
            cells.push((verb, key.kind, *relation, ""));
        }
    }
    assert!(cells.len() > 700, "{} cells", cells.len());
    // Whoever left one of these rules out would have failed above.
    for rule in RULES {
        let differs = |(verb, kind, relation, field): &(Verb, Kind, Relation, &str)| {
            may(*verb, *kind, *relation, field)
                != may_without(Some(rule), *verb, *kind, *relation, field)
        };
        assert!(cells.iter().any(differs), "{rule:?} makes no difference to any cell");
    }
}

#[test]
fn a_node_creates_itself_and_nothing_else() {
    for name in [ME, "n3"] {
        let relation = if name == ME { Relation::Own } else { Relation::Other };
        for (field, pointer, value) in FIELDS {
            let mut bench = Bench::new();
            bench.caller = Caller::Node { name: ME.to_owned() };
            let mut sent = node(name);
            sent["metadata"]["labels"] = json!(null);
            let sent = with_field(sent, pointer, value);
            let expected = may(Verb::Create, Kind::Node, relation, field) && field != KEPT;
            let cell = format!("Create {name} {field:?}");
            check(&mut bench, &create(Kind::Node, "", sent.clone()), expected, &cell);
            let request = apply(&Key::node(name), sent);
            check(&mut bench, &request, false, &format!("Apply {name} {field:?}"));
        }
    }
    for (kind, sent) in others()
        .into_iter()
        .chain([(Kind::Namespace, json!({ "metadata": { "name": "x" } })), (Kind::Pod, pod("x"))])
    {
        let mut bench = Bench::new();
        bench.caller = Caller::Node { name: ME.to_owned() };
        let expected = may(Verb::Create, kind, Relation::Other, "");
        check(&mut bench, &create(kind, "default", sent), expected, &format!("Create {kind}"));
    }
}

#[test]
fn a_node_says_its_key_of_the_network_changes_it_and_takes_it_back() {
    let (mut bench, _) = world();
    let says = |node: &str, key: Value| {
        let annotations = json!({ NETWORK_KEY_ANNOTATION: key });
        merge(&Key::node(node), json!({ "metadata": { "annotations": annotations } }))
    };
    let told = |bench: &Bench| {
        let node = bench.world.at::<Node>(&Key::node(ME)).expect("it is there");
        node.metadata.annotations.get(NETWORK_KEY_ANNOTATION).cloned()
    };
    for key in [Some("one"), Some("two"), None] {
        bench.submit(&says(ME, json!(key))).expect("its own");
        assert_eq!(told(&bench).as_deref(), key);
    }
    bench.submit(&says("n2", json!("one"))).expect_err("another's");
}

#[test]
fn f34_a_copy_of_a_nodes_agent_is_refused_and_a_boot_of_its_machine_is_not() {
    let (mut bench, _) = world();
    let says = |agent: Value| {
        merge(&Key::node(ME), json!({ "metadata": { "annotations": { AGENT_ANNOTATION: agent } } }))
    };
    let heard = |bench: &mut Bench| {
        bench.world.hear(&Signal::Heartbeat { node: ME.to_owned(), at: bench.now });
    };
    let refused = |bench: &mut Bench, agent: &str, why: &str| {
        let error = bench.submit(&says(json!(agent))).expect_err("refused").to_string();
        assert!(error.contains(why), "{error}");
    };
    bench.submit(&says(json!("0a.01"))).expect("the first");
    heard(&mut bench);
    bench.submit(&says(json!("0a.01"))).expect("itself");
    refused(&mut bench, "0b.01", "is a copy of that one's");
    refused(&mut bench, "0a.02", "a clone of a machine that runs");
    bench.submit(&says(json!(null))).expect_err("it does not take back who it is");
    bench.now = bench.now.plus_millis(10_000);
    refused(&mut bench, "0b.01", "orchd node remove n1");
    bench.submit(&says(json!("0a.02"))).expect("the machine has booted");
    heard(&mut bench);
    refused(&mut bench, "0a.01", "10 s");
    bench.caller = admin();
    bench.submit(&says(json!(null))).expect("whoever looks after the node may");
    bench.caller = Caller::Node { name: ME.to_owned() };
    bench.submit(&says(json!("0b.01"))).expect("so that another may be it");
}

#[test]
fn a_node_tells_of_itself_and_its_pods_only() {
    let (mut bench, _) = world();
    let uid = |bench: &Bench, name: &str| bench.get(&key(Kind::Pod, name)).meta().uid.to_string();
    let (own, other) = (uid(&bench, "own"), uid(&bench, "other"));
    let about_pod = |name: &str, uid: &str| json!({ "kind": "Pod", "name": name, "namespace": "default", "uid": uid });
    for (about, expected) in [
        (about_pod("own", &own), true),
        (about_pod("own", &other), false),
        (about_pod("other", &other), false),
        (about_pod("absent", &own), false),
        (json!({ "kind": "Node", "name": "n1" }), true),
        (json!({ "kind": "Node", "name": "n2" }), false),
        (json!({ "kind": "Deployment", "name": "x", "namespace": "default" }), false),
        (json!({ "kind": "Gadget", "name": "n1" }), false),
        (json!({}), false),
    ] {
        let sent = |change: (&str, Value)| {
            let mut sent = json!({
                "metadata": { "name": "e" },
                "involvedObject": about,
                "reason": "Started",
                "source": { "component": "agent", "host": "n1" },
            });
            if !change.0.is_empty() {
                *sent.pointer_mut(change.0).expect("a field") = change.1;
            }
            create(Kind::Event, "default", sent)
        };
        check(&mut bench, &sent(("", json!(null))), expected, &format!("event about {about}"));
        for change in [
            ("/source/host", json!("n2")),
            ("/metadata", json!({ "name": "e", "finalizers": ["example.com/x"] })),
            (
                "/metadata",
                json!({
                    "name": "e",
                    "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "x", "uid": own }],
                }),
            ),
        ] {
            let cell = format!("event about {about} with {change:?}");
            check(&mut bench, &sent(change), false, &cell);
        }
    }
}

#[test]
fn an_admin_is_never_forbidden_what_a_node_is() {
    let (mut bench, objects) = world();
    bench.caller = admin();
    for (key, _) in &objects {
        let outcome = bench.decide(&merge(key, json!({ "metadata": { "labels": { "a": "b" } } })));
        assert!(outcome.is_ok(), "{key}: {outcome:?}");
    }
}

#[test]
fn a_label_that_is_refused_is_named() {
    let mut bench = Bench::new();
    bench.caller = Caller::Node { name: ME.to_owned() };
    let mut sent = node(ME);
    sent["metadata"]["labels"]["disk"] = json!("ssd");
    assert_eq!(
        bench.refuse(&create(Kind::Node, "", sent)),
        "nodes \"n1\" is forbidden: a node may not set or remove its label \"disk\"; it sets kubernetes.io/arch, \
         kubernetes.io/os, orchestrator.dev/runtime and, to its own name, kubernetes.io/hostname"
    );
}
