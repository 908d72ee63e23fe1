//! `DockerRuntime`: the verbs of the contract, on the engine's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use orchestrator_core::model::Cidr;
use orchestrator_core::node::Plumbing;
use orchestrator_core::runtime::{
    AttachOptions, ContainerKey, ContainerSpec, ExecOutcome, LogOptions, LogStream, Runtime,
    RuntimeError, RuntimeInfo, SandboxKey, SandboxObservation, SandboxSpec, Scope, Session,
    SessionOptions, Usage,
};

use crate::attach;
use crate::engine::{ConnectError, Engine};
use crate::error::EngineError;
use crate::exec;
use crate::image::{self, ImageFile};
use crate::inner::{Inner, container_not_found, gone, is_image_missing, known_or};
use crate::logs::{self, DockerLog};
use crate::network::{Choice, PodBridge};
use crate::observe::{self, ListedKey, Phase};
use crate::session;
use crate::translate;
use crate::usage::{self, Target};

/// Where the engine listens unless `$DOCKER_HOST` says otherwise.
const HOST_DEFAULT: &str = "unix:///var/run/docker.sock";

/// Runs pods on a Docker Engine. Clones share one connection.
#[derive(Clone, Debug)]
pub struct DockerRuntime {
    inner: Arc<Inner>,
}

impl DockerRuntime {
    /// Connects to the engine at `$DOCKER_HOST`, else at the usual unix socket.
    ///
    /// # Errors
    /// `Unreachable` within seconds when no engine answers; `Invalid` when it and this version have no API version in common.
    pub async fn connect() -> Result<Self, RuntimeError> {
        let host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        Self::connect_to(host.as_deref().unwrap_or(HOST_DEFAULT)).await
    }

    /// Connects to the engine at `host`, such as `unix:///run/docker.sock` or `tcp://127.0.0.1:2375`.
    ///
    /// # Errors
    /// As [`DockerRuntime::connect`].
    pub async fn connect_to(host: &str) -> Result<Self, RuntimeError> {
        let engine = Engine::connect(host).await.map_err(|error| match error {
            ConnectError::Engine(error) => RuntimeError::Unreachable(Box::new(error)),
            ConnectError::Version(message) => RuntimeError::Invalid { message },
        })?;
        Ok(Self { inner: Arc::new(Inner::new(engine)) })
    }

    /// Makes the image `image` (`name:tag`) out of files, without a registry, and returns its id. `changes` are lines of a
    /// Dockerfile such as `ENTRYPOINT ["/app"]` or `ENV A=b`. An image that had the name loses it.
    ///
    /// # Errors
    /// `Invalid` when a path, the name or a change is not valid.
    pub async fn import_image(
        &self,
        image: &str,
        files: &[ImageFile],
        changes: &[String],
    ) -> Result<String, RuntimeError> {
        image::import(&self.inner.engine, image, files, changes).await?;
        let id = self.image(image).await?;
        id.ok_or_else(|| RuntimeError::ImageMissing { image: image.to_owned() })
    }

    /// Removes an image that no container uses; succeeds when it is not there.
    ///
    /// # Errors
    /// `Backend` when the image is in use.
    pub async fn remove_image(&self, image: &str) -> Result<(), RuntimeError> {
        let reference = translate::image_reference(image)?;
        gone(self.inner.engine.remove_image(&reference).await)
            .map_err(|error| error.into_runtime(format!("removing image {reference}")))
    }

    /// Removes the image of the sandboxes' program, unless a sandbox of any cluster uses it: then the engine keeps it, and
    /// that is no error.
    ///
    /// # Errors
    /// When the engine does not answer, or has another reason to keep it.
    pub async fn remove_unused_pause_image(&self) -> Result<(), RuntimeError> {
        let image = image::pause_image();
        match gone(self.inner.engine.remove_image(&image).await) {
            Ok(()) | Err(EngineError::Status { code: 409, .. }) => Ok(()),
            Err(error) => Err(error.into_runtime(format!("removing image {image}"))),
        }
    }

    /// Has new sandboxes wait until [`Self::use_bridge`] or [`Self::use_own_networks`] says which network they are put on.
    pub fn await_bridge(&self) {
        self.inner.networks.choice.send_replace(Choice::Awaited);
    }

    /// Puts new sandboxes on this bridge; those that are there stay where they are.
    pub fn use_bridge(&self, bridge: PodBridge) {
        self.inner.networks.choice.send_replace(Choice::Given(bridge));
    }

    /// Puts new sandboxes on networks of the engine's own, as it does from the start.
    pub fn use_own_networks(&self) {
        self.inner.networks.choice.send_replace(Choice::Own);
    }

