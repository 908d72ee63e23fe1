//! What this server has below pods and Kubernetes does not: `pods/explain` of our own group, as discovery tells of it.
//!
//! Its parent is in another group. The aggregated form needs one all the same: one of no kind and without verbs, which is how
//! Kubernetes' server tells of such (clients leave it out and take what is below it).

use serde_json::{Value, json};

use crate::registry::{OWN_GROUP, VERSION};

const PARENT: &str = "pods";
const NAME: &str = "explain";
const KIND: &str = "Explanation";
const VERBS: [&str; 1] = ["get"];

/// The row of the old form in `group`.
pub(super) fn row(group: &str) -> Option<Value> {
    (group == OWN_GROUP).then(|| {
        json!({
            "name": format!("{PARENT}/{NAME}"),
            "singularName": "",
            "namespaced": true,
            "kind": KIND,
            "verbs": VERBS,
        })
    })
}

/// The resource of the aggregated form in `group`.
pub(super) fn aggregated(group: &str) -> Option<Value> {
    (group == OWN_GROUP).then(|| {
        json!({
            "resource": PARENT,
            "responseKind": { "group": "", "version": "", "kind": "" },
            "scope": "Namespaced",
            "singularResource": "",
            "verbs": [],
            "subresources": [{
                "subresource": NAME,
                "responseKind": { "group": OWN_GROUP, "version": VERSION, "kind": KIND },
                "verbs": VERBS,
            }],
        })
    })
}
