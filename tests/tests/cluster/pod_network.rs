//! Pods of different machines reach each other.

use std::collections::BTreeMap;
use std::process::Command;

use orchestrator_core::model::{
    ClusterNetwork, Key, Kind, Object, POD_CIDR_DEFAULT, Pod, Resource as _, Toleration,
    TolerationOperator,
};
use orchestrator_core::runtime::{Runtime as _, Scope};
use orchestrator_http::{DeleteParams, WriteParams};
use orchestrator_tests::cluster::{Capture, ClusterRig, Way};
use orchestrator_tests::rig::{cluster_id, poll};
use orchestrator_tests::workload::container;

const NODES: [&str; 3] = ["a", "b", "c"];
const PORT: u16 = 8080;
/// How often pods come and go.
const CYCLES: u32 = 3;
/// What every page has in it.
const CANARY: &str = "canary-5e1f0a77";
/// How long a page or an answer of the engine may take.
const FETCH_MS_MAX: u64 = 10_000;

#[test]
fn a_page_of_a_pod_is_fetched_from_pods_on_every_other_node_before_and_after_a_reboot() {
    ClusterRig::run(&NODES, async |rig| {
        for _ in rig.runs() {
            put_pages(rig).await;
            everyone_reads_everyone(rig).await;
            rig.node("b").switch_off();
            rig.node("b").switch_on().await;
            everyone_reads_everyone(rig).await;
            // A container that ended again and again would be started later and later.
            rig.remove_pod("page-b").await;
        }
    });
}

#[test]
fn f30_pods_of_nodes_that_do_not_reach_each_other_meet_again_and_all_else_goes_on() {
    ClusterRig::run(&NODES, async |rig| {
        put_pages(rig).await;
        everyone_reads_everyone(rig).await;
        let before = rig.running().await;
        for _ in rig.runs() {
            for ways in [&[Way::In, Way::Out][..], &[Way::In], &[Way::Out]] {
                rig.cut_between("a", ways, "b").await;
                until_apart(rig, &[("a", "b"), ("b", "a")]).await;
                for name in NODES {
                    rig.until_ready(name, true).await;
                }
                assert_eq!(rig.running().await, before, "nothing was started anew");
                rig.node("a").heal();
                everyone_reads_everyone(rig).await;
            }
            // Of the server only: pods go on serving each other, also when nobody hears of their nodes.
            NODES.iter().for_each(|name| rig.cut_from_server(name));
            for name in NODES {
                rig.until_ready(name, false).await;
            }
            everyone_reads_everyone(rig).await;
            for node in rig.nodes.values() {
                node.heal();
            }
            for name in NODES {
                rig.until_ready(name, true).await;
            }
            everyone_reads_everyone(rig).await;
            rig.until("nothing was started anew", |pods| *pods == before).await;
        }
    });
}

#[test]
fn f45_a_network_that_others_flush_is_put_back() {
    ClusterRig::run(&["a", "b"], async |rig| {
        put_pages(rig).await;
        everyone_reads_everyone(rig).await;
        let (before, addresses) = (kept(rig), addresses(rig).await);
        let wire = wires(rig).into_iter().next().expect("the pod is tied by the agent");
        let wire = wire.split(' ').next().expect("a name").to_owned();
        for _ in rig.runs() {
            for harm in [
                "iptables -F DOCKER-USER",
                "ip route flush proto 111",
                &format!("ip link set {wire} nomaster"),
                &format!("ip link del {wire}"),
            ] {
                is_put_back(rig, harm, &before).await;
            }
            let bridges = run(rig, "ip -o link show type bridge");
            let bridge = bridges.split([' ', ':']).find(|word| word.starts_with("orcb"));
            run(rig, &format!("ip link del {}", bridge.expect("the node's")));
            everyone_reads_everyone(rig).await;
            rig.node("a").kill_agent();
            run(rig, &format!("ip link del {wire}"));
            rig.node("a").start_agent().await;
            everyone_reads_everyone(rig).await;
        }
        // The engine's own tables are its own to put back, so this comes last.
        let ours: Vec<_> = before.into_iter().filter(|line| !line.starts_with("-A")).collect();
        is_put_back(rig, "nft flush ruleset", &ours).await;
        assert_eq!(self::addresses(rig).await, addresses, "pods keep their addresses");
    });
}

