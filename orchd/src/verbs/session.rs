//! `Session`: a client of the cluster that the user means, and the namespace meant by default.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use orchestrator_core::model::{Key, Kind};
use orchestrator_http::{Client, ClientError, read_kubeconfig};

use crate::data_dir::default_data_dir;

/// Which cluster and namespace a client verb is about.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub struct ClientArgs {
    /// How to reach the cluster [default: $KUBECONFIG, else the kubeconfig in the default data directory]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The namespace [default: the one in the kubeconfig, else "default"]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
}

/// A client, and the namespace that is meant.
#[derive(Debug)]
pub struct Session {
    pub client: Client,
    /// The certificate of the authority that the kubeconfig names, in PEM.
    pub ca_pem: Option<String>,
    /// The namespace that is meant when an object does not say its own.
    pub namespace: String,
    /// Whether the user chose that namespace in this call.
    pub namespace_is_given: bool,
}

impl Session {
    /// Finds the cluster. Nothing is connected yet.
    pub fn open(args: &ClientArgs) -> anyhow::Result<Self> {
        let path = find(
            args.kubeconfig.as_deref(),
            std::env::var_os("KUBECONFIG"),
            &default_data_dir().join("kubeconfig"),
        )?;
        Self::at(&path, args.namespace.as_deref())
    }

    /// The cluster of a kubeconfig.
    pub fn at(path: &Path, namespace: Option<&str>) -> anyhow::Result<Self> {
        let config = read_kubeconfig(path).map_err(|error| match path.exists() {
            true => error.into(),
            false => {
                anyhow!("{error}; `orchd dev` starts a cluster and prints where its kubeconfig is")
            }
        })?;
        let client = Client::from_config(&config)?;
        let namespace_is_given = namespace.is_some();
        let namespace = match namespace {
            Some(namespace) => namespace.to_owned(),
            None => client.namespace().to_owned(),
        };
        let ca_pem = config.ca_pem;
        Ok(Self { client, ca_pem, namespace, namespace_is_given })
    }

    /// The key of an object of this name, in the namespace that is meant.
    pub fn key(&self, kind: Kind, name: &str) -> Key {
        let namespace = if kind.is_namespaced() { self.namespace.as_str() } else { "" };
        Key::new(kind, namespace, name)
    }

    /// Says that there is no such object, and how to find what there is.
    pub fn absence(&self, key: &Key) -> String {
        let (kind, name) = (key.kind, &key.name);
        match kind.is_namespaced() {
            true => format!(
                "{} {name:?} not found in namespace {:?}; `orchd get {} -A` lists all there are",
                kind.resource(),
                &*key.namespace,
                kind.plural()
            ),
            false => format!(
                "{} {name:?} not found; `orchd get {}` lists all there are",
                kind.resource(),
                kind.plural()
            ),
        }
    }

    /// Says why a request about an object failed.
    pub fn explain(&self, key: &Key, error: ClientError) -> anyhow::Error {
        // What is not found may also be the namespace, a previous run, ….
        let plain = format!("{} {:?} not found", key.kind.resource(), key.name);
        match error {
            ClientError::Refused { code: 404, message, .. } if message == plain => {
                anyhow!(self.absence(key))
            }
            error => error.into(),
        }
    }

    /// The namespace to list a kind in; `None` for all.
    pub fn scope(&self, kind: Kind, all_namespaces: bool) -> Option<&str> {
        (kind.is_namespaced() && !all_namespaces).then_some(self.namespace.as_str())
    }
}

/// Decides which kubeconfig counts: the flag, the first of `$KUBECONFIG` that exists, the default.
fn find(
    flag: Option<&Path>,
    variable: Option<OsString>,
    default: &Path,
) -> anyhow::Result<PathBuf> {
    if let Some(path) = flag {
        return Ok(path.to_owned());
    }
    let named: Vec<_> = variable
        .iter()
        .flat_map(std::env::split_paths)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if let Some(first) = named.first() {
        return Ok(named.iter().find(|path| path.exists()).unwrap_or(first).clone());
    }
    if default.exists() {
        return Ok(default.to_owned());
    }
    bail!(
        "no cluster is known: no --kubeconfig, $KUBECONFIG is not set, and there is no {}; \
         `orchd dev` starts a cluster",
        default.display()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_counts_before_the_variable_and_the_variable_before_the_default() {
        let dir = tempfile::tempdir().expect("a directory");
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&two, "").expect("writable");
        let both = std::env::join_paths([&one, &two]).expect("no colon in them");
        let find = |flag, variable: Option<&OsString>, default: &Path| {
            find(flag, variable.cloned(), default).ok()
        };
        assert_eq!(find(Some(&one), Some(&both), &two), Some(one.clone()));
        assert_eq!(find(None, Some(&both), &one), Some(two.clone()));
        assert_eq!(find(None, Some(&one.clone().into()), &two), Some(one.clone()));
        assert_eq!(find(None, Some(&OsString::new()), &two), Some(two.clone()));
        assert_eq!(find(None, None, &one), None);
    }
}
