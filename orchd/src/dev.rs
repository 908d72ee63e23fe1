//! `orchd dev`: server and agent in one process, until told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::bail;

use crate::arguments::{address, host};
use crate::cluster_keys::NewKeysArgs;
use crate::control_plane::Endpoint;
use crate::data_dir::default_data_dir;
use crate::instance::{Instance, Options};
use crate::memory;
use crate::runtime::RuntimeChoice;
use crate::signals::Signals;

/// Options of `orchd dev`.
#[derive(Debug, clap::Args)]
pub struct DevArgs {
    /// Where everything is kept [default: the user's data directory]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the API listens; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6443", value_parser = address)]
    listen: SocketAddr,
    /// A host name by which clients reach it, beside those of this machine; may be repeated
    #[arg(long, value_name = "NAME", value_parser = host)]
    name: Vec<String>,
    /// What runs pods [default: docker when an engine answers, else process; an existing data directory keeps its own]
    #[arg(long, value_enum)]
    runtime: Option<RuntimeChoice>,
    /// Stop all pods when orchd stops; each has its grace period for that, but at most 10 s
    #[arg(long)]
    stop_pods: bool,
    #[command(flatten)]
    new_keys: NewKeysArgs,
}

/// Runs until TERM, an interrupt or a hang-up.
pub async fn dev(args: DevArgs) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    // Absolute, so that what `ready` says of it holds in every directory.
    let data_dir = std::path::absolute(args.data_dir.unwrap_or_else(default_data_dir))?;
    let endpoint = Endpoint { listen: args.listen, names: args.name, url_among: None };
    let options = Options { data_dir, endpoint, runtime: args.runtime, new_keys: args.new_keys };
    let instance = tokio::select! {
        started = Instance::start(&options) => started?,
        _ = signals.any() => return Ok(()),
    };
    let ready = tokio::select! {
        ready = instance.node_ready() => ready.map(|()| true),
        _ = signals.any() => Ok(false),
    };
    if let Ok(true) = ready {
        crate::say(format_args!(
            "ready {} runtime={} kubeconfig={}",
            instance.url,
            instance.runtime.name(),
            instance.kubeconfig.display()
        ));
        memory::stay_small_until(signals.any()).await;
    }
    tokio::select! {
        () = instance.stop(args.stop_pods) => ready.map(|_| ()),
        () = signals.interrupted() => bail!("interrupted while stopping; pods that are left are adopted by the next start"),
    }
}
