//! What was recorded under an earlier schema, in the form of the present one.
//!
//! A definition may say another day that a list is a set, or a map one value. What a manager owned of it then has no
//! meaning any more, and is its owning the list or map as such, without what is in it (as in Kubernetes, for lists and maps
//! that become one value). So nothing is taken from anybody, nobody owns what they did not apply, and each manager's next
//! apply says anew what of it is theirs.

use serde_json::{Map, Value};

use super::field_set::FieldSet;
use super::type_ref::{TypeRef, branch_of};
use crate::model::structural::ListType;

/// Brings a set of places in an object into the form that counts now. Changes nothing in a set that has it.
pub(super) fn reconcile(of: TypeRef<'_>, value: &Value, set: &mut FieldSet) {
    if set.below.is_empty() {
        return;
    }
    let before = set.below.len();
    match value {
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => {}
        Value::Array(_) | Value::Object(_) if of.is_atomic(value) => set.below.clear(),
        Value::Object(map) => {
            set.below.retain(|branch, _| branch.starts_with("f:"));
            for (name, value) in map {
                if let Some(below) = set.below.get_mut(&format!("f:{name}")) {
                    reconcile(of.child(name), value, below);
                }
            }
        }
        Value::Array(list) => {
            let (list_type, of) = (of.list_type(), of.element());
            set.below.retain(|branch, _| has_form(&list_type, branch));
            for element in list {
                let branch = branch_of(&list_type, element);
                if let Some(below) = branch.and_then(|branch| set.below.get_mut(&branch)) {
                    reconcile(of, element, below);
                }
            }
        }
    }
    set.is_member |= set.below.len() < before;
}

/// Whether the name of a branch can be that of an element of a list.
fn has_form(list: &ListType<'_>, branch: &str) -> bool {
    match (list, branch.split_once(':')) {
        (ListType::Map(keys), Some(("k", id))) => {
            let id: Option<Map<String, Value>> = serde_json::from_str(id).ok();
            id.is_some_and(|id| {
                id.len() == keys.len() && keys.iter().all(|key| id.contains_key(key.name))
            })
        }
        (ListType::Set, Some(("v", _))) => true,
        (ListType::Atomic | ListType::Map(_) | ListType::Set, _) => false,
    }
}
