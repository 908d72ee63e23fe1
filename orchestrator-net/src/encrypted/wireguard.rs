//! `WireGuard`: in the kernel or, where that has none, in this process.

use std::collections::BTreeMap;
use std::io;

use orchestrator_core::model::Cidr;
use orchestrator_core::node::{WireGuard as Wanted, WireGuardEnd};
use rtnetlink::Handle;

use super::in_kernel;
use super::key::NodeKey;
use super::settings::Settings;
use super::user_space::UserSpace;
use crate::error::NetError;
use crate::link::{self, Links};

/// WireGuard to all other nodes. What of it is in this process is gone when it is dropped; what is in the kernel stays.
#[derive(Debug, Default)]
pub(crate) struct WireGuard {
    user_space: Option<UserSpace>,
    /// The other ends that were looked at last, so that what is wrong with them is told once.
    known: BTreeMap<Cidr, WireGuardEnd>,
}

impl WireGuard {
    /// Sees to it that it is there, up, and knows the other ends; returns its device's number.
    pub(crate) async fn apply(
        &mut self,
        handle: &Handle,
        wanted: &Wanted,
        own: Option<&NodeKey>,
    ) -> Result<u32, NetError> {
        let name = &wanted.name;
        let failed = || NetError::io(format!("making the WireGuard device {name}"));
        let own = own.ok_or_else(|| failed()(io::Error::other("the node has no key")))?;
        let left_out = Settings::wanted(own, &wanted.ends).1;
        self.warn_of(&left_out, wanted);
        let mut device = Links::read(handle).await?.find(name).cloned();
        let is_it = |it: &UserSpace| it.is(wanted) && device.is_some();
        if let Some(other) = self.user_space.take_if(|it| !is_it(it)) {
            other.close().await;
            device = Links::read(handle).await?.find(name).cloned();
        }
        if device.is_none() {
            device = in_kernel::make(handle, name).await?;
            if device.is_some() {
                tracing::info!(
                    device = name,
                    "traffic to other nodes is encrypted by WireGuard in the kernel"
                );
            }
        }
        match device {
            Some(device) if in_kernel::is_one(&device) => {
                in_kernel::set(handle, &device, wanted, own).await?;
                return Ok(device.index);
            }
            Some(_) if self.user_space.is_none() => {
                return Err(NetError::Foreign { name: name.clone(), wanted: "WireGuard device" });
            }
            Some(_) => {}
            None => {
                self.user_space =
                    Some(UserSpace::open(wanted, own.clone()).await.map_err(failed())?);
                tracing::info!(
                    device = name,
                    "traffic to other nodes is encrypted by WireGuard in this process: the kernel has none"
                );
            }
        }
        if let Some(user_space) = &self.user_space {
            let mut ends = wanted.ends.clone();
            left_out.iter().for_each(|(slice, _)| drop(ends.remove(slice)));
            user_space.set_ends(&ends);
        }
        let links = Links::read(handle).await?;
        let device = links.find(name).ok_or_else(|| failed()(io::ErrorKind::NotFound.into()))?;
        link::up(handle, device, name).await?;
        Ok(device.index)
    }

    /// Ends it, wherever it is, and whoever of this node made it.
    pub(crate) async fn remove(&mut self, handle: &Handle, name: &str) -> Result<(), NetError> {
        if let Some(user_space) = self.user_space.take() {
            user_space.close().await;
        }
        link::remove(handle, &Links::read(handle).await?, name).await
    }

    fn warn_of(&mut self, left_out: &[(Cidr, &'static str)], wanted: &Wanted) {
        if self.known == wanted.ends {
            return;
        }
        self.known.clone_from(&wanted.ends);
        for (slice, why) in left_out {
            let node = wanted.ends.get(slice).map(|end| end.node);
            tracing::warn!(?node, %slice, why, "the pods of a node are not reached");
        }
    }
}
