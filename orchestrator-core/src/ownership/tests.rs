//! Server-side apply, by example and against a naive second evaluator.

mod custom;
mod generated;
mod naive;

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use naive::{Leaves, Naive};

fn form() -> Form<'static> {
    Form::of_kind(Kind::Deployment)
}

/// A deployment and who owns what of it.
struct Bench {
    live: Value,
    managed: Vec<ManagedFieldsEntry>,
}

impl Bench {
    /// Begins with an object to which nothing was applied.
    fn new(live: Value) -> Self {
        let managed = before_first_apply(form(), &live, &json!({}), Time::from_seconds(1));
        Self { live, managed }
    }

    /// Applies; returns conflicts as `manager: field`.
    fn apply(&mut self, manager: &str, spec: Value, force: bool) -> Result<(), Vec<String>> {
        let now = Time::from_seconds(7);
        let applied = json!({ "spec": spec });
        let force = if force { Force::All } else { Force::None };
        let outcome = apply(form(), &self.live, &self.managed, manager, &applied, force, now);
        let in_words = |it: &ApplyConflict| format!("{}: {}", it.manager, it.field);
        let applied = outcome.map_err(|all| all.iter().map(in_words).collect::<Vec<_>>())?;
        (self.live, self.managed) = (applied.value, applied.managed);
        Ok(())
    }

    fn update(&mut self, manager: &str, change: impl FnOnce(&mut Value)) {
        let old = self.live.clone();
        change(&mut self.live["spec"]);
        let now = Time::from_seconds(8);
        self.managed =
            updated(form(), &self.managed, Writer::of_object(manager), &old, &self.live, now);
    }

    fn owned_by(&self, manager: &str) -> Value {
        let entry = self.managed.iter().find(|entry| entry.manager == manager);
        entry.map(|entry| entry.fields_v1.to_value()).unwrap_or_default()
    }
}

fn template(containers: Value) -> Value {
    json!({ "template": { "spec": { "containers": containers } } })
}

#[test]
fn what_is_applied_no_more_goes_unless_another_owns_it() {
    let mut bench = Bench::new(json!({}));
    bench
        .apply("a", json!({ "replicas": 2, "paused": true, "minReadySeconds": 3 }), false)
        .expect("new");
    bench.apply("b", json!({ "paused": true }), false).expect("the same value is no conflict");
    bench.apply("a", json!({ "replicas": 2 }), false).expect("its own");
    assert_eq!(bench.live["spec"], json!({ "replicas": 2, "paused": true }));
    bench.apply("b", json!({}), false).expect("its own");
    assert_eq!(bench.live["spec"], json!({ "replicas": 2 }));
    assert_eq!(bench.owned_by("a"), json!({ "f:spec": { "f:replicas": {} } }));
    assert_eq!(bench.owned_by("b"), json!({ "f:spec": {} }), "an empty map is a place too");
}

#[test]
fn anothers_value_is_a_conflict_unless_it_is_forced() {
    let mut bench = Bench::new(json!({}));
    bench.apply("a", json!({ "replicas": 2 }), false).expect("new");
    bench.update("scaler", |spec| spec["replicas"] = 5.into());
    let conflicts = bench.apply("a", json!({ "replicas": 2 }), false).expect_err("the scaler's");
    assert_eq!(conflicts, ["\"scaler\" using apps/v1: .spec.replicas"]);
    assert_eq!(bench.live["spec"]["replicas"], 5);
    bench.apply("a", json!({ "replicas": 2 }), true).expect("forced");
    assert_eq!(bench.live["spec"]["replicas"], 2);
    assert_eq!(bench.owned_by("scaler"), Value::Null, "it owns nothing any more");
}

#[test]
fn what_is_written_through_a_subresource_is_owned_apart() {
    let mut bench = Bench::new(json!({}));
    bench.apply("a", json!({ "replicas": 2 }), false).expect("new");
    let scaled = json!({ "spec": { "replicas": 5 } });
    let writer = Writer { manager: "a", subresource: "scale" };
    let now = Time::from_seconds(8);
    bench.managed = updated(form(), &bench.managed, writer, &bench.live, &scaled, now);
    bench.live = scaled;
    let conflicts = bench.apply("a", json!({ "replicas": 2 }), false).expect_err("the scale's");
    assert_eq!(conflicts, ["\"a\" with subresource \"scale\" using apps/v1: .spec.replicas"]);
}

#[test]
fn what_was_there_before_belongs_to_before_first_apply() {
    let mut bench = Bench::new(json!({ "spec": { "replicas": 1, "paused": true } }));
    let conflicts = bench.apply("a", json!({ "replicas": 2 }), false).expect_err("not a's");
    assert_eq!(conflicts, ["\"before-first-apply\" using apps/v1: .spec.replicas"]);
    bench.apply("a", json!({ "replicas": 1 }), false).expect("the same value");
    assert_eq!(
        bench.owned_by("before-first-apply"),
        json!({ "f:spec": { "f:paused": {}, "f:replicas": {} } })
    );
}

