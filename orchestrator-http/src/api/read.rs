//! Reading one object, and why a pod is where it is.

use http::header::ACCEPT;
use http::{Response, StatusCode};
use orchestrator_core::api::Rejection;
use orchestrator_core::model::Key;

use super::encode::Shape;
use super::list::{self, Selection};
use super::{Api, Call, json, text, typed};
use crate::body::Body;
use crate::custom;
use crate::negotiate::{self, Format};
use crate::query::ListOptions;
use crate::status::Failure;
use crate::table;

impl Api {
    /// Answers a GET of an object: the object, or with `watch=true` what becomes of it.
    pub(super) async fn get<B>(&self, key: &Key, call: Call<B>) -> Result<Response<Body>, Failure> {
        let Call { parts, query, permit, .. } = call;
        let columns = custom::of_kind(&self.inner.cluster.world(), key.kind);
        let shape = Shape { columns, ..list::shape(&query, text(&parts.headers, ACCEPT))? };
        let options = ListOptions::read(&query, key.kind)?;
        if options.watch {
            let fields = options.fields.and_name(&key.name);
            let options = ListOptions { fields, ..options };
            let namespace = key.kind.is_namespaced().then(|| key.namespace.to_string());
            let selection = Selection { kind: key.kind, namespace, options };
            return self.watch(selection, shape, permit).await;
        }
        let world = self.world_at(options.revision.unwrap_or_default()).await?;
        let stored = world.get(key).ok_or_else(|| Rejection::absent(&world, key))?;
        let object = stored.object.at_version_of(key.kind);
        Ok(typed("application/json", self.inner.encoder.shaped(&object, &shape, true)))
    }

    /// Answers with where a pod could run, and why not elsewhere.
    pub(super) fn explain(
        &self,
        pod: &Key,
        accept: Option<&str>,
    ) -> Result<Response<Body>, Failure> {
        let format = negotiate::objects(accept)?;
        let explanation = self.inner.cluster.explain(pod)?;
        if format == Format::Table {
            return Ok(json(StatusCode::OK, &table::explanation(&explanation)));
        }
        let mut value = serde_json::to_value(&explanation)
            .map_err(|error| Failure::internal(format!("encoding the explanation: {error}")))?;
        if let Some(map) = value.as_object_mut() {
            map.insert("kind".to_owned(), "Explanation".into());
            map.insert("apiVersion".to_owned(), "orchestrator.dev/v1".into());
        }
        Ok(json(StatusCode::OK, &value))
    }
}
