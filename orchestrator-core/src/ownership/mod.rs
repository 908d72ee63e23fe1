//! Who owns which fields: server-side apply.
//!
//! An object's `managedFields` say which manager owns which places in it. Applying a manifest gives its manager the places
//! it names, takes out what it named before and nobody else owns, and is refused where it would change the value of a
//! place of another's, unless forced. Every other write takes over what it changes. The rules are Kubernetes'
//! (structured-merge-diff; KEP-555).
//!
//! Ownership is recorded from the first apply on: what was there before belongs to `before-first-apply`, but for what a
//! manifest said that was applied by the client. What controllers and agents write is not recorded. How lists and maps are owned says the field table, or the schema of a custom kind; what
//! was recorded under an earlier schema is brought into the form of the present one (`reconcile`). Depends on `model` and
//! `schema`.

mod compare;
mod field_set;
mod merge;
mod reconcile;
#[cfg(test)]
mod tests;
mod type_ref;

use serde_json::{Map, Value};

use crate::model::{
    CustomKind, FieldsV1, Kind, LAST_APPLIED_ANNOTATION, ManagedBy, ManagedFieldsEntry, Time,
};
use crate::schema::{Place, schema};
use compare::{collect, compare};
use field_set::FieldSet;
use reconcile::reconcile;
pub(crate) use type_ref::{TypeRef, branch_of};

/// The manager of what was there before anything was applied, as in Kubernetes.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager of what a manifest said that was applied by the client, as in Kubernetes: whose owner kubectl looks for
/// when it goes over to server-side apply, to give the fields to the new manager.
const CLIENT_SIDE_APPLY: &str = "kubectl-client-side-apply";
/// Metadata that nobody owns: it is the control plane's, or names the object.
const NOBODYS: [&str; 10] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// What is known of the objects of a kind: the version in which they are spoken of, and who may own what of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form<'s> {
    api_version: &'static str,
    root: TypeRef<'s>,
    /// Whether the status is written by itself: then nobody owns parts of it.
    is_status_apart: bool,
}

impl<'s> Form<'s> {
    /// Of a kind, by the field table.
    pub(crate) fn of_kind(kind: Kind) -> Self {
        let root = Place::root(schema().of_kind(kind.api_version(), kind.name()));
        Self { api_version: kind.api_version(), root: TypeRef::Table(root), is_status_apart: true }
    }

    /// Of a custom kind, by the schema of its version.
    pub(crate) const fn of_custom(
        kind: CustomKind,
        schema: &'s Value,
        is_status_apart: bool,
    ) -> Self {
        let root = TypeRef::of_object(schema);
        Self { api_version: kind.api_version(), root, is_status_apart }
    }

    /// The fields of an object of which nobody owns parts.
    const fn nobodys(self) -> &'static [&'static str] {
        if self.is_status_apart {
            &["apiVersion", "kind", "status"]
        } else {
            &["apiVersion", "kind"]
        }
    }
}

/// Somebody else owns a place that an apply would change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApplyConflict {
    /// Who, as Kubernetes words it: `"kubectl" using apps/v1`.
    pub manager: String,
    /// The place: `.spec.replicas`.
    pub field: String,
}

/// What an apply may take over from others.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Force<'a> {
    /// Everything.
    All,
    /// What this manifest, applied last by the client, said and nobody has changed since: kubectl on its way from client-side
    /// to server-side apply.
    LastApplied(&'a Value),
    /// Nothing.
    None,
}

/// What an apply comes to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Applied {
    /// The object as it is to be.
    pub value: Value,
    /// Who owns what of it then.
    pub managed: Vec<ManagedFieldsEntry>,
}

/// Who writes, and the subresource through which; it is empty for the object itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer<'a> {
    pub(crate) manager: &'a str,
    pub(crate) subresource: &'static str,
}

impl<'a> Writer<'a> {
    /// Of the object itself.
    pub(crate) const fn of_object(manager: &'a str) -> Self {
        Self { manager, subresource: "" }
    }
}

/// A manager and what it owns.
struct Manager {
    entry: ManagedFieldsEntry,
    set: FieldSet,
}

impl Manager {
    fn new(form: Form<'_>, writer: Writer<'_>, operation: ManagedBy, set: FieldSet) -> Self {
        let entry = ManagedFieldsEntry {
            api_version: form.api_version.to_owned(),
            fields_type: "FieldsV1".to_owned(),
            manager: writer.manager.to_owned(),
            operation,
            subresource: writer.subresource.to_owned(),
            ..ManagedFieldsEntry::default()
        };
        Self { entry, set }
    }

