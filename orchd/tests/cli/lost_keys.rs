//! Keys of a cluster that are lost one by one: what is refused, what is made anew and told, and what another server gives.

use std::fs::{self, File};
use std::path::Path;

use crate::cluster::{start_server, temp};
use crate::daemon::{Daemon, run};
use crate::upkeep::upkeep;
#[cfg(feature = "real-etcd")]
use crate::{
    daemon::orchd,
    migrate::{Etcd, start_on},
    upkeep::secret,
};

/// Takes files of keys away.
fn lose(data: &Path, names: &[&str]) {
    for name in names {
        fs::remove_file(data.join("pki").join(name)).expect("it was made");
    }
}

fn has(data: &Path, name: &str) -> bool {
    data.join("pki").join(name).exists()
}

#[test]
fn keys_that_sign_are_not_made_anew_unless_that_is_asked_for() {
    for (names, says, after) in [
        (&["sa.key"][..], "pki/sa.key", "tokens of service accounts must then be made anew"),
        (
            &["issuing.crt", "issuing.key", "root.key"],
            "pki/root.key",
            "agents and users must then be let in anew",
        ),
    ] {
        let server = start_server("127.0.0.1:0", temp());
        let (kubeconfig, data) = (server.kubeconfig.clone(), server.kubeconfig.with_file_name(""));
        let dir = server.kill();
        let root = fs::read(data.join("pki/root.crt")).expect("made");
        lose(&data, names);
        let mut start = upkeep(&["server", "--listen", "127.0.0.1:0"], &data);
        let ran = run(&mut start);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        for says in [says, after, "They are in the old data directory"] {
            assert!(ran.err.contains(says), "{says}: {ran:?}");
        }
        assert!(!has(&data, names[0]), "it was not made");

        start.arg("--new-keys");
        let server = Daemon::ready(start, kubeconfig, dir);
        server.json(&["namespace", "default"]);
        assert!(has(&data, names[0]));
        let is_same = fs::read(data.join("pki/root.crt")).expect("there") == root;
        assert_eq!(is_same, !names.contains(&"root.key"), "only a lost root is made anew");
    }
}

#[test]
fn what_a_cluster_can_do_without_is_made_anew_and_the_log_says_so() {
    let server = start_server("127.0.0.1:0", temp());
    let (kubeconfig, data) = (server.kubeconfig.clone(), server.kubeconfig.with_file_name(""));
    let dir = server.kill();
    let root = fs::read(data.join("pki/root.crt")).expect("made");
    lose(&data, &["admin.token", "issuing.crt", "issuing.key"]);
    // What `orchd check` says of it is what helps.
    let ran = run(&mut upkeep(&["check"], &data));
    assert!(ran.code == Some(1) && ran.out.contains("start the server anew: root.key"), "{ran:?}");
    assert!(!ran.out.contains("--new-keys"), "{ran:?}");
    assert!(ran.out.contains("not compared: no server runs here"), "{ran:?}");

    let log = data.with_file_name("log");
    let mut start = upkeep(&["server", "--listen", "127.0.0.1:0"], &data);
    start.stderr(File::create(&log).expect("a file"));
    let server = Daemon::ready(start, kubeconfig, dir);
    server.json(&["namespace", "default"]);
    let log = fs::read_to_string(log).expect("written");
    for says in ["the administrator's token was missing", "the issuing authority was missing"] {
        assert!(log.contains(says), "{says}: {log}");
    }
    assert!(fs::read(data.join("pki/root.crt")).expect("there") == root, "the root stays");
}

#[cfg(feature = "real-etcd")]
#[test]
fn lost_keys_of_secrets_come_from_another_server_and_new_ones_are_refused_while_it_is_heard() {
    let etcd = Etcd::start();
    let store = etcd.url("/shared");
    let one = start_on(&store, temp());
    one.apply(&secret("s"));
    let token = one.done(&["token", "create", "--role", "server"]);
    let url = crate::cluster::url(&one).to_owned();
    let dir = temp();
    let (data, kubeconfig) = (dir.path().join("data"), dir.path().join("data/kubeconfig"));
    let start = |arguments: &[&str]| {
        let mut command = orchd();
        command.args(["server", "--listen", "127.0.0.1:0", "--store", &store, "--data-dir"]);
        command.arg(&data).args(arguments);
        command
    };
    let joining = start(&["--join", &url, "--token", token.trim()]);
    let dir = Daemon::ready(joining, kubeconfig.clone(), dir).kill();
    let keys = fs::read(data.join("pki/secrets.keys")).expect("given");

    lose(&data, &["secrets.keys"]);
    let ran = run(&mut start(&["--new-keys"]));
    assert!(ran.code == Some(1) && ran.err.contains(&url), "{ran:?}");
    assert!(!has(&data, "secrets.keys"), "no key was made");
    let other = Daemon::ready(start(&[]), kubeconfig, dir);
    assert_eq!(other.json(&["secret", "s"])["data"]["p"], "YzRuNHJ5LTliMWY=");
    assert_eq!(fs::read(data.join("pki/secrets.keys")).expect("given again"), keys);
    let _dir = other.kill();

    // Who is killed is not forgotten at once, and gives nothing.
    drop(one.kill());
    lose(&data, &["secrets.keys"]);
    let ran = run(&mut start(&[]));
    assert!(ran.code == Some(1) && ran.err.contains("none that runs has answered"), "{ran:?}");
}

#[test]
fn a_cluster_does_not_begin_anew_where_its_state_is_not() {
    let server = start_server("127.0.0.1:0", temp());
    let data = server.kubeconfig.with_file_name("");
    let dir = server.kill();
    let elsewhere = format!("sqlite:{}", data.with_file_name("elsewhere.db").display());
    for name in ["cluster.db", "cluster.db-wal", "cluster.db-shm"] {
        // The last two are there only while it is written to.
        let _ = fs::remove_file(data.join(name));
    }
    for store in [None, Some(elsewhere)] {
        let mut start = upkeep(&["server", "--listen", "127.0.0.1:0"], &data);
        start.args(store.iter().flat_map(|store| ["--store", store]));
        let ran = run(&mut start);
        assert!(ran.code == Some(1) && ran.err.contains("there is no state in sqlite:"), "{ran:?}");
        assert!(!data.join("cluster.db").exists(), "none is begun");
    }
    drop(dir);
}

#[test]
fn a_root_of_another_cluster_does_not_take_the_place_of_the_authority() {
    let (one, other) = (start_server("127.0.0.1:0", temp()), start_server("127.0.0.1:0", temp()));
    let (data, others) = (one.kubeconfig.with_file_name(""), other.kubeconfig.with_file_name(""));
    let _dirs = (one.kill(), other.kill());
    let issuing = || {
        ["issuing.crt", "issuing.key"]
            .map(|name| fs::read(data.join("pki").join(name)).expect("there"))
    };
    let before = issuing();
    for name in ["root.crt", "root.key"] {
        fs::copy(others.join("pki").join(name), data.join("pki").join(name)).expect("copied");
    }
    let ran = run(&mut upkeep(&["server", "--listen", "127.0.0.1:0"], &data));
    assert!(ran.code == Some(1) && ran.err.contains("do not belong together"), "{ran:?}");
    assert!(issuing() == before, "what agents trust is left");
    let ran = run(&mut upkeep(&["check"], &data));
    assert!(ran.code == Some(1) && ran.out.contains("do not belong together"), "{ran:?}");
}
