//! `ClusterRig`: a server and nodes on machines, for one scenario; judged at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use orchd_machines::Lan;
use orchestrator_core::model::{Key, Kind, Object, Pod};
use orchestrator_http::{Client, ClientError, DeleteParams, Selector, WriteParams};
use serde_json::{Value, json};

use super::keeper::Keeper;
use super::node::Node;
use super::oracle::{Writer, judge, lost, unseen};
use super::record::{Happened, Record};
use super::rest::{running_ids, told_of, unsettled};
use super::server::ServerMachine;
use super::stage::{Stage, Stages};
use super::wire::Way;
use crate::faults::Runs;
use crate::rig::poll;
use crate::workload::{container, sleepers};

/// How often polled conditions are looked at.
pub(super) const POLL: Duration = Duration::from_millis(20);
/// How many lines of each log are shown when a scenario fails.
const LOG_LINES: usize = 40;

/// A cluster on machines.
#[derive(Debug)]
pub struct ClusterRig {
    /// The server.
    pub server: ServerMachine,
    /// The nodes, by name.
    pub nodes: BTreeMap<String, Node>,
    /// A client of the server, with every right.
    pub client: Client,
    /// What happened so far.
    pub record: Record,
    /// What is being played, by which its progress is told.
    pub(super) scenario: String,
    lan: Lan,
}

/// A pod that runs: what must not change when nothing happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The pod's uid.
    pub uid: String,
    /// Its node.
    pub node: String,
    /// The id of its container.
    pub container: String,
}

impl ClusterRig {
    /// Runs a scenario on a new cluster with nodes of these names, in whose network the scenario is; then judges what was recorded.
    ///
    /// # Panics
    /// When the scenario fails, or the cluster did what no cluster may do.
    pub fn run(nodes: &[&str], scenario: impl AsyncFnOnce(&mut Self) + Send + 'static) {
        Stage::new(nodes).play(scenario);
    }

    /// As [`Self::run`], on a cluster of nodes `a`, `b` and `c` that other scenarios have before or after. A scenario leaves no
    /// machine off and no fault behind; its deployments and pods are deleted for it.
    ///
    /// # Panics
    /// As [`Self::run`].
    pub fn share(scenario: impl AsyncFnOnce(&mut Self) + Send + 'static) {
        Stages::play(scenario);
    }

    /// How often the scenario is to do its faults, with each run told as it begins when there are several.
    pub fn runs(&self) -> Runs {
        Runs::of(&self.scenario)
    }

    pub(super) async fn start(lan: Lan, names: &[&str]) -> Self {
        let server = ServerMachine::start(&lan, "server").await;
        let client = Client::from_kubeconfig(&server.kubeconfig()).expect("a kubeconfig");
        let record = Record::default();
        let (nodes, scenario) = (BTreeMap::new(), String::new());
        let mut rig = Self { server, nodes, client, record, scenario, lan };
        for name in names {
            rig.boot_node(name).await;
        }
        for name in names {
            rig.join(name).await;
        }
        rig
    }

    /// Boots one more machine with an engine, whose agent has not joined yet.
    pub async fn boot_node(&mut self, name: &str) -> &mut Node {
        let node = Node::start(&self.lan, name, &self.record).await;
        self.nodes.insert(name.to_owned(), node);
        self.node(name)
    }

    /// Has a node join.
    pub async fn join(&mut self, name: &str) {
        let (url, token) = (self.server.url(), self.token(&[]).await);
        self.node(name).join(&url, &token).await;
    }

    /// Takes a node out of the cluster.
    pub async fn remove_node(&self, name: &str) {
        self.record.note(Happened::NodeRemoved { node: name.to_owned() });
        let key = Key::cluster(Kind::Node, name);
        self.client.delete(&key, &DeleteParams::default()).await.expect("removed");
    }

    /// Makes a token to join with.
    pub async fn token(&self, options: &[&str]) -> String {
        self.server.orchd(&[&["token", "create"], options].concat()).await
    }

    /// Boots a machine with a server of another cluster.
    pub async fn boot_stranger(&self, name: &str) -> ServerMachine {
        ServerMachine::start(&self.lan, name).await
    }

