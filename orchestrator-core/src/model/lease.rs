//! `Lease`: who does something that only one may do, and how long that is believed without being said again.

use serde::{Deserialize, Serialize};

use super::meta::ObjectMeta;
use super::residual::{Residual, keep_residual};
use super::time::MicroTime;

/// A claim with an end; programs elect a leader among themselves with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct Lease {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// The claim.
    pub spec: LeaseSpec,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

/// A claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct LeaseSpec {
    /// Since when the holder holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acquire_time: Option<MicroTime>,
    /// Who holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder_identity: Option<String>,
    /// How long after `renewTime` others wait before they take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_duration_seconds: Option<i32>,
    /// How often it went from one holder to another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_transitions: Option<i32>,
    /// When the holder last said that it holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_time: Option<MicroTime>,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

keep_residual!(Lease, LeaseSpec);
