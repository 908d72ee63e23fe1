//! `DockerRuntime`: the verbs of the contract, on the engine's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};
use orchestrator_core::runtime::{
    ContainerKey, ContainerSpec, ExecOutcome, LogOptions, LogStream, Runtime, RuntimeError,
    RuntimeInfo, SandboxKey, SandboxObservation, SandboxSpec, Scope, Usage,
};

use crate::engine::{ConnectError, Engine};
use crate::error::EngineError;
use crate::events::Events;
use crate::exec;
use crate::image::{self, ImageFile};
use crate::logs::{self, DockerLog};
use crate::network::Networks;
use crate::observe::{self, Detail, Listed, ListedKey, Phase};
use crate::translate::{self, SandboxFacts};
use crate::usage::{self, Target};

/// Where the engine listens unless `$DOCKER_HOST` says otherwise.
const HOST_DEFAULT: &str = "unix:///var/run/docker.sock";
/// How many containers are inspected or removed at a time; more only makes each slower.
const ENGINE_CALLS_MAX: usize = 4;
/// How often making a sandbox begins anew because its image or network went away meanwhile.
const SANDBOX_ROUNDS_MAX: usize = 4;

/// Runs pods on a Docker Engine. Clones share one connection.
#[derive(Clone, Debug)]
pub struct DockerRuntime {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    events: Events,
    networks: Networks,
    /// What inspections told, by container id. Only saves asking again: what is kept is checked against each listing.
    details: Mutex<BTreeMap<Scope, BTreeMap<String, Detail>>>,
    /// Held while the pause image is being made, so that it is made once.
    importing: tokio::sync::Mutex<()>,
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
        let inner = Inner {
            events: Events::new(engine.clone()),
            networks: Networks::new(engine.clone()),
            details: Mutex::default(),
            importing: tokio::sync::Mutex::default(),
            engine,
        };
        Ok(Self { inner: Arc::new(inner) })
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

impl Inner {
    async fn remove_cluster(&self, cluster: &str) -> Result<(), EngineError> {
        self.remove_containers(&[translate::cluster_label(cluster)]).await?;
        self.networks.remove_all(cluster).await
    }

    /// Ends and removes the containers with these labels, the sandboxes last.
    async fn remove_containers(&self, labels: &[String]) -> Result<(), EngineError> {
        let listing = self.engine.containers(labels).await?;
        let (mut containers, mut sandboxes) = (Vec::new(), Vec::new());
        for summary in listing {
            let Some(id) = summary.id else { continue };
            let labels = summary.labels.unwrap_or_default();
            let is_sandbox = !labels.contains_key(translate::LABEL_CONTAINER);
            if is_sandbox { sandboxes.push(id) } else { containers.push(id) }
        }
        for ids in [containers, sandboxes] {
            futures_util::stream::iter(ids.into_iter().map(Ok))
                .try_for_each_concurrent(ENGINE_CALLS_MAX, |id: String| async move {
                    self.removed(&id, self.engine.remove_by_force(&id).await).await
                })
                .await?;
        }
        Ok(())
    }

    /// Makes sure that after a removal the container is gone, also when someone else is removing it.
    async fn removed(
        &self,
        container: &str,
        outcome: Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        match gone(outcome) {
            Err(error) if error.is_conflict() && error.message().contains("in progress") => {
                self.engine.wait_removed(container).await
            }
            outcome => outcome,
        }
    }

    /// Makes and starts a sandbox's container, and what it needs.
    async fn make_sandbox(&self, spec: &SandboxSpec, name: &str) -> Result<(), RuntimeError> {
        let cluster = &spec.key.scope.cluster;
        let image = image::pause_image();
        let action = || format!("making sandbox {name}");
        let _kept = self.networks.keep().await;
        let mut last = None;
        for _ in 0..SANDBOX_ROUNDS_MAX {
            let network = self.networks.ensure(cluster).await?;
            let request = translate::sandbox_request(spec, &image, &network);
            let labels = request.labels.clone().unwrap_or_default();
            let made = match self.engine.create(name, request).await {
                Err(error) if error.is_conflict() => self.adopt(name, &labels, error).await?,
                Err(error) if is_image_missing(&error) => {
                    self.import_pause(&image).await?;
                    last = Some(error);
                    continue;
                }
                Err(error) if is_network_missing(&error) => {
                    self.networks.forget(cluster).await;
                    last = Some(error);
                    continue;
                }
                outcome => {
                    outcome.map(|_| Phase::Created).map_err(|it| it.into_runtime(action()))?
                }
            };
            match made {
                Phase::Created => {}
                // A sandbox that has ended never comes back; a listing shows that it is not ready.
                Phase::Ended | Phase::Running => return Ok(()),
            }
            let Err(error) = self.engine.start(name).await else { return Ok(()) };
            if is_network_missing(&error) {
                self.networks.forget(cluster).await;
                self.discard(name).await;
                last = Some(error);
            } else if let Some(message) = taken_port(spec, &error) {
                self.discard(name).await;
                return Err(RuntimeError::Invalid { message });
            } else {
                return Err(error.into_runtime(action()));
            }
        }
        Err(last.map_or_else(
            || RuntimeError::NotFound { what: format!("network of cluster {cluster}") },
            |error| error.into_runtime(action()),
        ))
    }

