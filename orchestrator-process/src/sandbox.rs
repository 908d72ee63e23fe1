//! Sandboxes and the containers in them as directories: made, listed and removed so that a crash at any step leaves
//! either what was or what should be, and nothing else for long.
//!
//! A directory is made under a transient name and renamed when it is whole. Sandboxes change under the host-wide lock
//! of the claims, the containers of a sandbox under a lock on its directory.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use orchestrator_core::model::Protocol;
use orchestrator_core::runtime::{
    ContainerKey, ContainerObservation, ContainerSpec, RuntimeError, SandboxKey,
    SandboxObservation, SandboxSpec, Scope,
};

use crate::address::Claims;
use crate::container::{
    Container, MARKER, Phase, is_container, kill_lock_holder, lock_holder, now,
};
use crate::error::{Result, backend, if_present, invalid, not_found};
use crate::layout::{
    Layout, make_dir, names, original, parse_container, parse_sandbox, remove_tree, transient,
};
use crate::proc;
use crate::record::{
    CONTAINER_FILE, ContainerRecord, SANDBOX_FILE, SandboxRecord, read_json, write_json,
};
use crate::supervisor::Supervisor;

/// All sandboxes of a state directory.
#[derive(Clone, Debug)]
pub(crate) struct Sandboxes {
    layout: Layout,
    supervisor: Supervisor,
    /// Variables that every container gets, such as `PATH`.
    base_env: Vec<(String, String)>,
}

impl Sandboxes {
    pub(crate) fn new(
        layout: Layout,
        supervisor: Supervisor,
        base_env: Vec<(String, String)>,
    ) -> Self {
        Self { layout, supervisor, base_env }
    }

    pub(crate) fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// Tidies up after a crash, and renews claims that a reboot or a cleaner of /tmp has taken.
    pub(crate) fn tidy(&self) -> io::Result<()> {
        let claims = Claims::lock()?;
        for cluster in names(&self.layout.pods())? {
            let cluster = self.layout.pods().join(cluster);
            for node in names(&cluster)? {
                self.tidy_scope(&claims, &cluster.join(node))?;
            }
            let _ = fs::remove_dir(cluster); // if it is empty
        }
        claims.sweep()
    }

    fn tidy_scope(&self, claims: &Claims, scope: &Path) -> io::Result<()> {
        for name in names(scope)? {
            let path = scope.join(&name);
            if let Some(original) = original(&path) {
                // Half made or half removed, and nobody holds the lock but us.
                self.discard(&path, &original)?;
            } else if let Some(record) = sandbox_record(&path)? {
                claims.renew(record.ip, &path)?;
            }
        }
        remove_empty(scope);
        Ok(())
    }

    pub(crate) fn create(&self, spec: &SandboxSpec) -> Result<()> {
        if let Some(port) = spec.ports.iter().find(|port| port.protocol != Protocol::Tcp) {
            return Err(invalid(format!(
                "hostPort {} is {:?}, and the process runtime forwards TCP alone",
                port.host_port, port.protocol
            )));
        }
        let path = self.layout.sandbox(&spec.key)?;
        let failed = |error| backend(format!("make {}", path.display()), error);
        let claims = Claims::lock().map_err(failed)?;
        if sandbox_record(&path).map_err(failed)?.is_some() {
            return Ok(());
        }
        let draft = transient(&path);
        self.discard(&draft, &path).map_err(failed)?;
        make_dir(&draft).map_err(failed)?;
        let ip = claims.claim(&path).map_err(failed)?;
        let made =
            self.fill(&draft, spec, ip).and_then(|()| fs::rename(&draft, &path).map_err(failed));
        if made.is_err() {
            let _ = claims.release(ip, &path);
            let _ = self.discard(&draft, &path);
        }
        made
    }

    /// Makes what a sandbox is, under its transient name.
    fn fill(&self, draft: &Path, spec: &SandboxSpec, ip: Ipv4Addr) -> Result<()> {
        let record = SandboxRecord {
            namespace: spec.namespace.clone(),
            name: spec.name.clone(),
            ip,
            created_at: now(),
            boot_id: proc::boot_id(),
            forwards: !spec.ports.is_empty(),
        };
        if record.forwards {
            self.supervisor.forward(draft, ip, &spec.ports)?;
        }
        write_json(&draft.join(SANDBOX_FILE), &record)
            .map_err(|error| backend(format!("write {}", draft.display()), error))
    }

