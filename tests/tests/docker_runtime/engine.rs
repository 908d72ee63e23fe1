//! `TestEngine`: the engine as an outsider sees it, by plain HTTP on its socket.

use std::process::Command;

use orchestrator_core::runtime::Scope;
use orchestrator_docker::DockerRuntime;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The image that tests run.
pub const IMAGE: &str = "busybox:test";

/// The variable that says where the engine listens.
const HOST_VARIABLE: &str = "ORCH_TEST_DOCKER_HOST";

/// The engine that the tests share.
#[derive(Debug)]
pub struct TestEngine {
    host: String,
}

impl TestEngine {
    /// Finds the engine in the environment.
    pub fn from_env() -> Self {
        let host = std::env::var(HOST_VARIABLE).unwrap_or_else(|_| {
            panic!("{HOST_VARIABLE} must be unix:///… of a Docker engine for tests; run tests/run")
        });
        Self { host }
    }

    /// Opens a runtime on the engine.
    pub async fn connect(&self) -> DockerRuntime {
        DockerRuntime::connect_to(&self.host).await.expect("the engine of the tests answers")
    }

    /// Kills the first process of a container (`docker://…`), without the engine's help.
    pub async fn kill_process(&self, container: &str) {
        let id = container.strip_prefix("docker://").expect("an id of docker's");
        let (_, inspection) = self.call("GET", &format!("/containers/{id}/json")).await;
        let pid = inspection["State"]["Pid"].as_u64().expect("a running container has a pid");
        let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
        assert!(killed.expect("kill runs").success());
    }

    /// Panics unless the engine has no container of the scope and no network of its cluster.
    pub async fn assert_nothing_left(&self, scope: &Scope) {
        let cluster = format!("orchestrator.dev%2Fcluster%3D{}", scope.cluster);
        let label = |label: &str| format!("%7B%22label%22%3A%5B%22{label}%22%5D%7D");
        for path in ["/containers/json?all=true&filters=", "/networks?filters="] {
            let (_, found) = self.call("GET", &format!("{path}{}", label(&cluster))).await;
            assert_eq!(found, Value::Array(Vec::new()), "left of {scope:?}: {path}");
        }
    }

    /// Calls the engine; the status code and the answer.
    pub async fn call(&self, method: &str, path: &str) -> (u16, Value) {
        let socket = self.host.strip_prefix("unix://").expect("the engine listens on a socket");
        let mut stream = UnixStream::connect(socket).await.expect("the engine listens");
        // The old version has an answer end with its connection, so there are no chunks to decode.
        let request = format!("{method} {path} HTTP/1.0\r\nHost: engine\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        (code.expect("a status code"), serde_json::from_str(body).unwrap_or(Value::Null))
    }
}
