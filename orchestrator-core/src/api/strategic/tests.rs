//! Strategic merge patches, by example and against a naive second evaluator.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::schema::schema;
use serde_json::json;

fn apply(original: Value, patch: Value) -> Outcome<Value> {
    merge(Place::root(schema().find("core/v1.Pod")), original, &patch)
}

#[track_caller]
fn check(original: Value, patch: Value, expected: Value) {
    assert_eq!(apply(original, patch.clone()), Ok(expected), "{patch}");
}

fn containers(containers: Value) -> Value {
    json!({ "spec": { "containers": containers } })
}

#[test]
fn maps_merge_and_null_removes() {
    check(
        json!({ "metadata": { "labels": { "a": "1", "b": "2" } } }),
        json!({ "metadata": { "labels": { "a": null, "c": "3" } } }),
        json!({ "metadata": { "labels": { "b": "2", "c": "3" } } }),
    );
    check(json!({}), json!({ "spec": { "a": null, "b": 1 } }), json!({ "spec": { "b": 1 } }));
    check(json!({ "a": "text" }), json!({ "a": { "b": 1 } }), json!({ "a": { "b": 1 } }));
}

#[test]
fn a_map_that_is_replaced_is_replaced_whole() {
    let place = Place::root(schema().find("policy/v1.PodDisruptionBudget"));
    let budget = |labels| json!({ "spec": { "selector": { "matchLabels": labels } } });
    let merged = merge(place, budget(json!({ "a": "1" })), &budget(json!({ "b": "2" })));
    assert_eq!(merged, Ok(budget(json!({ "b": "2" }))));
}

#[test]
fn elements_merge_by_their_key() {
    check(
        containers(json!([{ "name": "a", "image": "a:1" }, { "name": "b", "image": "b:1" }])),
        containers(json!([{ "name": "b", "image": "b:2" }, { "name": "c", "image": "c:1" }])),
        containers(json!([
            { "name": "a", "image": "a:1" },
            { "name": "b", "image": "b:2" },
            { "name": "c", "image": "c:1" },
        ])),
    );
    let error = apply(containers(json!([])), containers(json!([{ "image": "x" }])));
    let key = "name".to_owned();
    assert_eq!(error, Err(StrategicError::NoKey { field: "containers".to_owned(), key }));
}

#[test]
fn elements_are_deleted_and_lists_replaced_by_directive() {
    let two = || containers(json!([{ "name": "a" }, { "name": "b" }]));
    check(
        two(),
        containers(json!([{ "$patch": "delete", "name": "a" }])),
        containers(json!([{ "name": "b" }])),
    );
    check(
        two(),
        containers(json!([{ "$patch": "replace" }, { "name": "c", "image": null }])),
        containers(json!([{ "name": "c" }])),
    );
    check(two(), json!({ "spec": { "$patch": "delete" } }), json!({ "spec": {} }));
    check(
        two(),
        json!({ "spec": { "$patch": "replace", "nodeName": "n" } }),
        json!({ "spec": { "nodeName": "n" } }),
    );
    let wrong = json!("sideways");
    assert_eq!(
        apply(two(), json!({ "spec": { "$patch": wrong } })),
        Err(StrategicError::UnknownDirective(wrong))
    );
}

#[test]
fn sets_unite_and_lose_values() {
    let finalizers = |list: Value| json!({ "metadata": { "finalizers": list } });
    check(
        finalizers(json!(["a", "b"])),
        finalizers(json!(["b", "c"])),
        finalizers(json!(["a", "b", "c"])),
    );
    check(
        finalizers(json!(["a", "b", "c"])),
        json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": ["a", "c"] } }),
        finalizers(json!(["b"])),
    );
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    let tolerations = |list: Value| json!({ "spec": { "tolerations": list } });
    check(
        tolerations(json!([{ "key": "a" }])),
        tolerations(json!([{ "key": "b" }])),
        tolerations(json!([{ "key": "b" }])),
    );
}