    pub(crate) fn list(&self, scope: &Scope) -> Result<Vec<SandboxObservation>> {
        let dir = self.layout.scope(scope)?;
        let boot_id = proc::boot_id();
        let mut found = Vec::new();
        for name in names(&dir).map_err(|error| backend("list sandboxes", error))? {
            let Some((pod, attempt)) = parse_sandbox(&name) else { continue };
            let path = dir.join(name);
            let record = sandbox_record(&path)
                .map_err(|error| backend(format!("read {}", path.display()), error))?;
            let Some(record) = record else { continue };
            let forwarded = lock_holder(&path).is_ok_and(|holder| holder.is_some());
            let key = SandboxKey { scope: scope.clone(), pod, attempt };
            found.push(SandboxObservation {
                containers: self.list_containers(&key, &path)?,
                key,
                namespace: record.namespace,
                name: record.name,
                ready: record.boot_id == boot_id && (!record.forwards || forwarded),
                ip: Some(IpAddr::V4(record.ip)),
                created_at: Some(record.created_at),
            });
        }
        found.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(found)
    }

    fn list_containers(
        &self,
        sandbox: &SandboxKey,
        path: &Path,
    ) -> Result<Vec<ContainerObservation>> {
        let mut found = Vec::new();
        for name in names(path).map_err(|error| backend("list containers", error))? {
            let Some((container, attempt)) = parse_container(&name) else { continue };
            let dir = path.join(name);
            let record: Option<ContainerRecord> = read_json(&dir.join(CONTAINER_FILE))
                .map_err(|error| backend(format!("read {}", dir.display()), error))?;
            let Some(record) = record else { continue };
            let state = self.container_at(&dir).observe()?.into_state();
            let key = ContainerKey { sandbox: sandbox.clone(), name: container, attempt };
            found.push(ContainerObservation {
                id: container_id(&key),
                key,
                image: record.image,
                image_id: String::new(),
                state,
            });
        }
        found.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(found)
    }

    /// Returns the containers of a sandbox, none if it is not there.
    pub(crate) fn containers(&self, key: &SandboxKey) -> Result<Vec<Container>> {
        let path = self.layout.sandbox(key)?;
        let names = names(&path).map_err(|error| backend("list containers", error))?;
        let names = names.into_iter().filter(|name| parse_container(name).is_some());
        Ok(names.map(|name| self.container_at(&path.join(name))).collect())
    }

    /// Removes a sandbox, unless a command in it runs. Returns whether it is gone.
    pub(crate) fn remove(&self, key: &SandboxKey) -> Result<bool> {
        let path = self.layout.sandbox(key)?;
        let failed = |error| backend(format!("remove {}", path.display()), error);
        let claims = Claims::lock().map_err(failed)?;
        let _lock = match self.lock(key) {
            Err(RuntimeError::NotFound { .. }) => return Ok(true),
            locked => locked?,
        };
        for container in self.containers(key)? {
            if let Phase::Running(_) = container.observe()? {
                return Ok(false);
            }
        }
        self.take_down(&claims, &path).map(|()| true).map_err(failed)
    }

    fn take_down(&self, claims: &Claims, path: &Path) -> io::Result<()> {
        let Some(record) = sandbox_record(path)? else { return Ok(()) };
        let rest = transient(path);
        self.discard(&rest, path)?;
        fs::rename(path, &rest)?;
        claims.release(record.ip, path)?;
        self.discard(&rest, path)?;
        path.parent().map(remove_empty);
        Ok(())
    }

    /// Removes what is left of the sandbox that was at `original`, whatever its state, with its forwarder and with what a
    /// start that was under way has set going.
    fn discard(&self, moved: &Path, original: &Path) -> io::Result<()> {
        for name in names(moved)?.into_iter().filter(|name| parse_container(name).is_some()) {
            self.container_at(&original.join(&name)).discard(&moved.join(&name))?;
        }
        kill_lock_holder(moved)?;
        remove_tree(moved)
    }

    pub(crate) fn container(&self, key: &ContainerKey) -> Result<Container> {
        Ok(self.container_at(&self.layout.container(key)?))
    }

    fn container_at(&self, dir: &Path) -> Container {
        Container { dir: dir.to_owned(), bells: self.layout.bells() }
    }

    /// Returns a container with what was asked for.
    pub(crate) fn existing(&self, key: &ContainerKey) -> Result<(Container, ContainerRecord)> {
        let container = self.container(key)?;
        let record = read_json(&container.dir.join(CONTAINER_FILE))
            .map_err(|error| backend(format!("read container {key}"), error))?;
        let record = record.ok_or_else(|| not_found(format!("container {key}")))?;
        Ok((container, record))
    }

