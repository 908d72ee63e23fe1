//! Lists: at one revision, by selectors, in pages.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use http::{Response, StatusCode};
use orchestrator_core::model::{Key, Kind, Object, Revision};
use orchestrator_core::world::{Stored, World};
use serde_json::{Value, json};

use super::encode::Shape;
use super::permit::Permit;
use super::snapshots::Resume;
use super::{Api, json, typed};
use crate::body::Body;
use crate::custom;
use crate::negotiate::{self, Format};
use crate::query::{ListOptions, Query, RevisionMatch};
use crate::status::Failure;
use crate::table::{self, IncludeObject};

/// How long a list or watch waits for a revision this server has not seen yet.
const REVISION_SECONDS_MAX: u64 = 3;
/// After how many objects a list lets other tasks run.
const YIELD_EVERY: usize = 256;

/// What a list or watch is about.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    pub(super) kind: Kind,
    pub(super) namespace: Option<String>,
    pub(super) options: ListOptions,
}

impl Selection {
    /// Whether an object is selected.
    pub(super) fn selects(&self, key: &Key, object: &Object) -> bool {
        key.kind == self.kind
            && self.namespace.as_deref().is_none_or(|namespace| *key.namespace == *namespace)
            && self.options.labels.matches(&object.meta().labels)
            && self.options.fields.matches(object)
    }

    /// Lists the selected objects of a world after a key, in key order.
    pub(super) fn page<'w>(
        &'w self,
        world: &'w World,
        after: Option<&Key>,
    ) -> impl Iterator<Item = (&'w Key, &'w Stored)> {
        let namespace = self.namespace.as_deref();
        let start = after
            .cloned()
            .unwrap_or_else(|| Key::new(self.kind, namespace.unwrap_or_default(), ""));
        world
            .list_after(&start)
            .take_while(move |(key, _)| {
                namespace.is_none_or(|namespace| *key.namespace == *namespace)
            })
            .filter(|(key, stored)| self.selects(key, &stored.object))
    }

    fn is_everything(&self) -> bool {
        self.options.labels.is_empty() && self.options.fields.is_empty()
    }
}

/// Reads in which form objects are to be shown.
pub(super) fn shape(query: &Query, accept: Option<&str>) -> Result<Shape, Failure> {
    let format = negotiate::objects(accept)?;
    let include = match query.text("includeObject") {
        None | Some("Metadata") => IncludeObject::Metadata,
        Some("None") => IncludeObject::None,
        Some("Object") => IncludeObject::Object,
        Some(other) => {
            let message = format!("includeObject: {other:?} is none of None, Metadata, Object");
            return Err(Failure::bad_request(message));
        }
    };
    Ok(Shape { format, include, columns: None })
}

impl Api {
    /// Answers a GET of a collection.
    pub(super) async fn list_or_watch(
        &self,
        kind: Kind,
        namespace: Option<String>,
        query: &Query,
        accept: Option<&str>,
        permit: Permit,
    ) -> Result<Response<Body>, Failure> {
        let columns = custom::of_kind(&self.inner.cluster.world(), kind);
        let shape = Shape { columns, ..shape(query, accept)? };
        let options = ListOptions::read(query, kind)?;
        let selection = Selection { kind, namespace, options };
        if selection.options.watch {
            return self.watch(selection, shape, permit).await;
        }
        let (world, after) = self.list_from(&selection).await?;
        self.list(&selection, shape, &world, after).await
    }

    /// Finds the world a list is read from, and the key it begins after.
    async fn list_from(&self, selection: &Selection) -> Result<(World, Option<Key>), Failure> {
        let options = &selection.options;
        if let Some(token) = &options.resume {
            let resume = Resume::from_token(selection.kind, selection.namespace.as_deref(), token)?;
            let world = match resume.revision {
                None => self.inner.cluster.world(),
                Some(revision) => self.inner.snapshots.find(revision).ok_or_else(|| {
                    let anyway = Resume { revision: None, after: resume.after.clone() };
                    let message = "the provided continue parameter is too old to display a \
                        consistent list result; start a new list without it, or go on \
                        inconsistently with the token in this status";
                    Failure::expired(message).with_resume(anyway.to_token())
                })?,
            };
            return Ok((world, Some(resume.after)));
        }
        let revision = options.revision.unwrap_or(Revision::ZERO);
        let world = self.world_at(revision).await?;
        if options.revision_match == Some(RevisionMatch::Exact) && world.revision() != revision {
            return match self.inner.snapshots.find(revision) {
                Some(world) => Ok((world, None)),
                None => Err(Failure::expired(format!(
                    "The resourceVersion for the provided list is too old: {revision}, newest: {}",
                    world.revision()
                ))),
            };
        }
        Ok((world, None))
    }

