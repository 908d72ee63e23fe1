//! Server-side apply of custom objects, whose schemas say how their lists and maps are owned.

use serde_json::json;

use crate::model::structural::check;
use crate::ownership::*;

/// An object of a custom kind and who owns what of it.
pub(super) struct Bench {
    pub(super) schema: Value,
    pub(super) live: Value,
    pub(super) managed: Vec<ManagedFieldsEntry>,
}

impl Bench {
    /// Begins with an object in which somebody owns something, with this schema of its spec.
    fn new(spec: Value) -> Self {
        let schema = whole(json!({ "spec": spec, "anchor": { "type": "boolean" } }));
        let mut bench = Self { schema, live: json!({}), managed: Vec::new() };
        bench
            .apply_whole("first", json!({ "anchor": true }), Force::None)
            .expect("nothing is there");
        bench
    }

    fn apply(&mut self, manager: &str, spec: Value) -> Result<(), Vec<String>> {
        self.apply_whole(manager, json!({ "spec": spec }), Force::None)
    }

    /// Applies; returns conflicts as `manager: field`.
    pub(super) fn apply_whole(
        &mut self,
        manager: &str,
        applied: Value,
        force: Force<'_>,
    ) -> Result<(), Vec<String>> {
        let now = Time::from_seconds(7);
        let form = form(&self.schema);
        let outcome = apply(form, &self.live, &self.managed, manager, &applied, force, now);
        let in_words = |it: &ApplyConflict| format!("{}: {}", it.manager, it.field);
        let applied = outcome.map_err(|all| all.iter().map(in_words).collect::<Vec<_>>())?;
        (self.live, self.managed) = (applied.value, applied.managed);
        Ok(())
    }

    pub(super) fn update(&mut self, manager: &str, new: Value) {
        let now = Time::from_seconds(8);
        self.managed = updated(
            form(&self.schema),
            &self.managed,
            Writer::of_object(manager),
            &self.live,
            &new,
            now,
        );
        self.live = new;
    }

    fn owned_by(&self, manager: &str) -> Value {
        let entry = self.managed.iter().find(|entry| entry.manager == manager);
        entry.map(|entry| entry.fields_v1.to_value()).unwrap_or_default()
    }
}

pub(super) fn form(schema: &Value) -> Form<'_> {
    let kind = CustomKind::new("example.com", "Widget", "widgets", true).expect("a kind");
    Form::of_custom(kind.at_version("v1").expect("a version"), schema, true)
}

fn whole(properties: Value) -> Value {
    let schema = json!({ "type": "object", "properties": properties });
    assert_eq!(check(&schema, "schema"), [], "{schema}");
    schema
}

pub(super) fn list(list_type: &str, items: Value) -> Value {
    json!({ "type": "array", "x-kubernetes-list-type": list_type, "items": items })
}

/// A list of ports, known by number and protocol.
fn ports() -> Value {
    let mut ports = list(
        "map",
        json!({ "type": "object", "required": ["port"], "properties": {
        "port": { "type": "integer" },
        "protocol": { "type": "string", "default": "TCP" },
        "names": list("set", json!({ "type": "string" })),
        "weight": { "type": "integer" },
    } }),
    );
    ports["x-kubernetes-list-map-keys"] = json!(["port", "protocol"]);
    json!({ "type": "object", "properties": { "ports": ports } })
}

