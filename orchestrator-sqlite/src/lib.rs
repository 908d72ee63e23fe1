//! A `StateStore` on SQLite: one writer thread with group commit, durable commits, bounded history.
//!
//! One file per concern: `open` decides whether a file may be opened at all, `writer` is the only
//! code that changes it, `reader` lists and replays, `codec` and `schema` say what the bytes mean.
//! Invariant: what was answered `Committed` has been synced to disk and is never lost.
//!
//! ```
//! use orchestrator_core::store::StateStore;
//! use orchestrator_sqlite::SqliteStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let store = SqliteStore::open(dir.path().join("cluster.db")).await?; // made if it is not there
//! println!("the newest revision is {}", store.revision().await?);
//! store.close().await;
//! # Ok(()) }
//! ```

mod codec;
mod error;
mod filling;
mod open;
mod options;
mod reader;
mod reply;
mod schema;
mod statements;
mod store;
mod watch;
mod writer;

pub use error::OpenError;
pub use filling::SqliteFilling;
pub use options::{Fatal, SqliteOptions};
pub use schema::{APPLICATION_ID, FORMAT_VERSION};
pub use store::SqliteStore;
