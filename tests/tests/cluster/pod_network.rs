//! Pods of different machines reach each other.

use std::process::Command;

use orchestrator_core::model::{
    Key, Kind, Object, Pod, Resource as _, Toleration, TolerationOperator,
};
use orchestrator_core::runtime::{Runtime as _, Scope};
use orchestrator_http::WriteParams;
use orchestrator_tests::cluster::ClusterRig;
use orchestrator_tests::rig::{cluster_id, poll};
use orchestrator_tests::workload::container;

use super::runs;

const NODES: [&str; 3] = ["a", "b", "c"];
const PORT: u16 = 8080;
/// How long a page or an answer of the engine may take.
const FETCH_MS_MAX: u64 = 10_000;

#[test]
fn a_page_of_a_pod_is_fetched_from_pods_on_every_other_node_before_and_after_a_reboot() {
    ClusterRig::run(&NODES, async |rig| {
        put_pages(rig).await;
        everyone_reads_everyone(rig).await;
        for _ in 0..runs() {
            rig.node("b").switch_off();
            rig.node("b").switch_on().await;
            everyone_reads_everyone(rig).await;
        }
    });
}

#[test]
fn f45_a_network_that_others_flush_is_put_back() {
    ClusterRig::run(&["a", "b"], async |rig| {
        put_pages(rig).await;
        everyone_reads_everyone(rig).await;
        let before = kept(rig);
        for _ in 0..runs() {
            for harm in ["iptables -F DOCKER-USER", "ip route flush proto 111", "nft flush ruleset"]
            {
                run(rig, harm);
                assert_ne!(kept(rig), before, "{harm} is a harm");
                poll(&format!("it is put back after {harm}"), || async {
                    let now = kept(rig);
                    // The engine's own tables are its own to put back.
                    let is_back = before.iter().all(|line| {
                        now.contains(line) || (harm.starts_with("nft") && line.starts_with("-A"))
                    });
                    if is_back { Ok(()) } else { Err(now) }
                })
                .await;
                everyone_reads_everyone(rig).await;
            }
        }
    });
}

/// What the agent of `a` keeps in its machine's kernel, as other programs tell it.
fn kept(rig: &ClusterRig) -> Vec<String> {
    let routes = run(rig, "ip route show proto 111");
    let tables = run(rig, "nft list tables ip");
    let tables = tables.lines().filter(|line| line.contains("orchestrator-"));
    let rules = run(rig, "iptables-save -t filter");
    let rules = rules.lines().filter(|line| line.starts_with("-A DOCKER-USER -s"));
    routes.lines().chain(tables).chain(rules).map(|line| line.trim().to_owned()).collect()
}

fn run(rig: &ClusterRig, line: &str) -> String {
    let words: Vec<_> = line.split(' ').collect();
    let machine = &rig.nodes["a"].machine;
    machine.run(Command::new(words[0]).args(&words[1..])).expect("done")
}

/// Puts a pod on each node that serves the node's name, and outlives the node's silence.
async fn put_pages(rig: &ClusterRig) {
    for node in rig.nodes.keys() {
        let serve = format!("echo {node} >/index.html; exec httpd -f -p {PORT} -h /");
        let container = container("1").command(["/bin/sh", "-c", &serve]);
        let mut pod = Pod::new(&format!("page-{node}"), "");
        pod.node_name = node.clone();
        pod.metadata.namespace = "default".to_owned();
        let spec = std::sync::Arc::make_mut(&mut pod.spec);
        spec.containers = vec![container];
        spec.termination_grace_period_seconds = Some(1);
        let operator = Some(TolerationOperator::Exists);
        spec.tolerations = vec![Toleration { operator, ..Toleration::default() }];
        let (key, manifest) = (pod.key(), Object::from(pod).to_value());
        rig.client.apply(&key, &manifest, WriteParams::default()).await.expect("applied");
    }
}

/// Waits until each pod gets the page of each other one by its address.
async fn everyone_reads_everyone(rig: &ClusterRig) {
    let system = rig.client.get(&Key::cluster(Kind::Namespace, "kube-system")).await;
    let system = system.expect("every cluster has it");
    let cluster = cluster_id(system["metadata"]["uid"].as_str().expect("a uid"));
    let cluster = &cluster;
    poll("every page is read from every pod", || async move {
        let pods = rig.pods().await;
        for (reader, node) in &rig.nodes {
            let docker = node.engine().connect().await;
            let scope = Scope { cluster: cluster.clone(), node: reader.clone() };
            let sandboxes = docker.list(&scope).await.map_err(|error| error.to_string())?;
            let ready = sandboxes.iter().filter(|sandbox| sandbox.ready);
            let main = ready.flat_map(|sandbox| &sandbox.containers).next_back();
            let main = main.ok_or_else(|| format!("{reader} has no container yet"))?;
            for other in pods.iter().filter(|pod| pod.node_name != *reader) {
                let address = &other.status.pod_ip;
                let get = format!("echo 'GET / HTTP/1.0\n' | nc -w 3 {address} {PORT}");
                let get = ["sh", "-c", &get].map(str::to_owned);
                let fetched = docker.exec(&main.key, &get, FETCH_MS_MAX).await;
                let fetched = fetched.map_err(|error| error.to_string())?;
                let page = fetched.output.lines().last().unwrap_or_default();
                if page != other.node_name {
                    let served = &other.node_name;
                    return Err(format!("{reader} got from {served} at {address}: {fetched:?}"));
                }
            }
        }
        Ok(())
    })
    .await;
}
