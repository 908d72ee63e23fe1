//! Server-side apply by generated schemas, against a naive second evaluator.

use proptest::prelude::*;
use serde_json::json;

use super::custom::{Bench, form, list};
use super::naive::{Leaves, Naive};
use crate::model::structural::check;
use crate::ownership::*;

/// Numbers to make choices of; nothing but noughts when they are used up.
struct Choices(std::vec::IntoIter<u8>);

impl Choices {
    fn below(&mut self, bound: u8) -> u8 {
        self.0.next().unwrap_or(0) % bound
    }
}

/// A schema of a value, at most so deep.
fn some_schema(choices: &mut Choices, depth: u8) -> Value {
    let merging = |choices: &mut Choices, is_one: &str, is_many: &str| {
        json!([is_one, is_many, is_many][usize::from(choices.below(3))])
    };
    match choices.below(if depth == 0 { 2 } else { 6 }) {
        0 => json!({ "type": "integer" }),
        1 => {
            let mut list = list("set", json!({ "type": "integer" }));
            list["x-kubernetes-list-type"] = merging(choices, "atomic", "set");
            list
        }
        2 => {
            let mut items = fields(choices, depth - 1);
            items["properties"]["key"] = json!({ "type": "integer" });
            items["required"] = json!(["key"]);
            items["x-kubernetes-map-type"] = merging(choices, "atomic", "granular");
            let mut keys = vec!["key"];
            if choices.below(2) == 1 {
                items["properties"]["side"] = json!({ "type": "integer", "default": 0 });
                keys.push("side");
            }
            let mut list = list("map", items);
            list["x-kubernetes-list-type"] = merging(choices, "atomic", "map");
            if list["x-kubernetes-list-type"] == "map" {
                list["x-kubernetes-list-map-keys"] = json!(keys);
            }
            list
        }
        3 => {
            let mut map = fields(choices, depth - 1);
            map["x-kubernetes-map-type"] = merging(choices, "atomic", "granular");
            map
        }
        4 => {
            let mut map = json!({ "type": "object" });
            map["additionalProperties"] = some_schema(choices, depth - 1);
            map["x-kubernetes-map-type"] = merging(choices, "atomic", "granular");
            map
        }
        _ => json!({ "type": "object", "x-kubernetes-embedded-resource": true, "properties": {} }),
    }
}

fn fields(choices: &mut Choices, depth: u8) -> Value {
    let (a, b) = (some_schema(choices, depth), some_schema(choices, depth));
    json!({ "type": "object", "properties": { "a": a, "b": b } })
}

/// What a test knows of metadata.
fn metadata() -> Value {
    let mut owners = list(
        "map",
        json!({ "type": "object", "required": ["key"], "properties": {
        "uid": { "type": "integer" }, "name": { "type": "integer" } }, "x-kubernetes-map-type": "atomic" }),
    );
    owners["x-kubernetes-list-map-keys"] = json!(["uid"]);
    json!({ "type": "object", "properties": {
        "annotations": { "type": "object", "additionalProperties": { "type": "integer" } },
        "finalizers": list("set", json!({ "type": "integer" })),
        "ownerReferences": owners,
    } })
}

/// The schema of a field; metadata is the same everywhere.
fn field(schema: &Value, is_root: bool, name: &str) -> Value {
    let is_object = is_root || schema["x-kubernetes-embedded-resource"] == true;
    match schema["properties"].get(name) {
        _ if is_object && name == "metadata" => metadata(),
        Some(known) => known.clone(),
        None => schema["additionalProperties"].clone(),
    }
}

