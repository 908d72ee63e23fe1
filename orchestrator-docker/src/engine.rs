//! Every call of the engine's API, each with a time limit; nothing else in the crate talks to the engine.
//!
//! The client library sends paths without a version, which engines call deprecated; so a request modifier puts the version
//! agreed on at the connect in front. Each request is a connection of its own.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, EventMessage, Network,
    NetworkCreateRequest, SystemVersion,
};
use bollard::query_parameters as query;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use http::Uri;
use http::uri::PathAndQuery;

use orchestrator_core::runtime::SessionOptions;
use tokio::io::AsyncWrite;

use crate::error::EngineError;

/// How long the first answer of an engine may take, in seconds: a caller may have another runtime to fall back to.
const CONNECT_SECONDS_MAX: u64 = 5;
/// How long an answer from the engine's memory may take, in seconds.
const READ_SECONDS_MAX: u64 = 30;
/// How long a change may take, in seconds; a loaded engine needs seconds to start a container.
const CHANGE_SECONDS_MAX: u64 = 120;
/// How long a pull or an import may go without a sign of progress, in seconds.
const TRANSFER_IDLE_SECONDS_MAX: u64 = 60;
/// What the client library may wait for an answer, in seconds; the limits above are ours, and a stop or a wait may take long.
const LIBRARY_SECONDS_MAX: u64 = 7 * 24 * 3600;

/// Keys that, typed in a row at a terminal, make the engine let go of a client. It has some if it is given none, and keeps
/// back what could be their beginning: they begin with one that hardly anybody types, and nobody types them all.
const DETACH_KEYS: [&str; 8] = ["ctrl-@"; 8];

type Filters = HashMap<String, Vec<String>>;
/// Where the input of a program goes.
pub(crate) type InputSink = Pin<Box<dyn AsyncWrite + Send>>;
type Result<T> = std::result::Result<T, EngineError>;
type EventStream = Pin<Box<dyn Stream<Item = Result<EventMessage>> + Send>>;
pub(crate) type OutputStream = Pin<Box<dyn Stream<Item = Result<LogOutput>> + Send>>;

/// A version of the engine's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiVersion {
    major: u32,
    minor: u32,
}

/// The lowest version that has all we use (engine 20.10).
const API_VERSION_MIN: ApiVersion = ApiVersion { major: 1, minor: 41 };

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parse = || {
            let (major, minor) = text.split_once('.')?;
            Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
        };
        parse().ok_or_else(|| format!("{text:?} is not an API version such as 1.41"))
    }
}

/// Picks the newest version that both sides speak. `engine_min` is what the engine says it still answers, if it says so.
fn choose_version(
    ours: ApiVersion,
    engine: ApiVersion,
    engine_min: Option<ApiVersion>,
) -> std::result::Result<ApiVersion, String> {
    let chosen = ours.min(engine);
    if chosen < API_VERSION_MIN {
        return Err(format!(
            "the engine speaks API {engine}; {API_VERSION_MIN} or newer (engine 20.10) is needed"
        ));
    }
    match engine_min {
        Some(lowest) if lowest > chosen => {
            Err(format!("the engine wants API {lowest} or newer; this program speaks up to {ours}"))
        }
        Some(_) | None => Ok(chosen),
    }
}