    /// Has sandboxes that are put on a bridge tied to it by `plumbing`, and not by the engine, from now on and for good.
    /// What their containers must have beside is kept in the directory `files`. The engine must be on this machine.
    ///
    /// # Errors
    /// `Invalid` when pods so tied could not find names as the machine does.
    pub fn tie_with(
        &self,
        plumbing: Arc<dyn Plumbing>,
        files: PathBuf,
    ) -> Result<(), RuntimeError> {
        self.inner.ties.tie_with(plumbing, files)
    }

    /// Brings what ties the sandboxes of a slice to what it should be, whatever others have done to it, and takes away what
    /// is left of sandboxes that are gone. Does nothing unless [`Self::tie_with`] said by what.
    ///
    /// # Errors
    /// When the engine does not answer, or something could not be put back: the others are, then.
    pub async fn look_after(&self, slice: Cidr) -> Result<(), RuntimeError> {
        self.inner.ties.look_after(slice).await
    }

    /// Lists the devices of this machine behind which the sandboxes of a node are that the engine has put on a network, by their numbers: what has to be put on a
    /// bridge again that somebody has removed. The engine must be on this machine.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn sandbox_devices(&self, scope: &Scope) -> Result<Vec<u32>, RuntimeError> {
        let found = self.inner.sandbox_devices(scope).await;
        found.map_err(|error| error.into_runtime("looking for the devices of sandboxes"))
    }

    /// Ends and removes all sandboxes and containers of a cluster, of all of its nodes on this engine, and its network. Images stay.
    ///
    /// # Errors
    /// When something could not be removed.
    pub async fn remove_cluster(&self, cluster: &str) -> Result<(), RuntimeError> {
        self.inner.remove_cluster(cluster).await.map_err(|error| {
            error.into_runtime(format!("removing the containers of cluster {cluster}"))
        })
    }
}

#[async_trait]
impl Runtime for DockerRuntime {
    async fn describe(&self) -> Result<RuntimeInfo, RuntimeError> {
        let answer = self.inner.engine.version().await;
        let answer = answer.map_err(|error| error.into_runtime("asking for the version"))?;
        Ok(RuntimeInfo {
            name: "docker".to_owned(),
            version: answer.version.unwrap_or_default(),
            enforces_limits: true,
            uses_images: true,
        })
    }

    async fn list(&self, scope: &Scope) -> Result<Vec<SandboxObservation>, RuntimeError> {
        // From here on changes are noticed, so that none falls between this list and the wait for the next.
        self.inner.events.of(scope);
        let listing = self.inner.listing(scope).await;
        let (listing, details) =
            listing.map_err(|error| error.into_runtime("listing containers"))?;
        Ok(observe::sandboxes(listing, &details))
    }

    async fn image(&self, image: &str) -> Result<Option<String>, RuntimeError> {
        let reference = translate::image_reference(image)?;
        let id = self.inner.engine.image_id(&reference).await;
        id.map_err(|error| error.into_runtime(format!("looking for image {reference}")))
    }

    async fn pull(&self, image: &str) -> Result<(), RuntimeError> {
        let reference = translate::image_reference(image)?;
        let outcome = self.inner.engine.pull(&reference).await;
        outcome.map_err(|error| error.into_runtime(format!("pulling image {reference}")))
    }

    async fn create_sandbox(&self, spec: &SandboxSpec) -> Result<(), RuntimeError> {
        let name = translate::sandbox_name(&spec.key)?;
        let outcome = self.inner.make_sandbox(spec, &name).await;
        if outcome.is_err() {
            let cluster = &spec.key.scope.cluster;
            if let Err(error) = self.inner.networks.release_unused(cluster).await {
                tracing::debug!(cluster, %error, "an unused network may be left behind");
            }
        }
        outcome
    }

    async fn remove_sandbox(&self, key: &SandboxKey) -> Result<(), RuntimeError> {
        let action = || format!("removing the sandbox of pod {}", key.pod);
        let (inner, cluster) = (Arc::clone(&self.inner), key.scope.cluster.clone());
        let labels = translate::sandbox_labels(key);
        // Goes on when the caller gives up: a network whose last sandbox is gone would stay until there is another.
        let removing = tokio::spawn(async move {
            inner.remove_containers(&labels).await?;
            inner.networks.release_unused(&cluster).await
        });
        match removing.await {
            Ok(outcome) => outcome.map_err(|error| error.into_runtime(action())),
            Err(error) => Err(RuntimeError::Backend { action: action(), source: Box::new(error) }),
        }
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        let name = translate::container_name(&spec.key)?;
        let sandbox = self.inner.running_sandbox(&spec.key.sandbox).await?;
        let request = translate::container_request(spec, &sandbox);
        let labels = request.labels.clone().unwrap_or_default();
        match self.inner.engine.create(&name, request).await {
            Ok(_) => Ok(()),
            Err(error) if is_image_missing(&error) => {
                Err(RuntimeError::ImageMissing { image: spec.image.clone() })
            }
            Err(error) if error.is_conflict() => {
                self.inner.adopt(&name, &labels, error).await.map(drop)
            }
            Err(error) => Err(known_or(
                error,
                &|| RuntimeError::NotFound { what: format!("sandbox of container {}", spec.key) },
                "making a container",
            )),
        }
    }