/// A document with a schema. Elements of lists are all different, so that a list may be of any type.
fn document(schema: &Value, is_root: bool, choices: &mut Choices) -> Value {
    match schema["type"].as_str().expect("a type") {
        "array" => {
            let mut list: Vec<Value> = Vec::new();
            for number in 0..3 {
                if choices.below(2) == 1 {
                    let mut element = document(&schema["items"], false, choices);
                    match &mut element {
                        Value::Object(map) => {
                            for (name, value) in
                                [("key", number), ("uid", number), ("side", number % 2)]
                            {
                                // The default is left out.
                                let is_said = name != "side" || value == 1;
                                if schema["items"]["properties"].get(name).is_some() && is_said {
                                    map.insert(name.to_owned(), value.into());
                                } else {
                                    map.remove(name);
                                }
                            }
                        }
                        other => *other = number.into(),
                    }
                    list.push(element);
                }
            }
            list.into()
        }
        "object" => {
            let mut names: Vec<&str> = vec!["x", "y"];
            if let Some(properties) = schema["properties"].as_object() {
                names = properties.keys().map(String::as_str).collect();
                names.extend((is_root || properties.is_empty()).then_some("metadata"));
            }
            let mut map = Map::new();
            for name in names {
                if choices.below(3) > 0 {
                    let value = document(&field(schema, is_root, name), false, choices);
                    // What is empty has no leaves, and an owner all the same.
                    if value != json!({}) && value != json!([]) {
                        map.insert(name.to_owned(), value);
                    }
                }
            }
            map.into()
        }
        _ => choices.below(3).into(),
    }
}

/// The leaves of a document, read off its schema.
fn leaves(schema: &Value, is_root: bool, value: &Value, path: &[String], found: &mut Leaves) {
    let at = |step: String| path.iter().cloned().chain([step]).collect::<Vec<_>>();
    match (
        value,
        schema["x-kubernetes-list-type"].as_str(),
        schema["x-kubernetes-map-type"].as_str(),
    ) {
        (Value::Array(list), Some("set"), _) => {
            for element in list {
                found.insert(at(format!("[{element}]")), Value::Null);
            }
        }
        (Value::Array(list), Some("map"), _) => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().expect("keys");
            for element in list {
                let key =
                    |key: &Value| element[key.as_str().expect("a name")].as_i64().unwrap_or(0);
                let id = keys.iter().map(key).map(|key| key.to_string()).collect::<Vec<_>>();
                let path = at(format!("[{}]", id.join(",")));
                found.insert(path.clone(), Value::Null);
                let mut rest = element.clone();
                for key in keys {
                    rest.as_object_mut().expect("a map").remove(key.as_str().expect("a name"));
                }
                leaves(&schema["items"], false, &rest, &path, found);
            }
        }
        (Value::Object(map), _, None | Some("granular")) => {
            for (name, value) in map {
                leaves(&field(schema, is_root, name), false, value, &at(name.clone()), found);
            }
        }
        _ => drop(found.insert(path.to_vec(), value.clone())),
    }
}

fn all_leaves(schema: &Value, value: &Value) -> Leaves {
    let mut found = Leaves::new();
    leaves(schema, true, value, &[], &mut found);
    found
}

/// The same schema, with other types of lists and maps.
fn retyped(schema: &Value, choices: &mut Choices) -> Value {
    let mut schema = schema.clone();
    let swapped = |is_swapped: bool, found: &Value, one: &str, other: &str| {
        if (found == one) == is_swapped { json!(other) } else { json!(one) }
    };
    if let Some(items) = schema.get("items").cloned() {
        let many = if items["type"] == "object" { "map" } else { "set" };
        let is_swapped = choices.below(2) == 1;
        schema["x-kubernetes-list-type"] =
            swapped(is_swapped, &schema["x-kubernetes-list-type"], "atomic", many);
        if let Some(map) = schema.as_object_mut() {
            map.remove("x-kubernetes-list-map-keys");
        }
        if schema["x-kubernetes-list-type"] == "map" {
            let has_side = items["properties"].get("side").is_some() && choices.below(2) == 1;
            let keys = if has_side { json!(["key", "side"]) } else { json!(["key"]) };
            schema["x-kubernetes-list-map-keys"] = keys;
        }
        schema["items"] = retyped(&items, choices);
    }
    if let Some(found) = schema.get("x-kubernetes-map-type").cloned() {
        schema["x-kubernetes-map-type"] =
            swapped(choices.below(2) == 1, &found, "atomic", "granular");
    }
    if let Some(any) = schema.get("additionalProperties").cloned() {
        schema["additionalProperties"] = retyped(&any, choices);
    }
    for inner in schema
        .get_mut("properties")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flat_map(Map::values_mut)
    {
        *inner = retyped(inner, choices);
    }
    schema
}

