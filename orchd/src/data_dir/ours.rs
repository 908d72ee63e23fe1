//! What a data directory of ours may hold: everything else makes it somebody else's, who loses nothing.

use std::path::Path;

use anyhow::{Context as _, bail};

use super::moving::MOVING;
use super::{AGENT, AGENT_LOCK, DATABASE, FILLING, KUBECONFIG, PKI, RUNTIME, STORE};
use crate::store::StoreUrl;
use crate::{kept, network_keeper};

/// How the names of files begin that were being written when the program was killed.
pub(super) const HALF_WRITTEN: &str = ".tmp";
/// What file systems make in a directory of anybody's.
const LOST_AND_FOUND: &str = "lost+found";
/// The directory of pods that are processes.
const PROCESSES: &str = "process";

/// What else there may be of a server before there is a database, or where the state lies elsewhere.
const BESIDE_DATABASE: [&str; 10] = [
    // Of an agent that did not get in.
    AGENT_LOCK,
    "audit.log",
    KUBECONFIG,
    LOST_AND_FOUND,
    MOVING,
    PKI,
    PROCESSES,
    RUNTIME,
    FILLING,
    STORE,
];
/// What else there may be of an agent before it has joined, or when it is to join anew.
const BESIDE_AGENT: [&str; 8] = [
    AGENT_LOCK,
    LOST_AND_FOUND,
    network_keeper::FILE,
    network_keeper::FILES,
    network_keeper::KEY_FILE,
    kept::PODS,
    PROCESSES,
    RUNTIME,
];

/// Refuses a directory that holds what no orchd made: the mistyped path of a home, say.
pub(super) fn refuse_foreign(
    path: &Path,
    entries: std::fs::ReadDir,
    mark: &str,
) -> anyhow::Result<()> {
    let (kind, beside): (_, &[&str]) = match mark {
        AGENT => ("of an orchd agent", &BESIDE_AGENT),
        _ => ("of orchd", &BESIDE_DATABASE),
    };
    let mut foreign = None;
    for entry in entries {
        let name = entry.context("cannot read the data directory")?.file_name();
        let name = name.to_string_lossy().into_owned();
        if name == mark {
            return Ok(());
        }
        // With something behind it, after a dot: half written, or put aside.
        let is_of = |known: &str| {
            name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let is_ours = name.starts_with(mark) || name.starts_with(HALF_WRITTEN);
        if !is_ours && !beside.iter().any(|known| is_of(known)) {
            foreign = Some(name);
        }
    }
    match foreign {
        None => Ok(()),
        Some(_) if mark == DATABASE && names_a_store(path) => Ok(()),
        Some(name) => bail!(
            "{} is not a data directory {kind}: it holds {name:?} and no {mark}; choose an empty or a new one",
            path.display()
        ),
    }
}

/// Whether the directory says where the state lies, as only ours do.
fn names_a_store(path: &Path) -> bool {
    let text = std::fs::read_to_string(path.join(STORE));
    text.is_ok_and(|text| StoreUrl::parse(text.trim()).is_ok())
}

#[cfg(test)]
mod tests {
    use super::super::DataDir;
    use super::*;

    #[test]
    fn a_directory_of_somebody_else_is_refused_and_untouched() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("precious.txt"), "mine").expect("a file");
        let error = DataDir::open(dir.path()).expect_err("not ours").to_string();
        assert!(error.contains("precious.txt"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn what_an_agent_and_a_server_leave_is_taken_by_their_own_kind_alone() {
        let holding = |names: &[&str]| {
            let dir = tempfile::tempdir().expect("a directory");
            for name in names {
                std::fs::write(dir.path().join(name), "").expect("a file");
            }
            dir
        };
        let agents = holding(&[
            "pods.json",
            "network.json",
            "network.key",
            "pod-files",
            "runtime",
            "process",
        ]);
        DataDir::open_agent(agents.path()).expect("an agent's, which is to join anew");
        DataDir::open(agents.path()).expect_err("no server's");
        for name in ["store", "pki", "kubeconfig", "audit.log", "restoring"] {
            let servers = holding(&[name]);
            let error = DataDir::open_agent(servers.path()).expect_err(name).to_string();
            assert!(error.contains(name) && error.contains("no agent.json"), "{error}");
            assert!(!servers.path().join(AGENT_LOCK).exists(), "nothing is left there");
        }
        let servers = holding(&[
            "store",
            "pki",
            "pki.new",
            "kubeconfig",
            "kubeconfig.7.new",
            "audit.log",
            "audit.log.1",
            ".tmpAbCdEf",
        ]);
        DataDir::open(servers.path()).expect("a server's, whose state is in etcd");
        for foreign in ["kubeconfigs", "store2"] {
            DataDir::open(holding(&[foreign]).path()).expect_err(foreign);
        }
        let moved = holding(&["notes.txt"]);
        std::fs::write(moved.path().join("store"), "etcd://a,b\n").expect("written");
        DataDir::open(moved.path()).expect("ours, as it was while its database was there");
    }
}
