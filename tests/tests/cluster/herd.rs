//! Many agents that come back at once.

use std::sync::Arc;

use orchestrator_core::driver::{Agent, AgentConfig, SystemClock};
use orchestrator_core::runtime::Scope;
use orchestrator_core::testkit::sim_runtime::SimRuntime;
use orchestrator_http::{HttpLink, Membership};
use orchestrator_tests::cluster::ClusterRig;

/// How many agents come back, beside those of the machines; on simulated runtimes, but over real connections.
const HERD: usize = 40;

#[test]
fn f40_a_server_that_comes_back_is_found_again_by_all_agents_at_once() {
    ClusterRig::share(async |rig| {
        let before = rig.deployed("web", 3).await;
        let mut herd = Vec::new();
        for number in 0..HERD {
            let name = format!("herd-{number}");
            let token = rig.token(&[]).await.parse().expect("a token");
            let membership = Membership::join(&rig.server.url(), &token, &name).await;
            let membership = membership.expect("it joins");
            let link = HttpLink::new(&membership).expect("a link");
            let scope = Scope { cluster: membership.cluster.clone(), node: name.clone() };
            let runtime = Arc::new(SimRuntime::new(Arc::new(SystemClock)));
            let agent = Agent::spawn(AgentConfig::new(scope), runtime, Arc::new(link.clone()));
            link.ready().await;
            herd.push((name, agent));
        }
        for _ in rig.runs() {
            rig.server.kill();
            rig.server.start_again().await;
            for (name, _) in &herd {
                rig.until_heard(name).await;
            }
            assert_eq!(rig.running().await, before, "nothing was started anew");
        }
        for (name, agent) in herd {
            agent.shutdown(false).await;
            rig.remove_node(&name).await;
        }
    });
}
