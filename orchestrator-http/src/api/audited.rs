//! Which calls are put down in the audit log, and what of them.

use std::sync::{Arc, Mutex, PoisonError};

use http::header::USER_AGENT;
use http::request::Parts;
use http::{Method, Response};
use orchestrator_core::api::{Asked, Attributes, Caller};

use super::{Api, text};
use crate::audit::{Entry, Named};
use crate::body::Body;
use crate::node::{NodeCall, RENEWAL_PATH};
use crate::path::Route;
use crate::query::Query;
use crate::registry::Subresource;
use crate::server::Source;

/// The most characters of a client's name for itself that are kept.
const USER_AGENT_CHARS_MAX: usize = 256;
/// What is put down as the answer's code when nobody was there to be answered.
const CLIENT_GONE: u16 = 499;

/// A call that has a line in the audit log by the time it ends, however it ends: a client that hangs up does not keep what
/// it did out of it.
#[derive(Debug)]
pub(super) struct Noted<'a> {
    api: &'a Api,
    about: Mutex<Option<About>>,
}

#[derive(Debug)]
struct About {
    caller: Caller,
    impersonated_by: Option<String>,
    source: Option<String>,
    user_agent: String,
    attributes: Arc<Attributes>,
    dry_run: bool,
}

impl<'a> Noted<'a> {
    pub(super) const fn new(api: &'a Api) -> Self {
        Self { api, about: Mutex::new(None) }
    }

    /// Learns what is asked, and by whom, if that is of interest.
    pub(super) fn begin(
        &self,
        caller: &Caller,
        route: &Route,
        query: &Query,
        attributes: &Arc<Attributes>,
        parts: &Parts,
    ) {
        if concerns(route, &parts.method) {
            let dry_run = query.text("dryRun").is_some_and(|said| !said.is_empty());
            self.note(caller, dry_run, attributes, parts);
        }
    }

    fn note(&self, caller: &Caller, dry_run: bool, attributes: &Arc<Attributes>, parts: &Parts) {
        if self.api.inner.audit.is_none() {
            return;
        }
        let agent = text(&parts.headers, USER_AGENT).unwrap_or_default();
        let about = About {
            caller: caller.clone(),
            impersonated_by: None,
            source: parts.extensions.get::<Source>().map(|Source(address)| address.to_string()),
            user_agent: agent.chars().take(USER_AGENT_CHARS_MAX).collect(),
            attributes: Arc::clone(attributes),
            dry_run,
        };
        *self.about.lock().unwrap_or_else(PoisonError::into_inner) = Some(about);
    }

    /// Learns that somebody joins by a token, and where.
    pub(super) fn joining(&self, token: &str, path: &str, parts: &Parts) {
        let caller = Caller::user(format!("system:join:{token}"), []);
        self.note(&caller, false, &Arc::new(Attributes::path("create", path)), parts);
    }

    /// Learns that another server gives keys.
    pub(super) fn given(&self, caller: &Caller, path: &str, parts: &Parts) {
        self.note(caller, false, &Arc::new(Attributes::path("update", path)), parts);
    }

    /// Learns that the agent of a node shows a certificate that is over.
    pub(super) fn renewing(&self, node: &str, parts: &Parts) {
        let caller = Caller::Node { name: node.to_owned() };
        self.note(&caller, false, &Arc::new(Attributes::path("create", RENEWAL_PATH)), parts);
    }

    /// Learns by whose rights it is done.
    pub(super) fn act_for(&self, caller: &Caller) {
        let mut about = self.about.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(about) = about.as_mut() {
            about.impersonated_by = Some(about.caller.user_name());
            about.caller = caller.clone();
        }
    }

    /// Writes the line, before the call is answered.
    pub(super) fn answered(&self, response: &Response<Body>) {
        let named = response.extensions().get::<Named>();
        self.end(response.status().as_u16(), named);
    }

    fn end(&self, code: u16, named: Option<&Named>) {
        let about = self.about.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(about) = about {
            self.api.put_down(&about, code, named);
        }
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.end(CLIENT_GONE, None);
    }
}