    /// Returns a world that has reached a revision.
    ///
    /// # Errors
    /// 504 when that takes too long: the revision is of the future, or of another cluster.
    pub(super) async fn world_at(&self, revision: Revision) -> Result<World, Failure> {
        let newest = self.inner.cluster.world();
        if newest.revision() >= revision {
            return Ok(newest);
        }
        let limit = Duration::from_secs(REVISION_SECONDS_MAX);
        match tokio::time::timeout(limit, self.inner.cluster.world_at(revision)).await {
            Ok(Ok(world)) => Ok(world),
            Ok(Err(rejection)) => Err(rejection.into()),
            Err(_) => Err(Failure::revision_too_large(revision.0, newest.revision().0)),
        }
    }

    async fn list(
        &self,
        selection: &Selection,
        shape: Shape,
        world: &World,
        after: Option<Key>,
    ) -> Result<Response<Body>, Failure> {
        let limit = selection.options.limit.unwrap_or(usize::MAX);
        let mut items = Vec::new();
        let mut last = None;
        let remaining = {
            let mut page = selection.page(world, after.as_ref());
            for (key, stored) in page.by_ref().take(limit) {
                items.push(stored);
                last = Some(key);
            }
            page.count()
        };
        let mut metadata = json!({ "resourceVersion": world.revision().to_string() });
        if let (Some(last), 1..) = (last, remaining) {
            self.inner.snapshots.keep(world);
            let resume = Resume { revision: Some(world.revision()), after: last.clone() };
            metadata["continue"] = resume.to_token().into();
            if selection.is_everything() {
                metadata["remainingItemCount"] = remaining.into();
            }
        }
        match shape.format {
            Format::Json => {
                let list_kind = custom::list_kind(world, selection.kind);
                Ok(self.json_list(&list_kind, selection.kind, &metadata, &items).await)
            }
            Format::Metadata => {
                let items: Vec<_> =
                    items.iter().map(|stored| table::partial(&stored.object)).collect();
                Ok(json(
                    StatusCode::OK,
                    &json!({
                        "kind": "PartialObjectMetadataList",
                        "apiVersion": "meta.k8s.io/v1",
                        "metadata": metadata,
                        "items": items,
                    }),
                ))
            }
            Format::Table => {
                let now = self.now();
                let own = shape.columns.as_deref();
                let row = |stored: &&Stored| {
                    let object = stored.object.at_version_of(selection.kind);
                    table::row(&object, shape.include, own, now)
                };
                let rows = items.iter().map(row).collect();
                let columns = table::columns(selection.kind, own);
                Ok(json(StatusCode::OK, &table::table(&metadata, &columns, rows)))
            }
        }
    }

    async fn json_list(
        &self,
        list_kind: &str,
        kind: Kind,
        metadata: &Value,
        items: &[&Stored],
    ) -> Response<Body> {
        let mut bytes = BytesMut::new();
        let head = format!(
            r#"{{"kind":"{list_kind}","apiVersion":"{}","metadata":{metadata},"items":["#,
            kind.api_version()
        );
        bytes.put_slice(head.as_bytes());
        for (index, stored) in items.iter().enumerate() {
            if index > 0 {
                bytes.put_u8(b',');
            }
            if index % YIELD_EVERY == YIELD_EVERY - 1 {
                tokio::task::yield_now().await;
            }
            bytes.put_slice(&self.inner.encoder.object(&stored.object.at_version_of(kind)));
        }
        bytes.put_slice(b"]}");
        typed("application/json", bytes.freeze())
    }
}