#[test]
fn retained_keys_are_all_there_is() {
    let volumes = |volume: Value| json!({ "spec": { "volumes": [volume] } });
    check(
        volumes(json!({ "name": "v", "emptyDir": {} })),
        volumes(
            json!({ "$retainKeys": ["name", "hostPath"], "name": "v", "hostPath": { "path": "/" } }),
        ),
        volumes(json!({ "name": "v", "hostPath": { "path": "/" } })),
    );
    let field = "hostPath".to_owned();
    assert_eq!(
        apply(
            volumes(json!({ "name": "v" })),
            volumes(json!({ "$retainKeys": ["name"], "name": "v", "hostPath": {} }))
        ),
        Err(StrategicError::NotRetained { field })
    );
}

#[test]
fn the_order_is_the_patchs_with_others_where_they_were() {
    let names =
        |names: &[&str]| containers(names.iter().map(|name| json!({ "name": name })).collect());
    let order = |names: &[&str], changes: Value| {
        let order: Value = names.iter().map(|name| json!({ "name": name })).collect();
        json!({ "spec": { "$setElementOrder/containers": order, "containers": changes } })
    };
    check(
        names(&["a", "x", "b"]),
        order(&["b", "a", "c"], json!([{ "name": "c" }])),
        names(&["x", "b", "a", "c"]),
    );
    check(names(&["a", "b", "x"]), order(&["b", "a"], json!([])), names(&["b", "a", "x"]));
    let field = "containers".to_owned();
    assert_eq!(
        apply(names(&["a"]), order(&["a"], json!([{ "name": "b" }]))),
        Err(StrategicError::NotOrdered { field })
    );
    // The order alone, as kubectl sends it when only other fields change.
    let alone =
        json!({ "spec": { "$setElementOrder/containers": [{ "name": "b" }, { "name": "a" }] } });
    check(names(&["a", "b"]), alone, names(&["b", "a"]));
}

#[test]
fn what_is_too_deep_is_refused() {
    let deep = (0..DEPTH_MAX + 2).fold(json!(1), |inner, _| json!({ "a": inner }));
    assert_eq!(apply(json!({}), deep), Err(StrategicError::TooDeep));
}

/// A pod as plain values: labels, finalizers, and containers with their fields.
#[derive(Clone, Debug, Default, PartialEq)]
struct Naive {
    labels: BTreeMap<String, String>,
    finalizers: BTreeSet<String>,
    containers: BTreeMap<String, BTreeMap<String, String>>,
}

/// What a patch does, as plain steps.
#[derive(Clone, Debug)]
enum Step {
    Label(String, Option<String>),
    AddFinalizer(String),
    TakeFinalizer(String),
    /// Sets fields of a container, which is made if it is not there; `None` takes a field out.
    Container(String, BTreeMap<String, Option<String>>),
    TakeContainer(String),
}

impl Naive {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Label(name, Some(value)) => drop(self.labels.insert(name.clone(), value.clone())),
            Step::Label(name, None) => drop(self.labels.remove(name)),
            Step::AddFinalizer(name) => drop(self.finalizers.insert(name.clone())),
            Step::TakeFinalizer(name) => drop(self.finalizers.remove(name)),
            Step::Container(name, fields) => {
                let container = self.containers.entry(name.clone()).or_default();
                for (field, value) in fields {
                    match value {
                        Some(value) => drop(container.insert(field.clone(), value.clone())),
                        None => drop(container.remove(field)),
                    }
                }
            }
            Step::TakeContainer(name) => drop(self.containers.remove(name)),
        }
    }

    fn to_value(&self) -> Value {
        let containers = self.containers.iter().map(|(name, fields)| {
            let mut container = json!(fields);
            container["name"] = name.clone().into();
            container
        });
        json!({
            "metadata": { "labels": self.labels, "finalizers": self.finalizers },
            "spec": { "containers": containers.collect::<Vec<_>>() },
        })
    }

    fn from_value(value: &Value) -> Self {
        let texts = |value: &Value| -> BTreeMap<String, String> {
            let map = value.as_object().into_iter().flatten();
            map.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect()
        };
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let finalizers = list(&value["metadata"]["finalizers"]);
        let containers = list(&value["spec"]["containers"]).into_iter().map(|container| {
            let mut fields = texts(&container);
            (fields.remove("name").expect("a name"), fields)
        });
        Self {
            labels: texts(&value["metadata"]["labels"]),
            finalizers: finalizers.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect(),
            containers: containers.collect(),
        }
    }
}

