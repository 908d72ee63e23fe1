//! The Kubernetes dialect over HTTP: server and client.

mod age;
mod body;
mod discovery;
mod fields;
mod negotiate;
mod path;
mod pki;
mod private_file;
mod query;
mod registry;
mod status;
mod table;

pub use pki::{Pki, PkiError, Token};
pub use registry::kind_by_any_name;
