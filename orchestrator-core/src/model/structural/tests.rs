//! What schemas say of documents, in Kubernetes' words.

use serde_json::{Value, json};

use super::{check, complete, prune, validate};

fn schema(spec: Value) -> Value {
    json!({ "type": "object", "properties": { "spec": spec } })
}

#[track_caller]
fn wrong(spec: Value, document: Value, expected: &str) {
    let schema = schema(spec);
    let flaws = check(&schema, "schema");
    assert!(flaws.is_empty(), "{flaws:?}");
    let errors = validate(&schema, &json!({ "spec": document }));
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts.join("; "), expected);
}

#[test]
fn what_is_wrong_is_told_with_its_path() {
    let size = json!({ "type": "integer", "minimum": 1, "maximum": 9 });
    let spec = json!({ "type": "object", "required": ["size"], "properties": { "size": size } });
    wrong(spec.clone(), json!({ "size": 3 }), "");
    wrong(spec.clone(), json!({}), "spec.size: Required value");
    wrong(
        spec.clone(),
        json!({ "size": "big" }),
        "spec.size: Invalid value: \"string\": spec.size in body must be of type integer",
    );
    wrong(
        spec.clone(),
        json!({ "size": 0 }),
        "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
    );
    wrong(
        spec,
        json!({ "size": null }),
        "spec.size: Invalid value: \"null\": spec.size in body must be of type integer",
    );
    let color = json!({ "type": "string", "enum": ["red", "blue"] });
    wrong(
        color,
        json!("green"),
        "spec: Unsupported value: \"green\": supported values: \"red\", \"blue\"",
    );
    let name = json!({ "type": "string", "pattern": "^[a-z]+$", "maxLength": 3, "nullable": true });
    wrong(name.clone(), json!(null), "");
    wrong(
        name.clone(),
        json!("A"),
        "spec: Invalid value: \"A\": spec in body should match '^[a-z]+$'",
    );
    wrong(
        name,
        json!("abcd"),
        "spec: Invalid value: \"abcd\": spec in body should be at most 3 chars long",
    );
    let when = json!({ "type": "string", "format": "date-time" });
    wrong(when.clone(), json!("2024-05-06T07:08:09Z"), "");
    wrong(
        when,
        json!("soon"),
        "spec: Invalid value: \"soon\": spec in body must be of type date-time",
    );
}

#[test]
fn lists_and_maps_are_checked_element_by_element() {
    let ports = json!({
        "type": "array", "minItems": 1, "maxItems": 2,
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
        "items": {
            "type": "object", "required": ["name"],
            "properties": { "name": { "type": "string" }, "port": { "type": "integer" } },
        },
    });
    wrong(ports.clone(), json!([{ "name": "a" }, { "name": "b" }]), "");
    wrong(
        ports.clone(),
        json!([{ "name": "a" }, { "name": "a", "port": 1 }]),
        "spec[1]: Duplicate value: {\"name\":\"a\"}",
    );
    wrong(
        ports.clone(),
        json!([]),
        "spec: Invalid value: 0: spec in body should have at least 1 items",
    );
    wrong(
        ports,
        json!([{ "name": "a" }, { "name": "b" }, { "name": "c" }]),
        "spec: Too many: 3: must have at most 2 items",
    );
    let labels = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    wrong(
        labels,
        json!({ "a": 1 }),
        "spec.a: Invalid value: \"integer\": spec.a in body must be of type string",
    );
}

#[test]
fn combinations_hold_as_they_say() {
    let integer_or_text = json!({ "x-kubernetes-int-or-string": true });
    wrong(integer_or_text.clone(), json!("50%"), "");
    wrong(
        integer_or_text,
        json!(1.5),
        "spec: Invalid value: \"number\": spec in body must be of type integer,string",
    );
    let one = json!({
        "type": "object", "properties": { "a": { "type": "integer" }, "b": { "type": "integer" } },
        "oneOf": [{ "required": ["a"] }, { "required": ["b"] }],
    });
    wrong(one.clone(), json!({ "a": 1 }), "");
    wrong(
        one,
        json!({ "a": 1, "b": 1 }),
        "spec: Invalid value: \"object\": \"spec\" must validate one and only one schema (oneOf). Found 2 valid",
    );
    let not = json!({ "type": "integer", "not": { "enum": [13] }, "anyOf": [{ "minimum": 5 }] });
    wrong(
        not.clone(),
        json!(13),
        "spec: Invalid value: \"integer\": \"spec\" must not validate the schema (not)",
    );
    wrong(
        not,
        json!(1),
        "spec: Invalid value: \"integer\": \"spec\" must validate at least one schema (anyOf)",
    );
}

