//! OpenAPI of definitions themselves, which the sources of the field table lack.

use serde_json::{Map, Value, json};

use crate::openapi::METADATA;

/// The schema of a CustomResourceDefinition.
pub(crate) fn definition_schema() -> Value {
    object(
        "Defines a kind: its names, its versions, and the schema of each.",
        &["spec"],
        [
            (
                "metadata",
                json!({
                    "description": "Metadata; the name is the plural, a dot and the group.",
                    "allOf": [{ "$ref": METADATA }],
                }),
            ),
            ("spec", spec()),
            ("status", status()),
        ],
    )
}

fn spec() -> Value {
    let strategy = string("`None`; `Webhook` is not implemented and refused.");
    let conversion = "How objects are converted between versions: `None`, which changes nothing but their apiVersion.";
    object(
        "What is wanted.",
        &["group", "names", "scope", "versions"],
        [
            ("conversion", object(conversion, &["strategy"], [("strategy", strategy)])),
            ("group", string("The API group. Immutable.")),
            ("names", names("What the kind is called. Plural and kind are immutable.")),
            (
                "preserveUnknownFields",
                boolean("Whether fields that no schema names are kept; must be false."),
            ),
            ("scope", string("`Namespaced` or `Cluster`. Immutable.")),
            (
                "versions",
                list("The versions, at least one; exactly one is that of storage.", version()),
            ),
        ],
    )
}

fn names(text: &str) -> Value {
    let one = || json!({ "type": "string" });
    object(
        text,
        &["kind", "plural"],
        [
            ("categories", list("Groups of resources it belongs to, such as `all`.", one())),
            ("kind", string("The kind of one object, such as `Widget`.")),
            ("listKind", string("The kind of a list; the kind with `List` when left out.")),
            ("plural", string("The name in paths, such as `widgets`.")),
            ("shortNames", list("Short names, such as `wd`.", one())),
            (
                "singular",
                string(
                    "The name of one object, such as `widget`; the kind in lower case when left out.",
                ),
            ),
        ],
    )
}

fn version() -> Value {
    // A schema holds schemas: it is not described further, as Kubernetes does for its JSON.
    let schema = json!({ "type": "object", "description": "An OpenAPI v3 schema, structural." });
    let columns = "The columns that tables show beside the name.";
    object(
        "A version of a kind.",
        &["name", "served", "storage"],
        [
            ("additionalPrinterColumns", list(columns, column())),
            ("deprecated", boolean("Whether users are warned of it.")),
            ("deprecationWarning", string("The warning; made of the names when left out.")),
            ("name", string("The name, such as `v1`.")),
            ("schema", object("The schema.", &[], [("openAPIV3Schema", schema)])),
            ("served", boolean("Whether objects are served in it.")),
            ("storage", boolean("Whether objects are stored in it.")),
            ("subresources", subresources()),
        ],
    )
}

fn column() -> Value {
    object(
        "A column of a table.",
        &["jsonPath", "name", "type"],
        [
            ("description", string("What it shows.")),
            ("format", string("How it is shown.")),
            ("jsonPath", string("Where the value is, such as `.spec.size`.")),
            ("name", string("Its heading.")),
            (
                "priority",
                json!({
                    "type": "integer", "format": "int32",
                    "description": "0, or more for wide output only.",
                }),
            ),
            ("type", string("`boolean`, `date`, `integer`, `number` or `string`.")),
        ],
    )
}

fn subresources() -> Value {
    let selector = "The path of a selector as text, such as `.status.selector`.";
    let scale = object(
        "Where the numbers of replicas are.",
        &["specReplicasPath", "statusReplicasPath"],
        [
            ("labelSelectorPath", string(selector)),
            (
                "specReplicasPath",
                string("The path of the number that is wanted, such as `.spec.replicas`."),
            ),
            (
                "statusReplicasPath",
                string("The path of the number that there is, such as `.status.replicas`."),
            ),
        ],
    );
    let status = "Whether the status is written by itself: an empty object.";
    let status = json!({ "type": "object", "description": status });
    object("What there is below an object.", &[], [("scale", scale), ("status", status)])
}

