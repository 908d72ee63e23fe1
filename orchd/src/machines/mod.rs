//! Machines made of namespaces: several of them, on a network of their own, on one real machine, for the demo and for tests.
//!
//! A [`Machine`] has its own processes, mounts, host name, boot id and network, and the files of a directory. Its first process ends
//! when whoever booted it ends, however that comes, and with it goes everything that runs there, containers too; network and mounts
//! live only as long as it does. So what can be left after a crash is a directory and empty control groups, which the next
//! [`Lan::create`] removes. Needs root, and `ip` of iproute2.

mod engine;
mod init;
mod lan;
mod machine;
mod namespaces;
mod process;
mod run_dir;

pub use engine::Engine;
pub use init::{INIT_VERB, InitArgs, init};
pub use lan::Lan;
pub use machine::Machine;
pub use process::Process;
