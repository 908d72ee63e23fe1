//! `orchd server`: the control plane of a cluster whose nodes are elsewhere, until told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use orchestrator_http::{JoinServerError, Pki, join_as_server};
use orchestrator_seal::KeyRing;

use crate::arguments::{self, address, host, url};
use crate::cluster_keys::{NewKeysArgs, catch_up_on_keys, refuse_absent};
use crate::control_plane::{ControlPlane, Endpoint};
use crate::data_dir::{DataDir, default_data_dir};
use crate::host::{address_towards, host_name};
use crate::memory;
use crate::network_args::NetworkArgs;
use crate::out;
use crate::signals::Signals;
use crate::store::{Backend, EtcdArgs, Store, StoreUrl, standing};
use crate::token::{self, TokenArgs};

pub const EXAMPLES: &str = "\
Examples:
  orchd server --data-dir /var/lib/orchd
  orchd server --store etcd://10.0.0.1,10.0.0.2,10.0.0.3
  orchd server --store etcd://… --join https://10.0.0.1:6443 --token orch1.server.…    one more of the same cluster
  orchd token create --kubeconfig /var/lib/orchd/kubeconfig
  orchd agent --server https://10.0.0.1:6443 --token orch1.agent.…    on each machine";

/// The most file descriptors the server asks for: twice what its connections take.
const DESCRIPTORS_MAX: u64 = 16_384;

/// Options of `orchd server`.
#[derive(Debug, clap::Args)]
pub struct ServerArgs {
    /// Where everything is kept [default: the user's data directory]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the API listens; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:6443", value_parser = address)]
    listen: SocketAddr,
    /// A host name or address by which agents and clients reach the server, beside those of this machine; may be repeated
    #[arg(long, value_name = "NAME", value_parser = host)]
    name: Vec<String>,
    /// Where the state lies: sqlite:PATH or etcd://HOST:PORT,…/PREFIX [default: cluster.db in the data directory]
    #[arg(long, value_name = "URL", value_parser = StoreUrl::parse)]
    store: Option<StoreUrl>,
    /// The URL of a server of the cluster, to get its keys from; with --store etcd://…, at the first start of one more server
    #[arg(long, value_name = "URL", requires = "store", value_parser = arguments::server)]
    join: Option<String>,
    #[command(flatten)]
    token: TokenArgs,
    /// The URL by which other servers and agents reach this one [default: the address that it listens on, or from which etcd is
    /// reached]
    #[arg(long, value_name = "URL", value_parser = url)]
    advertise: Option<String>,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    new_keys: NewKeysArgs,
    #[command(flatten)]
    etcd: EtcdArgs,
}

/// Runs until TERM, an interrupt or a hang-up.
pub async fn server(mut args: ServerArgs) -> anyhow::Result<()> {
    token::hide(&mut args.token)?;
    if args.join.is_none() && args.token.is_given() {
        tracing::warn!("the join token is not used: --join says which server's cluster to join");
    }
    let mut signals = Signals::new()?;
    allow_descriptors();
    let data_dir = std::path::absolute(args.data_dir.clone().unwrap_or_else(default_data_dir))?;
    let control_plane = tokio::select! {
        started = start(&args, &data_dir) => started?,
        _ = signals.any() => return Ok(()),
    };
    crate::say(format_args!(
        "ready {} kubeconfig={}",
        control_plane.url,
        control_plane.kubeconfig.display()
    ));
    memory::stay_small_until(signals.any()).await;
    tokio::select! {
        () = control_plane.stop(false) => Ok(()),
        () = signals.interrupted() => bail!("interrupted while stopping"),
    }
}

/// Shells allow a process 1,024 descriptors; a thousand agents have more connections than that. The server has no pods that would
/// inherit the limit.
fn allow_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = DESCRIPTORS_MAX.min(hard);
        if soft < wanted { setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files was not raised; it bounds the number of agents");
    }
}

