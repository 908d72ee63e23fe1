//! Which pod and container a stream is about, and why there is none.

use super::submit::chain;
use crate::api::Rejection;
use crate::model::{Key, Pod};
use crate::runtime::RuntimeError;
use crate::world::World;

fn bad(message: String) -> Rejection {
    Rejection::BadRequest { message }
}

/// Finds a pod.
pub(super) fn pod<'w>(world: &'w World, key: &Key) -> Result<&'w Pod, Rejection> {
    let found = world.at::<Pod>(key).map(|pod| &**pod);
    found.ok_or_else(|| Rejection::NotFound { key: key.clone() })
}

/// Finds the container that is meant: the one named, or the only one.
pub(super) fn container<'p>(pod: &'p Pod, named: Option<&str>) -> Result<&'p str, Rejection> {
    let names: Vec<&str> =
        pod.spec.containers.iter().map(|container| container.name.as_str()).collect();
    let name = &pod.metadata.name;
    match (named, names.as_slice()) {
        (Some(named), _) => names.iter().find(|name| **name == named).copied().ok_or_else(|| {
            let names = names.join(", ");
            bad(format!("container {named} is not valid for pod {name}; it has {names}"))
        }),
        (None, [only]) => Ok(only),
        (None, _) => {
            let names = names.join(" ");
            let message = format!(
                "a container name must be specified for pod {name}, choose one of: [{names}]"
            );
            Err(bad(message))
        }
    }
}

/// The pod's node is not here.
pub(super) fn unreachable(pod: &Pod) -> Rejection {
    let name = &pod.metadata.name;
    if !pod.is_bound() {
        return bad(format!("pod {name} has no node yet"));
    }
    let message = format!("node {:?} of pod {name} is not reachable from here", pod.node_name);
    Rejection::Unavailable { message }
}

/// The runtime refuses.
pub(super) fn failed(error: &RuntimeError) -> Rejection {
    bad(chain(error))
}

/// A container has no run whose log could be read; says what it waits for.
pub(super) fn no_run(pod: &Pod, container: &str, previous: bool) -> Rejection {
    let (which, why) = match previous {
        true => ("previous run", String::new()),
        false => ("run", waits_for(pod, container)),
    };
    let name = &pod.metadata.name;
    bad(format!("container {container} in pod {name} has no {which} with a log{why}"))
}

/// A running container could not be reached into.
pub(super) fn not_opened(pod: &Pod, container: &str, error: &RuntimeError) -> Rejection {
    match error {
        RuntimeError::NotFound { .. } => not_running(pod, container),
        error => failed(error),
    }
}

/// A container does not run; says what it waits for.
pub(super) fn not_running(pod: &Pod, container: &str) -> Rejection {
    let why = waits_for(pod, container);
    bad(format!("container {container} in pod {} does not run{why}", pod.metadata.name))
}

fn waits_for(pod: &Pod, container: &str) -> String {
    let status = pod.status.container_statuses.iter().find(|status| status.name == container);
    match status.and_then(|status| status.state.waiting.as_ref()) {
        Some(waiting) => format!(": it waits ({})", waiting.reason),
        None => String::new(),
    }
}
