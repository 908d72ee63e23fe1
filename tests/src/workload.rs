//! Workloads that run alike on every runtime: POSIX shell, told by files what to do.

use std::sync::Arc;

use orchestrator_core::model::{
    Container, Deployment, DeploymentStrategy, EnvVar, ExecAction, ImagePullPolicy, Probe,
    RollingUpdate, StrategyType,
};

use crate::engine::IMAGE;

/// The name of the container of every workload.
pub const CONTAINER: &str = "main";
/// Runs until it is asked to end, then ends at once.
const SERVE: &str = "trap 'exit 0' TERM; sleep 100000 & wait";

/// Makes a deployment of pods that run until they are asked to end.
pub fn sleepers(name: &str, version: &str, replicas: i32) -> Deployment {
    with_container(name, replicas, container(version))
}

/// Makes a container that runs until it is asked to end. `version` tells templates apart.
pub fn container(version: &str) -> Container {
    let mut container = Container::new(CONTAINER, IMAGE).command(["/bin/sh", "-c", SERVE]);
    container.image_pull_policy = Some(ImagePullPolicy::Never);
    container.env.push(EnvVar { name: "VERSION".to_owned(), value: version.to_owned() });
    container
}

/// Makes a deployment of one container that rolls with one pod more and one less than wanted.
pub fn with_container(name: &str, replicas: i32, container: Container) -> Deployment {
    let mut deployment = Deployment::of(name, vec![container]).replicas(replicas);
    let spec = Arc::make_mut(&mut deployment.spec.template.spec);
    spec.termination_grace_period_seconds = Some(5);
    let one = Some(orchestrator_core::model::CountOrPercent::Count(1));
    deployment.spec.strategy = DeploymentStrategy {
        kind: Some(StrategyType::RollingUpdate),
        rolling_update: Some(RollingUpdate { max_surge: one, max_unavailable: one }),
    };
    deployment
}

/// Makes a probe, every second, of whether a shell script succeeds; one failure counts.
pub fn probe(script: &str) -> Probe {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    Probe {
        exec: Some(ExecAction { command }),
        failure_threshold: Some(1),
        period_seconds: Some(1),
        timeout_seconds: Some(10),
        ..Probe::default()
    }
}
