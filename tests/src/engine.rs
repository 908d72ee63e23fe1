//! `TestEngine`: the engine as an outsider sees it, by plain HTTP on its socket.

use std::path::Path;
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
    ///
    /// # Panics
    /// When the environment does not name one.
    pub fn from_env() -> Self {
        let host = std::env::var(HOST_VARIABLE).unwrap_or_else(|_| {
            panic!("{HOST_VARIABLE} must be unix:///… of a Docker engine for tests; run tests/run")
        });
        Self { host }
    }

    /// The engine at a socket.
    pub fn at(socket: &Path) -> Self {
        Self { host: format!("unix://{}", socket.display()) }
    }

    /// The engine's address, `unix:///…`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Opens a runtime on the engine.
    ///
    /// # Panics
    /// When the engine does not answer.
    pub async fn connect(&self) -> DockerRuntime {
        DockerRuntime::connect_to(&self.host).await.expect("the engine of the tests answers")
    }

    /// Kills the first process of a container (`docker://…`), without the engine's help.
    ///
    /// # Panics
    /// When it does not run.
    pub async fn kill_process(&self, container: &str) {
        let id = container.strip_prefix("docker://").expect("an id of docker's");
        let (_, inspection) = self.call("GET", &format!("/containers/{id}/json")).await;
        let pid = inspection["State"]["Pid"].as_u64().expect("a running container has a pid");
        let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
        assert!(killed.expect("kill runs").success());
    }

    /// Removes a container (`docker://…`) by force, as `docker rm -f` would.
    ///
    /// # Panics
    /// When the engine refuses.
    pub async fn remove_container(&self, container: &str) {
        let id = container.trim_start_matches("docker://");
        let (code, answer) = self.call("DELETE", &format!("/containers/{id}?force=true")).await;
        assert_eq!(code, 204, "{answer}");
    }

    /// Panics unless the engine has no container and no network of the scope's cluster.
    ///
    /// # Panics
    /// When it has.
    pub async fn assert_nothing_left(&self, scope: &Scope) {
        let left = self.left_of(&scope.cluster).await;
        assert!(left.is_empty(), "left of {scope:?}: {left:#?}");
    }

    /// Lists the containers and networks of a cluster, as the engine tells of them.
    pub async fn left_of(&self, cluster: &str) -> Vec<Value> {
        let label = format!("orchestrator.dev%2Fcluster%3D{cluster}");
        let filter = format!("%7B%22label%22%3A%5B%22{label}%22%5D%7D");
        let mut left = Vec::new();
        for path in ["/containers/json?all=true&filters=", "/networks?filters="] {
            let (code, mut found) = self.call("GET", &format!("{path}{filter}")).await;
            match found.as_array_mut() {
                Some(found) if code == 200 => left.append(found),
                Some(_) | None => left.push(found),
            }
        }
        left
    }

    /// Calls the engine; the status code and the answer.
    ///
    /// # Panics
    /// When the engine does not answer in HTTP.
    pub async fn call(&self, method: &str, path: &str) -> (u16, Value) {
        self.ask(method, path, "").await
    }

    /// As [`Self::call`], with a body.
    ///
    /// # Panics
    /// When the engine does not answer in HTTP.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask("POST", path, &body.to_string()).await
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let socket = self.host.strip_prefix("unix://").expect("the engine listens on a socket");
        let mut stream = UnixStream::connect(socket).await.expect("the engine listens");
        // The old version has an answer end with its connection, so there are no chunks to decode.
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        (code.expect("a status code"), serde_json::from_str(body).unwrap_or(Value::Null))
    }
}
