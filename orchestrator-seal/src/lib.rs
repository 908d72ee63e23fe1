//! Secrets encrypted at rest: [`SealedStore`] stands in front of any `StateStore` and seals what must not lie there in clear.
//!
//! One file per concern: `keys` has the file with the keys, `envelope` what a sealed value is made of, `store` the store. Invariant:
//! no value that is to be sealed reaches the store behind, its files, its watches or its backups other than sealed.
//!
//! ```
//! # use std::sync::Arc;
//! # use orchestrator_core::{mem::MemStore, store::StateStore};
//! use orchestrator_seal::{KeyRing, SealedStore};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let keys = KeyRing::open(directory.path().join("secrets.keys"))?; // made if there is none
//! let store = SealedStore::new(Arc::new(MemStore::new()), Arc::new(keys));
//! // `Cluster::builder().store(store)` …
//! # Ok(()) }
//! ```

mod envelope;
mod keys;
mod store;

pub use envelope::{OpenError, is_sealed, open as open_record};
pub use keys::{KEYS_MAX, KeyError, KeyId, KeyRing};
pub use store::{SealedStore, Sealing};
