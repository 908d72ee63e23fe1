//! `Entry`: a resource as discovery tells of it, whatever table or definition it comes from, in both forms.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::registry::Subresource;

/// A resource that clients may find.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) plural: &'a str,
    pub(crate) singular: Cow<'a, str>,
    pub(crate) is_namespaced: bool,
    pub(crate) verbs: Vec<&'a str>,
    pub(crate) short_names: Vec<&'a str>,
    pub(crate) categories: Vec<&'a str>,
    pub(crate) subresources: Vec<Subresource>,
}

impl Entry<'_> {
    /// The rows of the old form: the resource, and what is below it.
    pub(crate) fn rows(&self) -> Vec<Value> {
        let mut row = json!({
            "name": self.plural,
            "singularName": self.singular,
            "namespaced": self.is_namespaced,
            "kind": self.kind,
            "verbs": self.verbs,
        });
        self.add_names(&mut row);
        let mut rows = vec![row];
        rows.extend(self.subresources.iter().map(|sub| {
            let (group, version, kind) = self.answer_of(*sub);
            let mut row = json!({
                "name": format!("{}/{}", self.plural, sub.name()),
                "singularName": "",
                "namespaced": self.is_namespaced,
                "kind": kind,
                "verbs": sub.verbs(),
            });
            if group != self.group {
                row["group"] = group.into();
                row["version"] = version.into();
            }
            row
        }));
        rows
    }

    /// The resource in the aggregated form.
    pub(crate) fn aggregated(&self) -> Value {
        let mut row = json!({
            "resource": self.plural,
            "responseKind": { "group": self.group, "version": self.version, "kind": self.kind },
            "scope": if self.is_namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": self.singular,
            "verbs": self.verbs,
        });
        self.add_names(&mut row);
        if !self.subresources.is_empty() {
            let below = self.subresources.iter().map(|sub| {
                let (group, version, kind) = self.answer_of(*sub);
                json!({
                    "subresource": sub.name(),
                    "responseKind": { "group": group, "version": version, "kind": kind },
                    "verbs": sub.verbs(),
                })
            });
            row["subresources"] = below.collect();
        }
        row
    }

    fn add_names(&self, row: &mut Value) {
        for (field, names) in [("shortNames", &self.short_names), ("categories", &self.categories)]
        {
            if !names.is_empty() {
                row[field] = json!(names);
            }
        }
    }

    /// Group, version and kind of what a subresource answers with.
    fn answer_of(&self, sub: Subresource) -> (&str, &str, &str) {
        match sub {
            Subresource::Attach => ("", "v1", "PodAttachOptions"),
            Subresource::Binding => ("", "v1", "Binding"),
            Subresource::Eviction => ("policy", "v1", "Eviction"),
            Subresource::Exec => ("", "v1", "PodExecOptions"),
            Subresource::PortForward => ("", "v1", "PodPortForwardOptions"),
            Subresource::Scale => ("autoscaling", "v1", "Scale"),
            Subresource::Token => ("authentication.k8s.io", "v1", "TokenRequest"),
            Subresource::Log | Subresource::Status => (self.group, self.version, self.kind),
        }
    }
}
