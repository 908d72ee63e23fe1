//! The three-way merge behind apply: what the last manifest had and the new one lacks goes, what the new one has comes,
//! what others added stays.

use serde_json::{Map, Value};

use crate::model::Kind;

/// A key by which elements of a list are matched: a field, and the value it has when it is left out.
type ListKey = &'static [(&'static str, Option<&'static str>)];

const BY_NAME: ListKey = &[("name", None)];

/// How a list is merged.
#[derive(Clone, Copy, Debug)]
enum ListMerge {
    ByKey(ListKey),
    Replace,
    Set,
}

/// Merges `new` into `live`, given the manifest that was applied last.
pub(super) fn three_way(kind: Kind, live: &Value, last: &Value, new: &Value) -> Value {
    merge(kind, "", live, Some(last), new)
}

fn merge(kind: Kind, at: &str, live: &Value, last: Option<&Value>, new: &Value) -> Value {
    match (live, new) {
        (Value::Object(live), Value::Object(new)) => {
            Value::Object(merge_map(kind, at, live, last.and_then(Value::as_object), new))
        }
        (Value::Array(live), Value::Array(new)) => {
            Value::Array(merge_list(kind, at, live, last.and_then(Value::as_array), new))
        }
        _ => new.clone(),
    }
}

fn merge_map(
    kind: Kind,
    at: &str,
    live: &Map<String, Value>,
    last: Option<&Map<String, Value>>,
    new: &Map<String, Value>,
) -> Map<String, Value> {
    let mut merged = live.clone();
    for name in last.into_iter().flat_map(Map::keys).filter(|name| !new.contains_key(*name)) {
        merged.remove(name);
    }
    for (name, value) in new {
        let value = match live.get(name) {
            _ if value.is_null() => {
                merged.remove(name);
                continue;
            }
            Some(live) => {
                let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                merge(kind, &at, live, last.and_then(|last| last.get(name)), value)
            }
            None => value.clone(),
        };
        merged.insert(name.clone(), value);
    }
    if drops_other_fields(kind, at) {
        merged.retain(|name, _| new.contains_key(name));
    }
    merged
}

fn merge_list(
    kind: Kind,
    at: &str,
    live: &[Value],
    last: Option<&Vec<Value>>,
    new: &[Value],
) -> Vec<Value> {
    let last = last.map(Vec::as_slice).unwrap_or_default();
    let keys = match list_merge(kind, at) {
        ListMerge::Replace => return new.to_vec(),
        ListMerge::Set => {
            let foreign = live.iter().filter(|one| !new.contains(one) && !last.contains(one));
            return new.iter().chain(foreign).cloned().collect();
        }
        ListMerge::ByKey(keys) => keys,
    };
    let find = |list: &'_ [Value], id: &[Value]| {
        list.iter().position(|one| identity(keys, one).as_deref() == Some(id))
    };
    let mut ids: Vec<Vec<Value>> = Vec::with_capacity(new.len());
    for one in new {
        match identity(keys, one) {
            Some(id) if !ids.contains(&id) => ids.push(id),
            // Without a key of its own an element cannot be matched: the list counts as a whole.
            Some(_) | None => return new.to_vec(),
        }
    }
    let at = format!("{at}[]");
    let mut merged: Vec<_> = new
        .iter()
        .zip(&ids)
        .map(|(one, id)| {
            let last = find(last, id).map(|index| &last[index]);
            find(live, id)
                .map_or_else(|| one.clone(), |index| merge(kind, &at, &live[index], last, one))
        })
        .collect();
    merged.extend(
        live.iter()
            .filter(|one| match identity(keys, one) {
                Some(id) => !ids.contains(&id) && find(last, &id).is_none(),
                None => false,
            })
            .cloned(),
    );
    merged
}

/// Returns the values of an element's key; `None` when it lacks one that has no default.
fn identity(keys: ListKey, element: &Value) -> Option<Vec<Value>> {
    let element = element.as_object()?;
    keys.iter()
        .map(|(field, default)| match (element.get(*field), default) {
            (Some(value), _) if !value.is_null() => Some(value.clone()),
            (_, default) => default.map(Value::from),
        })
        .collect()
}

/// Maps that are a choice: fields the manifest does not name are dropped, also defaults of another choice.
fn drops_other_fields(kind: Kind, at: &str) -> bool {
    at == "spec.strategy" && kind == Kind::Deployment
        || matches!(in_pod_spec(kind, at), Some("volumes[]" | "resourceClaims[]"))
}

/// The table of merge keys for our kinds; ports are told apart by their protocol too.
fn list_merge(kind: Kind, at: &str) -> ListMerge {
    const CONTAINER_PORT: ListKey = &[("containerPort", None), ("protocol", Some("TCP"))];
    const SERVICE_PORT: ListKey = &[("port", None), ("protocol", Some("TCP"))];
    match at {
        "metadata.ownerReferences" => return ListMerge::ByKey(&[("uid", None)]),
        "metadata.finalizers" => return ListMerge::Set,
        "spec.ports" if kind == Kind::Service => return ListMerge::ByKey(SERVICE_PORT),
        "spec.podCIDRs" if kind == Kind::Node => return ListMerge::Set,
        _ => {}
    }
    let Some(path) = in_pod_spec(kind, at) else { return ListMerge::Replace };
    let containers = ["containers[].", "initContainers[].", "ephemeralContainers[]."];
    if let Some(path) = containers.iter().find_map(|prefix| path.strip_prefix(prefix)) {
        return match path {
            "env" => ListMerge::ByKey(BY_NAME),
            "ports" => ListMerge::ByKey(CONTAINER_PORT),
            "volumeDevices" => ListMerge::ByKey(&[("devicePath", None)]),
            "volumeMounts" => ListMerge::ByKey(&[("mountPath", None)]),
            _ => ListMerge::Replace,
        };
    }
    match path {
        "containers"
        | "ephemeralContainers"
        | "imagePullSecrets"
        | "initContainers"
        | "resourceClaims"
        | "schedulingGates"
        | "volumes" => ListMerge::ByKey(BY_NAME),
        "hostAliases" => ListMerge::ByKey(&[("ip", None)]),
        "topologySpreadConstraints" => ListMerge::ByKey(&[("topologyKey", None)]),
        _ => ListMerge::Replace,
    }
}

/// Returns the rest of a path inside the pod spec of a pod or template.
fn in_pod_spec(kind: Kind, at: &str) -> Option<&str> {
    let prefix = match kind {
        Kind::Deployment | Kind::ReplicaSet => "spec.template.spec.",
        Kind::Pod => "spec.",
        Kind::ConfigMap
        | Kind::Event
        | Kind::Namespace
        | Kind::Node
        | Kind::Secret
        | Kind::Service => return None,
    };
    at.strip_prefix(prefix)
}
