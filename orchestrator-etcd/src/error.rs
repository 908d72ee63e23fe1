//! `OpenError`: why a store on etcd was not opened, and what to do about it.

use orchestrator_core::store::BoxError;

/// Why a store was not opened; what lies in etcd has not been changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Something else lies below the prefix.
    #[error("{key:?} holds {found:?}, which is none of this program's: choose another prefix")]
    Foreign {
        /// The key that would be ours.
        key: String,
        /// What it holds.
        found: String,
    },
    /// A newer version of this program wrote it.
    #[error(
        "the state has format version {found}, this program reads up to {supported}: run the newer program"
    )]
    Newer {
        /// The version it has.
        found: u32,
        /// The newest version this program knows.
        supported: u32,
    },
    /// The state has been moved away from here ([`EtcdStore::leave`](crate::EtcdStore::leave)).
    #[error("the state below {prefix:?} has been moved to {to}")]
    Moved {
        /// The prefix.
        prefix: String,
        /// Where to, as the one who has moved it says.
        to: String,
    },
    /// A state is to be begun where there is one.
    #[error("there is a state below {prefix:?} already: choose another prefix")]
    NotEmpty {
        /// The prefix.
        prefix: String,
    },
    /// An option makes no sense.
    #[error("{option} is {found:?}: it must be {wanted}")]
    Option {
        /// Which option.
        option: &'static str,
        /// Its value.
        found: String,
        /// What would be right.
        wanted: String,
    },
    /// etcd knows who we are and does not let us.
    #[error(
        "etcd refuses: it must know the user, if one is given, who needs to read and write everything below {prefix:?}"
    )]
    Refused {
        /// The prefix.
        prefix: String,
        /// What etcd said.
        #[source]
        source: BoxError,
    },
    /// Nothing can be made of the certificates and the key.
    #[error("tls cannot be spoken with these certificates and this key")]
    Tls(#[source] BoxError),
    /// A state was to be filled, and was not to its end.
    #[error(
        "the state below {prefix:?} is not whole: a restore or a migration into it is under way or was interrupted; do it again"
    )]
    Unfinished {
        /// The prefix.
        prefix: String,
    },
    /// No endpoint gave a good answer in time.
    #[error("no etcd is of use at {endpoints}")]
    Unreachable {
        /// The endpoints that were tried.
        endpoints: String,
        /// What the last one said.
        #[source]
        source: BoxError,
    },
}
