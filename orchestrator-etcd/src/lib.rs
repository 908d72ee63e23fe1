//! A `StateStore` on etcd, 3.4 or newer: each commit is one transaction of etcd's, and watches survive compaction, changes of leader
//! and lost connections.
//!
//! One file per concern: `layout` says where things lie, `txn`, `page` and `assembly` translate (and are pure), `failure` says what
//! a call that failed has done, `client` and `link` talk, `store` and `watch` put it together. Invariant: what was answered
//! `Committed` lies on the disks of a majority of etcd's members.
//!
//! ```no_run
//! use orchestrator_core::store::StateStore;
//! use orchestrator_etcd::{EtcdOptions, EtcdStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let options = EtcdOptions::from_url("etcd://10.0.0.1,10.0.0.2,10.0.0.3/my-cluster")?;
//! let store = EtcdStore::open(options).await?; // a state is begun if there is none
//! println!("the newest revision is {}", store.revision().await?);
//! store.close().await;
//! # Ok(()) }
//! ```
//!
//! # How the contract becomes etcd's
//!
//! - **Revisions** are etcd's own: that of a record is its `mod_revision`, that of a commit the transaction's. etcd counts them for
//!   everybody who uses it, so there are gaps. The newest commit is the `mod_revision` of one more key, the *head*, which every commit
//!   writes; so what others write in the same etcd is no news.
//! - **Preconditions** are comparisons of `mod_revision`. A transaction needs at most 97 of etcd's 128 operations on each side. When
//!   one fails, the same transaction reads what it compared, so that the conflict told is the one that happened.
//! - **A fate that is not known.** When a call breaks off, or etcd itself does not know, the outcome is `Unknown`; nothing is asked
//!   twice that may have been done. Such a call may even be carried out later, by a member that was paused. Therefore each commit also
//!   demands the revision of a key called the *fence*, and `revision()` moves it before it answers: what it then shows includes the
//!   unknown commit, or that commit never happens. Stores whose commits meet a fence that has moved try them again by themselves.
//! - **Watches** are etcd's, each with its own flow control: a slow one holds up nobody. They ask for fragments, and for progress
//!   notifications, so that a quiet one need not begin far back after a lost connection. The head tells how many changes a commit had;
//!   a commit of which compaction has left only a part (etcd 3.4 drops deletions without a word) is told as `Compacted`.
//! - **Listings** are read at one revision. A page token names it, and works with every store on the same state until that revision is
//!   compacted. A page that is too large for one answer is asked for in halves.
//! - **Retention.** A store compacts what is older than 5 minutes ([`EtcdOptions::history`]). Compaction concerns all of an etcd: if
//!   others need its history, leave it to them ([`EtcdHistory::KeptByOthers`]). Defragmentation is the operator's.
//! - **Sizes.** A transaction's values have at most 1 MiB together, which fits into etcd's default request of 1.5 MiB.
//!   An etcd that is full (`NOSPACE`) refuses every commit, deletions too, until its operator has made room; reading goes on.
//! - **Moving.** A state that goes on elsewhere is left ([`EtcdStore::leave`]): the fence names the new place then, so nobody opens the
//!   state any more, and whoever has it open writes no more.
//! - **Sharing.** Clusters with different prefixes share an etcd and do not see each other. A user of etcd's needs to read and write
//!   everything that begins with the prefix, and nothing else.
//!
//! A backup that is restored must go on with higher revisions (`etcdutl snapshot restore --bump-revision --mark-compacted`): they are
//! what preconditions are made of. There is no election here: a leader's epoch is a record like others, and a guard on it fences.

mod assembly;
mod client;
mod error;
mod failure;
mod fence;
mod history;
mod layout;
mod link;
mod members;
mod options;
mod page;
mod store;
mod txn;
mod watch;
mod wire;

pub use error::OpenError;
pub use fence::{FORMAT_VERSION, Standing};
pub use options::{EtcdHistory, EtcdIdentity, EtcdOptions, EtcdTls, EtcdUser};
pub use store::EtcdStore;
