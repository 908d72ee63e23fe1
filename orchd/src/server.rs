//! `orchd server`: the control plane of a cluster whose nodes are elsewhere, until told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::bail;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::arguments::address;
use crate::control_plane::{ControlPlane, Endpoint};
use crate::data_dir::{DataDir, default_data_dir};
use crate::pod_network::NetworkArgs;
use crate::signals::Signals;
use crate::store::{Backend, EtcdArgs, Store, StoreUrl};

pub const EXAMPLES: &str = "\
Examples:
  orchd server --data-dir /var/lib/orchd
  orchd server --store etcd://10.0.0.1,10.0.0.2,10.0.0.3
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
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Where the state lies: sqlite:PATH or etcd://HOST:PORT,…/PREFIX [default: cluster.db in the data directory]
    #[arg(long, value_name = "URL", value_parser = StoreUrl::parse)]
    store: Option<StoreUrl>,
    #[command(flatten)]
    etcd: EtcdArgs,
    #[command(flatten)]
    network: NetworkArgs,
}

/// Runs until TERM, an interrupt or a hang-up.
pub async fn server(args: ServerArgs) -> anyhow::Result<()> {
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
    signals.any().await;
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
    let url = dir.store(args.store.as_ref())?;
    let store = Store::new(Backend::open(&url, &args.etcd).await?, dir.keys()?);
    dir.remember_store(&url)?;
    let endpoint = Endpoint { listen: args.listen, names: args.name.clone() };
    let started = ControlPlane::start(data_dir, store.clone(), &endpoint, None).await;
    let control_plane = match started {
        Ok(control_plane) => control_plane,
        Err(error) => {
            store.close().await;
            return Err(error);
        }
    };
    match args.network.record(&control_plane.cluster).await {
        Ok(()) => Ok(control_plane),
        Err(error) => {
            control_plane.stop(false).await;
            Err(error)
        }
    }
}