    /// A node.
    ///
    /// # Panics
    /// When there is none of the name.
    pub fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).expect("a node of the scenario")
    }

    /// Applies a deployment of pods that run until they are told to end.
    pub async fn deploy(&self, name: &str, version: &str, replicas: i32) {
        let mut deployment = sleepers(name, version, replicas);
        deployment.metadata.namespace = "default".to_owned();
        let key = Key::new(Kind::Deployment, "default", name);
        let manifest = Object::from(deployment).to_value();
        self.client.apply(&key, &manifest, WriteParams::default()).await.expect("applied");
    }

    /// Deploys, and waits until so many pods run.
    pub async fn deployed(&self, name: &str, replicas: i32) -> BTreeMap<String, Running> {
        self.deploy(name, "1", replicas).await;
        let expected = usize::try_from(replicas).unwrap_or_default();
        self.until(&format!("{replicas} pods run"), |pods| pods.len() == expected).await
    }

    /// Waits until a deployment has rolled to a version; returns its pods.
    pub async fn rolled_out(
        &self,
        name: &str,
        version: &str,
        replicas: i32,
    ) -> BTreeMap<String, Running> {
        let expected = usize::try_from(replicas).unwrap_or_default();
        poll(&format!("{name} is at version {version}"), || async {
            let pods: Vec<_> =
                self.try_pods().await?.into_iter().filter(|it| is_of(it, name)).collect();
            let new = pods.iter().filter(|pod| version_of(pod) == version).count();
            let found = running(&pods);
            let rolled = new == expected && pods.len() == expected && found.len() == expected;
            if rolled { Ok(found) } else { Err(told(&pods)) }
        })
        .await
    }

    /// Waits until something is true of the pods of a version that run.
    pub async fn until_of_version(&self, version: &str, is_true: impl Fn(&Vec<String>) -> bool) {
        let is_true = &is_true;
        poll(&format!("some of version {version}"), || async move {
            let pods = self.try_pods().await?;
            let new = pods.iter().filter(|pod| version_of(pod) == version && pod.is_ready());
            let new: Vec<_> = new.map(|pod| pod.metadata.name.clone()).collect();
            if is_true(&new) { Ok(()) } else { Err(told(&pods)) }
        })
        .await;
    }

    /// Deletes a deployment, and waits until its pods are gone.
    pub async fn remove(&self, name: &str) {
        let key = Key::new(Kind::Deployment, "default", name);
        self.client.delete(&key, &DeleteParams::default()).await.expect("deleted");
        poll(&format!("no pods of {name} are left"), || async {
            let pods: Vec<_> =
                self.try_pods().await?.into_iter().filter(|it| is_of(it, name)).collect();
            if pods.is_empty() { Ok(()) } else { Err(told(&pods)) }
        })
        .await;
    }

    /// Creates a pod that nobody manages, bound to a node; it is given up as soon as those of deployments.
    pub async fn create_pod(&self, name: &str, node: &str) {
        self.try_create_pod(name, node).await.expect("created");
    }

    /// As [`Self::create_pod`]; refused when there is one of that name.
    ///
    /// # Errors
    /// What the server says.
    pub async fn try_create_pod(&self, name: &str, node: &str) -> Result<(), ClientError> {
        let mut pod = bare_pod(name);
        pod["spec"]["nodeName"] = node.into();
        let params = WriteParams::default();
        self.client.create(Kind::Pod, Some("default"), &pod, params).await.map(drop)
    }

    /// Begins to want a pod of a name, wherever it is, and whoever has the name.
    pub fn keeper(&self, name: &str) -> Keeper {
        Keeper::start(self.client.clone(), bare_pod(name))
    }

    /// Waits until a pod is marked for deletion.
    pub async fn until_leaving(&self, name: &str) {
        poll(&format!("{name} is to go"), || async {
            let pods = self.try_pods().await?;
            let leaving = |pod: &Pod| pod.metadata.name == name && pod.metadata.is_deleting();
            if pods.iter().any(leaving) { Ok(()) } else { Err(told(&pods)) }
        })
        .await;
    }

    /// Deletes a pod, and waits until it is gone.
    pub async fn remove_pod(&self, name: &str) {
        let key = Key::new(Kind::Pod, "default", name);
        self.client.delete(&key, &DeleteParams::default()).await.expect("deleted");
        poll(&format!("{name} is gone"), || async {
            let pods = self.try_pods().await?;
            let is_there = pods.iter().any(|pod| pod.metadata.name == name);
            if is_there { Err(told(&pods)) } else { Ok(()) }
        })
        .await;
    }

    /// Every pod of the namespace `default`.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn pods(&self) -> Vec<Pod> {
        self.try_pods().await.expect("listed")
    }

    async fn try_pods(&self) -> Result<Vec<Pod>, String> {
        let list = self.list(Kind::Pod).await?;
        list.into_iter()
            .map(|pod| serde_json::from_value(pod).map_err(|it| it.to_string()))
            .collect()
    }

    async fn list(&self, kind: Kind) -> Result<Vec<Value>, String> {
        let list = self.client.list(kind, Some("default"), &Selector::default()).await;
        let list = list.map_err(|error| error.to_string())?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// The pods that are Ready and not about to go, by name, as the server tells.
    pub async fn running(&self) -> BTreeMap<String, Running> {
        running(&self.pods().await)
    }

    /// Waits until something is true of the pods that run; returns them.
    ///
    /// # Panics
    /// When it does not become true in time.
    pub async fn until(
        &self,
        what: &str,
        is_true: impl Fn(&BTreeMap<String, Running>) -> bool,
    ) -> BTreeMap<String, Running> {
        let is_true = &is_true;
        poll(what, || async move {
            let pods = self.try_pods().await?;
            let found = running(&pods);
            if is_true(&found) { Ok(found) } else { Err(told(&pods)) }
        })
        .await
    }

    /// Waits until the server says of a node that it is Ready, or that it is not.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn until_ready(&self, name: &str, ready: bool) {
        let key = Key::cluster(Kind::Node, name);
        let key = &key;
        poll(&format!("{name} is ready: {ready}"), || async move {
            let node = self.client.get(key).await.map_err(|error| error.to_string())?;
            let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let is = conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True");
            if is == ready { Ok(()) } else { Err(node["status"]["conditions"].to_string()) }
        })
        .await;
    }

    /// Waits until the server has heard of a node since it started: until then it knows no usage of it.
    pub async fn until_heard(&self, name: &str) {
        let path = format!("/apis/metrics.k8s.io/v1beta1/nodes/{name}");
        poll(&format!("{name} is heard of"), || self.client.raw(&path)).await;
    }

    /// Cuts a node and its pods off from another and its, in some ways, as the first one sees it.
    pub async fn cut_between(&self, one: &str, ways: &[Way], other: &str) {
        let pods = self.node_value(other).await["spec"]["podCIDR"].take();
        let pods = pods.as_str().expect("every node has one").to_owned();
        let machine = self.nodes[other].machine.address().to_string();
        for way in ways {
            self.nodes[one].cut_from(*way, &machine);
            self.nodes[one].cut_from(*way, &pods);
        }
    }

    /// Cuts a node off from the server.
    pub fn cut_from_server(&self, name: &str) {
        let server = self.server.machine.address().to_string();
        for way in [Way::In, Way::Out] {
            self.nodes[name].cut_from(way, &server);
        }
    }

    /// The boot id that a node tells.
    pub async fn boot_id(&self, name: &str) -> String {
        let id = self.node_value(name).await["status"]["nodeInfo"]["bootID"].take();
        id.as_str().expect("every node tells it").to_owned()
    }

    async fn node_value(&self, name: &str) -> Value {
        self.client.get(&Key::cluster(Kind::Node, name)).await.expect("a node")
    }

    /// Waits until a judgement of what was recorded so far finds something, and returns that.
    pub async fn until_recorded(&self, judge: impl Fn(&[Happened]) -> Vec<String>) -> Vec<String> {
        let judge = &judge;
        poll("something is found", || async move {
            let found = judge(&self.record.entries());
            if found.is_empty() { Err(()) } else { Ok(found) }
        })
        .await
    }

    /// Waits until every engine that runs has the containers of the pods bound to its node, running, and no others (S18).
    ///
    /// # Panics
    /// When that does not come about in time.
    pub async fn settle(&self) {
        poll("engines have what is wanted, and nothing else", || async {
            let pods = self.try_pods().await?;
            let wrongs = unsettled(&pods, &self.engines().await);
            if wrongs.is_empty() { Ok(()) } else { Err(wrongs.join("\n")) }
        })
        .await;
    }

    /// What every engine that runs lists, by node.
    async fn engines(&self) -> BTreeMap<String, Vec<Value>> {
        let mut engines = BTreeMap::new();
        for node in self.nodes.values().filter(|node| node.has_engine()) {
            engines.insert(node.name().to_owned(), node.containers().await);
        }
        engines
    }

    /// Begins to write config maps.
    pub fn writer(&self, prefix: &str) -> Writer {
        Writer::start(self.client.clone(), prefix)
    }

    /// Deletes what a scenario has deployed, for the next one.
    pub(super) async fn clear(&mut self) {
        for node in self.nodes.values() {
            node.proxy().calm();
            node.heal();
        }
        for kind in [Kind::Deployment, Kind::Pod] {
            for object in self.list(kind).await.expect("listed") {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let key = Key::new(kind, "default", name);
                let deleted = self.client.delete(&key, &DeleteParams::default()).await;
                assert!(deleted.is_ok() || kind == Kind::Pod, "{name}: {deleted:?}");
            }
        }
        self.until_gone().await;
        self.settle().await;
        for name in self.nodes.keys() {
            self.until_ready(name, true).await;
        }
    }

    async fn until_gone(&self) {
        poll("no pods are left", || async {
            let pods = self.try_pods().await?;
            if pods.is_empty() { Ok(()) } else { Err(told(&pods)) }
        })
        .await;
    }

    /// Settles, and judges what was recorded.
    pub(super) async fn judge(&self) {
        self.settle().await;
        let pods = self.pods().await;
        let wanted = pods.iter().filter(|pod| !pod.metadata.is_deleting());
        let wanted: BTreeSet<_> = wanted.map(|pod| pod.metadata.uid.to_string()).collect();
        let mut wrongs = judge(&self.record.entries(), &wanted);
        let engines = self.engines().await;
        let running = engines.values().flat_map(|list| running_ids(list)).collect();
        wrongs.extend(unseen(&self.record.entries(), &running));
        let mut there = BTreeMap::new();
        for (kind, resource) in [(Kind::ConfigMap, "configmaps"), (Kind::Deployment, "deployments")]
        {
            for object in self.list(kind).await.expect("listed") {
                let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
                let place = format!("{resource}/default/{}", text("name"));
                there.insert(place, text("uid").to_owned());
            }
        }
        let audit_log = std::fs::read_to_string(self.server.data_dir().join("audit.log"));
        wrongs.extend(lost(&audit_log.expect("an audit log"), &there));
        assert!(wrongs.is_empty(), "the oracle found:\n{}", wrongs.join("\n"));
    }

    /// The ends of all logs, for somebody who wonders why a scenario failed.
    pub(super) fn logs(&self) -> String {
        let nodes = self.nodes.values().map(|node| node.machine.dir());
        let dirs = std::iter::once(self.server.machine.dir()).chain(nodes);
        let files = dirs.flat_map(|dir| ["server.log", "agent.log"].map(|file| dir.join(file)));
        let tail = |path: std::path::PathBuf| {
            let text = std::fs::read_to_string(&path).ok()?;
            let lines: Vec<_> = text.lines().collect();
            let last = lines.len().saturating_sub(LOG_LINES);
            Some(format!("--- {}\n{}\n", path.display(), lines[last..].join("\n")))
        };
        files.filter_map(tail).collect()
    }
}