fn choices() -> impl Strategy<Value = Choices> {
    prop::collection::vec(any::<u8>(), 0..80).prop_map(|all| Choices(all.into_iter()))
}

impl std::fmt::Debug for Choices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_slice().fmt(f)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_naive_evaluator_agrees_whatever_the_schema(
        mut schema in choices(),
        steps in prop::collection::vec((0..3u8, prop::bool::weighted(0.7), prop::bool::ANY, choices()), 1..8),
    ) {
        let schema = fields(&mut schema, 3);
        prop_assert_eq!(check(&schema, "schema"), []);
        let (mut naive, mut live, mut managed) = (Naive::default(), json!({}), Vec::new());
        // The first write is an apply, and by somebody else: only then is ownership recorded.
        for (index, (manager, applies, force, mut wanted)) in steps.into_iter().enumerate() {
            let manager = format!("m{manager}");
            let now = Time::from_seconds(1);
            let wanted = document(&schema, true, &mut wanted);
            let wanted_leaves = all_leaves(&schema, &wanted);
            if applies || index == 0 || managed.is_empty() {
                let agreed = naive.apply(&manager, &wanted_leaves, force);
                let force = if force { Force::All } else { Force::None };
                match apply(form(&schema), &live, &managed, &manager, &wanted, force, now) {
                    Ok(applied) => {
                        prop_assert!(agreed, "{naive:?}");
                        (live, managed) = (applied.value, applied.managed);
                    }
                    Err(conflicts) => prop_assert!(!agreed, "{conflicts:?}"),
                }
            } else {
                naive.update(&manager, &wanted_leaves);
                managed = updated(form(&schema), &managed, Writer::of_object(&manager), &live, &wanted, now);
                live = wanted;
            }
            prop_assert_eq!(all_leaves(&schema, &live), naive.leaves.clone());
        }
    }

    #[test]
    fn a_schema_that_changes_takes_nothing_from_who_applies_thereafter(
        mut schema in choices(),
        mut change in choices(),
        before in prop::collection::vec((0..3u8, prop::bool::ANY, choices()), 1..5),
        after in prop::collection::vec((0..3u8, choices()), 1..5),
    ) {
        let schema = fields(&mut schema, 3);
        let changed = retyped(&schema, &mut change);
        let mut bench = Bench { schema, live: json!({}), managed: Vec::new() };
        for (index, (manager, applies, mut wanted)) in before.into_iter().enumerate() {
            let manager = format!("m{manager}");
            let wanted = document(&bench.schema, true, &mut wanted);
            match applies || index == 0 {
                true => bench.apply_whole(&manager, wanted, Force::All).expect("forced"),
                false => bench.update(&manager, wanted),
            }
        }
        bench.schema = changed;
        let mut naive = Naive::default();
        for (manager, mut wanted) in after {
            let manager = format!("m{manager}");
            let wanted = document(&bench.schema, true, &mut wanted);
            prop_assert!(naive.apply(&manager, &all_leaves(&bench.schema, &wanted), true));
            bench.apply_whole(&manager, wanted, Force::All).expect("forced");
            let there = all_leaves(&bench.schema, &bench.live);
            for (leaf, value) in &naive.leaves {
                prop_assert_eq!(there.get(leaf), Some(value), "{:?}", leaf);
            }
            // Whatever is recorded has the present form.
            let ownable = ownable(form(&bench.schema), &bench.live);
            for entry in &bench.managed {
                let recorded = FieldSet::from_value(&entry.fields_v1.to_value()).expect("a set");
                let mut again = recorded.clone();
                reconcile(form(&bench.schema).root, &ownable, &mut again);
                prop_assert_eq!(again, recorded);
            }
        }
    }
}