    fn is(&self, writer: Writer<'_>, operation: ManagedBy) -> bool {
        self.entry.operation == operation
            && self.entry.manager == writer.manager
            && self.entry.subresource == writer.subresource
    }

    /// Itself in words.
    fn label(&self) -> String {
        let mut label = format!("{:?}", self.entry.manager);
        if !self.entry.subresource.is_empty() {
            label.push_str(&format!(" with subresource {:?}", self.entry.subresource));
        }
        if self.entry.operation == ManagedBy::Update {
            label.push_str(&format!(" using {}", self.entry.api_version));
        }
        label
    }
}

/// Whether entries that a client sent can be read.
pub(crate) fn is_readable(entries: &[ManagedFieldsEntry]) -> bool {
    entries.iter().all(|entry| {
        entry.fields_type == "FieldsV1"
            && FieldSet::from_value(&entry.fields_v1.to_value()).is_some()
    })
}

/// Reads who owns what of an object, in the form that counts now.
fn read(form: Form<'_>, entries: &[ManagedFieldsEntry], live: &Value) -> Vec<Manager> {
    let read = |entry: &ManagedFieldsEntry| {
        let mut set = FieldSet::from_value(&entry.fields_v1.to_value()).unwrap_or_default();
        reconcile(form.root, live, &mut set);
        Manager { entry: entry.clone(), set }
    };
    entries.iter().map(read).collect()
}

/// Writes managers down; the time of one whose set is as it was stays. Who owns nothing is left out.
fn write(managers: Vec<Manager>, now: Time) -> Vec<ManagedFieldsEntry> {
    let written = managers.into_iter().filter(|manager| !manager.set.is_empty()).map(|manager| {
        let fields_v1 = FieldsV1::from(&manager.set.to_value());
        let mut entry = manager.entry;
        if entry.time.is_none() || entry.fields_v1 != fields_v1 {
            entry.time = Some(now);
        }
        ManagedFieldsEntry { fields_v1, ..entry }
    });
    let mut written: Vec<_> = written.collect();
    let by = |entry: &ManagedFieldsEntry| {
        (entry.operation, entry.manager.clone(), entry.subresource.clone())
    };
    written.sort_by_key(by);
    written
}

/// What of an object somebody may own: all but its name, its type, a status that is apart, and the control plane's marks.
fn ownable(form: Form<'_>, value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(map) = value.as_object_mut() {
        for field in form.nobodys() {
            map.remove(*field);
        }
        if let Some(Value::Object(metadata)) = map.get_mut("metadata") {
            metadata.retain(|name, _| !NOBODYS.contains(&name.as_str()));
            if metadata.is_empty() {
                map.remove("metadata");
            }
        }
    }
    value
}

fn set_of(form: Form<'_>, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    if value.as_object().is_some_and(|map| !map.is_empty()) {
        collect(form.root, value, &mut set);
    }
    set
}

/// Gives the fields of a new object to who applied it.
pub(crate) fn created(
    form: Form<'_>,
    manager: &str,
    applied: &Value,
    now: Time,
) -> Vec<ManagedFieldsEntry> {
    let set = set_of(form, &ownable(form, applied));
    write(vec![Manager::new(form, Writer::of_object(manager), ManagedBy::Apply, set)], now)
}

/// Says who owns what of an object to which nothing was applied yet but by the client, whose last manifest, completed,
/// is `last`: what is still as it said is the client's, and the rest of nobody who is known. So kubectl, which takes over
/// the client's part, takes nothing out that others have put in.
pub(crate) fn before_first_apply(
    form: Form<'_>,
    whole: &Value,
    last: &Value,
    now: Time,
) -> Vec<ManagedFieldsEntry> {
    let (live, last) = (&ownable(form, whole), &ownable(form, last));
    let mut clients = set_of(form, last);
    if !clients.is_empty() {
        let difference = compare(form.root, last, live);
        clients.subtract(&difference.changed);
        clients.subtract(&difference.removed);
        let annotations =
            clients.branch("f:metadata".to_owned()).branch("f:annotations".to_owned());
        annotations.branch(format!("f:{LAST_APPLIED_ANNOTATION}")).is_member = true;
    }
    let mut rest = set_of(form, live);
    rest.subtract(&clients);
    let managers = [(CLIENT_SIDE_APPLY, clients), (BEFORE_FIRST_APPLY, rest)];
    let managers = managers
        .map(|(name, set)| Manager::new(form, Writer::of_object(name), ManagedBy::Update, set));
    write(managers.into(), now)
}