    async fn start_container(&self, key: &ContainerKey) -> Result<(), RuntimeError> {
        let (id, detail) = self.inner.container(key).await?;
        match detail.phase {
            Phase::Created => {}
            // The engine would run an ended one again; a start that is repeated because its answer was lost must not.
            Phase::Ended | Phase::Running => return Ok(()),
        }
        let Err(error) = self.inner.engine.start(&id).await else { return Ok(()) };
        if error.is_conflict() {
            let what = format!("running sandbox of container {key} ({})", error.message());
            return Err(RuntimeError::NotFound { what });
        }
        if let Some(message) = translate::cannot_run_message(error.message()) {
            return Err(RuntimeError::Invalid { message });
        }
        Err(known_or(error, &|| container_not_found(key), &format!("starting container {key}")))
    }

    async fn stop_container(&self, key: &ContainerKey, grace_ms: u64) -> Result<(), RuntimeError> {
        let name = translate::container_name(key)?;
        let engine = &self.inner.engine;
        // The engine counts whole seconds. It gets them rounded up, to do the work if we end; we are exact.
        let seconds = i32::try_from(grace_ms.div_ceil(1000)).unwrap_or(i32::MAX);
        let mut stop = std::pin::pin!(engine.stop(&name, seconds));
        let outcome = tokio::select! {
            outcome = &mut stop => outcome,
            () = tokio::time::sleep(Duration::from_millis(grace_ms)) => {
                if let Err(error) = engine.kill(&name).await {
                    tracing::debug!(container = name, %error, "nothing to kill");
                }
                stop.await
            }
        };
        gone(outcome).map_err(|error| error.into_runtime(format!("stopping container {key}")))
    }

    async fn remove_container(&self, key: &ContainerKey) -> Result<(), RuntimeError> {
        let name = translate::container_name(key)?;
        let outcome = self.inner.engine.remove_ended(&name).await;
        let outcome = self.inner.removed(&name, outcome).await;
        outcome.map_err(|error| error.into_runtime(format!("removing container {key}")))
    }

    async fn logs(
        &self,
        key: &ContainerKey,
        options: &LogOptions,
    ) -> Result<Box<dyn LogStream>, RuntimeError> {
        let (id, _) = self.inner.container(key).await?;
        let stream = self.inner.engine.logs(&id, logs::request(options));
        Ok(Box::new(DockerLog::new(key.to_string(), stream)))
    }

    async fn exec(
        &self,
        key: &ContainerKey,
        command: &[String],
        timeout_ms: u64,
    ) -> Result<ExecOutcome, RuntimeError> {
        let (id, _) = self.inner.container(key).await?;
        exec::run(&self.inner.engine, (&id, &key.to_string()), command, timeout_ms).await
    }

    async fn session(
        &self,
        key: &ContainerKey,
        options: &SessionOptions,
    ) -> Result<Session, RuntimeError> {
        let (id, _) = self.inner.container(key).await?;
        session::open(&self.inner, (&id, &key.to_string()), options).await
    }

    async fn attach(
        &self,
        key: &ContainerKey,
        options: &AttachOptions,
    ) -> Result<Session, RuntimeError> {
        let (id, _) = self.inner.container(key).await?;
        attach::open(&self.inner, (&id, &key.to_string()), *options).await
    }

    async fn usage(&self, scope: &Scope) -> Result<Vec<Usage>, RuntimeError> {
        let listing = self.inner.listing(scope).await;
        let (listing, details) =
            listing.map_err(|error| error.into_runtime("listing containers"))?;
        let targets: Vec<Target> = listing
            .into_iter()
            .filter_map(|item| {
                let detail = details.get(&item.id).filter(|it| it.phase == Phase::Running)?;
                let ListedKey::Container(key) = item.key else { return None };
                let written = detail.written.clone();
                Some(Target { key, id: item.id, pid: detail.pid, written })
            })
            .collect();
        // Reading files of the kernel's can take a while on a loaded machine.
        let measured = tokio::task::spawn_blocking(move || usage::measure(targets)).await;
        measured.map_err(|error| RuntimeError::Backend {
            action: "measuring containers".to_owned(),
            source: Box::new(error),
        })
    }

    async fn changed(&self, scope: &Scope) {
        self.inner.events.of(scope).notified().await;
    }
}
