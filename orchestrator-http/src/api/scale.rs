//! `/scale`: the number of replicas as an object of its own.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use orchestrator_core::api::{
    Caller, FieldValidation, Request, WriteOptions, json_patch, merge_patch,
};
use orchestrator_core::manifest;
use orchestrator_core::model::{Key, Kind, Object, Workload};
use orchestrator_core::world::World;
use serde_json::{Map, Value, json};

use super::write::{not_json, parse, preconditions, warn};
use super::{Api, Call, Received, json};
use crate::body::{self, Body};
use crate::custom;
use crate::negotiate::{self, BodyFormat, Format, PatchFormat};
use crate::status::Failure;
use crate::table;

impl Api {
    /// Answers with the scale of an object; as a table with the columns of Kubernetes' own.
    pub(super) fn scale(&self, key: &Key, accept: Option<&str>) -> Result<Response<Body>, Failure> {
        let format = negotiate::objects(accept)?;
        let scale = self.current_scale(key)?;
        if format != Format::Table {
            return Ok(json(StatusCode::OK, &scale));
        }
        let table = table::scale(&scale, self.now());
        Ok(json(StatusCode::OK, &table))
    }

    fn current_scale(&self, key: &Key) -> Result<Value, Failure> {
        let world = self.inner.cluster.world();
        let stored = world.get(key).ok_or_else(|| Failure::not_found(key))?;
        scale_of(&world, key.kind, &stored.object)
    }

    pub(super) async fn put_scale<B>(
        &self,
        key: Key,
        call: Call<B>,
    ) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let Received { options, format, bytes, caller, .. } = call.receive().await?;
        let scale = parse(key.kind, format, &bytes, FieldValidation::Ignore)?.value;
        self.write_scale(key, &scale, options, &caller).await
    }

    pub(super) async fn patch_scale<B>(
        &self,
        key: Key,
        call: Call<B>,
    ) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let options = call.write_options()?;
        let media_type = call.header(CONTENT_TYPE).map(str::to_owned);
        let format = negotiate::patch_body(media_type.as_deref())?;
        let bytes = body::read(call.body).await?;
        let mut scale = self.current_scale(&key)?;
        let scale = match format {
            // A scale has no lists, so that both mean the same.
            PatchFormat::Merge | PatchFormat::Strategic => {
                let patch =
                    parse(key.kind, BodyFormat::Json, &bytes, FieldValidation::Ignore)?.value;
                // What the patch does not name must not become a precondition.
                if let Some(metadata) = metadata_of(&mut scale) {
                    metadata.remove("resourceVersion");
                }
                merge_patch(&mut scale, &patch)?;
                scale
            }
            PatchFormat::Json => {
                let (operations, _) = manifest::read_json(&bytes).map_err(not_json)?;
                let revision = scale.pointer("/metadata/resourceVersion").cloned();
                let mut scale = json_patch(&key, scale, &operations)?;
                // What was tested must still be so when it counts.
                let mut all = operations.as_array().into_iter().flatten();
                if let (true, Some(metadata)) =
                    (all.any(|one| one["op"] == "test"), metadata_of(&mut scale))
                {
                    metadata.entry("resourceVersion").or_insert(revision.unwrap_or_default());
                }
                scale
            }
            PatchFormat::Apply | PatchFormat::ThreeWay => {
                let accepted = [
                    "application/json-patch+json",
                    "application/merge-patch+json",
                    "application/strategic-merge-patch+json",
                ];
                return Err(Failure::unsupported_media_type(
                    &media_type.unwrap_or_default(),
                    &accepted,
                ));
            }
        };
        self.write_scale(key, &scale, options, &call.caller).await
    }

    async fn write_scale(
        &self,
        key: Key,
        scale: &Value,
        options: WriteOptions,
        caller: &Caller,
    ) -> Result<Response<Body>, Failure> {
        // No number means no replicas in Kubernetes too.
        let replicas = match scale.pointer("/spec/replicas") {
            None | Some(Value::Null) => 0,
            Some(value) => {
                let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
                number.ok_or_else(|| {
                    let message = format!("spec.replicas: {value} must be a whole number");
                    Failure::bad_request(message)
                })?
            }
        };
        let name = scale.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        if !name.is_empty() && *name != *key.name {
            return Err(Failure::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                key.name
            )));
        }
        let preconditions = preconditions(scale.get("metadata"))?;
        let kind = key.kind;
        let request = Request::Scale { key, replicas, preconditions, options };
        let effect = self.inner.cluster.submit(caller, request).await?;
        let mut response =
            json(StatusCode::OK, &scale_of(&self.inner.cluster.world(), kind, &effect.reply)?);
        warn(&mut response, effect.warnings.into_iter());
        Ok(response)
    }
}

fn metadata_of(scale: &mut Value) -> Option<&mut Map<String, Value>> {
    scale.get_mut("metadata").and_then(Value::as_object_mut)
}

fn scale_of(world: &World, kind: Kind, object: &Object) -> Result<Value, Failure> {
    let (wanted, there, selector) = match object {
        Object::Custom(_) => {
            custom::scale_of(world, kind, object).ok_or_else(Failure::no_such_path)?
        }
        object => {
            let Workload { replicas, replicas_there, selector, .. } =
                object.workload().ok_or_else(Failure::no_such_path)?;
            (i64::from(replicas), i64::from(replicas_there), selector.to_string())
        }
    };
    let meta = object.meta();
    Ok(json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": meta.name,
            "namespace": meta.namespace,
            "uid": meta.uid.to_string(),
            "resourceVersion": meta.resource_version.to_string(),
            "creationTimestamp": meta.creation_timestamp.map(|time| time.to_string()),
        },
        "spec": { "replicas": wanted },
        "status": { "replicas": there, "selector": selector },
    }))
}
