//! The built `orchd`, as a user meets it: real daemons on the process runtime, real client calls.

mod anew;
mod apply;
mod change;
mod cluster;
mod daemon;
mod dev;
mod logs;
mod lost_keys;
#[cfg(feature = "real-etcd")]
mod migrate;
mod read;
mod upkeep;
mod usage;
mod user;
