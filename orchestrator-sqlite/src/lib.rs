//! A `StateStore` on SQLite: one writer thread with group commit, durable commits, bounded history.
//!
//! One directory entry per concern: `open` decides whether a file may be opened at all, `writer` is the only
//! code that changes it, `reader` lists and replays, `codec` and `schema` say what the bytes mean.
//! Invariant: what was answered `Committed` has been synced to disk and is never lost.

mod codec;
mod error;
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
pub use options::{Fatal, SqliteOptions};
pub use schema::{APPLICATION_ID, FORMAT_VERSION};
pub use store::SqliteStore;
