//! `RawEngine`: the engine's API by plain HTTP on its socket, as a bare loop would use it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

/// The image of the pods; `tests/lib/docker-engine.sh` makes it.
pub const IMAGE: &str = "busybox:test";
/// The variables that say where an engine listens, in order.
const VARIABLES: [&str; 2] = ["ORCH_TEST_DOCKER_HOST", "DOCKER_HOST"];

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// An engine that answers.
#[derive(Clone, Debug)]
pub struct RawEngine {
    socket: String,
}

/// How a sandbox and a container of a pod are made: what an inspection told of some that ran.
#[derive(Clone, Debug)]
pub struct Recipe {
    sandbox: Value,
    container: Value,
}

impl RawEngine {
    /// Finds the engine in the environment; `None` when none answers.
    pub fn from_env() -> Option<Self> {
        let hosts = VARIABLES.iter().filter_map(|name| std::env::var(name).ok());
        let mut sockets = hosts.filter_map(|host| host.strip_prefix("unix://").map(str::to_owned));
        sockets.find_map(|socket| {
            let engine = Self { socket };
            engine.call("GET", "/version", None).is_ok().then_some(engine)
        })
    }

    /// The address, as `DockerRuntime` takes it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket)
    }

    /// Reads how the first pod of a cluster was made.
    pub fn recipe(&self, cluster: &str) -> Result<Recipe, Failure> {
        let (mut sandbox, mut container) = (None, None);
        for found in self.containers(&format!("orchestrator.dev/cluster={cluster}"))? {
            let inspection = self.inspect(&found)?;
            let is_container =
                inspection["Config"]["Labels"]["orchestrator.dev/container"].is_string();
            let place = if is_container { &mut container } else { &mut sandbox };
            place.get_or_insert(body(inspection));
        }
        match (sandbox, container) {
            (Some(sandbox), Some(container)) => Ok(Recipe { sandbox, container }),
            _ => Err(format!("cluster {cluster} has no pod").into()),
        }
    }

    /// Makes and starts a sandbox and a container in it; returns the ids of both.
    pub fn make_pod(&self, recipe: &Recipe, network: &str) -> Result<[String; 2], Failure> {
        let mut body = recipe.sandbox.clone();
        body["HostConfig"]["NetworkMode"] = json!(network);
        let sandbox = self.create_and_start(&body)?;
        let container = self.make_container(recipe, &sandbox)?;
        Ok([sandbox, container])
    }

    /// Makes and starts a container in a sandbox.
    pub fn make_container(&self, recipe: &Recipe, sandbox: &str) -> Result<String, Failure> {
        let mut body = recipe.container.clone();
        body["HostConfig"]["NetworkMode"] = json!(format!("container:{sandbox}"));
        self.create_and_start(&body)
    }

    pub fn make_network(&self, name: &str) -> Result<(), Failure> {
        let body = json!({ "Name": name, "Driver": "bridge" });
        self.call("POST", "/networks/create", Some(&body)).map(drop)
    }

    pub fn remove_network(&self, name: &str) -> Result<(), Failure> {
        self.call("DELETE", &format!("/networks/{name}"), None).map(drop)
    }

    pub fn remove(&self, container: &str) -> Result<(), Failure> {
        self.call("DELETE", &format!("/containers/{container}?force=true&v=true"), None).map(drop)
    }

    /// The number of a running container's first process.
    pub fn process_id(&self, container: &str) -> Result<u32, Failure> {
        let pid = self.inspect(container)?["State"]["Pid"].as_u64().unwrap_or(0);
        Ok(u32::try_from(pid)?)
    }

    fn containers(&self, label: &str) -> Result<Vec<String>, Failure> {
        let label = label.replace('/', "%2F").replace('=', "%3D");
        let filters = format!("%7B%22label%22%3A%5B%22{label}%22%5D%7D");
        let list =
            self.call("GET", &format!("/containers/json?all=true&filters={filters}"), None)?;
        let list = list.as_array().into_iter().flatten();
        Ok(list.filter_map(|it| it["Id"].as_str().map(str::to_owned)).collect())
    }

    fn inspect(&self, container: &str) -> Result<Value, Failure> {
        self.call("GET", &format!("/containers/{container}/json"), None)
    }

    fn create_and_start(&self, body: &Value) -> Result<String, Failure> {
        let made = self.call("POST", "/containers/create", Some(body))?;
        let id = made["Id"].as_str().ok_or("a container without an id")?.to_owned();
        self.call("POST", &format!("/containers/{id}/start"), None)?;
        Ok(id)
    }

    /// Calls the engine; an answer that is no success is an error.
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let mut stream = UnixStream::connect(&self.socket)?;
        let body = body.map(Value::to_string).unwrap_or_default();
        // The old version has an answer end with its connection, so there are no chunks to decode.
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, text) = answer.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
        let code = head.split(' ').nth(1).unwrap_or_default();
        if !code.starts_with(['2', '3']) {
            return Err(format!("{method} {path}: {code} {}", text.trim()).into());
        }
        Ok(serde_json::from_str(text).unwrap_or(Value::Null))
    }
}

/// Turns an inspection into a request that makes the like, without what says whose it is.
fn body(mut inspection: Value) -> Value {
    let mut body = inspection["Config"].take();
    body["HostConfig"] = inspection["HostConfig"].take();
    body["Labels"] = json!({});
    if let Some(fields) = body.as_object_mut() {
        // One that joins another's network may not have these.
        for field in ["Hostname", "Domainname", "ExposedPorts"] {
            fields.remove(field);
        }
    }
    body
}
