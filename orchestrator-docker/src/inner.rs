//! `Inner`: what the verbs share: finding, making and removing containers on the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use bollard::models::ContainerInspectResponse;
use futures_util::{StreamExt, TryStreamExt};
use orchestrator_core::node::PlumbingError;
use orchestrator_core::runtime::{ContainerKey, RuntimeError, SandboxKey, SandboxSpec, Scope};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::events::Events;
use crate::image;
use crate::network::Networks;
use crate::observe::{self, Detail, Listed, ListedKey, Phase};
use crate::tied::Tied;
use crate::ties::Ties;
use crate::translate::{self, Place, SandboxFacts};

/// How many containers are inspected or removed at a time; more only makes each slower.
const ENGINE_CALLS_MAX: usize = 4;
/// How often making a sandbox begins anew because its image or network went away meanwhile.
const SANDBOX_ROUNDS_MAX: usize = 4;

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) events: Events,
    pub(crate) networks: Networks,
    pub(crate) ties: Ties,
    /// What inspections told, by container id. Only saves asking again: what is kept is checked against each listing.
    details: Mutex<BTreeMap<Scope, BTreeMap<String, Detail>>>,
    /// Held while the pause image is being made, so that it is made once.
    importing: tokio::sync::Mutex<()>,
}

impl Inner {
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            events: Events::new(engine.clone()),
            networks: Networks::new(engine.clone()),
            ties: Ties::new(engine.clone()),
            details: Mutex::default(),
            importing: tokio::sync::Mutex::default(),
            engine,
        }
    }

    pub(crate) async fn remove_cluster(&self, cluster: &str) -> Result<(), EngineError> {
        self.remove_containers(&[translate::cluster_label(cluster)]).await?;
        self.networks.remove_all(cluster).await
    }

    /// Ends and removes the containers with these labels, the sandboxes last.
    pub(crate) async fn remove_containers(&self, labels: &[String]) -> Result<(), EngineError> {
        let listing = self.engine.containers(labels).await?;
        let (mut containers, mut sandboxes, mut tied) = (Vec::new(), Vec::new(), Vec::new());
        for summary in listing {
            let Some(id) = summary.id else { continue };
            let labels = summary.labels.unwrap_or_default();
            let is_sandbox = !labels.contains_key(translate::LABEL_CONTAINER);
            if is_sandbox {
                sandboxes.push(id)
            } else {
                containers.push(id)
            }
            tied.extend(Tied::read(&labels));
        }
        for ids in [containers, sandboxes] {
            futures_util::stream::iter(ids.into_iter().map(Ok))
                .try_for_each_concurrent(ENGINE_CALLS_MAX, |id: String| async move {
                    self.removed(&id, self.engine.remove_by_force(&id).await).await
                })
                .await?;
        }
        self.ties.untie(&tied).await;
        Ok(())
    }

    /// Makes sure that after a removal the container is gone, also when someone else is removing it.
    pub(crate) async fn removed(
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
    pub(crate) async fn make_sandbox(
        &self,
        spec: &SandboxSpec,
        name: &str,
    ) -> Result<(), RuntimeError> {
        let cluster = &spec.key.scope.cluster;
        let _kept = self.networks.keep().await;
        let mut last = None;
        for _ in 0..SANDBOX_ROUNDS_MAX {
            let bridge = self.networks.chosen().await;
            let outcome = match bridge {
                Some(bridge) if self.ties.are_ours() => {
                    let begun = self.ties.begin(spec, bridge.slice).await?;
                    let outcome = self.make_at(spec, name, &Place::Tied(begun.clone())).await;
                    match &outcome {
                        Ok(there) => self.ties.settle(&begun, there.as_ref()).await,
                        Err(Vain::Again(_)) => self.ties.settle(&begun, None).await,
                        Err(Vain::Failed(_)) => self.ties.doubt(&begun).await,
                    }
                    outcome
                }
                bridge => {
                    let network = self.networks.ensure(cluster, bridge.as_ref()).await?;
                    self.make_at(spec, name, &Place::Network(network)).await
                }
            };
            match outcome {
                Ok(_) => return Ok(()),
                Err(Vain::Again(error)) => last = Some(error),
                Err(Vain::Failed(error)) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| RuntimeError::NotFound {
            what: format!("network of cluster {cluster}"),
        }))
    }

    /// Makes and starts a sandbox's container at a place. Returns how the one that is there now is tied, if it is by us: another
    /// one may have been there.
    async fn make_at(
        &self,
        spec: &SandboxSpec,
        name: &str,
        place: &Place,
    ) -> Result<Option<Tied>, Vain> {
        let action = || format!("making sandbox {name}");
        let image = image::pause_image();
        let request = translate::sandbox_request(spec, &image, place);
        let labels = request.labels.clone().unwrap_or_default();
        let (phase, tied) = match self.engine.create(name, request).await {
            Ok(_) => (Phase::Created, Tied::read(&labels)),
            Err(error) if error.is_conflict() => {
                let found = self.adopt(name, &labels, error).await?;
                let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
                let tied = labels.and_then(Tied::read);
                if let Some(tied) = &tied {
                    let outcome = self.ties.complete(tied, &translate::host_name(&spec.name)).await;
                    outcome.map_err(|error| RuntimeError::Backend {
                        action: action(),
                        source: error.into(),
                    })?;
                }
                (observe::detail(found).phase, tied)
            }
            Err(error) if is_image_missing(&error) => {
                self.import_pause(&image).await?;
                return Err(Vain::Again(error.into_runtime(action())));
            }
            Err(error) if is_network_missing(&error) => {
                self.networks.forget().await;
                return Err(Vain::Again(error.into_runtime(action())));
            }
            Err(error) => return Err(error.into_runtime(action()).into()),
        };
        match phase {
            Phase::Created => self.start_sandbox(spec, name).await?,
            // A sandbox that has ended never comes back; a listing shows that it is not ready.
            Phase::Ended => return Ok(tied),
            Phase::Running => {}
        }
        if let Some(tied) = &tied {
            self.tie(name, tied).await?;
        }
        Ok(tied)
    }

    async fn start_sandbox(&self, spec: &SandboxSpec, name: &str) -> Result<(), Vain> {
        let action = || format!("making sandbox {name}");
        let Err(error) = self.engine.start(name).await else { return Ok(()) };
        if is_network_missing(&error) {
            self.networks.forget().await;
            self.discard(name).await;
            Err(Vain::Again(error.into_runtime(action())))
        } else if let Some(message) = taken_port(spec, &error) {
            self.discard(name).await;
            Err(RuntimeError::Invalid { message }.into())
        } else {
            Err(error.into_runtime(action()).into())
        }
    }

    /// Ties a sandbox that runs to the network; one that cannot be is removed again.
    async fn tie(&self, name: &str, tied: &Tied) -> Result<(), Vain> {
        let action = || format!("tying sandbox {name} to the network");
        let pid = match self.engine.inspect(name).await {
            Ok(found) => observe::detail(found).pid,
            Err(error) => return Err(error.into_runtime(action()).into()),
        };
        let error = match self.ties.tie(tied, pid).await {
            // It has just ended, and a listing shows that.
            Ok(()) | Err(PlumbingError::PodGone { .. }) => return Ok(()),
            Err(error) => error,
        };
        self.discard(name).await;
        match error {
            PlumbingError::AddressTaken { .. } => {
                self.ties.forget().await;
                Err(Vain::Again(RuntimeError::Backend { action: action(), source: error.into() }))
            }
            PlumbingError::PortTaken { port, protocol } => {
                self.ties.untie(std::slice::from_ref(tied)).await;
                let protocol = translate::protocol(protocol);
                let message = format!("host port {port}/{protocol} is taken");
                Err(RuntimeError::Invalid { message }.into())
            }
            error => {
                self.ties.untie(std::slice::from_ref(tied)).await;
                Err(RuntimeError::Backend { action: action(), source: error.into() }.into())
            }
        }
    }

    /// The other ends of the devices of a node's sandboxes that the engine has put on a network.
    pub(crate) async fn sandbox_devices(&self, scope: &Scope) -> Result<Vec<u32>, EngineError> {
        let (listing, _) = self.listing(scope).await?;
        let mut devices = Vec::new();
        for item in listing {
            let is_running = item.phase == Phase::Running;
            if !is_running || item.is_tied || !matches!(item.key, ListedKey::Sandbox(_)) {
                continue;
            }
            let pid = match self.engine.inspect(&item.id).await {
                Ok(found) => observe::detail(found).pid,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            // As the sandbox itself sees it: it may be gone, or have no network of its own.
            let link = format!("/proc/{pid}/root/sys/class/net/eth0/iflink");
            let number = std::fs::read_to_string(link).ok();
            devices.extend(number.and_then(|text| text.trim().parse::<u32>().ok()));
        }
        Ok(devices)
    }

    /// Takes the container that has the name already, if it is the one meant.
    pub(crate) async fn adopt(
        &self,
        name: &str,
        labels: &translate::Labels,
        conflict: EngineError,
    ) -> Result<ContainerInspectResponse, RuntimeError> {
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
        Ok(found)
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
    pub(crate) async fn running_sandbox(
        &self,
        key: &SandboxKey,
    ) -> Result<SandboxFacts, RuntimeError> {
        let name = translate::sandbox_name(key)?;
        let not_found = || RuntimeError::NotFound { what: format!("running sandbox {name}") };
        let found = self.engine.inspect(&name).await;
        let found = found.map_err(|error| known_or(error, &not_found, "looking for a sandbox"))?;
        observe::sandbox_facts(found).ok_or_else(not_found)
    }

    /// Finds a container; its id and what it does.
    pub(crate) async fn container(
        &self,
        key: &ContainerKey,
    ) -> Result<(String, Detail), RuntimeError> {
        let name = translate::container_name(key)?;
        let found = self.engine.inspect(&name).await;
        let found = found.map_err(|error| {
            known_or(error, &|| container_not_found(key), "looking for a container")
        })?;
        Ok((found.id.clone().unwrap_or(name), observe::detail(found)))
    }

    /// Lists a scope with what inspections tell of each container of it.
    pub(crate) async fn listing(
        &self,
        scope: &Scope,
    ) -> Result<(Vec<Listed>, BTreeMap<String, Detail>), EngineError> {
        let died = self.events.died(scope);
        let summaries = self.engine.containers(&translate::scope_labels(scope)).await?;
        let mut listing: Vec<Listed> = summaries.into_iter().filter_map(observe::listed).collect();
        let running = |item: &&Listed| item.phase == Phase::Running;
        let running: BTreeSet<&str> = listing.iter().filter(running).map(|it| &*it.id).collect();
        let seen = died.iter().filter(|id| !running.contains(id.as_str())).cloned().collect();
        self.events.forget_died(scope, &seen);
        let known = self.details().get(scope).cloned().unwrap_or_default();
        let mut details = BTreeMap::new();
        let mut unknown = Vec::new();
        for item in &listing {
            // An inspection waits until the engine is done with an end; the listing of a moment ago did not.
            let doubted = died.contains(&item.id) && item.phase == Phase::Running;
            let kept = known.get(&item.id).filter(|detail| {
                // One that was made may have failed to start since, which a listing does not show.
                detail.phase == item.phase && item.phase != Phase::Created && !doubted
            });
            match (&item.key, kept) {
                (ListedKey::Sandbox(_), _) if !doubted => {}
                (ListedKey::Container(_), Some(detail)) => {
                    details.insert(item.id.clone(), detail.clone());
                }
                (ListedKey::Container(_) | ListedKey::Sandbox(_), _) => {
                    unknown.push(item.id.clone());
                }
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
        for item in &mut listing {
            if let Some(detail) = details.get(&item.id) {
                item.phase = detail.phase;
            }
        }
        self.details().insert(scope.clone(), details.clone());
        Ok((listing, details))
    }

    fn details(&self) -> std::sync::MutexGuard<'_, BTreeMap<Scope, BTreeMap<String, Detail>>> {
        // Each change is one insertion, so a panic elsewhere leaves nothing half done.
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a sandbox was made in vain.
enum Vain {
    /// What it needs went away meanwhile; it is made again.
    Again(RuntimeError),
    Failed(RuntimeError),
}

impl From<RuntimeError> for Vain {
    fn from(error: RuntimeError) -> Self {
        Self::Failed(error)
    }
}

/// Takes what is not there for removed.
pub(crate) fn gone(outcome: Result<(), EngineError>) -> Result<(), EngineError> {
    outcome.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
}

pub(crate) fn known_or(
    error: EngineError,
    not_found: &dyn Fn() -> RuntimeError,
    action: &str,
) -> RuntimeError {
    if error.is_not_found() { not_found() } else { error.into_runtime(action) }
}

pub(crate) fn container_not_found(key: &ContainerKey) -> RuntimeError {
    RuntimeError::NotFound { what: format!("container {key}") }
}

pub(crate) fn is_image_missing(error: &EngineError) -> bool {
    error.is_not_found() && error.message().to_ascii_lowercase().contains("no such image")
}

fn is_network_missing(error: &EngineError) -> bool {
    error.is_not_found() && error.message().contains("network")
}

fn taken_port(spec: &SandboxSpec, error: &EngineError) -> Option<String> {
    translate::taken_port_message(&spec.ports, error.message())
}
