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

/// Finds containers that run of which the record does not know that they were started: then it is no witness of the others either.
pub fn unseen(happened: &[Happened], running: &BTreeSet<String>) -> Vec<String> {
    let started = happened.iter().filter_map(|it| match it {
        Happened::Started(run) => Some(&run.id),
        Happened::Ended(_)
        | Happened::Meant { .. }
        | Happened::EngineStarted { .. }
        | Happened::NodeRemoved { .. }
        | Happened::MachineLost { .. } => None,
    });
    let started: BTreeSet<_> = started.collect();
    let unseen = running.iter().filter(|id| !started.contains(id));
    unseen.map(|id| format!("the record has missed the start of {id}")).collect()
}

/// Finds what the audit log says was acknowledged to a user in the namespace `default` and is not there, or is another of that name.
/// `there` has the uid of each by `resource/namespace/name`.
pub fn lost(audit_log: &str, there: &BTreeMap<String, String>) -> Vec<String> {
    let mut acknowledged = BTreeMap::new();
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
            "create" | "patch" | "update" => {
                drop(acknowledged.insert(place, text("uid").to_owned()));
            }
            "delete" => drop(acknowledged.remove(&place)),
            _ => {}
        }
    }
    let wrong = |(place, uid): (String, String)| match there.get(&place) {
        None => Some(format!("S2: {place} was acknowledged, and is not there")),
        Some(found) if *found != uid => {
            Some(format!("S5: {place} was acknowledged as {uid:?}, and is now {found:?}"))
        }
        Some(_) => None,
    };
    acknowledged.into_iter().filter_map(wrong).collect()
}

/// Finds which objects do not hold the newest number that was acknowledged of them, or one that was written over it and of which the
/// answer was lost.
pub fn overwritten(
    acknowledged: &BTreeMap<String, u64>,
    there: &BTreeMap<String, u64>,
) -> Vec<String> {
    let wrong = |(name, number): (&String, &u64)| {
        let found = there.get(name);
        let is_kept = found.is_some_and(|found| found >= number);
        (!is_kept)
            .then(|| format!("S2: {number} was acknowledged of {name}, and there is {found:?}"))
    };
    acknowledged.iter().filter_map(wrong).collect()
}

/// How often a [`Writer`] writes an object: once to make it, and then to change it.
const WRITES_EACH: u64 = 2;

/// Creates config maps and changes them, one write after the other, whatever happens meanwhile.
#[derive(Debug)]
pub struct Writer {
    stop: watch::Sender<bool>,
    task: JoinHandle<BTreeMap<String, u64>>,
}

impl Writer {
    /// Begins; the names begin with `prefix`.
    pub fn start(client: Client, prefix: &str) -> Self {
        let (stop, told) = watch::channel(false);
        let prefix = prefix.to_owned();
        let task = tokio::spawn(async move {
            let mut acknowledged = BTreeMap::new();
            let mut number = 0;
            while !*told.borrow() {
                let name = format!("{prefix}-{}", number / WRITES_EACH);
                let object = json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": { "name": name, "namespace": "default" },
                    "data": { "number": number.to_string() },
                });
                let key = Key::new(Kind::ConfigMap, "default", &name);
                match client.apply(&key, &object, WriteParams::default()).await {
                    Ok(_) => drop(acknowledged.insert(name, number)),
                    // Not acknowledged: it may be done or not.
                    Err(_) => tokio::time::sleep(super::rig::POLL).await,
                }
                number += 1;
            }
            acknowledged
        });
        Self { stop, task }
    }

    /// Ends, and checks that everything that was acknowledged is there, or what was written over it. Returns how much that is.
    ///
    /// # Panics
    /// When something is lost.
    pub async fn assert_nothing_lost(self, client: &Client) -> usize {
        let _ = self.stop.send(true);
        let acknowledged = self.task.await.expect("no panic");
        let mut there = BTreeMap::new();
        for name in acknowledged.keys() {
            let found = client.get(&Key::new(Kind::ConfigMap, "default", name)).await;
            let number = found.as_ref().ok().and_then(|it| it["data"]["number"].as_str());
            let number = number.and_then(|text| text.parse().ok());
            there.extend(number.map(|number| (name.clone(), number)));
        }
        let wrongs = overwritten(&acknowledged, &there);
        assert!(wrongs.is_empty(), "{}", wrongs.join("\n"));
        acknowledged.len()
    }
}