/// Whether a call is one that changes something, or reaches into a container. Reviews change nothing.
fn concerns(route: &Route, method: &Method) -> bool {
    match route {
        Route::Answered { .. } => false,
        // What is said only to know or to be known is not.
        Route::Node { call, .. } => {
            matches!(
                call,
                NodeCall::Certificate
                    | NodeCall::Deletions
                    | NodeCall::Registration
                    | NodeCall::Statuses
            )
        }
        Route::Sub {
            sub: Subresource::Attach | Subresource::Exec | Subresource::PortForward,
            ..
        } => true,
        _ => !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS),
    }
}

impl Api {
    fn put_down(&self, about: &About, code: u16, named: Option<&Named>) {
        let Some(log) = &self.inner.audit else { return };
        let (group, resource, subresource, namespace, name) = match &about.attributes.asked {
            Asked::Path(path) => ("", path.as_str(), "", "", ""),
            Asked::Resource { group, resource, subresource, namespace, name } => (
                group.as_str(),
                resource.as_str(),
                subresource.as_str(),
                namespace.as_str(),
                name.as_str(),
            ),
        };
        let ms = self.inner.cluster.now().as_millis();
        let at = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let entry = Entry {
            at: format!("{at:.3}"),
            user: &about.caller.user_name(),
            groups: &about.caller.groups(),
            impersonated_by: about.impersonated_by.as_deref().unwrap_or_default(),
            source: about.source.clone(),
            user_agent: &about.user_agent,
            verb: &about.attributes.verb,
            group,
            resource,
            subresource,
            namespace,
            // What the object is called counts more than what was asked for.
            name: named.map_or(name, |named| &named.name),
            uid: named.map_or("", |named| &named.uid),
            dry_run: about.dry_run || named.is_some_and(|named| named.dry_run),
            code,
        };
        if let Err(error) = log.write(&entry.to_value()) {
            self.inner.metrics.audit_failed();
            tracing::error!(%error, "the audit log cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::Request;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use orchestrator_core::driver::Cluster;
    use orchestrator_core::mem::MemStore;
    use serde_json::Value;

    use super::*;
    use crate::api::{FairnessLimits, Transport};
    use crate::audit::AuditLog;
    use crate::stopping::Stopping;

    /// Asks as somebody and hangs up while the body is still to come; returns what was put down.
    async fn hang_up(caller: Caller, headers: &[(&str, &str)]) -> Vec<Value> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audit.log");
        let cluster = Cluster::builder().store(MemStore::new()).start().await.expect("started");
        let log = Some(AuditLog::open(&path).expect("a log"));
        let limits = FairnessLimits::default();
        let api =
            Api::with_credentials(cluster.clone(), None, log, limits, Stopping::never(), None);
        let never = futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>();
        let mut request = Request::post("/api/v1/namespaces/default/secrets");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(StreamBody::new(never)).expect("well-formed");
        let mut handling = Box::pin(api.handle(request, Transport::Known(caller)));
        tokio::select! {
            biased;
            _ = &mut handling => {}
            () = std::future::ready(()) => {}
        }
        drop(handling);
        let text = std::fs::read_to_string(&path).expect("readable");
        cluster.shutdown(false).await;
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    #[tokio::test]
    async fn a_client_that_hangs_up_is_put_down() {
        let admin = Caller::Admin { name: "root".to_owned() };
        let lines = hang_up(admin, &[]).await;
        let [line] = lines.as_slice() else { panic!("one line: {lines:?}") };
        assert_eq!((&line["code"], &line["verb"]), (&CLIENT_GONE.into(), &"create".into()));
        assert_eq!((&line["user"], &line["resource"]), (&"root".into(), &"secrets".into()));
    }

    #[tokio::test]
    async fn who_may_not_be_somebody_else_is_put_down_by_their_own_name() {
        let jane = Caller::user("jane", []);
        let lines = hang_up(jane, &[("impersonate-user", "admin")]).await;
        let [line] = lines.as_slice() else { panic!("one line: {lines:?}") };
        assert_eq!((&line["code"], &line["user"]), (&403.into(), &"jane".into()));
        assert_eq!(line["impersonatedBy"], Value::Null);
    }
}