#[test]
fn elements_are_owned_by_the_keys_that_the_schema_names() {
    let mut bench = Bench::new(ports());
    let port = |port: i64, weight: i64| json!({ "port": port, "weight": weight });
    bench.apply("a", json!({ "ports": [port(1, 5)] })).expect("new");
    let udp = json!({ "port": 1, "protocol": "UDP", "weight": 6 });
    bench.apply("b", json!({ "ports": [udp, { "port": 1, "names": ["x"] }] })).expect("others");
    bench
        .apply("c", json!({ "ports": [{ "port": 1, "protocol": "TCP", "names": ["y"] }] }))
        .expect("another");
    let both = json!({ "port": 1, "protocol": "TCP", "weight": 5, "names": ["x", "y"] });
    assert_eq!(bench.live["spec"]["ports"], json!([udp, both]));
    let refused = bench.apply("b", json!({ "ports": [port(1, 7)] })).expect_err("a's");
    assert_eq!(refused, ["\"a\": .spec.ports[port=1,protocol=\"TCP\"].weight"]);
    let id = "k:{\"port\":1,\"protocol\":\"TCP\"}";
    assert_eq!(
        bench.owned_by("a"),
        json!({ "f:spec": { "f:ports": { id: { ".": {}, "f:port": {}, "f:weight": {} } } } })
    );
    bench.apply("b", json!({})).expect("its own");
    bench.apply("a", json!({})).expect("its own");
    let left = json!({ "port": 1, "protocol": "TCP", "names": ["y"] });
    assert_eq!(bench.live["spec"]["ports"], json!([left]), "what others own stays");
}

#[test]
fn without_a_type_a_list_is_one_value_and_a_map_is_not() {
    let integer = || json!({ "type": "integer" });
    let mut bench = Bench::new(json!({ "type": "object", "properties": {
        "list": { "type": "array", "items": integer() },
        "map": { "type": "object", "additionalProperties": integer() },
        "one": { "type": "object", "additionalProperties": integer(), "x-kubernetes-map-type": "atomic" },
        "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
    } }));
    let free = json!({ "list": [{ "name": "x" }], "map": { "x": 1 } });
    bench
        .apply("a", json!({ "list": [1], "map": { "x": 1 }, "one": { "x": 1 }, "free": free }))
        .expect("new");
    let free = json!({ "list": [{ "name": "y" }], "map": { "y": 1 } });
    let refused = bench
        .apply("b", json!({ "list": [2], "map": { "y": 2 }, "one": { "y": 2 }, "free": free }))
        .expect_err("some of it is a's");
    assert_eq!(refused, ["\"a\": .spec.free.list", "\"a\": .spec.list", "\"a\": .spec.one"]);
    bench.apply("b", json!({ "map": { "y": 2 } })).expect("its own");
    assert_eq!(bench.live["spec"]["map"], json!({ "x": 1, "y": 2 }));
}

#[test]
fn metadata_is_owned_as_that_of_every_object_also_of_one_within() {
    let pod = json!({ "type": "object", "x-kubernetes-embedded-resource": true, "properties": {} });
    let mut bench = Bench::new(json!({ "type": "object", "properties": { "pod": pod } }));
    let owner = |uid: &str| json!({ "uid": uid, "name": "o", "kind": "Node", "apiVersion": "v1" });
    let metadata = |finalizer: &str, uid: &str| json!({ "finalizers": [finalizer], "ownerReferences": [owner(uid)] });
    for (manager, metadata) in [("a", metadata("a/x", "1")), ("b", metadata("b/x", "2"))] {
        let within = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata });
        let object = json!({ "metadata": metadata, "spec": { "pod": within } });
        bench.apply_whole(manager, object, Force::None).expect("no conflict");
    }
    let both = json!({ "finalizers": ["a/x", "b/x"], "ownerReferences": [owner("1"), owner("2")] });
    assert_eq!(bench.live["metadata"], both);
    assert_eq!(bench.live["spec"]["pod"]["metadata"], both);
    bench.apply_whole("a", json!({}), Force::None).expect("its own");
    assert_eq!(bench.live["metadata"], metadata("b/x", "2"));
}