#[test]
fn what_no_schema_names_goes_unless_it_is_to_stay() {
    let schema = json!({ "type": "object", "properties": {
        "spec": { "type": "object", "properties": {
            "size": { "type": "integer" },
            "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": { "inner": { "type": "object", "properties": {} } } },
            "list": { "type": "array", "items": { "type": "object", "properties": {} } },
            "pod": { "type": "object", "x-kubernetes-embedded-resource": true, "properties": {} },
        } },
    } });
    let mut document = json!({ "x": 1, "spec": {
        "size": 1, "sice": 2,
        "free": { "any": { "thing": 1 }, "inner": { "not": 1 } },
        "list": [{ "a": 1 }],
        "pod": { "kind": "Pod", "apiVersion": "v1", "metadata": { "name": "a" }, "spec": {} },
    } });
    let mut found = prune(&schema, &mut document);
    found.sort();
    assert_eq!(found, ["spec.free.inner.not", "spec.list[0].a", "spec.pod.spec", "spec.sice", "x"]);
    assert_eq!(
        document,
        json!({ "spec": {
            "size": 1,
            "free": { "any": { "thing": 1 }, "inner": {} },
            "list": [{}],
            "pod": { "kind": "Pod", "apiVersion": "v1", "metadata": { "name": "a" } },
        } })
    );
}

#[test]
fn defaults_fill_in_what_is_left_out_also_below_a_default() {
    let schema = json!({ "type": "object", "properties": {
        "spec": { "type": "object", "default": {}, "properties": {
            "size": { "type": "integer", "default": 3 },
            "maybe": { "type": "integer", "nullable": true, "default": 1 },
        } },
    } });
    let completed = |mut document: Value| {
        complete(&schema, &mut document);
        document
    };
    assert_eq!(completed(json!({})), json!({ "spec": { "size": 3, "maybe": 1 } }));
    assert_eq!(
        completed(json!({ "spec": { "size": null, "maybe": null } })),
        json!({ "spec": { "size": 3, "maybe": null } })
    );
}

#[track_caller]
fn flawed(spec: Value, expected: &str) {
    let errors = check(&schema(spec), "s");
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert!(texts.iter().any(|text| text.contains(expected)), "{expected:?} in {texts:?}");
}

/// A list whose elements are told apart by `name`, changed.
fn map_list(change: impl FnOnce(&mut Value)) -> Value {
    let mut list = json!({
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
        "items": {
            "type": "object", "required": ["name"],
            "properties": { "name": { "type": "string" }, "labels": { "type": "object" } },
        },
    });
    change(&mut list);
    list
}

#[test]
fn what_tells_elements_of_a_list_apart_must_be_there_and_be_one_value() {
    assert_eq!(check(&schema(map_list(|_| {})), "s"), []);
    let keys = "x-kubernetes-list-map-keys";
    flawed(
        map_list(|list| drop(list.as_object_mut().map(|list| list.remove(keys)))),
        "s.properties[spec].x-kubernetes-list-map-keys: Required value: must be a list of names, not empty",
    );
    flawed(
        map_list(|list| list[keys] = json!(["nam"])),
        "Invalid value: [\"nam\"]: entries must all be names of item properties: nam",
    );
    flawed(
        map_list(|list| list[keys] = json!(["name", "name"])),
        "must not contain duplicate entries: name",
    );
    flawed(
        map_list(|list| list[keys] = json!(["labels"])),
        "[labels].type: Invalid value: \"object\"",
    );
    flawed(
        map_list(|list| list["items"]["required"] = json!([])),
        "s.properties[spec].items.properties[name].default: Required value: this property is in \
         x-kubernetes-list-map-keys, so it must have a default or be a required property",
    );
    let with_default = map_list(|list| {
        list["items"]["required"] = json!([]);
        list["items"]["properties"]["name"]["default"] = json!("a");
    });
    assert_eq!(check(&schema(with_default), "s"), []);
    flawed(map_list(|list| list["items"]["nullable"] = true.into()), "items.nullable: Forbidden");
    flawed(
        map_list(|list| list["items"]["properties"]["name"]["nullable"] = true.into()),
        "[name].nullable: Forbidden",
    );
    flawed(
        map_list(|list| list["x-kubernetes-list-type"] = "set".into()),
        "x-kubernetes-list-type: Invalid value: \"set\": must be map",
    );
}

