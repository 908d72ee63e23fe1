//! `orchd agent`: a node of a cluster whose server is elsewhere, until told to stop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use orchestrator_core::driver::{Agent, AgentConfig, AgentHandle};
use orchestrator_core::model::NETWORK_KEY_ANNOTATION;
use orchestrator_core::node::NodeStreams;
use orchestrator_core::runtime::Scope;
use orchestrator_http::{
    ClientError, HttpLink, JoinError, JoinToken, Membership, serve_streams, write_private,
};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::agent_id::agent_id;
use crate::arguments::server;
use crate::clock::seconds_now;
use crate::data_dir::{DataDir, default_agent_dir};
use crate::host::{address_towards, host_name};
use crate::kept::FileKeep;
use crate::memory;
use crate::network_keeper::{NetworkKeeper, remove_network};
use crate::out;
use crate::runtime::{RunningRuntime, RuntimeChoice, choose};
use crate::signals::Signals;
use crate::token::{self, TokenArgs};

pub const EXAMPLES: &str = "\
Examples:
  orchd agent --server https://10.0.0.1:6443 --token-file token --name node-1
  orchd agent                                             start again; it has joined already
  ORCHD_TOKEN=orch1.agent.… orchd agent --server https://10.0.0.1:6443";

/// How long to wait before the tunnel is opened again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long at most, when it was refused again and again: each time it is twice as long as before.
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether the certificate is half over.
const RENEWAL_LOOK_EVERY: Duration = Duration::from_secs(60);
/// How often when it is over, for then the server takes nothing else.
const RENEWAL_LOOK_EVERY_OVER: Duration = Duration::from_secs(5);
/// The file in which the agent keeps what it is known by.
const MEMBERSHIP: &str = "agent.json";

/// Options of `orchd agent`.
#[derive(Debug, clap::Args)]
pub struct AgentArgs {
    /// The server's URL, such as https://10.0.0.1:6443; needed to join, and to say that it has moved
    #[arg(long, value_name = "URL", value_parser = server)]
    server: Option<String>,
    #[command(flatten)]
    token: TokenArgs,
    /// The node's name [default: the machine's host name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Where everything is kept [default: the user's data directory for agents]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// What runs pods [default: docker when an engine answers, else process; an existing data directory keeps its own]
    #[arg(long, value_enum)]
    runtime: Option<RuntimeChoice>,
    /// The address by which other machines reach this one [default: the one from which the server is reached]
    #[arg(long, value_name = "ADDRESS")]
    address: Option<std::net::IpAddr>,
    /// Stop all pods when the agent stops; each has its grace period for that, but at most 10 s
    #[arg(long)]
    stop_pods: bool,
}

/// Runs until TERM, an interrupt or a hang-up.
pub async fn agent(mut args: AgentArgs) -> anyhow::Result<()> {
    token::hide(&mut args.token)?;
    let mut signals = Signals::new()?;
    let running = tokio::select! {
        started = Running::start(&args) => started?,
        _ = signals.any() => return Ok(()),
    };
    let ready = tokio::select! {
        () = running.ready() => true,
        _ = signals.any() => false,
    };
    if ready {
        crate::say(format_args!("ready node={} runtime={}", running.node, running.runtime.name()));
        memory::stay_small_until(signals.any()).await;
    }
    tokio::select! {
        () = running.stop(args.stop_pods) => Ok(()),
        () = signals.interrupted() => bail!("interrupted while stopping; pods that are left are adopted by the next start"),
    }
}

/// An agent that runs.
struct Running {
    agent: AgentHandle,
    link: HttpLink,
    node: String,
    runtime: RunningRuntime,
    tasks: JoinSet<()>,
    /// Becomes true when nothing passes in clear that must not; `None` where there is no network to keep.
    sealed: Option<watch::Receiver<bool>>,
    scope: Scope,
    path: PathBuf,
    /// Nobody else takes it as long as the agent runs.
    _dir: DataDir,
}

