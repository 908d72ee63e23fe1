//! The network between pods as `orchd server` is asked for it, recorded in the cluster.

use std::str::FromStr;

use anyhow::{Context as _, bail};
use orchestrator_core::driver::Cluster;
use orchestrator_core::model::{
    Cidr, ClusterNetwork, ConfigMap, Node, POD_CIDR_DEFAULT, SLICE_PREFIX,
};
use orchestrator_net::ranges_in_use;

/// The ranges that are tried, in turn, when none is asked for.
const RANGES: [&str; 3] = [POD_CIDR_DEFAULT, "10.128.0.0/10", "10.192.0.0/10"];

/// Options of the network between pods.
#[derive(Clone, Debug, clap::Args)]
pub struct NetworkArgs {
    /// The range of pod addresses, of which each node gets a slice, or none: then pods are reached from their own node alone. Said
    /// once; the cluster remembers it [default: 10.64.0.0/10 or, where this machine uses that, 10.128.0.0/10 or 10.192.0.0/10]
    #[arg(long, value_name = "RANGE")]
    pod_cidr: Option<PodCidr>,
    /// Encrypt traffic between pods of different machines, and let none pass in clear; or no longer (false). The cluster remembers it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    encrypt: Option<bool>,
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
    /// Records what is asked for, or what suits a new cluster, unless the cluster has its network already; refuses another
    /// than that.
    pub async fn record(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let world = cluster.world();
        let known = match world.at::<ConfigMap>(&ClusterNetwork::key()) {
            Some(map) => {
                Some(ClusterNetwork::read(map).context("the network between pods cannot be used")?)
            }
            None => None,
        };
        let map = match (known, self.pod_cidr) {
            (Some(Some(known)), asked) => {
                is_same(known, asked)?;
                match self.encrypt.filter(|encrypted| *encrypted != known.encrypted) {
                    Some(encrypted) => ClusterNetwork { encrypted, ..known }.to_config_map(),
                    None => return Ok(()),
                }
            }
            (Some(None), None) | (Some(None), Some(PodCidr::None)) => return self.without(),
            (None, Some(PodCidr::None)) => {
                self.without()?;
                ClusterNetwork::none()
            }
            (None | Some(None), Some(PodCidr::Range(range))) => self.network(range),
            // Its nodes have run pods without; somebody has to want it.
            (None, None) if world.all::<Node>(None).next().is_some() => return self.without(),
            (None, None) => match free_range().await {
                Some(range) => self.network(range),
                None => return self.without(),
            },
        };
        let recorded = cluster.apply(map).await;
        recorded.map(drop).context("cannot record the network between pods")
    }

    fn network(&self, range: Cidr) -> ConfigMap {
        let encrypted = self.encrypt.unwrap_or_default();
        ClusterNetwork { encrypted, range }.to_config_map()
    }

    /// Refuses to encrypt what there is not.
    fn without(&self) -> anyhow::Result<()> {
        if self.encrypt == Some(true) {
            bail!(
                "--encrypt: this cluster has no network between pods; give it one by --pod-cidr RANGE"
            );
        }
        Ok(())
    }
}

fn is_same(known: ClusterNetwork, asked: Option<PodCidr>) -> anyhow::Result<()> {
    let Some(asked) = asked else { return Ok(()) };
    let asked = match asked {
        PodCidr::Range(range) if range == known.range => return Ok(()),
        PodCidr::Range(range) => range.to_string(),
        PodCidr::None => "none".to_owned(),
    };
    bail!(
        "--pod-cidr {asked}: nodes of this cluster have slices of {} (each a /{SLICE_PREFIX}) already, which stay; \
         leave the flag away",
        known.range
    )
}

/// The first range of which this machine uses nothing.
async fn free_range() -> Option<Cidr> {
    let used = match ranges_in_use().await {
        Ok(used) => used,
        Err(error) => {
            let error = crate::out::chain(&error.into());
            tracing::warn!(
                error,
                "pods are reached from their own nodes alone: it is not known which addresses are free; \
                                   choose some by --pod-cidr"
            );
            return None;
        }
    };
    let free = unused(&used);
    if free.is_none() {
        tracing::warn!(
            tried = ?RANGES,
            "pods are reached from their own nodes alone: this machine uses addresses of every range that was tried; \
             choose one by --pod-cidr"
        );
    }
    free
}