/// The patch that takes these steps, at most one for each thing.
fn patch_of(steps: &[Step]) -> Value {
    let mut patch = json!({ "metadata": {}, "spec": {} });
    let push = |list: &mut Value, value: Value| match list {
        Value::Array(list) => list.push(value),
        other => *other = json!([value]),
    };
    for step in steps {
        match step {
            Step::Label(name, value) => patch["metadata"]["labels"][name] = json!(value),
            Step::AddFinalizer(name) => push(&mut patch["metadata"]["finalizers"], json!(name)),
            Step::TakeFinalizer(name) => {
                push(&mut patch["metadata"]["$deleteFromPrimitiveList/finalizers"], json!(name));
            }
            Step::Container(name, fields) => {
                let mut container = json!(fields);
                container["name"] = name.clone().into();
                push(&mut patch["spec"]["containers"], container);
            }
            Step::TakeContainer(name) => {
                let element = json!({ "$patch": "delete", "name": name });
                push(&mut patch["spec"]["containers"], element);
            }
        }
    }
    patch
}

fn some_name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned)
}

fn some_fields() -> impl Strategy<Value = BTreeMap<String, Option<String>>> {
    let field = prop::sample::select(vec!["image", "workingDir", "tty"]).prop_map(str::to_owned);
    prop::collection::btree_map(field, prop::option::of(some_name()), 0..3)
}

fn some_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (some_name(), prop::option::of(some_name()))
            .prop_map(|(name, value)| Step::Label(name, value)),
        some_name().prop_map(Step::AddFinalizer),
        some_name().prop_map(Step::TakeFinalizer),
        (some_name(), some_fields()).prop_map(|(name, fields)| Step::Container(name, fields)),
        some_name().prop_map(Step::TakeContainer),
    ]
}

/// What a step is about: a patch can say only one thing of it.
fn subject(step: &Step) -> (u8, String) {
    match step {
        Step::Label(name, _) => (0, name.clone()),
        Step::AddFinalizer(name) | Step::TakeFinalizer(name) => (1, name.clone()),
        Step::Container(name, _) | Step::TakeContainer(name) => (2, name.clone()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_naive_evaluator_agrees(
        before in prop::collection::vec(some_step(), 0..8),
        mut steps in prop::collection::vec(some_step(), 0..8),
        order in Just(["d", "c", "b", "a"]).prop_shuffle(),
        ordered in any::<bool>(),
    ) {
        let mut naive = Naive::default();
        before.iter().for_each(|step| naive.take(step));
        let original = naive.to_value();
        let mut said = BTreeSet::new();
        steps.retain(|step| said.insert(subject(step)));
        let mut patch = patch_of(&steps);
        if ordered {
            patch["spec"]["$setElementOrder/containers"] =
                order.iter().map(|name| json!({ "name": name })).collect();
        }
        steps.iter().for_each(|step| naive.take(step));
        let merged = apply(original, patch.clone());
        let merged = merged.map_err(|error| TestCaseError::fail(format!("{error} in {patch}")))?;
        prop_assert_eq!(Naive::from_value(&merged), naive, "{}", patch);
        if ordered {
            let names: Vec<&str> = merged["spec"]["containers"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|container| container["name"].as_str())
                .collect();
            let expected: Vec<&str> =
                order.iter().copied().filter(|name| names.contains(name)).collect();
            prop_assert_eq!(names, expected);
        }
    }
}