#[test]
fn elements_of_lists_are_owned_one_by_one() {
    let mut bench = Bench::new(json!({}));
    let main = json!({ "name": "main", "image": "m:1" });
    let side = json!({ "name": "side", "image": "s:1" });
    bench.apply("a", template(json!([main])), false).expect("new");
    bench
        .apply("b", template(json!([side, { "name": "main", "tty": true }])), false)
        .expect("others");
    let containers = bench.live.pointer("/spec/template/spec/containers").cloned();
    let both = json!([side, { "name": "main", "image": "m:1", "tty": true }]);
    assert_eq!(
        containers,
        Some(both),
        "as they are applied, so that the same again changes nothing"
    );
    let theirs = bench.apply("a", template(json!([{ "name": "side", "image": "s:2" }])), false);
    let field = ".spec.template.spec.containers[name=\"side\"].image";
    assert_eq!(theirs, Err(vec![format!("\"b\": {field}")]));
    bench.apply("b", template(json!([])), false).expect("its own");
    let containers = bench.live.pointer("/spec/template/spec/containers").cloned();
    assert_eq!(containers, Some(json!([main])));
    assert_eq!(
        bench.owned_by("a"),
        json!({ "f:spec": { "f:template": { "f:spec": { "f:containers": {
            "k:{\"name\":\"main\"}": { ".": {}, "f:image": {}, "f:name": {} },
        } } } } })
    );
}

#[test]
fn ports_of_two_protocols_are_two_and_atomic_lists_are_one() {
    let mut bench = Bench::new(json!({}));
    let container = |ports: Value| template(json!([{ "name": "c", "ports": ports }]));
    let udp = json!({ "containerPort": 53, "protocol": "UDP" });
    bench.apply("a", container(json!([{ "containerPort": 53 }])), false).expect("new");
    bench.apply("b", container(json!([udp])), false).expect("another port");
    let ports = bench.live.pointer("/spec/template/spec/containers/0/ports").cloned();
    assert_eq!(ports, Some(json!([{ "containerPort": 53 }, udp])));
    let arguments = |list: Value| template(json!([{ "name": "c", "args": list }]));
    bench.apply("c", arguments(json!(["x"])), false).expect("new");
    let conflicts =
        bench.apply("d", arguments(json!(["x", "y"])), false).expect_err("c's as a whole");
    assert_eq!(conflicts, ["\"c\": .spec.template.spec.containers[name=\"c\"].args"]);
}

#[test]
fn an_empty_map_that_is_given_up_takes_nobodys_values_with_it() {
    let mut bench = Bench::new(json!({}));
    bench.apply("a", json!({ "template": { "metadata": { "labels": {} } } }), false).expect("new");
    let labels = json!({ "template": { "metadata": { "labels": { "b": "1" } } } });
    bench.apply("b", labels.clone(), false).expect("its own");
    bench.apply("a", json!({ "replicas": 1 }), false).expect("its own");
    assert_eq!(bench.live["spec"]["template"], labels["template"]);
}

#[test]
fn what_the_client_applied_last_is_its_own_unless_somebody_changed_it() {
    let last = json!({ "spec": { "replicas": 1, "minReadySeconds": 5 } });
    let live = json!({ "spec": { "replicas": 1, "minReadySeconds": 7, "paused": true } });
    let now = Time::from_seconds(1);
    let managed = before_first_apply(form(), &live, &last, now);
    let bench = Bench { live, managed };
    let annotations = json!({ "f:annotations": { format!("f:{LAST_APPLIED_ANNOTATION}"): {} } });
    assert_eq!(
        bench.owned_by(CLIENT_SIDE_APPLY),
        json!({ "f:metadata": annotations, "f:spec": { "f:replicas": {} } })
    );
    let others = json!({ "f:spec": { "f:minReadySeconds": {}, "f:paused": {} } });
    assert_eq!(bench.owned_by(BEFORE_FIRST_APPLY), others);
    let change = |spec: Value, force: Force<'_>| {
        let applied = json!({ "spec": spec });
        apply(form(), &bench.live, &bench.managed, "kubectl", &applied, force, now)
    };
    let applied = change(json!({ "replicas": 2 }), Force::LastApplied(&last));
    let applied = applied.expect("nobody has changed it").value;
    assert_eq!(applied["spec"], json!({ "replicas": 2, "minReadySeconds": 7, "paused": true }));
    let conflicts = change(json!({ "replicas": 2 }), Force::None).expect_err("the client's");
    assert_eq!(conflicts[0].manager, "\"kubectl-client-side-apply\" using apps/v1");
    let conflicts = change(json!({ "minReadySeconds": 5 }), Force::LastApplied(&last));
    assert_eq!(conflicts.expect_err("somebody has")[0].field, ".spec.minReadySeconds");
}