fn unused(used: &[Cidr]) -> Option<Cidr> {
    let mut ranges = RANGES.iter().filter_map(|text| text.parse::<Cidr>().ok());
    ranges.find(|range| !used.iter().any(|used| used.overlaps(*range)))
}

#[cfg(test)]
mod tests {
    use orchestrator_core::mem::MemStore;
    use orchestrator_core::model::{ObjectMeta, Resource as _};

    use super::*;

    fn args(pod_cidr: Option<&str>) -> NetworkArgs {
        NetworkArgs { pod_cidr: pod_cidr.map(|text| text.parse().expect("a range")), encrypt: None }
    }

    async fn cluster() -> Cluster {
        Cluster::builder().store(MemStore::new()).start().await.expect("started")
    }

    /// What is recorded: nothing, none or a range.
    fn recorded(cluster: &Cluster) -> Option<Option<Cidr>> {
        let world = cluster.world();
        let map = world.at::<ConfigMap>(&ClusterNetwork::key())?;
        Some(ClusterNetwork::read(map).expect("sound").map(|network| network.range))
    }

    fn cidr(text: &str) -> Cidr {
        text.parse().expect("a range")
    }

    #[tokio::test]
    async fn the_range_is_recorded_once_and_another_is_refused() {
        let cluster = cluster().await;
        args(Some("none")).record(&cluster).await.expect("no network");
        assert_eq!(recorded(&cluster), Some(None));
        args(None).record(&cluster).await.expect("as before");
        assert_eq!(recorded(&cluster), Some(None));
        args(Some(POD_CIDR_DEFAULT)).record(&cluster).await.expect("recorded");
        args(None).record(&cluster).await.expect("as before");
        assert_eq!(recorded(&cluster), Some(Some(cidr(POD_CIDR_DEFAULT))));
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

    #[tokio::test]
    async fn encryption_is_a_setting_that_is_remembered_and_needs_a_network() {
        let cluster = cluster().await;
        let encrypt = |pod_cidr, encrypt| NetworkArgs { encrypt: Some(encrypt), ..args(pod_cidr) };
        let is_encrypted = || {
            let world = cluster.world();
            let map = world.at::<ConfigMap>(&ClusterNetwork::key())?;
            Some(ClusterNetwork::read(map).expect("sound")?.encrypted)
        };
        let refused = encrypt(Some("none"), true).record(&cluster).await;
        assert!(refused.expect_err("nothing to encrypt").to_string().contains("--encrypt"));
        assert_eq!(recorded(&cluster), None);
        encrypt(Some("10.20.0.0/16"), true).record(&cluster).await.expect("recorded");
        args(None).record(&cluster).await.expect("as before");
        assert_eq!(is_encrypted(), Some(true));
        encrypt(None, false).record(&cluster).await.expect("recorded");
        assert_eq!(is_encrypted(), Some(false));
        assert_eq!(recorded(&cluster), Some(Some(cidr("10.20.0.0/16"))));
        cluster.shutdown(false).await;
    }

    #[tokio::test]
    async fn a_new_cluster_gets_a_range_that_is_free_and_one_with_nodes_none() {
        let new = cluster().await;
        args(None).record(&new).await.expect("recorded");
        let used = ranges_in_use().await.expect("anybody may ask");
        assert_eq!(recorded(&new), unused(&used).map(Some));
        new.shutdown(false).await;
        let old = cluster().await;
        let node = Node { metadata: ObjectMeta::named("", "a"), ..Node::default() };
        let key = node.key();
        old.apply(node).await.expect("recorded");
        assert!(old.world().get(&key).is_some());
        args(None).record(&old).await.expect("as it was");
        assert_eq!(recorded(&old), None);
        old.shutdown(false).await;
    }

    #[test]
    fn a_range_that_is_in_use_is_passed_over() {
        assert_eq!(unused(&[]), Some(cidr("10.64.0.0/10")));
        let used = |texts: &[&str]| texts.iter().map(|text| cidr(text)).collect::<Vec<_>>();
        let some = used(&["127.0.0.0/8", "10.70.3.0/24", "192.168.0.0/16"]);
        assert_eq!(unused(&some), Some(cidr("10.128.0.0/10")));
        assert_eq!(unused(&used(&["10.0.0.0/8"])), None);
    }
}
