//! A newer certificate for the agent of a node whose certificate is over: the server, or the machine, was away for longer than a day.

use bytes::Bytes;
use http::Response;
use http::request::Parts;

use super::Api;
use super::audited::Noted;
use super::fairness::Class;
use super::join::JOINING;
use super::nodes::form;
use super::write::read;
use crate::body::{self, Body};
use crate::negotiate::BodyFormat;
use crate::node::RenewalRequest;
use crate::pki::RenewalError;
use crate::status::Failure;

impl Api {
    /// Gives the agent of a node that is still there a newer certificate for the key it has. It says nothing of who it is but by what
    /// it shows, and gets nothing else.
    pub(super) async fn renew_over<B>(
        &self,
        parts: &Parts,
        body: B,
        noted: &Noted<'_>,
    ) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let _ticket = self.inner.fairness.admit(JOINING, Class::Request).await?;
        let credentials = self.credentials()?;
        let (value, _) = read(BodyFormat::Json, &body::read(body).await?)?;
        let RenewalRequest { certificate, asked } = form(value)?;
        let now = self.now().as_seconds();
        let node = credentials.pki.renewing_node(&certificate, &asked.request, now);
        let (node, uid) = node.map_err(|error| match error {
            RenewalError::Late { ref node } => Failure::forbidden(format!(
                "{error}; its agent must join anew: `orchd node remove {node}` and `orchd token create` where the server runs, then \
                 `orchd agent --server URL --token-file FILE`"
            )),
            RenewalError::OtherKey | RenewalError::Request(_) | RenewalError::Strange(_) => {
                Failure::bad_request(error.to_string())
            }
        })?;
        noted.renewing(&node, parts);
        self.live_node(&node, uid)?;
        self.renew(&node, uid, &asked)
    }
}
