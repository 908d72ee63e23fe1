//! The numbers of replicas of a custom object, where its definition says they are.

use orchestrator_core::model::{Kind, Object};
use orchestrator_core::world::World;
use serde_json::Value;

use super::columns::at_path;
use super::of;

/// Wanted and present replicas, and a selector as text; `None` when the kind has no scale.
pub(crate) fn scale_of(world: &World, kind: Kind, object: &Object) -> Option<(i64, i64, String)> {
    let served = of(world, kind)?;
    let scale = served.version.scale()?;
    let value = object.to_value();
    let number = |path: &str| at_path(&value, path).and_then(Value::as_i64).unwrap_or(0);
    let selector = scale.label_selector_path.as_deref().and_then(|path| at_path(&value, path));
    let selector = selector.and_then(Value::as_str).unwrap_or_default().to_owned();
    Some((number(&scale.spec_replicas_path), number(&scale.status_replicas_path), selector))
}