/// A pod that nobody manages, and that is given up as soon as those of deployments.
fn bare_pod(name: &str) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "terminationGracePeriodSeconds": 5 },
    });
    pod["spec"]["containers"] = json!([container("bare")]);
    pod["spec"]["tolerations"] = ["not-ready", "unreachable"]
        .map(|it| {
            json!({
                "key": format!("node.kubernetes.io/{it}"), "operator": "Exists",
                "effect": "NoExecute", "tolerationSeconds": 2,
            })
        })
        .to_vec()
        .into();
    pod
}

fn running(pods: &[Pod]) -> BTreeMap<String, Running> {
    let pods = pods.iter().filter(|pod| pod.is_active() && pod.is_ready());
    pods.map(|pod| {
        let status = pod.status.container_statuses.first();
        let running = Running {
            uid: pod.metadata.uid.to_string(),
            node: pod.node_name.clone(),
            container: status.map(|it| it.container_id.clone()).unwrap_or_default(),
        };
        (pod.metadata.name.clone(), running)
    })
    .collect()
}

fn is_of(pod: &Pod, deployment: &str) -> bool {
    pod.metadata.labels.values().any(|value| value == deployment)
}

fn version_of(pod: &Pod) -> &str {
    let env = pod.spec.containers.first().and_then(|container| container.env.first());
    env.map(|it| it.value.as_str()).unwrap_or_default()
}

fn told(pods: &[Pod]) -> String {
    pods.iter().map(told_of).collect::<Vec<_>>().join("\n")
}
