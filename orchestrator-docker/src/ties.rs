//! `Ties`: sandboxes that are tied to the network by us, not by the engine: their addresses, their wires, their files.
//!
//! What is given to whom stands in the sandboxes' labels; what is kept here only saves listing them again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bollard::models::ContainerSummary;
use orchestrator_core::model::Cidr;
use orchestrator_core::node::{Plumbing, PlumbingError, PodWire, allot};
use orchestrator_core::runtime::{RuntimeError, SandboxSpec};
use tokio::sync::Mutex;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::files;
use crate::observe::{self, Phase};
use crate::tied::{self, Tied};
use crate::translate::{self, LABEL_CLUSTER};

/// Keeps track of what is tied.
#[derive(Debug)]
pub(crate) struct Ties {
    engine: Engine,
    means: OnceLock<Means>,
    /// Held while something is given or looked after, so that nothing is taken for gone that is being made.
    known: Mutex<Known>,
}

/// By what sandboxes are tied.
#[derive(Debug)]
struct Means {
    plumbing: Arc<dyn Plumbing>,
    /// Where files for containers are kept.
    dir: PathBuf,
}

#[derive(Debug, Default)]
struct Known {
    /// The addresses that sandboxes have; `None` before they were listed.
    in_use: Option<BTreeSet<Ipv4Addr>>,
    /// Sandboxes that are being made.
    coming: BTreeMap<Ipv4Addr, Tied>,
    /// The address that was given last.
    last: Option<Ipv4Addr>,
}

/// What a listing shows of a slice.
#[derive(Debug, Default)]
struct Found {
    in_use: BTreeSet<Ipv4Addr>,
    /// The sandboxes that are tied, by the ids of their containers, the newest first.
    tied: Vec<(String, Tied, Phase)>,
}

impl Known {
    fn learn(&mut self, found: &Found) {
        let newest = found.tied.first().map(|(_, tied, _)| tied.wire.address);
        self.last = self.last.or(newest);
        self.in_use = Some(found.in_use.clone());
    }
}

