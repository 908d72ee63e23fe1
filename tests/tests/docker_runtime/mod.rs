//! The runtime on a real Docker engine, at `$ORCH_TEST_DOCKER_HOST`: the conformance suite, and what only Docker has.
//!
//! The image `busybox:test` must be there, and the engine's network reachable (`tests/lib/docker-engine.sh`).

mod extra;
mod tied;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use async_trait::async_trait;
use orchestrator_core::runtime::{ContainerObservation, Runtime, Scope};
use orchestrator_core::testkit::runtime::RuntimeFixture;
use orchestrator_docker::DockerRuntime;

use orchestrator_tests::engine::{IMAGE, TestEngine};

/// The first of the ports that tests use; each of them lies in a network namespace of its own.
const PORT_MIN: u16 = 21_000;

#[derive(Debug)]
struct DockerFixture {
    runtime: DockerRuntime,
    engine: TestEngine,
}

impl DockerFixture {
    async fn new() -> Self {
        let engine = TestEngine::from_env();
        Self { runtime: engine.connect().await, engine }
    }
}

#[async_trait]
impl RuntimeFixture for DockerFixture {
    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.runtime.clone())
    }

    async fn another(&self) -> Arc<dyn Runtime> {
        Arc::new(self.engine.connect().await)
    }

    fn image(&self) -> String {
        IMAGE.to_owned()
    }

    fn port(&self) -> u16 {
        static PORTS: AtomicU16 = AtomicU16::new(PORT_MIN);
        PORTS.fetch_add(1, Ordering::Relaxed)
    }

    fn listen(&self, address: &str, port: u16) -> String {
        format!("httpd -f -p \"{address}\":{port} -h /tmp")
    }

    fn connect(&self, address: &str, port: u16) -> String {
        format!("nc -w 5 \"{address}\" {port} </dev/null >/dev/null 2>&1")
    }

    async fn kill_outside(&self, container: &ContainerObservation) {
        self.engine.kill_process(&container.id).await;
    }

    async fn assert_nothing_left(&self, scope: &Scope) {
        self.engine.assert_nothing_left(scope).await;
    }
}

orchestrator_core::runtime_conformance!(DockerFixture::new().await);
