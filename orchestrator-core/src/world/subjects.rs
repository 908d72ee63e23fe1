//! The index of subjects: which bindings name whom.

use std::collections::BTreeSet;
use std::ops::Bound;

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use super::{insert_into, remove_from};
use crate::model::{Key, Kind, Object, Subject, SubjectName};

/// Which bindings name whom. A clone is a snapshot in O(1).
#[derive(Clone, Debug, Default)]
pub(super) struct SubjectIndex {
    bindings: RedBlackTreeMapSync<SubjectName, RedBlackTreeSetSync<Key>>,
}

impl SubjectIndex {
    /// Takes in the new state of an object; `old` is the state it replaces.
    pub(super) fn replace(&mut self, key: &Key, old: Option<&Object>, new: Option<&Object>) {
        if !matches!(key.kind, Kind::ClusterRoleBinding | Kind::RoleBinding) {
            return;
        }
        let (old, new) = (subjects(old), subjects(new));
        if old == new {
            return;
        }
        let (old, new) = (names(old), names(new));
        for name in old.difference(&new) {
            remove_from(&mut self.bindings, name, key);
        }
        for name in new.difference(&old) {
            insert_into(&mut self.bindings, name.clone(), key);
        }
    }

    /// Lists the bindings of a kind and a namespace that name somebody, in key order.
    pub(super) fn bindings<'i>(
        &'i self,
        of: &SubjectName,
        kind: Kind,
        namespace: &str,
    ) -> impl Iterator<Item = &'i Key> + use<'i> {
        let first = Key::new(kind, namespace, "");
        let namespace = first.namespace.clone();
        let range = (Bound::Included(first), Bound::Unbounded);
        let found =
            self.bindings.get(of).into_iter().flat_map(move |keys| keys.range(range.clone()));
        found.take_while(move |key| key.kind == kind && key.namespace == namespace)
    }
}

/// The subjects of a binding; none of anything else.
fn subjects(object: Option<&Object>) -> &[Subject] {
    match object {
        Some(Object::ClusterRoleBinding(binding)) => &binding.subjects,
        Some(Object::RoleBinding(binding)) => &binding.subjects,
        _ => &[],
    }
}

fn names(subjects: &[Subject]) -> BTreeSet<SubjectName> {
    subjects.iter().filter_map(Subject::in_requests).collect()
}