    pub(crate) fn create_container(&self, spec: &ContainerSpec) -> Result<()> {
        let container = self.container(&spec.key)?;
        let (_lock, sandbox) = self.lock(&spec.key.sandbox)?;
        if is_container(&container.dir) {
            return Ok(());
        }
        let record = self.record_of(spec, &sandbox, &container)?;
        let draft = transient(&container.dir);
        let make = || {
            remove_tree(&draft)?;
            make_dir(&draft)?;
            write_json(&draft.join(CONTAINER_FILE), &record)?;
            fs::rename(&draft, &container.dir)
        };
        make().map_err(|error: io::Error| backend(format!("make container {}", spec.key), error))
    }

    fn record_of(
        &self,
        spec: &ContainerSpec,
        sandbox: &SandboxRecord,
        container: &Container,
    ) -> Result<ContainerRecord> {
        let command: Vec<String> = spec.command.iter().chain(&spec.args).cloned().collect();
        if spec.command.is_empty() {
            return Err(invalid(format!(
                "container {:?} has no command, and the process runtime has no image to take one from",
                spec.key.name
            )));
        }
        let named = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut env = self.base_env.clone();
        env.push(named("POD_IP", &sandbox.ip.to_string()));
        env.push(named("POD_NAME", &sandbox.name));
        env.push(named("POD_NAMESPACE", &sandbox.namespace));
        env.extend(spec.env.iter().cloned());
        env.push(named(MARKER, &container.dir.display().to_string()));
        if let Some((name, _)) = env.iter().find(|(name, _)| name.is_empty() || name.contains('='))
        {
            return Err(invalid(format!("{name:?} is not a name of an environment variable")));
        }
        let texts = env.iter().flat_map(|(name, value)| [name, value]).chain(&command);
        if texts.chain([&spec.working_dir]).any(|text| text.contains('\0')) {
            return Err(invalid(format!(
                "container {:?} has a NUL byte in its command, directory or environment",
                spec.key.name
            )));
        }
        Ok(ContainerRecord {
            image: spec.image.clone(),
            command,
            working_dir: spec.working_dir.clone(),
            env,
            stdio: spec.stdio,
        })
    }

    pub(crate) fn start_container(&self, key: &ContainerKey) -> Result<()> {
        let (_lock, _) = self.lock(&key.sandbox)?;
        let (container, record) = self.existing(key)?;
        match container.observe()? {
            Phase::Running(_) => Ok(()),
            Phase::Exited(_, exited) if exited.message.starts_with("cannot run") => {
                Err(invalid(exited.message))
            }
            Phase::Exited(..) => Ok(()),
            Phase::Created => self.supervisor.run(&container.dir, &record),
        }
    }

    pub(crate) fn remove_container(&self, key: &ContainerKey) -> Result<()> {
        let container = self.container(key)?;
        let _lock = match self.lock(&key.sandbox) {
            Err(RuntimeError::NotFound { .. }) => return Ok(()),
            locked => locked?,
        };
        if let Phase::Running(_) = container.observe()? {
            return Err(invalid(format!("container {key} runs: stop it before it is removed")));
        }
        let rest = transient(&container.dir);
        let remove = || {
            container.discard(&rest)?;
            if_present(fs::rename(&container.dir, &rest))?;
            container.discard(&rest)
        };
        remove().map_err(|error: io::Error| backend(format!("remove container {key}"), error))
    }

    /// Waits for access to the containers of a sandbox; it ends when the file is dropped.
    fn lock(&self, key: &SandboxKey) -> Result<(File, SandboxRecord)> {
        let path = self.layout.sandbox(key)?;
        let absent = || not_found(format!("sandbox {}#{}", key.pod, key.attempt));
        let failed = |error| backend(format!("lock {}", path.display()), error);
        let dir = if_present(File::open(&path)).map_err(failed)?.ok_or_else(absent)?;
        dir.lock().map_err(failed)?;
        // It may have been removed, and even made anew, while we waited.
        let found = if_present(fs::metadata(&path)).map_err(failed)?.ok_or_else(absent)?;
        if dir.metadata().map_err(failed)?.ino() != found.ino() {
            return Err(absent());
        }
        let record = sandbox_record(&path).map_err(failed)?.ok_or_else(absent)?;
        Ok((dir, record))
    }
}

/// Removes the directories of a node and its cluster, unless a sandbox is left in them.
fn remove_empty(scope: &Path) {
    for dir in scope.ancestors().take(2) {
        let _ = fs::remove_dir(dir);
    }
}

fn sandbox_record(path: &Path) -> io::Result<Option<SandboxRecord>> {
    read_json(&path.join(SANDBOX_FILE))
}

fn container_id(key: &ContainerKey) -> String {
    let SandboxKey { scope, pod, attempt } = &key.sandbox;
    let (cluster, node) = (&scope.cluster, &scope.node);
    format!("process://{cluster}/{node}/{pod}.{attempt}/{}.{}", key.name, key.attempt)
}
