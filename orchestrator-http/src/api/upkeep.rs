//! Copies of the store, and changes of the key that seals secrets.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use orchestrator_core::driver::Dumper;

use super::permit::Permit;
use super::{Api, json};
use crate::body::{self, Body, BrokenOff};
use crate::servers::Servers;
use crate::status::Failure;
use crate::stopping::Stopping;
use crate::upkeep::Upkeep;

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
        if self.inner.cluster.is_shared() && Servers::urls(&world).len() > 1 {
            return Err(Failure::new(
                StatusCode::CONFLICT,
                "Conflict",
                "the other servers would not know the new key: stop them, make it, give them a copy of the file pki/secrets.keys, and start \
                 them again",
            ));
        }
        let rotated = self.upkeep()?.rotate_keys().await.map_err(|error| {
            Failure::internal(format!(
                "the key was not changed: {}",
                crate::causes::causes(&*error)
            ))
        })?;
        let value = serde_json::to_value(&rotated)
            .map_err(|error| Failure::internal(format!("encoding the answer: {error}")))?;
        Ok(json(StatusCode::CREATED, &value))
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