#[test]
fn how_lists_and_maps_merge_goes_with_what_they_are() {
    let list = |list_type: &str, items: Value| json!({ "type": "array", "x-kubernetes-list-type": list_type, "items": items });
    let map = |map_type: &str| json!({ "type": "object", "x-kubernetes-map-type": map_type });
    let text = || json!({ "type": "string" });
    for good in [
        list("atomic", map("granular")),
        list("set", text()),
        list("set", map("atomic")),
        list("set", list("atomic", text())),
    ] {
        assert_eq!(check(&schema(good), "s"), []);
    }
    flawed(
        list("bag", text()),
        "Unsupported value: \"bag\": supported values: \"atomic\", \"map\", \"set\"",
    );
    flawed(map("frozen"), "Unsupported value: \"frozen\"");
    flawed(
        list("set", map("granular")),
        "items.x-kubernetes-map-type: Invalid value: \"granular\": must be atomic",
    );
    flawed(
        list("set", list("set", text())),
        "items.x-kubernetes-list-type: Invalid value: \"set\"",
    );
    flawed(
        json!({ "type": "string", "x-kubernetes-list-type": "set" }),
        "spec].type: Invalid value: \"string\": must be array if x-kubernetes-list-type is specified",
    );
    let root = json!({ "type": "object", "x-kubernetes-embedded-resource": true });
    assert!(check(&root, "s")[0].to_string().contains("must not be true at the root"));
}

#[test]
fn what_is_in_a_list_twice_is_told_with_its_value() {
    let set =
        json!({ "type": "array", "x-kubernetes-list-type": "set", "items": { "type": "string" } });
    wrong(set, json!(["a", "b", "a"]), "spec[2]: Duplicate value: \"a\"");
    let ports = json!({
        "type": "array", "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["port", "protocol"],
        "items": { "type": "object", "required": ["port"], "properties": {
            "port": { "type": "integer" }, "protocol": { "type": "string", "default": "TCP" },
        } },
    });
    wrong(ports.clone(), json!([{ "port": 1, "protocol": "UDP" }, { "port": 1 }]), "");
    wrong(
        ports,
        json!([{ "port": 1, "protocol": "TCP" }, { "port": 1 }]),
        "spec[1]: Duplicate value: {\"port\":1,\"protocol\":\"TCP\"}",
    );
}

#[test]
fn a_schema_that_is_not_structural_is_refused() {
    flawed(json!({}), "s.properties[spec].type: Required value");
    flawed(json!({ "type": "text" }), "Unsupported value: \"text\"");
    flawed(json!({ "type": "array" }), "items: Required value");
    flawed(json!({ "type": "string", "pattern": "(" }), "must be a valid regular expression");
    flawed(json!({ "type": "integer", "default": "x" }), "must be of type integer");
    flawed(json!({ "type": "object", "minimun": 1 }), "minimun: Forbidden");
    flawed(
        json!({ "type": "object", "x-kubernetes-validations": [{ "rule": "true" }] }),
        "CEL rules are not evaluated",
    );
    let deep = (0..100).fold(
        json!({ "type": "string" }),
        |inner, _| json!({ "type": "object", "properties": { "a": inner } }),
    );
    flawed(deep, "nested at most");
}
