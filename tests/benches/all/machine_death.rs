//! A machine's power cut until everything it ran is Ready elsewhere; beside a Swarm of the same three engines that loses the same one,
//! and beside five seconds and what as many pods take to start.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use orchestrator_tests::cluster::ClusterRig;
use orchestrator_tests::engine::{IMAGE, TestEngine};
use orchestrator_tests::rig::poll;
use serde_json::{Value, json};

use crate::Outcome;
use crate::report::{Floor, Report, Unit};

pub const NAME: &str = "machine killed until its pods run elsewhere";
/// The machines; the last one dies, the first one is Swarm's manager.
const NODES: [&str; 3] = ["a", "b", "c"];
const DIES: &str = "c";
const REPLICAS: i32 = 6;
const LIMIT_NAME: &str = "the same, beside 5 s and the start of as many pods";
/// How long a dead machine may go unnoticed and its pods unreplaced, in seconds.
const NOTICED_MAX: f64 = 5.0;
/// For how long a node is heard before it dies: who has just joined or booted is given longer to be heard again.
const HEARD: Duration = Duration::from_secs(10);
/// How many of six replicas one machine of three loses.
const LOST: i32 = 2;
/// How many pairs are measured at most: a Swarm takes its time.
const PAIRS_MAX: usize = 3;
/// What is better than a Swarm.
const FLOOR: Floor = Floor(Some(1.0));

/// Measures from the cut to the last replica.
pub fn run(report: &mut Report) -> Outcome {
    if !report.wants(NAME) {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        report.missing(NAME, "machines are made by root alone");
        return Ok(());
    }
    let pairs = report.options.pairs.min(PAIRS_MAX);
    let figures = Arc::new(Mutex::new(Vec::new()));
    let limits = Arc::new(Mutex::new(Vec::new()));
    let (shared, shared_limits) = (Arc::clone(&figures), Arc::clone(&limits));
    ClusterRig::run(&NODES, async move |rig| {
        let swarm = Swarm::form(rig).await;
        for pair in 0..pairs {
            let start = Instant::now();
            rig.deployed(&format!("start-{pair}"), LOST).await;
            let limit = NOTICED_MAX + start.elapsed().as_secs_f64();
            rig.remove(&format!("start-{pair}")).await;
            rig.deployed(&format!("web-{pair}"), REPLICAS).await;
            tokio::time::sleep(HEARD).await;
            let ours = cut_until(rig, async |rig| {
                let all = |pods: &std::collections::BTreeMap<_, _>| pods.len() == REPLICAS as usize;
                rig.until("all run elsewhere", |pods| {
                    all(pods) && pods.values().all(|pod| pod.node != DIES)
                })
                .await;
            })
            .await;
            rig.remove(&format!("web-{pair}")).await;
            let service = swarm.deploy(&format!("swarm-{pair}")).await;
            let theirs =
                cut_until(rig, async |_| swarm.until_running(&service, Some(DIES)).await).await;
            swarm.remove(&service).await;
            shared.lock().unwrap_or_else(PoisonError::into_inner).push((ours, theirs));
            shared_limits.lock().unwrap_or_else(PoisonError::into_inner).push((ours, limit));
        }
        swarm.end(rig).await;
    });
    let figures = figures.lock().unwrap_or_else(PoisonError::into_inner);
    report.pairs(NAME, Unit::Seconds, FLOOR, &figures);
    let limits = limits.lock().unwrap_or_else(PoisonError::into_inner);
    report.pairs(LIMIT_NAME, Unit::Seconds, FLOOR, &limits);
    Ok(())
}

/// Cuts the power of the machine that dies, waits for something, and switches it on again; the seconds of the wait.
async fn cut_until(rig: &mut ClusterRig, until: impl AsyncFnOnce(&mut ClusterRig)) -> f64 {
    let start = Instant::now();
    rig.node(DIES).switch_off();
    until(rig).await;
    let took = start.elapsed().as_secs_f64();
    rig.node(DIES).switch_on().await;
    rig.settle().await;
    took
}

/// A Swarm of the rig's engines.
struct Swarm {
    manager: TestEngine,
}

impl Swarm {
    async fn form(rig: &mut ClusterRig) -> Self {
        let manager = rig.nodes[NODES[0]].engine();
        let address = rig.nodes[NODES[0]].machine.address();
        let body = json!({ "ListenAddr": format!("{address}:2377"), "AdvertiseAddr": address });
        let (code, answer) = manager.post("/swarm/init", &body).await;
        assert_eq!(code, 200, "{answer}");
        let (_, about) = manager.call("GET", "/swarm").await;
        for name in &NODES[1..] {
            let own = rig.nodes[*name].machine.address();
            let body = json!({
                "ListenAddr": format!("{own}:2377"),
                "AdvertiseAddr": own,
                "RemoteAddrs": [format!("{address}:2377")],
                "JoinToken": about["JoinTokens"]["Worker"],
            });
            let (code, answer) = rig.nodes[*name].engine().post("/swarm/join", &body).await;
            assert_eq!(code, 200, "{answer}");
        }
        Self { manager }
    }

    /// Deploys, and waits until every task runs, one of them where the power will be cut.
    async fn deploy(&self, name: &str) -> String {
        poll("every machine is back in the Swarm", || async {
            let (_, nodes) = self.manager.call("GET", "/nodes").await;
            let ready = |it: &&Value| it["Status"]["State"] == "ready";
            let ready = nodes.as_array().into_iter().flatten().filter(ready).count();
            if ready == NODES.len() { Ok(()) } else { Err(nodes) }
        })
        .await;
        let spec = json!({ "Image": IMAGE, "Command": ["sleep", "100000"], "StopGracePeriod": 0 });
        let body = json!({
            "Name": name,
            "TaskTemplate": { "ContainerSpec": spec },
            "Mode": { "Replicated": { "Replicas": REPLICAS } },
        });
        let (code, made) = self.manager.post("/services/create", &body).await;
        assert_eq!(code, 201, "{made}");
        let id = made["ID"].as_str().expect("an id").to_owned();
        self.until_running(&id, None).await;
        id
    }

    /// Waits until as many tasks run as are wanted, on nodes other than one.
    async fn until_running(&self, service: &str, except: Option<&str>) {
        let (_, nodes) = self.manager.call("GET", "/nodes").await;
        let dead = nodes
            .as_array()
            .into_iter()
            .flatten()
            .find(|node| except.is_some_and(|name| node["Description"]["Hostname"] == name));
        let dead = dead.map(|node| node["ID"].clone()).unwrap_or_default();
        poll("the Swarm runs all tasks", || async {
            let (_, tasks) = self.manager.call("GET", "/tasks").await;
            let runs = |task: &&Value| {
                task["ServiceID"] == service
                    && task["DesiredState"] == "running"
                    && task["Status"]["State"] == "running"
                    && (dead.is_null() || task["NodeID"] != dead)
            };
            let running = tasks.as_array().into_iter().flatten().filter(runs).count();
            if running == REPLICAS as usize { Ok(()) } else { Err(running) }
        })
        .await;
    }

    async fn remove(&self, service: &str) {
        let (code, answer) = self.manager.call("DELETE", &format!("/services/{service}")).await;
        assert_eq!(code, 200, "{answer}");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }

    async fn end(self, rig: &mut ClusterRig) {
        for name in NODES.iter().rev() {
            let (code, answer) =
                rig.nodes[*name].engine().call("POST", "/swarm/leave?force=true").await;
            assert_eq!(code, 200, "{answer}");
        }
    }
}
