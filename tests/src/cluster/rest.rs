//! What a cluster at rest shows to be wrong: in its pods, and in the containers that engines list. Pure.

use std::collections::{BTreeMap, BTreeSet};

use orchestrator_core::model::Pod;
use serde_json::Value;

/// What the labels of every container of ours begin with.
const OURS: &str = "orchestrator.dev/";
/// The label that says which pod a container is of.
const POD_UID: &str = "orchestrator.dev/pod-uid";

/// Finds what at rest must not be (S18): containers that no pod of their node wants; pods that are not ready, or of which some container
/// runs nowhere. `engines` has what the engine of each node lists, of those that run.
pub fn unsettled(pods: &[Pod], engines: &BTreeMap<String, Vec<Value>>) -> Vec<String> {
    let mut wrongs = Vec::new();
    for (node, list) in engines {
        let wanted = pods.iter().filter(|pod| pod.node_name == *node && pod.is_active());
        let wanted = wanted.map(|pod| pod.metadata.uid.to_string()).collect();
        wrongs.extend(strays(node, list, &wanted));
    }
    for pod in pods {
        if !pod.is_ready() {
            wrongs.push(told_of(pod));
        }
        let list = engines.get(&pod.node_name).map(Vec::as_slice);
        wrongs.extend(absent(pod, list.unwrap_or_default()));
    }
    wrongs
}

/// Finds the containers of pods of whatever cluster, other than these (by uid), whatever state they are in; and what has a label of ours
/// and says of no pod that it is its own.
pub fn strays(node: &str, list: &[Value], wanted: &BTreeSet<String>) -> Vec<String> {
    let stray = |it: &&Value| {
        let labels = it["Labels"].as_object();
        let is_ours = labels.is_some_and(|them| them.keys().any(|it| it.starts_with(OURS)));
        let uid = it["Labels"][POD_UID].as_str();
        is_ours && uid.is_none_or(|uid| !wanted.contains(uid))
    };
    let strays = list.iter().filter(stray);
    strays.map(|it| format!("on {node}: {} {} is not wanted", it["Names"], it["State"])).collect()
}

/// The ids of the containers of pods that run, of those that an engine lists.
pub(super) fn running_ids(list: &[Value]) -> BTreeSet<String> {
    let running = list.iter().filter(|it| it["State"] == "running");
    let ours = running.filter(|it| it["Labels"][POD_UID].is_string());
    ours.filter_map(|it| it["Id"].as_str()).map(str::to_owned).collect()
}

/// Finds the containers of a pod that the engine of its node does not run.
fn absent(pod: &Pod, list: &[Value]) -> Vec<String> {
    let running = running_ids(list);
    let does_not_run = |name: &str| {
        let status = pod.status.container_statuses.iter().find(|it| it.name == name);
        let id = status.map(|it| it.container_id.trim_start_matches("docker://"));
        let id = id.unwrap_or_default();
        let place = format!("{name} of {} on {:?}", pod.metadata.name, pod.node_name);
        (!running.contains(id)).then(|| format!("{place}: {id:?} does not run"))
    };
    let names = pod.spec.containers.iter().map(|it| it.name.as_str());
    names.filter_map(does_not_run).collect()
}

/// A pod, as it is told when something is wrong with it.
pub(super) fn told_of(pod: &Pod) -> String {
    let deleted = pod.metadata.deletion_timestamp;
    format!("{} on {:?}, deleted {deleted:?}: {:?}", pod.metadata.name, pod.node_name, pod.status)
}