#[test]
fn what_passes_between_pods_is_encrypted_when_asked_for_and_otherwise_does_not_pass() {
    ClusterRig::run(&["a", "b"], async |rig| {
        put_pages(rig).await;
        everyone_reads_everyone(rig).await;
        let capture = Capture::of(&[CANARY]);
        everyone_reads_everyone(rig).await;
        assert_ne!(capture.stop(), [0], "who reads along can read");

        let range = POD_CIDR_DEFAULT.parse().expect("a range");
        let setting = Object::from(ClusterNetwork { encrypted: true, range }.to_config_map());
        let key = ClusterNetwork::key();
        let written = rig.client.apply(&key, &setting.to_value(), WriteParams::default()).await;
        written.expect("a setting");
        poll("every node lets nothing pass in clear", || async {
            let tables = rig.nodes.values().map(|node| {
                node.machine.run(Command::new("nft").args(["list", "ruleset"])).expect("listed")
            });
            let is_closed =
                |rules: &String| rules.contains("clear-out") && rules.contains("clear-in");
            let open: Vec<_> = tables.filter(|rules| !is_closed(rules)).collect();
            if open.is_empty() { Ok(()) } else { Err(open) }
        })
        .await;
        let capture = Capture::of(&[CANARY]);
        everyone_reads_everyone(rig).await;

        // Fails closed: without WireGuard, which ends with the agent unless it is the kernel's, routes lead nowhere else.
        rig.node("a").kill_agent();
        if let Some(device) = wireguard(rig) {
            run(rig, &format!("ip link del {device}"));
        }
        let pods = rig.pods().await;
        for (reader, served) in [("a", "b"), ("b", "a")] {
            let pod = pods.iter().find(|pod| pod.node_name == served).expect("there");
            let page = read(rig, reader, &pod.status.pod_ip).await.expect("it runs");
            assert!(!page.contains(CANARY), "{reader}: {page}");
        }
        is_ready_only_when_nothing_would_go_another_way(rig).await;
        everyone_reads_everyone(rig).await;
        let device = wireguard(rig).expect("it is back");
        run(rig, &format!("ip link del {device}"));
        everyone_reads_everyone(rig).await;
        assert_eq!(capture.stop(), [0], "nothing of a page was on the line");
    });
}

#[test]
fn l12_pods_that_come_and_go_leave_no_device_address_route_or_rule() {
    ClusterRig::run(&["a"], async |rig| {
        rig.create_pod("stays", "a").await;
        rig.until("it runs", |pods| pods.len() == 1).await;
        let before = everything(rig);
        for cycle in 0..CYCLES {
            let names = [0, 1, 2, 3].map(|number| format!("comes-{cycle}-{number}"));
            for name in &names {
                rig.create_pod(name, "a").await;
            }
            rig.until("all run", |pods| pods.len() == 1 + names.len()).await;
            assert_ne!(everything(rig), before, "pods show");
            for name in &names {
                let key = Key::new(Kind::Pod, "default", name);
                rig.client.delete(&key, &DeleteParams::default()).await.expect("deleted");
            }
            rig.until("one is left", |pods| pods.len() == 1).await;
        }
        poll("nothing is left of the others", || async {
            let now = everything(rig);
            let lacks = |one: &[String], other: &[String]| -> Vec<String> {
                one.iter().filter(|line| !other.contains(line)).cloned().collect()
            };
            let difference = (lacks(&now, &before), lacks(&before, &now));
            if now == before { Ok(()) } else { Err(difference) }
        })
        .await;
    });
}