impl Ties {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, means: OnceLock::new(), known: Mutex::default() }
    }

    /// Says by what sandboxes are tied; the first one stays.
    pub(crate) fn tie_with(
        &self,
        plumbing: Arc<dyn Plumbing>,
        dir: PathBuf,
    ) -> Result<(), RuntimeError> {
        if files::resolver().is_none() {
            let message = "the machine finds names through a server on its own loopback, where pods do not reach it";
            return Err(RuntimeError::Invalid { message: message.to_owned() });
        }
        self.means.get_or_init(|| Means { plumbing, dir });
        Ok(())
    }

    /// Whether sandboxes are tied by us.
    pub(crate) fn are_ours(&self) -> bool {
        self.means.get().is_some()
    }

    /// Gives a sandbox an address of a slice, and makes its files. Ends with [`Self::settle`] or [`Self::doubt`].
    pub(crate) async fn begin(
        &self,
        spec: &SandboxSpec,
        slice: Cidr,
    ) -> Result<Tied, RuntimeError> {
        tied::check(&spec.ports)?;
        let action = || format!("giving pod {} an address of {slice}", spec.key.pod);
        let failed = |source| RuntimeError::Backend { action: action(), source };
        let means = self.means.get().ok_or_else(|| failed("nothing ties pods".into()))?;
        let mut known = self.known.lock().await;
        let mut in_use = match &known.in_use {
            Some(in_use) => in_use.clone(),
            None => {
                let found = self.found(slice).await;
                let found = found.map_err(|error| error.into_runtime(action()))?;
                known.learn(&found);
                found.in_use
            }
        };
        in_use.extend(known.coming.keys());
        let address = allot(slice, &in_use, known.last);
        let address = address.ok_or_else(|| failed("all of them are in use".into()))?;
        let dir = format!("{}-{}-{address}", spec.key.pod, spec.key.attempt);
        let wire = PodWire { address, ports: spec.ports.clone() };
        let tied = Tied { wire, slice, files: means.dir.join(dir) };
        let written = files::write(&tied.files, &translate::host_name(&spec.name), address);
        written.map_err(|error| failed(error.into()))?;
        known.last = Some(address);
        known.coming.insert(address, tied.clone());
        Ok(tied)
    }

    /// Takes note of what has become of one that was begun: which sandbox is there now, if any.
    pub(crate) async fn settle(&self, begun: &Tied, there: Option<&Tied>) {
        let mut known = self.known.lock().await;
        known.coming.remove(&begun.wire.address);
        if let (Some(in_use), Some(there)) = (&mut known.in_use, there) {
            in_use.insert(there.wire.address);
        }
        if there != Some(begun) {
            remove_files(begun);
        }
    }

    /// As [`Self::settle`] when it is not known whether it is there: its files stay until a listing shows that it is not.
    pub(crate) async fn doubt(&self, begun: &Tied) {
        let mut known = self.known.lock().await;
        known.coming.remove(&begun.wire.address);
        known.in_use = None;
    }

    /// Sees to it that a sandbox that was found has its files: it may have come when it was thought not to.
    pub(crate) async fn complete(&self, tied: &Tied, host_name: &str) -> std::io::Result<()> {
        // Not while files of sandboxes that are gone are looked for.
        let _known = self.known.lock().await;
        files::write_missing(&tied.files, host_name, tied.wire.address)
    }

    /// Has the next address be chosen by a new listing.
    pub(crate) async fn forget(&self) {
        self.known.lock().await.in_use = None;
    }

    /// Ties a sandbox by the process that it runs.
    pub(crate) async fn tie(&self, tied: &Tied, pid: u32) -> Result<(), PlumbingError> {
        match self.means.get() {
            Some(means) => means.plumbing.wire(&tied.wire, pid).await,
            // It was tied by a process that had the right to; the wire is where it was.
            None => Ok(()),
        }
    }

    /// Takes away what is left of sandboxes that are gone.
    pub(crate) async fn untie(&self, gone: &[Tied]) {
        let Some(means) = self.means.get().filter(|_| !gone.is_empty()) else { return };
        let mut known = self.known.lock().await;
        for tied in gone {
            let address = tied.wire.address;
            if let Err(error) = means.plumbing.unwire(&tied.wire).await {
                tracing::warn!(%address, %error, "what tied a pod stays until it is looked after");
            }
            remove_files(tied);
            if let Some(in_use) = &mut known.in_use {
                in_use.remove(&address);
            }
        }
    }

    /// Brings what ties the sandboxes of a slice to what their labels say.
    pub(crate) async fn look_after(&self, slice: Cidr) -> Result<(), RuntimeError> {
        let Some(means) = self.means.get() else { return Ok(()) };
        let action = || "looking after the wires of pods".to_owned();
        let failed =
            |error: PlumbingError| RuntimeError::Backend { action: action(), source: error.into() };
        let mut known = self.known.lock().await;
        let found = self.found(slice).await.map_err(|error| error.into_runtime(action()))?;
        known.learn(&found);
        let is_running = |it: &&(String, Tied, Phase)| it.2 == Phase::Running;
        let wires = found.tied.iter().filter(is_running).map(|(_, tied, _)| tied.wire.clone());
        let coming = known.coming.values().map(|tied| tied.wire.clone());
        let wires: Vec<_> = wires.chain(coming).collect();
        let missing = means.plumbing.look(&wires).await.map_err(failed)?;
        let mut first = None;
        for (id, tied, _) in found.tied.iter().filter(is_running) {
            if !missing.contains(&tied.wire) {
                continue;
            }
            let pid = match self.engine.inspect(id).await {
                Ok(found) => observe::detail(found).pid,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into_runtime(action())),
            };
            match means.plumbing.wire(&tied.wire, pid).await {
                Ok(()) | Err(PlumbingError::PodGone { .. }) => {}
                // The others are not to wait for it.
                Err(error) => first = first.or(Some(error)),
            }
        }
        let there = found.tied.iter().map(|(_, tied, _)| tied).chain(known.coming.values());
        remove_other_files(means, &there.map(|tied| tied.files.clone()).collect());
        first.map_or(Ok(()), |error| Err(failed(error)))
    }

    async fn found(&self, slice: Cidr) -> Result<Found, EngineError> {
        let mut found = Found::default();
        for summary in self.engine.containers(&[LABEL_CLUSTER.to_owned()]).await? {
            let labels = summary.labels.clone().unwrap_or_default();
            let tied = Tied::read(&labels).filter(|tied| tied.slice == slice);
            let is_sandbox = !labels.contains_key(translate::LABEL_CONTAINER);
            let tied = tied.filter(|_| is_sandbox);
            let by_engine = observe::engine_address(&summary);
            let address = tied.as_ref().map(|tied| tied.wire.address).or(by_engine);
            found.in_use.extend(address.filter(|address| slice.contains(*address)));
            let ContainerSummary { id: Some(id), state: Some(state), .. } = summary else {
                continue;
            };
            found.tied.extend(tied.map(|tied| (id, tied, observe::phase_of(state))));
        }
        Ok(found)
    }
}

fn remove_files(tied: &Tied) {
    if let Err(error) = files::remove(&tied.files) {
        tracing::debug!(dir = %tied.files.display(), %error, "files of a pod stay for now");
    }
}

/// Removes files of sandboxes that are gone.
fn remove_other_files(means: &Means, wanted: &BTreeSet<PathBuf>) {
    // There is none before the first sandbox.
    let Ok(entries) = std::fs::read_dir(&means.dir) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| !wanted.contains(path)) {
        if let Err(error) = files::remove(&path) {
            tracing::debug!(dir = %path.display(), %error, "files of a pod stay for now");
        }
    }
}
