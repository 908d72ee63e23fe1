//! What a request asks in the terms of roles, and whether it is permitted.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use orchestrator_core::api::{Asked, Attributes, Caller, permits};
use orchestrator_core::driver::Cluster;
use orchestrator_core::model::{Key, Revision};

use crate::path::Route;
use crate::query::Query;
use crate::registry::{OWN_GROUP, Subresource};
use crate::status::Failure;

/// How often it is looked whether what lasts is still permitted.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Somebody's right to something, as long as it lasts.
#[derive(Clone, Debug)]
pub(super) struct Permit {
    cluster: Cluster,
    caller: Caller,
    attributes: Arc<Attributes>,
    /// The newest world in which the right was there.
    held_at: Option<Revision>,
}

impl Permit {
    /// Asks for a right.
    ///
    /// # Errors
    /// 403 when the caller does not have it.
    pub(super) fn ask(
        cluster: &Cluster,
        caller: &Caller,
        attributes: impl Into<Arc<Attributes>>,
    ) -> Result<Self, Failure> {
        let (cluster, caller) = (cluster.clone(), caller.clone());
        let mut permit = Self { cluster, caller, attributes: attributes.into(), held_at: None };
        match permit.holds() {
            true => Ok(permit),
            false => Err(permit.refusal()),
        }
    }

    /// What somebody is told who does not have the right, or no more.
    pub(super) fn refusal(&self) -> Failure {
        self.attributes.forbidden(&self.caller.user_name()).into()
    }

    /// Whether the right is still there.
    pub(super) fn holds(&mut self) -> bool {
        let world = self.cluster.world();
        let now = Some(world.revision());
        if self.held_at == now {
            return true;
        }
        let holds = permits(&world, &self.caller, &self.attributes);
        self.held_at = if holds { now } else { None };
        holds
    }

    /// Waits until the right is withdrawn, for ever if it cannot be. Looks at once, and then from time to time. Cancel-safe.
    pub(super) async fn withdrawn(&mut self) {
        // An administrator's is not.
        if matches!(self.caller, Caller::Admin { .. }) {
            std::future::pending::<()>().await;
        }
        while self.holds() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// What a request asks.
pub(super) fn attributes(route: &Route, method: &Method, query: &Query, path: &str) -> Attributes {
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    match route {
        Route::Absent { absent, namespace, name } => {
            let verb = match *method {
                _ if route.is_watch(method, query) => "watch",
                _ if is_read && name.is_some() => "get",
                _ if is_read => "list",
                Method::DELETE if name.is_none() => "deletecollection",
                _ => verb_of(method),
            };
            resource(verb, (absent.group, absent.plural), namespace.as_ref(), name.as_ref())
        }
        Route::Answered { answered, namespace, name } => {
            let verb = match (is_read, name) {
                (true, Some(_)) => "get",
                (true, None) => "list",
                (false, _) => verb_of(method),
            };
            resource(verb, (answered.group, answered.plural), namespace.as_ref(), name.as_ref())
        }
        Route::Backups | Route::SealingKeys => {
            resource(verb_of(method), (OWN_GROUP, route.resource()), None, None)
        }
        Route::Collection { kind, namespace } => {
            let verb = match *method {
                _ if route.is_watch(method, query) => "watch",
                _ if is_read => "list",
                Method::DELETE => "deletecollection",
                _ => verb_of(method),
            };
            let namespace = namespace.as_deref().unwrap_or_default();
            let mut attributes = Attributes::collection(verb, *kind, namespace);
            let one = if is_read { one(query) } else { None };
            if let (Asked::Resource { name, .. }, Some(one)) = (&mut attributes.asked, one) {
                one.clone_into(name);
            }
            attributes
        }
        Route::Explain { pod } => {
            let mut attributes = Attributes::of_key("get", pod, "explain");
            if let Asked::Resource { group, .. } = &mut attributes.asked {
                OWN_GROUP.clone_into(group);
            }
            attributes
        }
        Route::Node { node, call } => {
            let mut attributes = Attributes::of_key("create", &Key::node(node), call.name());
            if let Asked::Resource { group, .. } = &mut attributes.asked {
                OWN_GROUP.clone_into(group);
            }
            attributes
        }
        Route::Object { key } => {
            let verb = match is_read {
                true if route.is_watch(method, query) => "watch",
                true => "get",
                false => verb_of(method),
            };
            Attributes::of_key(verb, key, "")
        }
        Route::Sub { key, sub } => {
            let verb = match sub {
                // Who may read may not run programs: a WebSocket begins with a GET.
                Subresource::Attach | Subresource::Exec | Subresource::PortForward => "create",
                _ if route.is_watch(method, query) => "watch",
                _ if is_read => "get",
                _ => verb_of(method),
            };
            Attributes::of_key(verb, key, sub.name())
        }
        Route::CoreVersions
        | Route::CustomGroup { .. }
        | Route::CustomOpenApi { .. }
        | Route::CustomResources { .. }
        | Route::Group { .. }
        | Route::Groups
        | Route::Health
        | Route::Join
        | Route::JoinServer
        | Route::Metrics
        | Route::OpenApi
        | Route::OpenApiIndex
        | Route::PeerKeys
        | Route::OpenApiOf { .. }
        | Route::Renewal
        | Route::Resources { .. }
        | Route::Version => Attributes::path(if is_read { "get" } else { verb_of(method) }, path),
    }
}

/// What is asked of a resource that is no kind of the model.
fn resource(
    verb: &str,
    (group, plural): (&str, &str),
    namespace: Option<&String>,
    name: Option<&String>,
) -> Attributes {
    let asked = Asked::Resource {
        group: group.to_owned(),
        resource: plural.to_owned(),
        subresource: String::new(),
        namespace: namespace.cloned().unwrap_or_default(),
        name: name.cloned().unwrap_or_default(),
    };
    Attributes { verb: verb.to_owned(), asked }
}

fn verb_of(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// The one name that a list or watch is about, if it is about one: a right to one object by its name is enough for it.
fn one(query: &Query) -> Option<&str> {
    let selector = query.text("fieldSelector")?;
    let name = selector.strip_prefix("metadata.name=")?;
    let name = name.strip_prefix('=').unwrap_or(name);
    (!name.contains(',')).then_some(name)
}