#[test]
fn a_status_that_is_not_apart_is_owned_like_everything() {
    let schema = whole(json!({ "status": list("set", json!({ "type": "string" })) }));
    let kind = CustomKind::new("example.com", "Widget", "widgets", true).expect("a kind");
    let form = Form::of_custom(kind, &schema, false);
    let now = Time::from_seconds(1);
    let status = |word: &str| json!({ "status": [word] });
    let managed = created(form, "a", &status("a"), now);
    let applied = apply(form, &status("a"), &managed, "b", &status("b"), Force::None, now);
    assert_eq!(applied.expect("another element").value["status"], json!(["a", "b"]));
}

#[test]
fn a_list_that_becomes_a_set_or_a_map_stays_whose_it_was() {
    let of = |list_type: &str| {
        json!({ "type": "object", "properties": {
        "words": list(list_type, json!({ "type": "string" })) } })
    };
    let mut bench = Bench::new(of("atomic"));
    bench.apply("a", json!({ "words": ["x", "y"] })).expect("new");
    bench.schema = whole(json!({ "spec": of("set") }));
    bench.apply("b", json!({ "words": ["z"] })).expect("an element of its own");
    assert_eq!(bench.live["spec"]["words"], json!(["x", "y", "z"]));
    assert_eq!(bench.owned_by("a"), json!({ "f:spec": { "f:words": {} } }));
    bench.apply("a", json!({ "words": ["x"] })).expect("its own");
    assert_eq!(
        bench.live["spec"]["words"],
        json!(["x", "y", "z"]),
        "nobody had applied y as an element"
    );
    bench.apply("a", json!({})).expect("its own");
    assert_eq!(bench.live["spec"]["words"], json!(["y", "z"]));
    // And back: whoever owned some of it owns it as a whole.
    bench.schema = whole(json!({ "spec": of("atomic") }));
    let refused = bench.apply("a", json!({ "words": ["w"] })).expect_err("b's");
    assert_eq!(refused, ["\"b\": .spec.words"]);
    bench.update("c", json!({ "spec": { "words": ["w"] } }));
    assert_eq!(bench.owned_by("b"), Value::Null);
    assert_eq!(bench.owned_by("c"), json!({ "f:spec": { "f:words": {} } }));
}

#[test]
fn elements_known_by_another_key_are_not_taken_from_anybody() {
    let mut bench = Bench::new(ports());
    let port = |port: i64, weight: i64| json!({ "port": port, "weight": weight });
    bench.apply("a", json!({ "ports": [port(1, 5)] })).expect("new");
    bench.schema["properties"]["spec"]["properties"]["ports"]["x-kubernetes-list-map-keys"] =
        json!(["port"]);
    assert_eq!(check(&bench.schema, "schema"), []);
    bench.apply("b", json!({ "ports": [port(2, 6)] })).expect("another port");
    assert_eq!(bench.owned_by("a"), json!({ "f:spec": { "f:ports": {} } }));
    bench.apply("a", json!({ "ports": [port(1, 7)] })).expect("nobody else's");
    assert_eq!(bench.live["spec"]["ports"], json!([port(1, 7), port(2, 6)]));
}

#[test]
fn what_is_empty_is_owned_until_it_is_gone() {
    let words = list("set", json!({ "type": "string" }));
    let map = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let mut bench =
        Bench::new(json!({ "type": "object", "properties": { "words": words, "map": map } }));
    let empty = json!({ "words": [], "map": {} });
    bench.apply("a", empty.clone()).expect("new");
    assert_eq!(bench.owned_by("a"), json!({ "f:spec": { "f:map": {}, "f:words": {} } }));
    bench.apply("b", json!({ "words": ["x"], "map": { "x": "y" } })).expect("others");
    bench.update("c", json!({ "anchor": true }));
    assert_eq!((bench.owned_by("a"), bench.owned_by("b")), (Value::Null, Value::Null));
    bench.apply("d", empty.clone()).expect("nobody's");
    assert_eq!(bench.live["spec"], empty);
    bench.apply("d", json!({})).expect("its own");
    assert_eq!(bench.live["spec"], json!({}));
}
