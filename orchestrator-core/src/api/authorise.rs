//! Who may do what (S40).
//!
//! An admin may do everything. What a user may ask is a matter of roles (`rbac`); here it is seen to that nobody gives rights
//! they do not hold. A node is allowed a list of fields, and everything else is refused: what it may change is
//! copied from the new object onto the old one, and the result must be the new object. So a field added later is
//! refused until it is put here. Always asked with the typed objects that will be written.

use std::sync::Arc;

use super::other_agent::refuse_other_agent;
use super::rbac::may_grant;
use super::{Caller, Context, Rejection};
use crate::model::{
    AGENT_ANNOTATION, Event, Key, Kind, LABEL_HOSTNAME, NETWORK_KEY_ANNOTATION, Node, NodeSpec,
    Object, ObjectMeta, Part, Pod, Resource, StringMap,
};

/// The labels a node may give itself besides [`LABEL_HOSTNAME`], which must be its name.
const NODE_LABELS: [&str; 3] =
    ["kubernetes.io/arch", "kubernetes.io/os", "orchestrator.dev/runtime"];

/// What is to be done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Bind,
    Create,
    Delete,
    UpdateMain,
    UpdateStatus,
}

/// A verb together with the objects it concerns.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action<'a> {
    Bind { pod: &'a Object },
    Create { new: &'a Object },
    Delete { old: &'a Object, grace_seconds: Option<i64> },
    UpdateMain { old: &'a Object, new: &'a Object },
    UpdateStatus { old: &'a Object, new: &'a Object },
}

impl Action<'_> {
    pub(super) const fn verb_of(part: Part) -> Verb {
        match part {
            Part::Main => Verb::UpdateMain,
            Part::Status => Verb::UpdateStatus,
        }
    }

    const fn verb(&self) -> Verb {
        match self {
            Self::Bind { .. } => Verb::Bind,
            Self::Create { .. } => Verb::Create,
            Self::Delete { .. } => Verb::Delete,
            Self::UpdateMain { .. } => Verb::UpdateMain,
            Self::UpdateStatus { .. } => Verb::UpdateStatus,
        }
    }

    const fn object(&self) -> &Object {
        match self {
            Self::Bind { pod: object }
            | Self::Create { new: object }
            | Self::Delete { old: object, .. }
            | Self::UpdateMain { old: object, .. }
            | Self::UpdateStatus { old: object, .. } => object,
        }
    }
}

/// Refuses what the caller may not do whatever the objects are, before anything is said about them.
pub(super) fn may_try(caller: &Caller, verb: Verb, key: &Key) -> Result<(), Rejection> {
    let Caller::Node { name } = caller else { return Ok(()) };
    let is_itself = key.kind == Kind::Node && *key.name == **name;
    let may = match verb {
        Verb::Bind => false,
        Verb::Create => is_itself || key.kind == Kind::Event,
        Verb::Delete => key.kind == Kind::Pod,
        Verb::UpdateMain => is_itself,
        Verb::UpdateStatus => is_itself || key.kind == Kind::Pod,
    };
    if may { Ok(()) } else { Err(forbidden(name, verb, key)) }
}

/// Refuses what the caller may not do.
pub(super) fn authorise(context: &Context<'_>, action: Action<'_>) -> Result<(), Rejection> {
    let key = action.object().key();
    may_try(context.caller, action.verb(), &key)?;
    let name = match (context.caller, action) {
        (Caller::Node { name }, _) => name,
        (_, Action::Create { new }) => return may_grant(context, None, new),
        (_, Action::UpdateMain { old, new }) => return may_grant(context, Some(old), new),
        (_, Action::Bind { .. } | Action::Delete { .. } | Action::UpdateStatus { .. }) => {
            return Ok(());
        }
    };
    if let Action::UpdateMain { old: Object::Node(old), new: Object::Node(new) } = action {
        refuse_other_agent(context, old, new)?;
    }
    if node_may(context, name, &action) {
        return Ok(());
    }
    match refused_label(name, &action) {
        Some(label) => Err(Rejection::Forbidden {
            message: format!(
                "nodes {:?} is forbidden: a node may not set or remove its label {label:?}; it sets {} and, to its own \
                 name, {LABEL_HOSTNAME}",
                key.name,
                NODE_LABELS.join(", ")
            ),
        }),
        None => Err(forbidden(name, action.verb(), &key)),
    }
}

/// The first label of the node itself that it wants otherwise and may not.
fn refused_label(name: &str, action: &Action<'_>) -> Option<String> {
    let none = StringMap::new();
    let (old, new) = match action {
        Action::Create { new: Object::Node(new) } => (&none, &new.metadata.labels),
        Action::UpdateMain { old: Object::Node(old), new: Object::Node(new) } => {
            (&old.metadata.labels, &new.metadata.labels)
        }
        Action::Bind { .. }
        | Action::Create { .. }
        | Action::Delete { .. }
        | Action::UpdateMain { .. }
        | Action::UpdateStatus { .. } => return None,
    };
    let allowed = allowed_labels(name, old, new);
    let differs = |label: &&String| allowed.get(*label) != new.get(*label);
    allowed.keys().chain(new.keys()).find(differs).cloned()
}

fn node_may(context: &Context<'_>, name: &str, action: &Action<'_>) -> bool {
    match action {
        Action::Bind { .. } => false,
        Action::Create { new: Object::Node(new) } => may_create_node(name, new),
        Action::Create { new: Object::Event(new) } => may_create_event(context, name, new),
        Action::Create { .. } => false,
        // Only the confirmation of a deletion that somebody else asked for.
        Action::Delete { old: Object::Pod(old), grace_seconds } => {
            old.node_name == name && old.metadata.is_deleting() && *grace_seconds == Some(0)
        }
        Action::Delete { .. } => false,
        Action::UpdateMain { old: Object::Node(old), new: Object::Node(new) } => {
            may_update_node(name, old, new)
        }
        Action::UpdateMain { .. } => false,
        Action::UpdateStatus { old, new } => {
            let is_itself = Node::from_object(old).is_some_and(|old| old.metadata.name == name);
            let is_own = Pod::from_object(old).is_some_and(|old| old.node_name == name);
            (is_itself || is_own) && old.with_status_of(new) == **new
        }
    }
}

fn may_create_node(name: &str, new: &Node) -> bool {
    let meta = ObjectMeta {
        creation_timestamp: new.metadata.creation_timestamp,
        annotations: allowed_annotations(&StringMap::new(), &new.metadata.annotations),
        generation: new.metadata.generation,
        labels: allowed_labels(name, &StringMap::new(), &new.metadata.labels),
        name: name.to_owned(),
        uid: new.metadata.uid,
        ..ObjectMeta::default()
    };
    let allowed = Node {
        metadata: meta,
        spec: NodeSpec::default(),
        status: new.status.clone(),
        ..Node::default()
    };
    allowed == *new
}

fn may_update_node(name: &str, old: &Arc<Node>, new: &Node) -> bool {
    let mut allowed = (**old).clone();
    let (before, after) = (&old.metadata, &new.metadata);
    allowed.metadata.annotations = allowed_annotations(&before.annotations, &after.annotations);
    allowed.metadata.labels = allowed_labels(name, &before.labels, &after.labels);
    old.metadata.name == name && allowed == *new
}

/// Returns `old` with those of `new` that a node may set itself.
fn allowed_labels(name: &str, old: &StringMap, new: &StringMap) -> StringMap {
    let mut allowed = old.clone();
    for label in NODE_LABELS {
        match new.get(label) {
            Some(value) => drop(allowed.insert(label.to_owned(), value.clone())),
            None => drop(allowed.remove(label)),
        }
    }
    if new.get(LABEL_HOSTNAME).is_some_and(|value| value == name) {
        allowed.insert(LABEL_HOSTNAME.to_owned(), name.to_owned());
    }
    allowed
}

/// Returns `old` with those annotations of `new` that a node may set itself. Which agent is the node's it says, and takes back never.
fn allowed_annotations(old: &StringMap, new: &StringMap) -> StringMap {
    let mut allowed = old.clone();
    match new.get(NETWORK_KEY_ANNOTATION) {
        Some(key) => drop(allowed.insert(NETWORK_KEY_ANNOTATION.to_owned(), key.clone())),
        None => drop(allowed.remove(NETWORK_KEY_ANNOTATION)),
    }
    if let Some(agent) = new.get(AGENT_ANNOTATION) {
        allowed.insert(AGENT_ANNOTATION.to_owned(), agent.clone());
    }
    allowed
}

fn may_create_event(context: &Context<'_>, name: &str, new: &Event) -> bool {
    let about = &new.involved_object;
    let kind = Kind::from_name(&about.kind);
    let is_itself = kind == Some(Kind::Node) && about.name == name && about.namespace.is_empty();
    let is_own = kind == Some(Kind::Pod)
        && context
            .world
            .find::<Pod>(&about.namespace, &about.name)
            .is_some_and(|pod| pod.node_name == name && pod.metadata.uid == about.uid);
    let meta = &new.metadata;
    let speaks_for_itself = [&new.source.host, &new.reporting_instance]
        .iter()
        .all(|who| who.is_empty() || **who == name);
    (is_itself || is_own)
        && speaks_for_itself
        && meta.finalizers.is_empty()
        && meta.owner_references.is_empty()
}

fn forbidden(node: &str, verb: Verb, key: &Key) -> Rejection {
    let what = match verb {
        Verb::Bind => "bind pods",
        Verb::Create => "create this object",
        Verb::Delete => "delete this object",
        Verb::UpdateMain => "change this object in this way",
        Verb::UpdateStatus => "report the status of this object",
    };
    Rejection::Forbidden {
        message: format!(
            "{} {:?} is forbidden: node {node:?} may not {what}; a node registers itself, and reports on itself and \
             on pods bound to it",
            key.kind.resource(),
            key.name
        ),
    }
}