/// Starts the agent of `a`, which was killed, while a route of somebody else leads what is for pods of `b` away from WireGuard.
async fn is_ready_only_when_nothing_would_go_another_way(rig: &mut ClusterRig) {
    until_ready_is(rig, "a", false).await;
    let node = rig.client.get(&Key::cluster(Kind::Node, "b")).await.expect("it has joined");
    let slice = node["spec"]["podCIDR"].as_str().expect("a slice").to_owned();
    let (first, to) = (slice.trim_end_matches("/24"), rig.nodes["b"].machine.address());
    run(rig, &format!("ip route add {first}/25 via {to}"));
    rig.node("a").launch_agent();
    until_ready_is(rig, "a", true).await;
    let dir = rig.nodes["a"].machine.dir().to_owned();
    let said = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap_or_default();
    poll("it says what is wrong", || async {
        let log = said("agent.log");
        if log.contains("and so is dropped") { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(said("agent.out"), "", "it is not ready");
    run(rig, &format!("ip route del {first}/25 via {to}"));
    poll("the agent is ready", || async {
        let out = said("agent.out");
        if out.starts_with("ready ") { Ok(()) } else { Err(out) }
    })
    .await;
}

/// Waits until the server has it that a node is ready, or is not.
async fn until_ready_is(rig: &ClusterRig, node: &str, wanted: bool) {
    poll(&format!("{node} is ready: {wanted}"), || async {
        let node = rig.client.get(&Key::cluster(Kind::Node, node)).await.expect("it has joined");
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
        let is_ready = ready.is_some_and(|condition| condition["status"] == "True");
        if is_ready == wanted { Ok(()) } else { Err(conditions) }
    })
    .await;
}

/// The device of machine `a` for WireGuard, if there is one.
fn wireguard(rig: &ClusterRig) -> Option<String> {
    let links = run(rig, "ip -o link");
    let mut words = links.split([' ', ':']);
    words.find(|word| word.starts_with("orcw")).map(str::to_owned)
}

/// All that the network of machine `a` is made of, but for counters, and for states that the kernel tells a moment late.
fn everything(rig: &ClusterRig) -> Vec<String> {
    let briefly = |line: &str| {
        let told = run(rig, line);
        let without_state = |line: &str| {
            let words = line.split_whitespace().enumerate();
            words.filter(|(at, _)| *at != 1).map(|(_, word)| word).collect::<Vec<_>>().join(" ")
        };
        told.lines().map(without_state).collect::<Vec<_>>()
    };
    let devices = ["ip -br link", "ip -br -4 address"].into_iter().flat_map(briefly);
    let told = ["ip route", "iptables-save", "nft list tables"].map(|line| run(rig, line));
    let lines = told.iter().flat_map(|told| told.lines());
    let lines = lines.filter(|line| !line.starts_with(['#', ':']));
    devices.chain(lines.map(|line| line.replace(" linkdown", ""))).collect()
}

/// Does harm on `a`, and waits until what was there before is there again.
async fn is_put_back(rig: &ClusterRig, harm: &str, before: &[String]) {
    let missing = || {
        let now = kept(rig);
        before.iter().filter(|line| !now.contains(line)).cloned().collect::<Vec<_>>()
    };
    // Whoever puts it back does not get to it before it is seen.
    rig.nodes["a"].pause_agent();
    run(rig, harm);
    let harmed = missing();
    rig.nodes["a"].resume_agent();
    assert_ne!(harmed, [""; 0], "{harm} is a harm");
    poll(&format!("it is put back after {harm}"), || async {
        let missing = missing();
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    })
    .await;
    everyone_reads_everyone(rig).await;
}

/// The addresses of pods, by the pods' uids.
async fn addresses(rig: &ClusterRig) -> BTreeMap<String, String> {
    let pods = rig.pods().await;
    pods.iter().map(|pod| (pod.metadata.uid.to_string(), pod.status.pod_ip.clone())).collect()
}

/// The ends of pods' wires on `a`, and the bridges that they are on.
fn wires(rig: &ClusterRig) -> Vec<String> {
    let links = run(rig, "ip -o link show type veth");
    let wire = |line: &str| {
        let words: Vec<_> = line.split([' ', ':', '@']).filter(|word| !word.is_empty()).collect();
        let name = words.iter().find(|word| word.starts_with("orcp"))?;
        let bridge = words.iter().skip_while(|word| **word != "master").nth(1).unwrap_or(&"none");
        Some(format!("{name} on {bridge}"))
    };
    links.lines().filter_map(wire).collect()
}

/// What the agent of `a` keeps in its machine's kernel, as other programs tell it.
fn kept(rig: &ClusterRig) -> Vec<String> {
    let routes = run(rig, "ip route show proto 111");
    let tables = run(rig, "nft list tables ip") + &run(rig, "nft list tables netdev");
    let tables = tables.lines().filter(|line| line.contains("orchestrator-"));
    let rules = run(rig, "iptables-save -t filter");
    let rules = rules
        .lines()
        .filter(|line| line.starts_with("-A DOCKER-USER -") && line.contains("10.64."));
    let lines = routes.lines().chain(tables).chain(rules);
    lines.map(|line| line.trim().to_owned()).chain(wires(rig)).collect()
}

fn run(rig: &ClusterRig, line: &str) -> String {
    let words: Vec<_> = line.split(' ').collect();
    let machine = &rig.nodes["a"].machine;
    machine.run(Command::new(words[0]).args(&words[1..])).expect("done")
}

/// Puts a pod on each node that serves the node's name, and outlives the node's silence.
async fn put_pages(rig: &ClusterRig) {
    for node in rig.nodes.keys() {
        let page = page_of(node);
        let serve = format!("echo {page} >/index.html; exec httpd -f -p {PORT} -h /");
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
    poll("every page is read from every pod", || async {
        for pod in rig.pods().await {
            for reader in rig.nodes.keys().filter(|reader| **reader != pod.node_name) {
                let (served, address) = (&pod.node_name, &pod.status.pod_ip);
                let page = read(rig, reader, address).await?;
                if page != page_of(served) {
                    return Err(format!("{reader} got from {served} at {address}: {page:?}"));
                }
            }
        }
        Ok(())
    })
    .await;
}

/// Waits until some do not get the pages of others, while everybody else reads everybody.
async fn until_apart(rig: &ClusterRig, apart: &[(&str, &str)]) {
    poll("some are apart, and nobody else", || async {
        for pod in rig.pods().await {
            for reader in rig.nodes.keys().filter(|reader| **reader != pod.node_name) {
                let served = &*pod.node_name;
                let page = read(rig, reader, &pod.status.pod_ip).await?;
                let is_read = page == page_of(served);
                if is_read == apart.contains(&(&**reader, served)) {
                    return Err(format!("{reader} got from {served}: {page:?}"));
                }
            }
        }
        Ok(())
    })
    .await;
}

/// The page at an address, as the pod on a node gets it; empty when it gets none.
async fn read(rig: &ClusterRig, reader: &str, address: &str) -> Result<String, String> {
    let docker = rig.nodes[reader].engine().connect().await;
    let scope = Scope { cluster: scope_of(rig).await, node: reader.to_owned() };
    let sandboxes = docker.list(&scope).await.map_err(|error| error.to_string())?;
    let ready = sandboxes.iter().filter(|sandbox| sandbox.ready);
    let main = ready.flat_map(|sandbox| &sandbox.containers).next_back();
    let main = main.ok_or_else(|| format!("{reader} has no container yet"))?;
    let get = format!("echo 'GET / HTTP/1.0\n' | nc -w 3 {address} {PORT}");
    let get = ["sh", "-c", &get].map(str::to_owned);
    let fetched = docker.exec(&main.key, &get, FETCH_MS_MAX).await;
    let fetched = fetched.map_err(|error| error.to_string())?;
    Ok(fetched.output.lines().last().unwrap_or_default().to_owned())
}

async fn scope_of(rig: &ClusterRig) -> String {
    let system = rig.client.get(&Key::cluster(Kind::Namespace, "kube-system")).await;
    let system = system.expect("every cluster has it");
    cluster_id(system["metadata"]["uid"].as_str().expect("a uid"))
}

fn page_of(node: &str) -> String {
    format!("{CANARY} of {node}")
}
