//! `judge`: what a record shows to have gone wrong; and `Writer`, which writes while things go wrong and knows what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use orchestrator_core::model::{Key, Kind};
use orchestrator_http::{Client, WriteParams};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::record::{Happened, Run};

/// Finds what no cluster may do, in what happened and in the pods that are left, by uid:
/// S17: two runs of a container at a time; S15: two pods of a name at a time; S19, S20: a container that ended though its pod is
/// still wanted and nobody else ended it.
pub fn judge(happened: &[Happened], wanted: &BTreeSet<String>) -> Vec<String> {
    let mut wrongs = Vec::new();
    let mut running: BTreeMap<&str, &Run> = BTreeMap::new();
    let mut meant = BTreeSet::new();
    for it in happened {
        match it {
            Happened::Started(run) => {
                wrongs.extend(running.values().filter_map(|other| clash(other, run)));
                running.insert(&run.id, run);
            }
            Happened::Ended(run) => {
                let ran = running.remove(run.id.as_str()).is_some();
                if ran && !meant.contains(&run.id) && wanted.contains(&run.uid) {
                    wrongs.push(format!("S19, S20: {run:?} ended, and its pod is wanted"));
                }
            }
            Happened::Meant { id } => drop(meant.insert(id.clone())),
            Happened::EngineStarted { node }
            | Happened::MachineLost { node }
            | Happened::NodeRemoved { node } => {
                running.retain(|_, run| run.node != *node);
            }
        }
    }
    wrongs
}

fn clash(other: &Run, run: &Run) -> Option<String> {
    let same_place = other.pod == run.pod && other.container == run.container;
    if !same_place || other.id == run.id {
        None
    } else if other.uid == run.uid {
        Some(format!("S17: {run:?} was started while {other:?} ran"))
    } else {
        Some(format!("S15: {run:?} was started while a pod of that name ran: {other:?}"))
    }
}

/// Finds what the audit log says was acknowledged to a user in the namespace `default` and is not there. `there` has
/// `resource/namespace/name`.
pub fn lost(audit_log: &str, there: &BTreeSet<String>) -> Vec<String> {
    let mut acknowledged = BTreeSet::new();
    for line in audit_log.lines() {
        let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        let done = entry["code"].as_u64().is_some_and(|code| (200..300).contains(&code));
        let by_user = !text("user").starts_with("system:node:");
        let kept = ["configmaps", "deployments"].contains(&text("resource"));
        let in_sight = text("namespace") == "default" && text("subresource").is_empty();
        if !done || !by_user || !kept || entry["dryRun"] == true || !in_sight {
            continue;
        }
        let place = format!("{}/{}/{}", text("resource"), text("namespace"), text("name"));
        match text("verb") {
            "create" | "patch" | "update" => drop(acknowledged.insert(place)),
            "delete" => drop(acknowledged.remove(&place)),
            _ => {}
        }
    }
    acknowledged
        .difference(there)
        .map(|it| format!("S2: {it} was acknowledged, and is not there"))
        .collect()
}

/// Creates config maps, one after the other, whatever happens meanwhile.
#[derive(Debug)]
pub struct Writer {
    stop: watch::Sender<bool>,
    task: JoinHandle<Vec<String>>,
}

impl Writer {
    /// Begins; the names begin with `prefix`.
    pub fn start(client: Client, prefix: &str) -> Self {
        let (stop, told) = watch::channel(false);
        let prefix = prefix.to_owned();
        let task = tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            let mut number = 0;
            while !*told.borrow() {
                let name = format!("{prefix}-{number}");
                number += 1;
                let object = json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": { "name": name, "namespace": "default" }, "data": { "is": "here" },
                });
                let written = client.create(
                    Kind::ConfigMap,
                    Some("default"),
                    &object,
                    WriteParams::default(),
                );
                match written.await {
                    Ok(_) => acknowledged.push(name),
                    // Not acknowledged: it may be there or not.
                    Err(_) => tokio::time::sleep(super::rig::POLL).await,
                }
            }
            acknowledged
        });
        Self { stop, task }
    }

    /// Ends, and checks that everything that was acknowledged is there. Returns how much that is.
    ///
    /// # Panics
    /// When something is lost.
    pub async fn assert_nothing_lost(self, client: &Client) -> usize {
        let _ = self.stop.send(true);
        let acknowledged = self.task.await.expect("no panic");
        for name in &acknowledged {
            let found = client.get(&Key::new(Kind::ConfigMap, "default", name)).await;
            assert!(found.is_ok(), "S2: {name} was acknowledged, and is not there: {found:?}");
        }
        acknowledged.len()
    }
}