impl Running {
    async fn start(args: &AgentArgs) -> anyhow::Result<Self> {
        let path = args.data_dir.clone().unwrap_or_else(default_agent_dir);
        let path = std::path::absolute(path)?;
        let dir = DataDir::open_agent(&path)?;
        let pods = path.join("process");
        let chosen = choose(dir.runtime(args.runtime)?, &pods).await?;
        let membership = membership(args, &path).await?;
        let runtime = chosen.open(&pods)?;
        dir.remember(runtime.name())?;
        let id = agent_id(&path)?;
        let link = HttpLink::new(&membership)?.speaking_as(id.clone());
        let (cluster, node) = (membership.cluster.clone(), membership.node.clone());
        let mut config = AgentConfig::new(Scope { cluster, node: node.clone() });
        config.id = Some(id.clone());
        config.disk_path = path.clone();
        config.keep = Some(Arc::new(FileKeep::new(&path)));
        config.address = match args.address {
            Some(address) => address.to_string(),
            None => towards(&membership.server).unwrap_or(config.address),
        };
        let scope = config.scope.clone();
        let keeper = NetworkKeeper::new((&link, id), scope.clone(), &runtime, &path).await?;
        if let Some(keeper) = &keeper {
            config.annotations.insert(NETWORK_KEY_ANNOTATION.to_owned(), keeper.public_key());
        }
        let sealed = keeper.as_ref().map(NetworkKeeper::sealed);
        let agent = Agent::spawn(config, runtime.shared(), Arc::new(link.clone()));
        let mut tasks = JoinSet::new();
        if let Some(keeper) = keeper {
            tasks.spawn(keeper.run());
        }
        tasks.spawn(reach(link.clone(), agent.streams()));
        tasks.spawn(renew(link.clone(), path.clone()));
        tasks.spawn(keep_servers(link.clone(), path.clone()));
        Ok(Self { agent, link, node, runtime, tasks, sealed, scope, path, _dir: dir })
    }

    /// Waits until the node is ready, and its traffic encrypted if it is to be.
    async fn ready(&self) {
        self.link.ready().await;
        if let Some(mut sealed) = self.sealed.clone() {
            // The keeper lives as long as its task, and that as long as this.
            let _ = sealed.wait_for(|sealed| *sealed).await;
        }
    }

    async fn stop(mut self, stop_pods: bool) {
        self.agent.shutdown(stop_pods).await;
        self.tasks.shutdown().await;
        if stop_pods && let Err(error) = remove_network(self.scope, &self.path).await {
            tracing::warn!(error = out::chain(&error), "the network between pods is left behind");
        }
    }
}

/// What the agent is known by: from an earlier start, or by joining now.
async fn membership(args: &AgentArgs, dir: &Path) -> anyhow::Result<Membership> {
    let path = dir.join(MEMBERSHIP);
    let Some(mut known) = read(&path)? else {
        let joined = join(args, args.token.token()?, args.name.clone()).await?;
        return begin_as(joined, dir);
    };
    if let Some(name) = args.name.as_ref().filter(|name| **name != known.node) {
        bail!(
            "{} is of the node {:?}, not of {name:?}; leave --name away, or choose another --data-dir",
            dir.display(),
            known.node
        );
    }
    if args.token.is_given()
        && let Some(joined) = joined_anew(args, &known, &path).await?
    {
        return begin_as(joined, dir);
    }
    if let Some(server) = args.server.as_ref().filter(|server| **server != known.server) {
        known.server.clone_from(server);
        save(&path, &known)?;
    }
    Ok(known)
}

/// Joins by the token that is given where the agent is no member any more of what it had joined; says why not, elsewhere.
async fn joined_anew(
    args: &AgentArgs,
    known: &Membership,
    path: &Path,
) -> anyhow::Result<Option<Membership>> {
    let (token, name) = (args.token.token(), Some(known.node.clone()));
    if let Ok(Some(token)) = &token
        && !known.is_of_token(token)
    {
        let joined = join(args, Some(token.clone()), name).await.with_context(|| {
            format!(
                "the token is of another cluster than {}, or of one whose keys were made anew; without a token the agent goes on in the \
                 one that it had joined",
                path.display()
            )
        })?;
        if joined.cluster != known.cluster {
            let (old, new) = (&known.cluster, &joined.cluster);
            tracing::warn!(old, new, "joined another cluster; pods of the old one run on here");
        }
        return Ok(Some(joined));
    }
    if known.is_removed().await {
        return join(args, token?, name).await.map(Some);
    }
    let why = match token {
        Ok(_) => format!(
            "this agent has joined already ({}), and no server says that its node was removed; to join anew, `orchd node remove {} \
             --force` first",
            path.display(),
            known.node
        ),
        Err(error) => {
            format!("this agent has joined already ({}); {}", path.display(), out::chain(&error))
        }
    };
    tracing::warn!(node = known.node, why, "the token is not used");
    Ok(None)
}