fn status() -> Value {
    let condition = object(
        "One aspect of what is.",
        &["status", "type"],
        [
            (
                "lastTransitionTime",
                json!({
                    "type": "string", "format": "date-time",
                    "description": "When `status` last changed.",
                }),
            ),
            ("message", string("An explanation for people.")),
            ("reason", string("A word for programs, in CamelCase.")),
            ("status", string("Whether it holds.")),
            ("type", string("Which aspect, in CamelCase.")),
        ],
    );
    let stored = "The versions in which objects may be stored.";
    object(
        "What is.",
        &[],
        [
            ("acceptedNames", names("The names by which the kind is served.")),
            ("conditions", list("`NamesAccepted` and `Established`.", condition)),
            ("storedVersions", list(stored, json!({ "type": "string" }))),
        ],
    )
}

fn object<const N: usize>(text: &str, required: &[&str], fields: [(&str, Value); N]) -> Value {
    let properties: Map<_, _> =
        fields.into_iter().map(|(name, field)| (name.to_owned(), field)).collect();
    let mut object = json!({ "type": "object", "description": text, "properties": properties });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

fn list(text: &str, items: Value) -> Value {
    json!({ "type": "array", "description": text, "items": items })
}

fn string(text: &str) -> Value {
    json!({ "type": "string", "description": text })
}

fn boolean(text: &str) -> Value {
    json!({ "type": "boolean", "description": text })
}

#[cfg(test)]
mod tests {
    use orchestrator_core::model::{
        Condition, ConditionStatus, CustomResourceDefinition, DefinitionNames, DefinitionScale,
        DefinitionSchema, DefinitionSubresources, DefinitionVersion, PrinterColumn, Time,
    };

    use super::*;

    /// A definition in which every field is written.
    fn full() -> CustomResourceDefinition {
        let word = || "x".to_owned();
        let names = DefinitionNames {
            categories: vec![word()],
            short_names: vec![word()],
            ..DefinitionNames::default()
        };
        let column = PrinterColumn {
            description: word(),
            format: word(),
            priority: 1,
            ..PrinterColumn::default()
        };
        let scale =
            DefinitionScale { label_selector_path: Some(word()), ..DefinitionScale::default() };
        let version = DefinitionVersion {
            additional_printer_columns: vec![column],
            deprecated: true,
            deprecation_warning: Some(word()),
            schema: Some(DefinitionSchema { schema: json!({ "type": "object" }) }),
            subresources: Some(DefinitionSubresources {
                scale: Some(scale),
                status: Some(json!({})),
            }),
            ..DefinitionVersion::default()
        };
        let condition = Condition {
            last_transition_time: Some(Time::from_seconds(1)),
            message: word(),
            reason: word(),
            status: ConditionStatus::True,
            kind: word(),
            ..Condition::default()
        };
        let mut definition = CustomResourceDefinition::default();
        definition.spec.preserve_unknown_fields = true;
        definition.spec.names = names.clone();
        definition.spec.versions = vec![version];
        definition.status.accepted_names = names;
        definition.status.conditions = vec![condition];
        definition.status.stored_versions = vec![word()];
        definition
    }

    /// Compares the fields of a value with those that a schema describes.
    fn same(value: &Value, schema: &Value, path: &str) {
        match value {
            Value::Object(fields) => {
                let Some(properties) = schema["properties"].as_object() else {
                    assert_eq!(schema["type"], "object", "{path}");
                    return;
                };
                let mut found: Vec<_> = fields.keys().collect();
                let mut described: Vec<_> = properties.keys().collect();
                found.sort();
                described.sort();
                assert_eq!(found, described, "{path}");
                for (name, field) in fields.iter().filter(|(name, _)| *name != "metadata") {
                    let inner = &properties[name];
                    assert!(inner["description"].is_string(), "{path}.{name}");
                    same(field, inner, &format!("{path}.{name}"));
                }
            }
            Value::Array(items) => {
                assert_eq!(schema["type"], "array", "{path}");
                same(&items[0], &schema["items"], path);
            }
            Value::Bool(_) => assert_eq!(schema["type"], "boolean", "{path}"),
            Value::Number(_) => assert_eq!(schema["type"], "integer", "{path}"),
            Value::String(_) => assert_eq!(schema["type"], "string", "{path}"),
            Value::Null => panic!("{path} is null"),
        }
    }

    #[test]
    fn every_field_of_a_definition_is_described_and_no_other() {
        let value = serde_json::to_value(full()).expect("JSON");
        same(&value, &definition_schema(), "");
    }
}