/// Puts `/v1.41` in front of a request's path.
fn with_version(mut request: BollardRequest, version: ApiVersion) -> BollardRequest {
    let mut parts = request.uri().clone().into_parts();
    let path = parts.path_and_query.as_ref().map_or("/", PathAndQuery::as_str);
    // Both steps only fail for texts that are no URI, and a version before a valid path keeps it valid.
    if let Ok(path) = PathAndQuery::from_str(&format!("/v{version}{path}")) {
        parts.path_and_query = Some(path);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// A connection to an engine; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    docker: Docker,
}

impl Engine {
    /// Connects to `host` (`unix:///path`, `tcp://host:port`) and agrees on a version.
    pub(crate) async fn connect(host: &str) -> std::result::Result<Self, ConnectError> {
        Self::connect_within(host, Duration::from_secs(CONNECT_SECONDS_MAX)).await
    }

    async fn connect_within(
        host: &str,
        limit: Duration,
    ) -> std::result::Result<Self, ConnectError> {
        let docker = match host.strip_prefix("unix://") {
            Some(path) => {
                Docker::connect_with_socket(path, LIBRARY_SECONDS_MAX, API_DEFAULT_VERSION)
            }
            None => Docker::connect_with_host(host),
        };
        let docker = docker.map_err(EngineError::from)?;
        let docker = docker.with_timeout(Duration::from_secs(LIBRARY_SECONDS_MAX));
        let answer = in_time(limit, docker.version()).await?;
        let version = agree(&answer).map_err(ConnectError::Version)?;
        let docker = docker.with_request_modifier(move |request| with_version(request, version));
        Ok(Self { docker })
    }

    pub(crate) async fn version(&self) -> Result<SystemVersion> {
        read(self.docker.version()).await
    }

    pub(crate) async fn containers(&self, labels: &[String]) -> Result<Vec<ContainerSummary>> {
        self.containers_at_most(labels, None).await
    }

    /// Lists containers with all of `labels` (`key=value`), in any state, the newest first.
    pub(crate) async fn containers_at_most(
        &self,
        labels: &[String],
        limit: Option<i32>,
    ) -> Result<Vec<ContainerSummary>> {
        let filters = Some(label_filter(labels));
        let options =
            query::ListContainersOptions { all: true, limit, filters, ..Default::default() };
        read(self.docker.list_containers(Some(options))).await
    }

    pub(crate) async fn inspect(&self, container: &str) -> Result<ContainerInspectResponse> {
        read(self.docker.inspect_container(container, None)).await
    }

    /// Makes a container and returns its id.
    pub(crate) async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<String> {
        let options =
            query::CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        let answer = change(self.docker.create_container(Some(options), body)).await?;
        Ok(answer.id)
    }

    /// Starts a container; a running one stays as it is.
    pub(crate) async fn start(&self, container: &str) -> Result<()> {
        change(self.docker.start_container(container, None)).await
    }

    /// Sends the stop signal, then KILL after `seconds`, and returns when the container has ended.
    pub(crate) async fn stop(&self, container: &str, seconds: i32) -> Result<()> {
        let options = query::StopContainerOptions { t: Some(seconds), ..Default::default() };
        let grace = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let limit = grace + Duration::from_secs(CHANGE_SECONDS_MAX);
        in_time(limit, self.docker.stop_container(container, Some(options))).await
    }

    pub(crate) async fn kill(&self, container: &str) -> Result<()> {
        let options = query::KillContainerOptions { signal: "SIGKILL".to_owned() };
        change(self.docker.kill_container(container, Some(options))).await
    }

    /// Ends and removes a container with its volumes.
    pub(crate) async fn remove_by_force(&self, container: &str) -> Result<()> {
        self.remove(container, true).await
    }

    /// Removes a container that does not run, with its volumes.
    pub(crate) async fn remove_ended(&self, container: &str) -> Result<()> {
        self.remove(container, false).await
    }

    async fn remove(&self, container: &str, force: bool) -> Result<()> {
        let options = query::RemoveContainerOptions { v: true, force, link: false };
        change(self.docker.remove_container(container, Some(options))).await
    }

    /// Waits until a container that is being removed is gone.
    pub(crate) async fn wait_removed(&self, container: &str) -> Result<()> {
        let options = query::WaitContainerOptions { condition: "removed".to_owned() };
        let wait = async {
            // A non-zero exit code comes as an error of the library's; either way the container is gone.
            let _ = self.docker.wait_container(container, Some(options)).next().await;
            Ok(())
        };
        change(wait).await
    }

    /// Returns the image's id, if the engine has it.
    pub(crate) async fn image_id(&self, image: &str) -> Result<Option<String>> {
        match read(self.docker.inspect_image(image)).await {
            Ok(found) => Ok(Some(found.id.unwrap_or_default())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Pulls an image whose reference has a tag or a digest.
    pub(crate) async fn pull(&self, reference: &str) -> Result<()> {
        let options = query::CreateImageOptions {
            from_image: Some(reference.to_owned()),
            ..Default::default()
        };
        self.transfer(options, None).await
    }

    /// Makes the image `repository:tag` from a tar archive; `changes` are Dockerfile lines.
    pub(crate) async fn import(
        &self,
        (repository, tag): (&str, &str),
        archive: Bytes,
        changes: Vec<String>,
    ) -> Result<()> {
        let options = query::CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(repository.to_owned()),
            tag: Some(tag.to_owned()),
            changes,
            ..Default::default()
        };
        self.transfer(options, Some(archive)).await
    }

    async fn transfer(
        &self,
        options: query::CreateImageOptions,
        archive: Option<Bytes>,
    ) -> Result<()> {
        let body = archive.map(bollard::body_full);
        let mut progress = std::pin::pin!(self.docker.create_image(Some(options), body, None));
        let limit = Duration::from_secs(TRANSFER_IDLE_SECONDS_MAX);
        while in_time(limit, progress.try_next()).await?.is_some() {}
        Ok(())
    }

    /// Removes an image's tag, and the image when it was the last.
    pub(crate) async fn remove_image(&self, image: &str) -> Result<()> {
        change(self.docker.remove_image(image, None::<query::RemoveImageOptions>, None)).await?;
        Ok(())
    }

    pub(crate) async fn networks(&self, label: String) -> Result<Vec<Network>> {
        let options = query::ListNetworksOptions { filters: Some(label_filter(&[label])) };
        read(self.docker.list_networks(Some(options))).await
    }

    pub(crate) async fn create_network(&self, request: NetworkCreateRequest) -> Result<String> {
        let answer = change(self.docker.create_network(request)).await?;
        Ok(answer.id)
    }

    pub(crate) async fn remove_network(&self, id: &str) -> Result<()> {
        change(self.docker.remove_network(id)).await
    }

    /// Reads a container's log. An answer may take as long as the container lives when it is followed.
    pub(crate) fn logs(&self, container: &str, options: query::LogsOptions) -> OutputStream {
        Box::pin(self.docker.logs(container, Some(options)).map_err(EngineError::from))
    }

    /// Follows events of containers with the label key `label`, from `since` (`seconds.nanoseconds`) on.
    pub(crate) fn events(&self, label: &str, actions: &[&str], since: String) -> EventStream {
        let mut filters = label_filter(&[label.to_owned()]);
        filters.insert("type".to_owned(), vec!["container".to_owned()]);
        let actions = actions.iter().map(|action| (*action).to_owned()).collect();
        filters.insert("event".to_owned(), actions);
        let options =
            query::EventsOptions { since: Some(since), until: None, filters: Some(filters) };
        Box::pin(self.docker.events(Some(options)).map_err(EngineError::from))
    }

    /// Prepares a program to be run in a container and returns the run's id.
    pub(crate) async fn create_exec(
        &self,
        container: &str,
        program: &SessionOptions,
    ) -> Result<String> {
        let options = CreateExecOptions {
            attach_stdin: Some(program.stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(program.terminal),
            cmd: Some(program.command.clone()),
            ..Default::default()
        };
        Ok(change(self.docker.create_exec(container, options)).await?.id)
    }

    /// Runs a prepared program and returns what it prints, and where its input goes.
    pub(crate) async fn start_exec(
        &self,
        exec: &str,
        terminal: bool,
    ) -> Result<(OutputStream, InputSink)> {
        let options = StartExecOptions { detach: false, tty: terminal, output_capacity: None };
        match change(self.docker.start_exec(exec, Some(options))).await? {
            StartExecResults::Attached { output, input } => {
                Ok((Box::pin(output.map_err(EngineError::from)), input))
            }
            StartExecResults::Detached => {
                Ok((Box::pin(futures_util::stream::empty()), Box::pin(tokio::io::sink())))
            }
        }
    }

    /// Tells a program the size of its terminal.
    pub(crate) async fn resize_exec(&self, exec: &str, columns: u16, rows: u16) -> Result<()> {
        let options = ResizeExecOptions { height: rows, width: columns };
        change(self.docker.resize_exec(exec, options)).await
    }

    /// Attaches to the program of a container: returns what it prints from now on, and where its input goes. Nothing is
    /// ever sent there without `stdin`.
    pub(crate) async fn attach(
        &self,
        container: &str,
        stdin: bool,
    ) -> Result<(OutputStream, InputSink)> {
        let options = query::AttachContainerOptions {
            detach_keys: Some(DETACH_KEYS.join(",")),
            stream: true,
            stdin,
            stdout: true,
            stderr: true,
            logs: false,
        };
        let attached = change(self.docker.attach_container(container, Some(options))).await?;
        Ok((Box::pin(attached.output.map_err(EngineError::from)), attached.input))
    }

    /// Tells the program of a container the size of its terminal.
    pub(crate) async fn resize(&self, container: &str, columns: u16, rows: u16) -> Result<()> {
        let options = query::ResizeContainerTTYOptions { h: rows.into(), w: columns.into() };
        change(self.docker.resize_container_tty(container, options)).await
    }

    /// Returns the exit code of a run (`None` while it runs) and its process id, as the engine's machine counts.
    pub(crate) async fn inspect_exec(&self, exec: &str) -> Result<(Option<i64>, Option<i64>)> {
        let answer = read(self.docker.inspect_exec(exec)).await?;
        let code = if answer.running == Some(true) { None } else { answer.exit_code };
        Ok((code, answer.pid))
    }
}

/// Why no connection came about.
#[derive(Debug)]
pub(crate) enum ConnectError {
    Engine(EngineError),
    Version(String),
}

impl From<EngineError> for ConnectError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

fn agree(answer: &SystemVersion) -> std::result::Result<ApiVersion, String> {
    let ours = ApiVersion::from_str(&API_DEFAULT_VERSION.to_string())?;
    let engine = answer.api_version.as_deref().unwrap_or_default().parse()?;
    let engine_min = answer.min_api_version.as_deref().map(str::parse).transpose()?;
    choose_version(ours, engine, engine_min)
}

fn label_filter(labels: &[String]) -> Filters {
    HashMap::from([("label".to_owned(), labels.to_vec())])
}

async fn read<T>(
    call: impl Future<Output = std::result::Result<T, bollard::errors::Error>>,
) -> Result<T> {
    in_time(Duration::from_secs(READ_SECONDS_MAX), call).await
}

async fn change<T>(
    call: impl Future<Output = std::result::Result<T, bollard::errors::Error>>,
) -> Result<T> {
    in_time(Duration::from_secs(CHANGE_SECONDS_MAX), call).await
}

async fn in_time<T>(
    limit: Duration,
    call: impl Future<Output = std::result::Result<T, bollard::errors::Error>>,
) -> Result<T> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map_err(EngineError::from),
        Err(_) => Err(EngineError::TimedOut(limit)),
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