async fn start(args: &ServerArgs, data_dir: &std::path::Path) -> anyhow::Result<ControlPlane> {
    let dir = DataDir::open(data_dir)?;
    if let Some(runtime) = dir.runtime(None)? {
        bail!(
            "{} is of an `orchd dev`, whose pods run with `--runtime {}`; choose another data directory",
            data_dir.display(),
            runtime.name()
        );
    }
    let url = place(&dir, args).await?;
    let url_among = url_among(args, &url)?;
    if let Some(server) = &args.join {
        join(args, server, &url, &dir.pki()).await?;
    }
    refuse_absent(&dir, &url, &args.etcd).await?;
    let backend = Backend::open(&url, &args.etcd).await?;
    let keys = match keys(args, &dir, (&url, &backend), url_among.as_deref()).await {
        Ok(keys) => keys,
        Err(error) => {
            backend.close().await;
            return Err(error);
        }
    };
    let store = Store::new(backend, keys);
    let mut names = args.name.clone();
    names.extend(url_among.as_deref().and_then(host_of).map(str::to_owned));
    let endpoint = Endpoint { listen: args.listen, names, url_among };
    let started = ControlPlane::start(data_dir, store.clone(), &endpoint, None).await;
    let control_plane = match started {
        Ok(control_plane) => control_plane,
        Err(error) => {
            store.close().await;
            return Err(error);
        }
    };
    let remembered = async {
        dir.remember_store(&url)?;
        args.network.record(&control_plane.cluster).await
    };
    match remembered.await {
        Ok(()) => Ok(control_plane),
        Err(error) => {
            control_plane.stop(false).await;
            Err(error)
        }
    }
}

/// Where the state lies: where it is asked for, when there is none where the data directory says.
async fn place(dir: &DataDir, args: &ServerArgs) -> anyhow::Result<StoreUrl> {
    if let (Some(known), Some(asked)) = (dir.any_store()?, &args.store)
        && !known.is_like(asked)
        && matches!(standing(&known, &args.etcd).await, Ok(None))
    {
        return Ok(asked.clone());
    }
    dir.store(args.store.as_ref())
}

/// The keys that seal the secrets of a store.
async fn keys(
    args: &ServerArgs,
    dir: &DataDir,
    (url, backend): (&StoreUrl, &Backend),
    url_among: Option<&str>,
) -> anyhow::Result<KeyRing> {
    let keys = args.new_keys.keys(dir, (url, backend), url_among).await?;
    if let Some(own) = url_among {
        catch_up_on_keys(&keys, &*backend.shared(), dir, own).await?;
    }
    Ok(keys)
}

/// The URL by which other servers reach this one; none where the state can have no other.
fn url_among(args: &ServerArgs, store: &StoreUrl) -> anyhow::Result<Option<String>> {
    let StoreUrl::Etcd(etcd) = store else {
        if args.advertise.is_some() {
            return Err(out::usage("--advertise: only a state in etcd has other servers"));
        }
        return match args.etcd.first_given() {
            Some(flag) => Err(out::usage(format!(
                "{flag}: the state is not in an etcd; --store etcd://… says in which"
            ))),
            None => Ok(None),
        };
    };
    if let Some(url) = &args.advertise {
        return Ok(Some(url.clone()));
    }
    let listen = args.listen;
    let ip = match listen.ip().is_unspecified() {
        false => listen.ip(),
        true => {
            towards(etcd).context("give an --advertise: no address of this machine is known")?
        }
    };
    Ok(Some(format!("https://{}", SocketAddr::new(ip, listen.port()))))
}

/// The address of this machine from which the first member of an etcd is reached.
fn towards(etcd: &str) -> Option<std::net::IpAddr> {
    let first = etcd.strip_prefix("etcd://")?.split([',', '/']).next()?;
    address_towards(first).or_else(|| address_towards(&format!("{first}:2379")))
}

/// The host that a URL names.
fn host_of(url: &str) -> Option<&str> {
    let (host, _port) = url.strip_prefix("https://")?.rsplit_once(':')?;
    Some(host.trim_start_matches('[').trim_end_matches(']'))
}

/// Gets the cluster's keys, unless an earlier start has.
async fn join(
    args: &ServerArgs,
    server: &str,
    store: &StoreUrl,
    keys: &std::path::Path,
) -> anyhow::Result<()> {
    if !matches!(store, StoreUrl::Etcd(_)) {
        return Err(out::usage(
            "--join: several servers need their state in etcd: --store etcd://…",
        ));
    }
    if keys.join(Pki::ROOT).exists() {
        return Ok(());
    }
    let Some(token) = args.token.token()? else {
        return Err(out::usage(
            "to join a cluster as a server --token is needed (or --token-file, or ORCHD_TOKEN); `orchd token create --role server` \
             prints a token",
        ));
    };
    let name = host_name()?;
    let joined = join_as_server(server, &token, &name, keys).await;
    joined.map_err(|error| {
        let failed = format!("cannot join the cluster at {server} as a server");
        match error {
            JoinServerError::Client(error) => token::advised(error).context(failed),
            error => anyhow::Error::from(error).context(failed),
        }
    })
}
