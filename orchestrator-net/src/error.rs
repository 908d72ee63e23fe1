//! `NetError`: what the kernel refused.

/// Why the kernel's network is not as wanted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// What is to be encrypted would go another way. The packet filter drops it there.
    #[error(
        "what is for {pod}, a pod of another node, would leave through interface {interface:?} and not through WireGuard, and so is dropped; \
         a route or rule of somebody else is in the way (`ip route get {pod}`)"
    )]
    Astray {
        /// The address of a pod.
        pod: std::net::Ipv4Addr,
        /// The device that it would leave through.
        interface: String,
    },
    /// A device of the wanted name exists and is something else.
    #[error("interface {name:?} exists and is no {wanted}; it was made by somebody else")]
    Foreign {
        /// The device's name.
        name: String,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// The kernel refused a firewall rule.
    #[error("{action}")]
    Io {
        /// What was to be done.
        action: String,
        /// Why it was not.
        #[source]
        source: std::io::Error,
    },
    /// The kernel refused something.
    #[error("{action}")]
    Netlink {
        /// What was to be done.
        action: String,
        /// Why it was not.
        #[source]
        source: rtnetlink::Error,
    },
    /// Addresses of pods are another device's already.
    #[error(
        "interface {interface:?} is on the network {network}, which is in the way of the range of pods {range}; the cluster needs another --pod-cidr"
    )]
    Overlap {
        /// The other device.
        interface: String,
        /// The network it is on.
        network: orchestrator_core::model::Cidr,
        /// The addresses of pods.
        range: orchestrator_core::model::Cidr,
    },
}

impl NetError {
    pub(crate) fn netlink(action: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let action = action.into();
        move |source| Self::Netlink { action, source }
    }

    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}

/// Whether the kernel refused with this number of an error.
pub(crate) fn is_errno(error: &rtnetlink::Error, errno: nix::errno::Errno) -> bool {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.raw_code() == -(errno as i32),
        _ => false,
    }
}