#[test]
fn elements_that_cannot_be_told_apart_are_found() {
    let twice = template(json!([{ "name": "a", "env": [{ "name": "A" }, { "name": "A" }] }]));
    let found = indistinct(form(), &json!({ "spec": twice }));
    let path = found.map(|(path, _)| path);
    assert_eq!(path.as_deref(), Some(".spec.template.spec.containers.env[name=\"A\"]"));
    assert_eq!(indistinct(form(), &json!({ "spec": template(json!([{ "name": "a" }])) })), None);
    let keyless = template(json!([{ "name": "a", "volumeMounts": [{ "name": "v" }] }]));
    let (path, what) = indistinct(form(), &json!({ "spec": keyless }))
        .expect("it would be added with every apply");
    assert!(path.ends_with(".volumeMounts[0]") && what.contains("mountPath"), "{path}: {what}");
}

#[test]
fn a_time_changes_only_with_the_set() {
    let mut bench = Bench::new(json!({}));
    bench.apply("a", json!({ "replicas": 2 }), false).expect("new");
    let before = bench.managed.clone();
    let later = Time::from_seconds(99);
    let applied = json!({ "spec": { "replicas": 2 } });
    let again =
        apply(form(), &bench.live, &before, "a", &applied, Force::None, later).expect("its own");
    assert_eq!((again.value, again.managed), (bench.live, before));
}

/// Leaves as an object: annotations, ports of one container by number, and numbers of the spec.
fn object(leaves: &BTreeMap<&str, i64>) -> Value {
    let mut object = json!({});
    for (leaf, value) in leaves {
        match leaf.split_once('/') {
            Some(("meta", name)) => {
                object["metadata"]["annotations"][name] = value.to_string().into();
            }
            Some((container, field)) => {
                let list = &mut object["spec"]["template"]["spec"]["containers"];
                if list.is_null() {
                    *list = json!([]);
                }
                let list = list.as_array_mut().expect("a list");
                let index = list.iter().position(|one| one["name"] == container);
                let index = index.unwrap_or_else(|| {
                    list.push(json!({ "name": container }));
                    list.len() - 1
                });
                list[index][field] = value.to_string().into();
            }
            None => object["spec"][*leaf] = (*value).into(),
        }
    }
    object
}

/// The leaves of an object again.
fn leaves(object: &Value) -> Leaves {
    let number = |value: &Value| -> Value {
        value.as_i64().or_else(|| value.as_str()?.parse().ok()).expect("a number").into()
    };
    let mut leaves = Leaves::new();
    let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
    for (name, value) in annotations.into_iter().flatten() {
        leaves.insert(vec![format!("meta/{name}")], number(value));
    }
    for (name, value) in object["spec"].as_object().into_iter().flatten() {
        if name != "template" {
            leaves.insert(vec![name.clone()], number(value));
        }
    }
    let containers = object.pointer("/spec/template/spec/containers").and_then(Value::as_array);
    for container in containers.into_iter().flatten() {
        let name = container["name"].as_str().expect("a name");
        for (field, value) in container.as_object().expect("a map") {
            if field != "name" {
                leaves.insert(vec![format!("{name}/{field}")], number(value));
            }
        }
    }
    leaves
}

fn some_leaves() -> impl Strategy<Value = BTreeMap<&'static str, i64>> {
    let leaf = prop::sample::select(vec![
        "replicas",
        "minReadySeconds",
        "meta/x",
        "meta/y",
        "a/image",
        "a/workingDir",
        "b/image",
    ]);
    prop::collection::btree_map(leaf, 0..3i64, 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_naive_evaluator_agrees(
        steps in prop::collection::vec((0..3u8, prop::bool::ANY, prop::bool::ANY, some_leaves()), 1..8),
    ) {
        let (mut naive, mut live, mut managed) = (Naive::default(), json!({}), Vec::new());
        // The first write is an apply: only then is ownership recorded.
        for (index, (manager, applies, force, wanted)) in steps.into_iter().enumerate() {
            let manager = format!("m{manager}");
            let wanted = object(&wanted);
            let now = Time::from_seconds(1);
            if applies || index == 0 {
                let agreed = naive.apply(&manager, &leaves(&wanted), force);
                let force = if force { Force::All } else { Force::None };
                match apply(form(), &live, &managed, &manager, &wanted, force, now) {
                    Ok(applied) => {
                        prop_assert!(agreed, "{naive:?}");
                        (live, managed) = (applied.value, applied.managed);
                    }
                    Err(conflicts) => prop_assert!(!agreed, "{conflicts:?}"),
                }
            } else {
                naive.update(&manager, &leaves(&wanted));
                managed = updated(form(), &managed, Writer::of_object(&manager), &live, &wanted, now);
                live = wanted;
            }
            prop_assert_eq!(leaves(&live), naive.leaves.clone());
        }
    }
}