/// Applies a manifest to an object, of which all is owned by somebody.
///
/// # Errors
/// What others own and the manifest would change, unless `force`.
pub(crate) fn apply(
    form: Form<'_>,
    whole: &Value,
    entries: &[ManagedFieldsEntry],
    manager: &str,
    applied: &Value,
    force: Force<'_>,
    now: Time,
) -> Result<Applied, Vec<ApplyConflict>> {
    let (live, applied) = (&ownable(form, whole), &ownable(form, applied));
    let mut managers = read(form, entries, live);
    let index =
        managers.iter().position(|known| known.is(Writer::of_object(manager), ManagedBy::Apply));
    let mut own = match index {
        Some(index) => managers.remove(index),
        None => {
            Manager::new(form, Writer::of_object(manager), ManagedBy::Apply, FieldSet::default())
        }
    };
    let mut value = live.clone();
    merge::merge(form.root, &mut value, applied);
    let wanted = set_of(form, applied);
    let mut owned = wanted.clone();
    managers.iter().for_each(|other| owned.add(&other.set));
    let mut dropped = own.set.clone();
    dropped.subtract(&owned);
    merge::remove(form.root, &mut value, &dropped, Some(&owned));
    let difference = compare(form.root, live, &value);
    let mut contested = match force {
        Force::All => FieldSet::default(),
        Force::LastApplied(_) | Force::None => difference.changed.clone(),
    };
    if let Force::LastApplied(last) = force {
        // What was applied by the client and nobody has changed since.
        let last = ownable(form, last);
        let mut own = set_of(form, &last);
        own.subtract(&compare(form.root, &last, live).changed);
        contested.subtract(&own);
    }
    let mut conflicts = Vec::new();
    for other in &managers {
        let label = other.label();
        other.set.each_common(&contested, &mut String::new(), &mut |field| {
            conflicts.push(ApplyConflict { manager: label.clone(), field: field.to_owned() });
        });
    }
    for other in &mut managers {
        other.set.subtract(&difference.changed);
        other.set.subtract(&difference.removed);
    }
    if !conflicts.is_empty() {
        conflicts.sort();
        return Err(conflicts);
    }
    own.set = wanted;
    managers.push(own);
    Ok(Applied { value: with_nobodys(form, whole, value), managed: write(managers, now) })
}

/// Gives a merged object back what nobody owns.
fn with_nobodys(form: Form<'_>, whole: &Value, mut merged: Value) -> Value {
    let (Some(map), Some(whole)) = (merged.as_object_mut(), whole.as_object()) else {
        return merged;
    };
    for field in form.nobodys() {
        if let Some(value) = whole.get(*field) {
            map.insert((*field).to_owned(), value.clone());
        }
    }
    let metadata = map.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if let (Value::Object(metadata), Some(Value::Object(whole))) = (metadata, whole.get("metadata"))
    {
        let kept = whole.iter().filter(|(name, _)| NOBODYS.contains(&name.as_str()));
        metadata.extend(kept.map(|(name, value)| (name.clone(), value.clone())));
    }
    merged
}

/// The first element of a list of a manifest that cannot be told from others, as `.spec.containers[name="a"]`, and why not.
pub(crate) fn indistinct(form: Form<'_>, manifest: &Value) -> Option<(String, String)> {
    compare::indistinct(form.root, manifest)
}

/// Merges what is applied into a document of which nobody owns parts.
pub(crate) fn merged(form: Form<'_>, mut live: Value, applied: &Value) -> Value {
    merge::merge(form.root, &mut live, applied);
    live
}

/// Says who owns what after a write that was no apply: the writer owns what it changed.
pub(crate) fn updated(
    form: Form<'_>,
    entries: &[ManagedFieldsEntry],
    writer: Writer<'_>,
    old: &Value,
    new: &Value,
    now: Time,
) -> Vec<ManagedFieldsEntry> {
    let (old, new) = (&ownable(form, old), &ownable(form, new));
    let difference = compare(form.root, old, new);
    let mut managers = read(form, entries, old);
    for known in &mut managers {
        known.set.subtract(&difference.removed);
        known.set.subtract(&difference.changed);
    }
    match managers.iter_mut().find(|known| known.is(writer, ManagedBy::Update)) {
        Some(own) => own.set.add(&difference.changed),
        None => {
            managers.push(Manager::new(form, writer, ManagedBy::Update, difference.changed));
        }
    }
    write(managers, now)
}
