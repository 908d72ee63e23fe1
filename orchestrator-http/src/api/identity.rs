//! Who asks: told by the transport, a client certificate or a bearer token; and for whom, if they may.

use std::path::PathBuf;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, StatusCode};
use orchestrator_core::api::{Asked, Attributes, Caller};
use orchestrator_core::model::{Key, ServiceAccount};
use orchestrator_core::world::World;

use super::permit::Permit;
use super::{Api, Transport, text};
use crate::account_tokens::{AccountTokens, Bound, Holder};
use crate::pki::Pki;
use crate::servers::Servers;
use crate::status::Failure;

/// What a server is known by, and by what it knows others.
#[derive(Debug)]
pub(crate) struct Credentials {
    /// Those of service accounts.
    pub(crate) accounts: AccountTokens,
    /// The directory of its keys.
    pub(crate) keys: PathBuf,
    /// The other servers, if there may be any.
    pub(crate) servers: Option<Servers>,
    /// Host names by which the server is reached; none over a socket in the file system.
    pub(crate) names: Vec<String>,
    /// The authorities, which sign certificates of nodes.
    pub(crate) pki: Pki,
}

impl Api {
    /// Finds out whose rights somebody asks to be given, if it is not their own.
    ///
    /// # Errors
    /// 403 when they may not be that user.
    pub(super) fn impersonated(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
    ) -> Result<Option<Caller>, Failure> {
        let Some(Impersonated { name, groups }) = impersonated(headers)? else { return Ok(None) };
        let mut wanted = vec![as_user(&name)];
        wanted.extend(groups.iter().map(|group| impersonate("groups", "", group)));
        for attributes in wanted {
            Permit::ask(&self.inner.cluster, caller, attributes)?;
        }
        Ok(Some(match ServiceAccount::of_user(&name) {
            Some((namespace, name)) if groups.is_empty() => {
                Caller::service_account(namespace, name)
            }
            _ => Caller::user(name, groups),
        }))
    }

    /// Finds out who asks.
    pub(super) fn authenticate(
        &self,
        headers: &HeaderMap,
        transport: Transport,
    ) -> Result<Caller, Failure> {
        let admin = || Caller::Admin { name: "admin".to_owned() };
        let known = match (transport, &self.inner.credentials) {
            (Transport::Unix, _) | (Transport::Tcp, None) => return Ok(admin()),
            (Transport::Node { name, uid }, _) => {
                self.live_node(&name, uid)?;
                return Ok(Caller::Node { name });
            }
            (Transport::Known(caller), None) => return Ok(caller),
            (Transport::Known(caller), Some(credentials)) => (Some(caller), credentials),
            (Transport::Tcp, Some(credentials)) => (None, credentials),
        };
        let given = text(headers, AUTHORIZATION)
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, given)| given.trim());
        match (given, known) {
            // A token is said with each request, and counts more than what was said with the connection.
            (Some(given), (_, credentials)) if credentials.pki.token().matches(given) => {
                Ok(admin())
            }
            (Some(given), (_, credentials)) => {
                let world = self.inner.cluster.world();
                let holder = credentials.accounts.holder(given, self.now());
                let holder = holder.filter(|holder| is_alive(&world, holder));
                let holder = holder.ok_or_else(Failure::unauthorized)?;
                Ok(Caller::service_account(&holder.namespace, &holder.name))
            }
            (None, (Some(caller), _)) => Ok(caller),
            (None, (None, _)) => Err(Failure::unauthorized()),
        }
    }
}

/// Whose rights somebody asks to be given instead of their own.
struct Impersonated {
    name: String,
    groups: Vec<String>,
}

/// Reads the headers that `kubectl --as` sends.
fn impersonated(headers: &HeaderMap) -> Result<Option<Impersonated>, Failure> {
    const PREFIX: &str = "impersonate-";
    let sent = || headers.keys().filter_map(|name| name.as_str().strip_prefix(PREFIX));
    // Who is not understood must not be given their own rights.
    if let Some(other) = sent().find(|name| !matches!(*name, "group" | "user")) {
        let message = format!(
            "Impersonate-{other}: not implemented by this server; it takes Impersonate-User and Impersonate-Group"
        );
        return Err(Failure::new(StatusCode::FORBIDDEN, "Forbidden", message));
    }
    if sent().next().is_none() {
        return Ok(None);
    }
    let name = text(headers, HeaderName::from_static("impersonate-user")).unwrap_or_default();
    if name.is_empty() {
        let message = "Impersonate-Group: needs an Impersonate-User";
        return Err(Failure::bad_request(message));
    }
    let groups = headers.get_all("impersonate-group").iter();
    let groups = groups.map(|group| group.to_str().map(str::to_owned)).collect::<Result<_, _>>();
    let groups =
        groups.map_err(|_| Failure::bad_request("Impersonate-Group: must be plain text"))?;
    Ok(Some(Impersonated { name: name.to_owned(), groups }))
}

fn as_user(name: &str) -> Attributes {
    match ServiceAccount::of_user(name) {
        Some((namespace, name)) => impersonate("serviceaccounts", namespace, name),
        None => impersonate("users", "", name),
    }
}

fn impersonate(resource: &str, namespace: &str, name: &str) -> Attributes {
    let asked = Asked::Resource {
        group: String::new(),
        resource: resource.to_owned(),
        subresource: String::new(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    Attributes { verb: "impersonate".to_owned(), asked }
}

/// Whether a service account, and the object that a token is bound to, are the ones that the token was made for: they may
/// have been deleted, or deleted and made anew.
pub(super) fn is_alive(world: &World, holder: &Holder) -> bool {
    let account = world.find::<ServiceAccount>(&holder.namespace, &holder.name);
    let is_bound = |Bound { kind, name, uid }: &Bound| {
        let stored = world.get(&Key::new(*kind, &holder.namespace, name));
        stored.is_some_and(|stored| stored.object.meta().uid == *uid)
    };
    account.is_some_and(|account| account.metadata.uid == holder.uid)
        && holder.bound.as_ref().is_none_or(is_bound)
}