/// Keeps what the agent is known by from now on, and forgets the pods of the node that it was before.
fn begin_as(joined: Membership, dir: &Path) -> anyhow::Result<Membership> {
    FileKeep::new(dir).forget()?;
    save(&dir.join(MEMBERSHIP), &joined)?;
    Ok(joined)
}

async fn join(
    args: &AgentArgs,
    token: Option<JoinToken>,
    name: Option<String>,
) -> anyhow::Result<Membership> {
    let (Some(server), Some(token)) = (&args.server, token) else {
        return Err(out::usage(
            "to join a cluster --server and --token are needed (or --token-file, or ORCHD_TOKEN); `orchd token create` prints a token \
             where the server runs",
        ));
    };
    let name = match name {
        Some(name) => name,
        None => host_name().context("give the node a --name")?,
    };
    let joined = Membership::join(server, &token, &name).await;
    joined.map_err(|error| {
        let failed = format!("cannot join the cluster at {server} as node {name:?}");
        match error {
            JoinError::Client(error) => token::advised(error).context(failed),
            error => anyhow::Error::from(error).context(failed),
        }
    })
}

/// The address of this machine from which a server is reached.
fn towards(server: &str) -> Option<String> {
    address_towards(server.strip_prefix("https://")?).map(|address| address.to_string())
}

fn read(path: &Path) -> anyhow::Result<Option<Membership>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let read = serde_json::from_slice(&bytes).map(Some);
    read.with_context(|| {
        format!("{} is damaged; remove it and join anew, with a new token", path.display())
    })
}

fn save(path: &Path, membership: &Membership) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec(membership)?;
    write_private(path, &bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// Keeps a tunnel open through which the server reaches the node's streams.
async fn reach(link: HttpLink, streams: Arc<dyn NodeStreams>) {
    let mut again_after = AGAIN_AFTER;
    loop {
        let outcome = serve_streams(&link, Arc::clone(&streams)).await;
        again_after = match outcome.as_ref().map_err(ClientError::code) {
            Err(Some(403)) => (again_after * 2).min(AGAIN_AFTER_MAX),
            Ok(()) | Err(_) => AGAIN_AFTER,
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "the tunnel cannot be opened");
        }
        tokio::time::sleep(again_after).await;
    }
}

/// Gets a newer certificate whenever the one there is is half over.
async fn renew(link: HttpLink, dir: PathBuf) {
    let path = dir.join(MEMBERSHIP);
    loop {
        let membership = link.membership();
        if membership.is_half_over(seconds_now())
            && let Err(error) = renewed(&link, &membership, &path).await
        {
            tracing::warn!(error = out::chain(&error), "the node's certificate was not renewed");
        }
        let again_after = match membership.is_over(seconds_now()) {
            true => RENEWAL_LOOK_EVERY_OVER,
            false => RENEWAL_LOOK_EVERY,
        };
        tokio::time::sleep(again_after).await;
    }
}

async fn renewed(link: &HttpLink, membership: &Membership, path: &Path) -> anyhow::Result<()> {
    let newer = membership.renewed().await?;
    // Kept before it is used: the old one is still good.
    save(path, &newer)?;
    link.know_as(&newer)?;
    Ok(())
}

/// Keeps which servers there are for the next start, when one of them may be away.
async fn keep_servers(link: HttpLink, dir: PathBuf) {
    let (path, mut servers) = (dir.join(MEMBERSHIP), link.servers());
    // The sender is in the link.
    while servers.changed().await.is_ok() {
        if let Err(error) = save(&path, &link.membership()) {
            tracing::warn!(error = out::chain(&error), "the list of servers was not kept");
        }
    }
}
