//! Snapshots that pages of a list go on from, so that all pages show one revision.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use orchestrator_core::model::{Key, Kind, Revision};
use orchestrator_core::world::World;
use serde_json::{Value, json};

use crate::status::Failure;

/// The most snapshots that are kept. They share what has not changed.
const SNAPSHOTS_MAX: usize = 32;
/// How long the next page of a list can be asked for.
const RESUME_SECONDS_MAX: u64 = 300;

/// The worlds of lists that are being paged through.
#[derive(Debug, Default)]
pub(super) struct Snapshots(Mutex<VecDeque<(Instant, World)>>);

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Resume {
    /// The revision of the earlier pages; `None` goes on at whatever is newest.
    pub(super) revision: Option<Revision>,
    pub(super) after: Key,
}

impl Snapshots {
    pub(super) fn keep(&self, world: &World) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(since, old)| {
            since.elapsed() < Duration::from_secs(RESUME_SECONDS_MAX)
                && old.revision() != world.revision()
        });
        if kept.len() >= SNAPSHOTS_MAX {
            kept.pop_front();
        }
        kept.push_back((Instant::now(), world.clone()));
    }

    pub(super) fn find(&self, revision: Revision) -> Option<World> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter()
            .filter(|(since, _)| since.elapsed() < Duration::from_secs(RESUME_SECONDS_MAX))
            .find(|(_, world)| world.revision() == revision)
            .map(|(_, world)| world.clone())
    }
}

impl Resume {
    /// Prints the token that clients hand back; opaque to them.
    pub(super) fn to_token(&self) -> String {
        let token = json!({
            "v": 1,
            "rv": self.revision.map(|revision| revision.0),
            "ns": &*self.after.namespace,
            "name": &*self.after.name,
        });
        URL_SAFE_NO_PAD.encode(token.to_string())
    }

    /// Reads a token for a list of a kind.
    ///
    /// # Errors
    /// 400 for what this server has not printed.
    pub(super) fn from_token(
        kind: Kind,
        namespace: Option<&str>,
        token: &str,
    ) -> Result<Self, Failure> {
        let bad = || Failure::bad_request("continue key is not valid");
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| bad())?;
        let text = |field: &str| value.get(field).and_then(Value::as_str).ok_or_else(bad);
        let (within, name) = (text("ns")?, text("name")?);
        let elsewhere = namespace.is_some_and(|namespace| namespace != within);
        if value.get("v") != Some(&1.into()) || elsewhere {
            return Err(bad());
        }
        let revision = match value.get("rv") {
            None | Some(Value::Null) => None,
            Some(revision) => Some(Revision(revision.as_u64().ok_or_else(bad)?)),
        };
        Ok(Self { revision, after: Key::new(kind, within, name) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_nothing_else_does() {
        let resume = Resume { revision: Some(Revision(7)), after: Key::pod("default", "a") };
        let token = resume.to_token();
        assert_eq!(Resume::from_token(Kind::Pod, Some("default"), &token), Ok(resume));
        assert!(Resume::from_token(Kind::Pod, Some("other"), &token).is_err());
        for bad in ["", "x", "e30", "%%%"] {
            assert!(Resume::from_token(Kind::Pod, None, bad).is_err(), "{bad}");
        }
    }
}