    /// Takes the container that has the name already, if it is the one meant.
    async fn adopt(
        &self,
        name: &str,
        labels: &translate::Labels,
        conflict: EngineError,
    ) -> Result<Phase, RuntimeError> {
        let action = || format!("making container {name}");
        let found = match self.engine.inspect(name).await {
            Ok(found) => found,
            // Gone meanwhile: the caller tries again.
            Err(error) if error.is_not_found() => return Err(conflict.into_runtime(action())),
            Err(error) => return Err(error.into_runtime(action())),
        };
        let theirs = found.config.as_ref().and_then(|config| config.labels.as_ref());
        if !theirs.is_some_and(|theirs| translate::is_same_key(theirs, labels)) {
            return Err(RuntimeError::Invalid {
                message: format!("a container named {name} exists and is not of this cluster"),
            });
        }
        Ok(observe::detail(found).phase)
    }

    /// Removes a container that was made in vain; if that fails too, it is listed and removed with its pod.
    async fn discard(&self, name: &str) {
        if let Err(error) = self.removed(name, self.engine.remove_by_force(name).await).await {
            tracing::warn!(container = name, %error, "a container made in vain is left behind");
        }
    }

    async fn import_pause(&self, image: &str) -> Result<(), RuntimeError> {
        let _importing = self.importing.lock().await;
        let known = self.engine.image_id(image).await;
        match known.map_err(|error| error.into_runtime("looking for the pause image"))? {
            Some(_) => Ok(()),
            None => image::import_pause(&self.engine).await,
        }
    }

    /// Finds the sandbox that a container is to join.
    async fn running_sandbox(&self, key: &SandboxKey) -> Result<SandboxFacts, RuntimeError> {
        let name = translate::sandbox_name(key)?;
        let not_found = || RuntimeError::NotFound { what: format!("running sandbox {name}") };
        let found = self.engine.inspect(&name).await;
        let found = found.map_err(|error| known_or(error, &not_found, "looking for a sandbox"))?;
        observe::sandbox_facts(found).ok_or_else(not_found)
    }

    /// Finds a container; its id and what it does.
    async fn container(&self, key: &ContainerKey) -> Result<(String, Detail), RuntimeError> {
        let name = translate::container_name(key)?;
        let found = self.engine.inspect(&name).await;
        let found = found.map_err(|error| {
            known_or(error, &|| container_not_found(key), "looking for a container")
        })?;
        Ok((found.id.clone().unwrap_or(name), observe::detail(found)))
    }

    /// Lists a scope with what inspections tell of each container of it.
    async fn listing(
        &self,
        scope: &Scope,
    ) -> Result<(Vec<Listed>, BTreeMap<String, Detail>), EngineError> {
        let summaries = self.engine.containers(&translate::scope_labels(scope)).await?;
        let listing: Vec<Listed> = summaries.into_iter().filter_map(observe::listed).collect();
        let known = self.details().get(scope).cloned().unwrap_or_default();
        let mut details = BTreeMap::new();
        let mut unknown = Vec::new();
        for item in &listing {
            let kept = known.get(&item.id).filter(|detail| {
                // One that was made may have failed to start since, which a listing does not show.
                detail.phase == item.phase && item.phase != Phase::Created
            });
            match (&item.key, kept) {
                (ListedKey::Sandbox(_), _) => {}
                (ListedKey::Container(_), Some(detail)) => {
                    details.insert(item.id.clone(), detail.clone());
                }
                (ListedKey::Container(_), None) => unknown.push(item.id.clone()),
            }
        }
        let inspections = futures_util::stream::iter(unknown)
            .map(|id| async move {
                match self.engine.inspect(&id).await {
                    Ok(found) => Ok(Some((id, observe::detail(found)))),
                    Err(error) if error.is_not_found() => Ok(None),
                    Err(error) => Err(error),
                }
            })
            .buffer_unordered(ENGINE_CALLS_MAX);
        let inspected: Vec<_> = inspections.try_collect().await?;
        details.extend(inspected.into_iter().flatten());
        self.details().insert(scope.clone(), details.clone());
        Ok((listing, details))
    }

    fn details(&self) -> std::sync::MutexGuard<'_, BTreeMap<Scope, BTreeMap<String, Detail>>> {
        // Each change is one insertion, so a panic elsewhere leaves nothing half done.
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
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
        let removed = self.inner.remove_containers(&translate::sandbox_labels(key)).await;
        removed.map_err(|error| error.into_runtime(action()))?;
        let released = self.inner.networks.release_unused(&key.scope.cluster).await;
        released.map_err(|error| error.into_runtime(action()))
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

    async fn usage(&self, scope: &Scope) -> Result<Vec<Usage>, RuntimeError> {
        let listing = self.inner.listing(scope).await;
        let (listing, details) =
            listing.map_err(|error| error.into_runtime("listing containers"))?;
        let targets: Vec<Target> = listing
            .into_iter()
            .filter_map(|item| {
                let detail = details.get(&item.id).filter(|it| it.phase == Phase::Running)?;
                let ListedKey::Container(key) = item.key else { return None };
                let written: Vec<PathBuf> = detail.written.clone();
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

/// Takes what is not there for removed.
fn gone(outcome: Result<(), EngineError>) -> Result<(), EngineError> {
    outcome.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
}

fn known_or(
    error: EngineError,
    not_found: &dyn Fn() -> RuntimeError,
    action: &str,
) -> RuntimeError {
    if error.is_not_found() { not_found() } else { error.into_runtime(action) }
}

fn container_not_found(key: &ContainerKey) -> RuntimeError {
    RuntimeError::NotFound { what: format!("container {key}") }
}

fn is_image_missing(error: &EngineError) -> bool {
    error.is_not_found() && error.message().to_ascii_lowercase().contains("no such image")
}

fn is_network_missing(error: &EngineError) -> bool {
    error.is_not_found() && error.message().contains("network")
}

fn taken_port(spec: &SandboxSpec, error: &EngineError) -> Option<String> {
    translate::taken_port_message(&spec.ports, error.message())
}
