//! Who asks: told by the transport, a client certificate or a bearer token.

use http::HeaderMap;
use http::StatusCode;
use http::header::AUTHORIZATION;
use orchestrator_core::api::Caller;
use orchestrator_core::model::{Key, ServiceAccount};
use orchestrator_core::world::World;

use super::{Api, Transport, text};
use crate::account_tokens::{AccountTokens, Bound, Holder};
use crate::pki::Token;
use crate::status::Failure;

/// What tokens a server knows.
#[derive(Debug)]
pub(crate) struct Credentials {
    /// The administrator's.
    pub(crate) admin: Token,
    /// Those of service accounts.
    pub(crate) accounts: AccountTokens,
}

impl Api {
    /// Finds out who asks.
    pub(super) fn authenticate(
        &self,
        headers: &HeaderMap,
        transport: Transport,
    ) -> Result<Caller, Failure> {
        // Who asks for somebody else's rights must not be given the administrator's.
        if headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
            let message = "impersonation is not implemented by this server: leave the Impersonate headers (--as) out";
            return Err(Failure::new(StatusCode::FORBIDDEN, "Forbidden", message));
        }
        let admin = || Caller::Admin { name: "admin".to_owned() };
        let known = match (transport, &self.inner.credentials) {
            (Transport::Unix, _) | (Transport::Tcp, None) => return Ok(admin()),
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
            (Some(given), (_, credentials)) if credentials.admin.matches(given) => Ok(admin()),
            (Some(given), (_, credentials)) => {
                let world = self.inner.cluster.world();
                let holder = credentials.accounts.holder(given, super::now());
                let holder = holder.filter(|holder| is_alive(&world, holder));
                let holder = holder.ok_or_else(Failure::unauthorized)?;
                Ok(Caller::service_account(&holder.namespace, &holder.name))
            }
            (None, (Some(caller), _)) => Ok(caller),
            (None, (None, _)) => Err(Failure::unauthorized()),
        }
    }
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
