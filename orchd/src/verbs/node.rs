//! `orchd node`: the machines of a cluster: listed, closed to new pods, emptied, taken out.

use std::time::Duration;

use anyhow::{anyhow, bail};
use orchestrator_core::model::{Key, Kind};
use orchestrator_http::{ClientError, DeleteParams, Selector, WriteParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::get::{GetArgs, Output, get};
use super::session::{ClientArgs, Session};
use super::wait::{Outcome, Verdict, until};
use super::{duration, text_at};
use crate::arguments::{node_name, number};
use crate::out::{Stop, line, remark};

pub const EXAMPLES: &str = "\
Examples:
  orchd node list
  orchd node drain node-1        its pods move elsewhere; it gets no new ones
  orchd node uncordon node-1     it gets pods again
  orchd node remove node-1       it is out of the cluster; its agent must join anew";

/// How long to wait before an eviction is tried again that a disruption budget does not allow yet.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Subcommand)]
pub enum NodeVerb {
    /// List the nodes
    List {
        /// The form of the output: table, wide, json, yaml or name
        #[arg(short, long, value_enum, hide_possible_values = true, value_name = "FORM", default_value_t = Output::Table)]
        output: Output,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Give a node no new pods; those it has stay
    Cordon {
        /// The node
        #[arg(value_parser = node_name)]
        name: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Let a node have new pods again
    Uncordon {
        /// The node
        #[arg(value_parser = node_name)]
        name: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Give a node no new pods and move those it has elsewhere, as their disruption budgets allow
    Drain {
        /// The node
        #[arg(value_parser = node_name)]
        name: String,
        /// Evict pods too that nobody will make anew elsewhere
        #[arg(long)]
        force: bool,
        /// How many seconds each pod may take to end [default: the pod's own]
        #[arg(long, value_name = "SECONDS", value_parser = |text: &str| number(text, 0..=i64::MAX))]
        grace_period: Option<i64>,
        /// How long to wait at most, such as 90s [default: for ever]
        #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
        timeout: Option<Duration>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Take a node out of the cluster: its agent is refused from then on, and its pods are made anew elsewhere
    Remove {
        /// The node
        #[arg(value_parser = node_name)]
        name: String,
        /// Also one that still has pods
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// Does what is asked to a node.
pub async fn node(verb: NodeVerb) -> anyhow::Result<()> {
    match verb {
        NodeVerb::List { output, client } => get(GetArgs::all_of("nodes", output, client)).await,
        NodeVerb::Cordon { name, client } => {
            let session = Session::open(&client)?;
            cordon(&session, &name, true).await?;
            line(format_args!("node/{name} cordoned"))
        }
        NodeVerb::Uncordon { name, client } => {
            let session = Session::open(&client)?;
            cordon(&session, &name, false).await?;
            line(format_args!("node/{name} uncordoned"))
        }
        NodeVerb::Drain { name, force, grace_period, timeout, client } => {
            let session = Session::open(&client)?;
            let deadline = timeout.map(|timeout| Instant::now() + timeout);
            let drain = Drain { session, node: name, force, grace_period, deadline };
            drain.run().await
        }
        NodeVerb::Remove { name, force, client } => {
            remove(&Session::open(&client)?, &name, force).await
        }
    }
}

async fn cordon(session: &Session, node: &str, is_closed: bool) -> anyhow::Result<()> {
    let key = Key::node(node);
    let patch = json!({ "spec": { "unschedulable": is_closed } });
    let patched = session.client.merge(&key, &patch, WriteParams::default()).await;
    patched.map(drop).map_err(|error| session.explain(&key, error))
}

async fn remove(session: &Session, node: &str, force: bool) -> anyhow::Result<()> {
    let key = Key::node(node);
    session.client.get(&key).await.map_err(|error| session.explain(&key, error))?;
    let pods = pods_on(session, node).await?;
    if !pods.is_empty() && !force {
        bail!(
            "node {node:?} still has {} pods; `orchd node drain {node}` moves them elsewhere first, --force does without",
            pods.len()
        );
    }
    let deleted = session.client.delete(&key, &DeleteParams::default()).await;
    deleted.map_err(|error| session.explain(&key, error))?;
    line(format_args!("node/{node} removed"))
}

/// The pods of a node that have not ended.
async fn pods_on(session: &Session, node: &str) -> anyhow::Result<Vec<Value>> {
    let fields = format!("spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed");
    let selector = Selector { fields, ..Selector::default() };
    let mut list = session.client.list(Kind::Pod, None, &selector).await?;
    match list.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => Ok(items),
        _ => Ok(Vec::new()),
    }
}

fn key_of(pod: &Value) -> Key {
    Key::pod(text_at(pod, "/metadata/namespace"), text_at(pod, "/metadata/name"))
}

/// A node that is being emptied.
struct Drain {
    session: Session,
    node: String,
    force: bool,
    grace_period: Option<i64>,
    deadline: Option<Instant>,
}

impl Drain {
    async fn run(&self) -> anyhow::Result<()> {
        cordon(&self.session, &self.node, true).await?;
        line(format_args!("node/{} cordoned", self.node))?;
        let pods = pods_on(&self.session, &self.node).await?;
        let alone: Vec<String> = pods
            .iter()
            .filter(|pod| pod.pointer("/metadata/ownerReferences/0").is_none())
            .map(|pod| format!("{}/{}", key_of(pod).namespace, key_of(pod).name))
            .collect();
        if !alone.is_empty() && !self.force {
            bail!(
                "nobody makes these pods anew elsewhere: {}; --force evicts them too",
                alone.join(", ")
            );
        }
        for pod in &pods {
            self.evict(pod).await?;
        }
        for pod in &pods {
            self.until_gone(pod).await?;
        }
        line(format_args!("node/{} drained", self.node))
    }

    /// Evicts a pod, as soon as its disruption budget allows it.
    async fn evict(&self, pod: &Value) -> anyhow::Result<()> {
        let key = key_of(pod);
        let path = format!("/api/v1/namespaces/{}/pods/{}/eviction", key.namespace, key.name);
        let mut eviction = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": { "name": &*key.name, "namespace": &*key.namespace },
            "deleteOptions": { "preconditions": { "uid": text_at(pod, "/metadata/uid") } },
        });
        if let Some(seconds) = self.grace_period {
            eviction["deleteOptions"]["gracePeriodSeconds"] = seconds.into();
        }
        line(format_args!("evicting pod {}/{}", key.namespace, key.name))?;
        let mut told = false;
        loop {
            match self.session.client.post(&path, &eviction).await {
                Ok(_) => return Ok(()),
                // It is gone, or another one has its name.
                Err(ClientError::Refused { code: 404 | 409, .. }) => return Ok(()),
                Err(error @ ClientError::Refused { code: 429, .. }) => {
                    if !told {
                        remark(format_args!("waiting: {error}"));
                        told = true;
                    }
                    self.in_time(&key)?;
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn in_time(&self, pod: &Key) -> anyhow::Result<()> {
        match self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            true => Err(self.too_late(pod)),
            false => Ok(()),
        }
    }

    fn too_late(&self, pod: &Key) -> anyhow::Error {
        anyhow!(
            "pod {}/{} is still on node {:?} when the time is over; the node stays cordoned, drain it again or `orchd node uncordon {}`",
            pod.namespace,
            pod.name,
            self.node,
            self.node
        )
    }

    async fn until_gone(&self, pod: &Value) -> anyhow::Result<()> {
        let (key, uid) = (key_of(pod), text_at(pod, "/metadata/uid"));
        let outcome = until(&self.session, &key, self.deadline, |object| match object {
            Some(object) if text_at(object, "/metadata/uid") == uid => Verdict::NotYet,
            Some(_) | None => Verdict::Met,
        });
        match outcome.await? {
            Outcome::Met => Ok(()),
            Outcome::Hopeless => Err(Stop::Told.into()),
            Outcome::TimedOut(_) => Err(self.too_late(&key)),
        }
    }
}
