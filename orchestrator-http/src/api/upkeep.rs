//! Copies of the store, and changes of the key that seals secrets.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use orchestrator_core::api::Caller;
use orchestrator_core::driver::Dumper;
use serde_json::Value;

use super::audited::Noted;
use super::permit::Permit;
use super::write::read;
use super::{Api, json};
use crate::body::{self, Body, BrokenOff};
use crate::negotiate::BodyFormat;
use crate::servers::Others;
use crate::status::Failure;
use crate::stopping::Stopping;
use crate::upkeep::{NoPeers, Peers, SealingKeys, Upkeep};

impl Api {
    /// Answers with a dump of the store, as it is now, while it goes on being written.
    pub(super) fn backup(&self, permit: Permit) -> Result<Response<Body>, Failure> {
        let store = self.upkeep()?.store();
        let dumper = Dumper::new(store, self.now());
        let backup = Backup { dumper, permit, stopping: self.inner.stopping.clone(), ended: false };
        let pieces = stream::unfold(backup, |mut backup| async move {
            let piece = backup.next_piece().await.transpose()?;
            Some((piece, backup))
        });
        let mut response = Response::new(body::stream_or_break(pieces));
        let binary = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(CONTENT_TYPE, binary);
        Ok(response)
    }

    /// Makes a new key for secrets.
    pub(super) async fn rotate_keys(&self) -> Result<Response<Body>, Failure> {
        let world = self.inner.cluster.world();
        let others = self.servers().map(|servers| Others { servers, world });
        let peers = others.as_ref().map_or(&NoPeers as &dyn Peers, |others| others);
        let rotated = self.upkeep()?.rotate_keys(peers).await.map_err(|error| {
            Failure::internal(format!(
                "the key was not changed: {}",
                crate::causes::causes(&*error)
            ))
        })?;
        let value = serde_json::to_value(&rotated)
            .map_err(|error| Failure::internal(format!("encoding the answer: {error}")))?;
        Ok(json(StatusCode::CREATED, &value))
    }

    /// Tells another server the keys that seal secrets, or takes in what it has made.
    pub(super) async fn peer_keys<B>(
        &self,
        parts: &Parts,
        body: B,
        caller: &Caller,
        noted: &Noted<'_>,
    ) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let upkeep = self.upkeep()?;
        let encoded = |value: Result<Value, serde_json::Error>| {
            value.map_err(|error| Failure::internal(format!("encoding the answer: {error}")))
        };
        match parts.method {
            Method::GET => {
                let keys = upkeep.sealing_keys();
                Ok(json(StatusCode::OK, &encoded(serde_json::to_value(keys))?))
            }
            Method::POST => {
                noted.given(caller, parts.uri.path(), parts);
                let (value, _) = read(BodyFormat::Json, &body::read(body).await?)?;
                let keys: SealingKeys = serde_json::from_value(value)
                    .map_err(|_| Failure::bad_request("the keys cannot be read"))?;
                upkeep.take_sealing_keys(&keys).map_err(|error| {
                    Failure::internal(format!(
                        "the keys were not taken: {}",
                        crate::causes::causes(&*error)
                    ))
                })?;
                Ok(json(StatusCode::OK, &Value::Object(serde_json::Map::new())))
            }
            _ => Err(Failure::method_not_allowed()),
        }
    }

    fn upkeep(&self) -> Result<&Arc<dyn Upkeep>, Failure> {
        let absent =
            || Failure::not_implemented("the upkeep of a store that was not given to the server");
        self.inner.upkeep.as_ref().ok_or_else(absent)
    }
}

struct Backup {
    dumper: Dumper,
    permit: Permit,
    stopping: Stopping,
    ended: bool,
}

impl Backup {
    /// Waits for more; `None` at the end, an error when there is more that cannot be had.
    async fn next_piece(&mut self) -> Result<Option<Bytes>, BrokenOff> {
        if self.ended {
            return Ok(None);
        }
        let piece = tokio::select! {
            biased;
            () = self.stopping.wait() => Err(BrokenOff("the server stops".to_owned())),
            () = self.permit.withdrawn() => Err(BrokenOff(self.permit.refusal().message)),
            piece = self.dumper.next() => piece.map_err(|error| {
                tracing::warn!(%error, "a backup broke off");
                BrokenOff(format!("the backup broke off: {}", crate::causes::causes(&error)))
            }),
        };
        self.ended = piece.is_err();
        piece
    }
}
