//! `ClusterNetwork`: the setting of the network between pods, a ConfigMap that the first server records.

use std::net::Ipv4Addr;

use super::cidr::Cidr;
use super::config_map::ConfigMap;
use super::ids::{Key, Kind};
use super::meta::ObjectMeta;

/// The range from which nodes get their slices, unless another is asked for.
pub const POD_CIDR_DEFAULT: &str = "10.64.0.0/10";
/// The size of a node's slice.
pub const SLICE_PREFIX: u8 = 24;
/// The annotation with which a node tells the key by which others reach it when traffic is encrypted.
pub const NETWORK_KEY_ANNOTATION: &str = "orchestrator.dev/network-key";

/// Where the setting is recorded.
const NAMESPACE: &str = "kube-system";
const NAME: &str = "cluster-network";
/// The fields of the ConfigMap.
const POD_CIDR: &str = "podCIDR";
const ENCRYPTED: &str = "encrypted";
/// In place of a range: pods are reached from their own node alone.
const NONE: &str = "none";

/// Addresses that no machine on a network can have: "this network", loopback, multicast and what is reserved.
const NOBODYS: [Cidr; 3] = [
    Cidr::around(Ipv4Addr::UNSPECIFIED, 8),
    Cidr::around(Ipv4Addr::LOCALHOST, 8),
    Cidr::around(Ipv4Addr::BROADCAST, 3),
];

/// How pods of different nodes reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterNetwork {
    /// Whether traffic between nodes is encrypted, and never sent otherwise.
    pub encrypted: bool,
    /// All addresses of pods.
    pub range: Cidr,
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ConfigMap {NAMESPACE}/{NAME}: {field}: {problem}")]
pub struct InvalidClusterNetwork {
    field: &'static str,
    problem: String,
}

impl ClusterNetwork {
    /// The key under which the setting is recorded.
    pub fn key() -> Key {
        Key::new(Kind::ConfigMap, NAMESPACE, NAME)
    }

    /// Checks that a range has room for slices, and is of addresses that machines may have.
    ///
    /// # Errors
    /// What would be right.
    pub fn check_range(range: Cidr) -> Result<(), String> {
        if range.prefix() < 8 || range.prefix() > SLICE_PREFIX {
            return Err(format!(
                "{range} must have a size from /8 to /{SLICE_PREFIX}: each node gets a /{SLICE_PREFIX} of it"
            ));
        }
        if NOBODYS.into_iter().any(|nobodys| range.overlaps(nobodys)) {
            return Err(format!(
                "{range} must be of addresses that machines may have, such as {POD_CIDR_DEFAULT}: not of \"this network\", loopback, multicast or \
                 what is reserved"
            ));
        }
        Ok(())
    }

    /// Reads the setting; `None` when it says that there is no network between pods.
    ///
    /// # Errors
    /// [`InvalidClusterNetwork`] names the field.
    pub fn read(map: &ConfigMap) -> Result<Option<Self>, InvalidClusterNetwork> {
        let text = |field: &'static str| map.data.get(field).map_or("", String::as_str);
        let invalid = |field, problem| InvalidClusterNetwork { field, problem };
        if text(POD_CIDR) == NONE {
            return Ok(None);
        }
        let range: Cidr = text(POD_CIDR)
            .parse()
            .map_err(|error: super::cidr::InvalidCidr| invalid(POD_CIDR, error.to_string()))?;
        Self::check_range(range).map_err(|problem| invalid(POD_CIDR, problem))?;
        let encrypted = match text(ENCRYPTED) {
            "true" => true,
            "false" => false,
            other => {
                return Err(invalid(ENCRYPTED, format!("{other:?} must be \"true\" or \"false\"")));
            }
        };
        Ok(Some(Self { encrypted, range }))
    }

    /// The ConfigMap that records the setting.
    pub fn to_config_map(self) -> ConfigMap {
        recorded(&[(POD_CIDR, self.range.to_string()), (ENCRYPTED, self.encrypted.to_string())])
    }

    /// The ConfigMap that records that there is no network between pods.
    pub fn none() -> ConfigMap {
        recorded(&[(POD_CIDR, NONE.to_owned())])
    }
}

fn recorded(data: &[(&str, String)]) -> ConfigMap {
    ConfigMap {
        data: data.iter().map(|(field, value)| ((*field).to_owned(), value.clone())).collect(),
        metadata: ObjectMeta::named(NAMESPACE, NAME),
        ..ConfigMap::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_read_back_and_a_bad_one_names_its_field() {
        let range = POD_CIDR_DEFAULT.parse().expect("a range");
        let setting = ClusterNetwork { encrypted: true, range };
        let map = setting.to_config_map();
        assert_eq!(ClusterNetwork::read(&map), Ok(Some(setting)));
        assert_eq!(ClusterNetwork::read(&ClusterNetwork::none()), Ok(None));
        for (field, value) in [
            (POD_CIDR, "10.0.0.0/25"),
            (POD_CIDR, "127.0.0.0/8"),
            (POD_CIDR, "0.0.0.0/16"),
            (POD_CIDR, "239.0.0.0/8"),
            (POD_CIDR, "x"),
            (ENCRYPTED, "yes"),
            (ENCRYPTED, ""),
        ] {
            let mut map = map.clone();
            map.data.insert(field.to_owned(), value.to_owned());
            let error = ClusterNetwork::read(&map).expect_err(value).to_string();
            assert!(error.contains(field) && error.contains(value), "{error}");
        }
    }
}
