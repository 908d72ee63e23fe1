//! Many agents at one server, which goes away and comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use orchestrator_core::driver::Machine;
use orchestrator_core::model::{Deployment, TaintEffect, Toleration, TolerationOperator};
use orchestrator_core::testkit::sim_runtime::SimVerb;
use orchestrator_core::world::World;

use super::*;
use crate::Listen;

const AGENTS: usize = 50;
/// Longer than anything takes unless something is wrong.
const WITHIN: Duration = Duration::from_secs(120);

async fn start(store: &MemStore) -> Cluster {
    Cluster::builder().store(store.clone()).start().await.expect("started")
}

async fn until(cluster: &Cluster, what: &str, is_so: impl Fn(&World) -> bool + Send) -> World {
    let world = tokio::time::timeout(WITHIN, cluster.wait_for(is_so)).await;
    world.unwrap_or_else(|_| panic!("{what}: it takes too long")).expect("no shutdown")
}

/// The uid and restarts of each pod, by name.
fn pods(world: &World) -> BTreeMap<String, (Uid, i32)> {
    let pods = world.all::<Pod>(None);
    let restarts =
        |pod: &Pod| pod.status.container_statuses.iter().map(|it| it.restart_count).sum();
    pods.map(|pod| (pod.metadata.name.clone(), (pod.metadata.uid, restarts(pod)))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn f40_a_herd_comes_back_after_its_server_was_away_and_restarts_nothing() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard).expect("up to the hard limit");
    let store = MemStore::new();
    let cluster = start(&store).await;
    let served = serve(&cluster).await;
    let address = served.server.local_addr().expect("a port");
    let names: Vec<String> = (0..AGENTS).map(|number| format!("n{number}")).collect();
    let (mut agents, mut runtimes) = (Vec::new(), Vec::new());
    for name in &names {
        let token = served.token(&cluster, 3_600, None).await;
        let joined = served.join(&token, name).await.expect("joined");
        let runtime = SimRuntime::new(Arc::new(SystemClock));
        let scope = Scope { cluster: joined.cluster.clone(), node: name.clone() };
        let mut config = AgentConfig::new(scope);
        config.machine = Machine::MadeUp { cpus: 8, memory_bytes: 32 << 30, disk_bytes: 100 << 30 };
        let link = HttpLink::new(&joined).expect("usable");
        agents.push(Agent::spawn(config, Arc::new(runtime.clone()), Arc::new(link)));
        runtimes.push(runtime);
    }
    let ready = |count: usize| {
        move |world: &World| {
            usize::try_from(world.deployment("web").status.ready_replicas) == Ok(count)
        }
    };
    let is_ready =
        |world: &World| world.all::<Node>(None).filter(|node| node.is_ready()).count() == AGENTS;
    until(&cluster, "every node is ready", is_ready).await;
    let mut web = Deployment::new("web", "app").replicas(100);
    // How soon a node that is not heard is given up is not asked here, and all these agents share one machine.
    let staying = Toleration {
        effect: Some(TaintEffect::NoExecute),
        operator: Some(TolerationOperator::Exists),
        ..Toleration::default()
    };
    Arc::make_mut(&mut web.spec.template.spec).tolerations.push(staying);
    cluster.apply(web).await.expect("a good one");
    let before = pods(&until(&cluster, "two pods a node", ready(2 * AGENTS)).await);

    let Served { server, directory } = served;
    server.shutdown().await;
    cluster.shutdown(false).await;
    let cluster = start(&store).await;
    let began = cluster.now();
    let config = ServerConfig::new(Listen::Tcp(address), directory.path().join("pki"));
    let server = Server::bind(config, cluster.clone()).await.expect("the same port");
    let is_heard = |world: &World| {
        names.iter().all(|name| world.signal(name).last_heard.is_some_and(|at| at > began))
    };
    until(&cluster, "every node is heard again", is_heard).await;
    cluster.scale(&Key::new(Kind::Deployment, "default", "web"), 150).await.expect("scaled");
    let after = pods(&until(&cluster, "three pods a node", ready(3 * AGENTS)).await);
    for (name, was) in &before {
        assert_eq!(after.get(name), Some(was), "{name} goes on as it was");
    }
    let made: usize = runtimes.iter().map(|it| it.calls(SimVerb::CreateContainer)).sum();
    assert_eq!(made, 3 * AGENTS, "nothing was made twice");
    for agent in agents {
        agent.shutdown(false).await;
    }
    server.shutdown().await;
    cluster.shutdown(false).await;
}
