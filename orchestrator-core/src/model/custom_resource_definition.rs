//! `CustomResourceDefinition`: a kind that users define.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::custom_kind::CustomKind;
use super::meta::{Condition, ConditionStatus, ObjectMeta, condition_status, is_false};
use super::residual::{Residual, keep_residual};

/// The finalizer that holds a definition until its objects are gone.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Defines a kind: its names, its versions, and the schema of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct CustomResourceDefinition {
    /// Metadata; the name is the plural, a dot and the group.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: DefinitionSpec,
    /// What is.
    pub status: DefinitionStatus,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

/// What kind is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct DefinitionSpec {
    /// How objects are converted between versions: `None`, which changes nothing but their apiVersion.
    pub conversion: Conversion,
    /// The API group. Immutable.
    pub group: String,
    /// What the kind is called. Plural and kind are immutable.
    pub names: DefinitionNames,
    /// Whether fields that no schema names are kept; must be false.
    #[serde(skip_serializing_if = "is_false")]
    pub preserve_unknown_fields: bool,
    /// `Namespaced` or `Cluster`. Immutable.
    pub scope: String,
    /// The versions, at least one; exactly one is that of storage.
    pub versions: Vec<DefinitionVersion>,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

/// How objects are converted between versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Conversion {
    /// `None`; `Webhook` is not implemented and refused.
    pub strategy: String,
}

/// What a kind is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefinitionNames {
    /// Groups of resources it belongs to, such as `all`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
    /// The kind of one object, such as `Widget`.
    pub kind: String,
    /// The kind of a list; the kind with `List` when left out.
    pub list_kind: String,
    /// The name in paths, such as `widgets`.
    pub plural: String,
    /// Short names, such as `wd`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub short_names: Vec<String>,
    /// The name of one object, such as `widget`; the kind in lower case when left out.
    pub singular: String,
}

/// A version of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefinitionVersion {
    /// The columns that tables show beside the name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_printer_columns: Vec<PrinterColumn>,
    /// Whether users are warned of it.
    #[serde(skip_serializing_if = "is_false")]
    pub deprecated: bool,
    /// The warning; made of the names when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deprecation_warning: Option<String>,
    /// The name, such as `v1`.
    pub name: String,
    /// The schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<DefinitionSchema>,
    /// Whether objects are served in it.
    pub served: bool,
    /// Whether objects are stored in it.
    pub storage: bool,
    /// What there is below an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subresources: Option<DefinitionSubresources>,
}

/// The schema of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DefinitionSchema {
    /// An OpenAPI v3 schema, structural.
    #[serde(rename = "openAPIV3Schema", skip_serializing_if = "Value::is_null")]
    pub schema: Value,
}

/// What there is below an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DefinitionSubresources {
    /// Where the numbers of replicas are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<DefinitionScale>,
    /// Whether the status is written by itself: an empty object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Value>,
}

/// Where the numbers of replicas are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefinitionScale {
    /// The path of a selector as text, such as `.status.selector`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_selector_path: Option<String>,
    /// The path of the number that is wanted, such as `.spec.replicas`.
    pub spec_replicas_path: String,
    /// The path of the number that there is, such as `.status.replicas`.
    pub status_replicas_path: String,
}

/// A column of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PrinterColumn {
    /// What it shows.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// How it is shown.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub format: String,
    /// Where the value is, such as `.spec.size`.
    pub json_path: String,
    /// Its heading.
    pub name: String,
    /// 0, or more for wide output only.
    #[serde(skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// `boolean`, `date`, `integer`, `number` or `string`.
    #[serde(rename = "type")]
    pub kind: String,
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// Whether and how the kind is served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct DefinitionStatus {
    /// The names by which the kind is served.
    pub accepted_names: DefinitionNames,
    /// `NamesAccepted` and `Established`.
    pub conditions: Vec<Condition>,
    /// The versions in which objects may be stored.
    pub stored_versions: Vec<String>,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

keep_residual!(CustomResourceDefinition, DefinitionSpec, DefinitionStatus);

impl CustomResourceDefinition {
    /// Whether the kind is served.
    pub fn is_established(&self) -> bool {
        condition_status(&self.status.conditions, "Established") == ConditionStatus::True
    }

    /// The kind that is defined, with its version left open; `None` when the names can be none, or too many are known.
    pub fn kind(&self) -> Option<CustomKind> {
        let names = &self.spec.names;
        let is_namespaced = self.spec.scope == "Namespaced";
        CustomKind::new(&self.spec.group, &names.kind, &names.plural, is_namespaced)
    }

    /// Whether this is the definition of a kind, in whatever version.
    pub fn defines(&self, kind: CustomKind) -> bool {
        self.kind() == Some(kind)
    }

    /// Finds a version that is served.
    pub fn served(&self, version: &str) -> Option<&DefinitionVersion> {
        self.spec.versions.iter().find(|known| known.served && known.name == version)
    }

    /// The version in which objects are stored.
    pub fn storage(&self) -> Option<&DefinitionVersion> {
        self.spec.versions.iter().find(|version| version.storage)
    }

    /// The version that a kind is spoken of, or that of storage when it is left open.
    pub fn version_of(&self, kind: CustomKind) -> Option<&DefinitionVersion> {
        match kind.version() {
            "" => self.storage(),
            version => self.served(version),
        }
    }
}

impl DefinitionVersion {
    /// The schema; null when there is none.
    pub fn schema(&self) -> &Value {
        self.schema.as_ref().map_or(&Value::Null, |schema| &schema.schema)
    }

    /// Whether the status is written by itself.
    pub fn has_status(&self) -> bool {
        self.subresources.as_ref().is_some_and(|below| below.status.is_some())
    }

    /// Where the numbers of replicas are.
    pub fn scale(&self) -> Option<&DefinitionScale> {
        self.subresources.as_ref().and_then(|below| below.scale.as_ref())
    }
}
