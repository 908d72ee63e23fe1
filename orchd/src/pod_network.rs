//! The network between pods as `orchd server` is asked for it, recorded in the cluster.

use std::str::FromStr;

use anyhow::{Context as _, bail};
use orchestrator_core::driver::Cluster;
use orchestrator_core::model::{Cidr, ClusterNetwork, ConfigMap, SLICE_PREFIX};

/// Options of the network between pods.
#[derive(Clone, Debug, clap::Args)]
pub struct NetworkArgs {
    /// The range of pod addresses, such as 10.64.0.0/10, of which each node gets a slice as `podCIDR` of its record, or none. Said
    /// once; the cluster remembers it [default: none]. Agents do not use it yet
    #[arg(long, value_name = "RANGE")]
    pod_cidr: Option<PodCidr>,
}

/// A range of pod addresses, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PodCidr {
    None,
    Range(Cidr),
}

impl FromStr for PodCidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        let range = text.parse::<Cidr>().map_err(|error| format!("{error}, or none"))?;
        ClusterNetwork::check_range(range)?;
        Ok(Self::Range(range))
    }
}

impl NetworkArgs {
    /// Records what is asked for, unless the cluster has its network already; refuses another than that.
    pub async fn record(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let world = cluster.world();
        let Some(map) = world.at::<ConfigMap>(&ClusterNetwork::key()) else {
            let Some(PodCidr::Range(range)) = self.pod_cidr else { return Ok(()) };
            let network = ClusterNetwork { encrypted: false, range };
            let recorded = cluster.apply(network.to_config_map()).await;
            return recorded.map(drop).context("cannot record the network between pods");
        };
        let known = ClusterNetwork::read(map).context("the network between pods cannot be used")?;
        if let Some(asked) = self.pod_cidr.filter(|asked| *asked != PodCidr::Range(known.range)) {
            let asked = match asked {
                PodCidr::None => "none".to_owned(),
                PodCidr::Range(range) => range.to_string(),
            };
            bail!(
                "--pod-cidr {asked}: nodes of this cluster have slices of {} (each a /{SLICE_PREFIX}) already, which stay; \
                 leave the flag away",
                known.range
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use orchestrator_core::mem::MemStore;
    use orchestrator_core::model::POD_CIDR_DEFAULT;

    use super::*;

    fn args(pod_cidr: Option<&str>) -> NetworkArgs {
        NetworkArgs { pod_cidr: pod_cidr.map(|text| text.parse().expect("a range")) }
    }

    fn range(cluster: &Cluster) -> Option<String> {
        let world = cluster.world();
        let map = world.at::<ConfigMap>(&ClusterNetwork::key())?;
        Some(ClusterNetwork::read(map).expect("sound").range.to_string())
    }

    #[tokio::test]
    async fn the_range_is_recorded_once_and_another_is_refused() {
        let cluster = Cluster::builder().store(MemStore::new()).start().await.expect("started");
        args(Some("none")).record(&cluster).await.expect("no network");
        assert_eq!(range(&cluster), None);
        args(None).record(&cluster).await.expect("no network");
        assert_eq!(range(&cluster), None);
        args(Some(POD_CIDR_DEFAULT)).record(&cluster).await.expect("recorded");
        args(None).record(&cluster).await.expect("as before");
        assert_eq!(range(&cluster).as_deref(), Some(POD_CIDR_DEFAULT));
        for other in ["none", "10.0.0.0/16"] {
            let error = args(Some(other)).record(&cluster).await.expect_err(other).to_string();
            assert!(error.contains(other) && error.contains(POD_CIDR_DEFAULT), "{error}");
        }
        cluster.shutdown(false).await;
        for text in ["10.0.0.0/25", "0.0.0.0/0", "10.0.0.1/16", "some"] {
            let error = text.parse::<PodCidr>().expect_err(text);
            assert!(error.contains(text), "{error}");
        }
    }
}
