//! `Attributes`: what is asked, in the terms of rules.

use crate::api::{DeleteOptions, Rejection, Request};
use crate::model::{Key, Kind, Part};

/// What is asked of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The verb, such as `get`, `list` or `create`.
    pub verb: String,
    /// Of what.
    pub asked: Asked,
}

/// What something is asked of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A path that is no resource, such as `/metrics`.
    Path(String),
    /// A resource.
    Resource {
        /// Its API group; empty for the core group.
        group: String,
        /// Its plural name.
        resource: String,
        /// What of it, such as `log`; empty for the object itself.
        subresource: String,
        /// The namespace; empty for all of them, or when it has none.
        namespace: String,
        /// The object's name; empty for all of them, or when it has none yet.
        name: String,
    },
}

impl Attributes {
    /// Asks for a path.
    pub fn path(verb: &str, path: &str) -> Self {
        Self { verb: verb.to_owned(), asked: Asked::Path(path.to_owned()) }
    }

    /// Asks for objects of a kind: of a namespace, or of all if it is empty.
    pub fn collection(verb: &str, kind: Kind, namespace: &str) -> Self {
        Self::of_key(verb, &Key::new(kind, namespace, ""), "")
    }

    /// Asks for an object, or for a subresource of it.
    pub fn of_key(verb: &str, key: &Key, subresource: &str) -> Self {
        // A namespace counts as in itself: who may look at all that is in it may look at it.
        let namespace = if key.kind == Kind::Namespace { &key.name } else { &key.namespace };
        let asked = Asked::Resource {
            group: key.kind.group().to_owned(),
            resource: key.kind.plural().to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_string(),
            name: key.name.to_string(),
        };
        Self { verb: verb.to_owned(), asked }
    }

    /// What a request to write asks: any of these must be permitted.
    pub(in crate::api) fn of_request(request: &Request) -> Vec<Self> {
        let part = |part: &Part| match part {
            Part::Main => "",
            Part::Status => "status",
        };
        match request {
            Request::Bind { pod, .. } => vec![Self::of_key("create", pod, "binding")],
            Request::Create { kind, namespace, .. } => {
                vec![Self::collection("create", *kind, namespace)]
            }
            Request::Delete { key, options: DeleteOptions { of_collection: true, .. } } => {
                vec![Self::collection("deletecollection", key.kind, &key.namespace)]
            }
            Request::Delete { key, .. } => vec![Self::of_key("delete", key, "")],
            Request::Evict { pod, .. } => vec![Self::of_key("create", pod, "eviction")],
            Request::Patch { key, part: of, .. } => vec![Self::of_key("patch", key, part(of))],
            Request::Scale { key, .. } => {
                ["patch", "update"].map(|verb| Self::of_key(verb, key, "scale")).into()
            }
            Request::Update { key, part: of, .. } => vec![Self::of_key("update", key, part(of))],
        }
    }

    /// The namespace that is asked about; empty when it is none, or all.
    pub(super) fn namespace(&self) -> &str {
        match &self.asked {
            Asked::Path(_) => "",
            Asked::Resource { namespace, .. } => namespace,
        }
    }

    /// What a user is told who may not do this, in Kubernetes' words.
    pub fn forbidden(&self, user: &str) -> Rejection {
        let verb = &self.verb;
        let message = match &self.asked {
            Asked::Path(path) => {
                format!("forbidden: User {user:?} cannot {verb} path {path:?}")
            }
            Asked::Resource { group, resource, subresource, namespace, name } => {
                let resource = match &**subresource {
                    "" => resource.clone(),
                    subresource => format!("{resource}/{subresource}"),
                };
                let place = match &**namespace {
                    "" => "at the cluster scope".to_owned(),
                    namespace => format!("in the namespace {namespace:?}"),
                };
                let plural = resource.split('/').next().unwrap_or_default();
                let qualified = match &**group {
                    "" => plural.to_owned(),
                    group => format!("{plural}.{group}"),
                };
                let named = if name.is_empty() { String::new() } else { format!(" {name:?}") };
                format!(
                    "{qualified}{named} is forbidden: User {user:?} cannot {verb} resource {resource:?} in API group \
                     {group:?} {place}"
                )
            }
        };
        Rejection::Forbidden { message }
    }
}
