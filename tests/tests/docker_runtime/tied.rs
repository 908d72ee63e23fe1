//! The same contract where pods are tied to their node's network by us, and what only that has.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use orchestrator_core::runtime::{ContainerObservation, LogSource, Runtime, RuntimeError, Scope};
use orchestrator_core::testkit::runtime::{Bench, RuntimeFixture, check};
use orchestrator_tests::tied::TiedNode;

use super::DockerFixture;
use super::extra::{ports_of_the_host, taken_port_of_the_host, tcp};

#[derive(Debug)]
struct TiedFixture {
    docker: DockerFixture,
    node: TiedNode,
}

impl TiedFixture {
    async fn new() -> Self {
        let docker = DockerFixture::new().await;
        let node = TiedNode::new(&docker.engine).await;
        Self { docker, node }
    }
}

#[async_trait]
impl RuntimeFixture for TiedFixture {
    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.node.runtime.clone())
    }

    async fn another(&self) -> Arc<dyn Runtime> {
        Arc::new(self.node.another(&self.docker.engine).await)
    }

    fn image(&self) -> String {
        self.docker.image()
    }

    fn port(&self) -> u16 {
        self.docker.port()
    }

    fn listen(&self, address: &str, port: u16) -> String {
        self.docker.listen(address, port)
    }

    fn connect(&self, address: &str, port: u16) -> String {
        self.docker.connect(address, port)
    }

    async fn kill_outside(&self, container: &ContainerObservation) {
        self.docker.kill_outside(container).await;
    }

    async fn assert_nothing_left(&self, scope: &Scope) {
        self.docker.assert_nothing_left(scope).await;
        self.node.end().await;
    }
}

orchestrator_core::runtime_conformance!(TiedFixture::new().await);

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_the_host_leads_to_the_pod() {
    check(TiedFixture::new().await, ports_of_the_host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_of_the_host_is_named_and_leaves_nothing() {
    check(TiedFixture::new().await, taken_port_of_the_host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_an_address_of_ipv6_is_refused_by_name() {
    check(TiedFixture::new().await, |bench: Arc<Bench>| async move {
        let mut pod = bench.pod();
        pod.ports = vec![tcp(8080, 80)];
        pod.ports[0].host_ip = Some("::1".parse().expect("an address"));
        match bench.runtime.create_sandbox(&pod).await {
            Err(RuntimeError::Invalid { message }) => assert!(message.contains("::1"), "{message}"),
            outcome => panic!("it leads nowhere, not {outcome:?}"),
        }
        assert_eq!(bench.sandbox(&pod.key).await, None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_find_their_host_name_their_address_and_the_names_that_the_machine_finds() {
    check(TiedFixture::new().await, |bench: Arc<Bench>| async move {
        let pod = bench.new_pod().await;
        let script = "hostname; grep \"$POD_IP\" /etc/hosts; grep -c localhost /etc/hosts; \
            cat /etc/resolv.conf; ip -o -4 address show eth0; ip route; echo end";
        let key = bench.run(&pod.key, "main", script).await;
        bench.exit(&key).await;
        let told = bench.printed(&key, LogSource::Stdout).await;
        let ip = bench.sandbox(&pod.key).await.and_then(|sandbox| sandbox.ip).expect("an address");
        assert!(told.starts_with(&format!("{0}\n{ip}\t{0}\n", pod.name)), "{told}");
        let servers = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        for line in servers.lines().filter(|line| line.starts_with("nameserver")) {
            assert!(told.contains(line), "{line}: {told}");
        }
        assert!(told.contains(&format!("inet {ip}/24")) && told.contains("default via"), "{told}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_pods_have_one_address_also_when_they_come_and_go_and_the_agent_is_started_anew() {
    check(TiedFixture::new().await, |bench: Arc<Bench>| async move {
        let mut given = BTreeSet::new();
        for round in 0..3 {
            let runtime = match round {
                1 => bench.fixture.another().await,
                _ => Arc::clone(&bench.runtime),
            };
            let pods: Vec<_> = (0..3).map(|_| bench.pod()).collect();
            for pod in &pods {
                runtime.create_sandbox(pod).await.expect("made");
            }
            let listed = bench.list(&bench.scope).await;
            let addresses: BTreeSet<_> = listed.iter().filter_map(|sandbox| sandbox.ip).collect();
            assert_eq!(addresses.len(), listed.len(), "{listed:?}");
            given.extend(addresses);
            runtime.remove_sandbox(&pods[0].key).await.expect("removed");
        }
        assert!(given.len() >= 8, "what was freed is not given again at once: {given:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_was_cut_off_is_tied_again_and_keeps_its_address() {
    let fixture = TiedFixture::new().await;
    let (runtime, slice) = (fixture.node.runtime.clone(), fixture.node.slice());
    let wires = fixture.node.wires();
    check(fixture, |bench: Arc<Bench>| async move {
        let pod = bench.new_pod().await;
        let port = bench.fixture.port();
        bench.run(&pod.key, "web", &bench.fixture.listen("0.0.0.0", port)).await;
        let before = bench.sandbox(&pod.key).await.and_then(|sandbox| sandbox.ip).expect("one");
        let links = Command::new("ip").args(["-o", "link"]).output().expect("ip runs");
        let links = String::from_utf8_lossy(&links.stdout).into_owned();
        let wire = links.split([' ', '@']).find(|word| word.starts_with(&wires)).expect("there");
        let cut = Command::new("ip").args(["link", "del", wire]).status().expect("ip runs");
        assert!(cut.success());
        runtime.look_after(slice).await.expect("tied");
        assert_eq!(bench.sandbox(&pod.key).await.and_then(|sandbox| sandbox.ip), Some(before));
        tokio::net::TcpStream::connect((before, port)).await.expect("it is reached");
    })
    .await;
}
