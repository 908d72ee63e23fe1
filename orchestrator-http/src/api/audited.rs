//! Which calls are put down in the audit log, and what of them.

use http::header::USER_AGENT;
use http::request::Parts;
use http::{Method, Response};
use orchestrator_core::api::{Asked, Attributes, Caller};

use super::{Api, text};
use crate::audit::{Entry, Named};
use crate::body::Body;
use crate::path::Route;
use crate::query::Query;
use crate::registry::Subresource;
use crate::server::Source;

/// The most characters of a client's name for itself that are kept.
const USER_AGENT_CHARS_MAX: usize = 256;

/// A call that is put down when it ends.
#[derive(Debug)]
pub(super) struct Audited {
    user: String,
    groups: Vec<String>,
    impersonated_by: Option<String>,
    source: Option<String>,
    user_agent: String,
    attributes: Attributes,
    dry_run: bool,
}

impl Audited {
    /// Whether a call is one that changes something, or reaches into a container. Reviews change nothing.
    pub(super) fn concerns(route: &Route, method: &Method) -> bool {
        match route {
            Route::Answered { .. } => false,
            Route::Sub {
                sub: Subresource::Attach | Subresource::Exec | Subresource::PortForward,
                ..
            } => true,
            _ => !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS),
        }
    }

    pub(super) fn new(
        caller: &Caller,
        impersonated_by: Option<String>,
        attributes: &Attributes,
        query: &Query,
        parts: &Parts,
    ) -> Self {
        let agent = text(&parts.headers, USER_AGENT).unwrap_or_default();
        Self {
            user: caller.user_name(),
            groups: caller.groups(),
            impersonated_by,
            source: parts.extensions.get::<Source>().map(|Source(address)| address.to_string()),
            user_agent: agent.chars().take(USER_AGENT_CHARS_MAX).collect(),
            attributes: attributes.clone(),
            dry_run: query.text("dryRun").is_some_and(|said| !said.is_empty()),
        }
    }
}

impl Api {
    /// The time now, to the millisecond.
    fn written_time(&self) -> String {
        let ms = self.inner.cluster.now().as_millis();
        let at = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        format!("{at:.3}")
    }

    /// Writes a call into the audit log, before it is answered.
    pub(super) fn put_down(&self, audited: &Audited, response: &Response<Body>) {
        let Some(log) = &self.inner.audit else { return };
        let named = response.extensions().get::<Named>();
        let (group, resource, subresource, namespace, name) = match &audited.attributes.asked {
            Asked::Path(path) => ("", path.as_str(), "", "", ""),
            Asked::Resource { group, resource, subresource, namespace, name } => (
                group.as_str(),
                resource.as_str(),
                subresource.as_str(),
                namespace.as_str(),
                name.as_str(),
            ),
        };
        let entry = Entry {
            at: self.written_time(),
            user: &audited.user,
            groups: &audited.groups,
            impersonated_by: audited.impersonated_by.as_deref().unwrap_or_default(),
            source: audited.source.clone(),
            user_agent: &audited.user_agent,
            verb: &audited.attributes.verb,
            group,
            resource,
            subresource,
            namespace,
            name: if name.is_empty() { named.map_or("", |named| &named.name) } else { name },
            uid: named.map_or("", |named| &named.uid),
            dry_run: audited.dry_run,
            code: response.status().as_u16(),
        };
        if let Err(error) = log.write(&entry.to_value()) {
            self.inner.metrics.audit_failed();
            tracing::error!(%error, "the audit log cannot be written");
        }
    }
}
