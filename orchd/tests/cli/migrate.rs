//! `orchd migrate`, between SQLite and an etcd that really runs.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::cluster::{start_server, temp};
use crate::daemon::{Daemon, orchd, run, until};
use crate::upkeep::{done, revision, secret, upkeep};

/// An etcd of one member; dropping it kills it and removes its data.
pub struct Etcd {
    process: Child,
    address: String,
    _dir: TempDir,
}

impl Etcd {
    pub fn start() -> Self {
        let program = std::env::var_os("ORCH_TEST_ETCD").expect("$ORCH_TEST_ETCD: use tests/run");
        let free = || {
            let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
            socket.local_addr().expect("bound").to_string()
        };
        let (address, peer, dir) = (free(), free(), temp());
        let (client_url, peer_url) = (format!("http://{address}"), format!("http://{peer}"));
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(dir.path().join("etcd"));
        for name in ["--listen-client-urls", "--advertise-client-urls"] {
            command.args([name, &client_url]);
        }
        for name in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
            command.args([name, &peer_url]);
        }
        command.args(["--initial-cluster", &format!("default={peer_url}")]);
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = quiet.spawn().expect("it runs");
        let etcd = Self { process, address, _dir: dir };
        until("etcd", || std::net::TcpStream::connect(&etcd.address).is_ok());
        etcd
    }

    pub fn url(&self, prefix: &str) -> String {
        format!("etcd://{}{prefix}", self.address)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn start_on(store: &str, dir: TempDir) -> Daemon {
    let (data, kubeconfig) = (dir.path().join("data"), dir.path().join("data/kubeconfig"));
    let mut command = orchd();
    command.args(["server", "--listen", "127.0.0.1:0", "--store", store, "--data-dir"]).arg(data);
    Daemon::ready(command, kubeconfig, dir)
}

#[test]
fn s3_a_state_that_is_moved_to_etcd_and_back_goes_on_above_its_revisions() {
    let etcd = Etcd::start();
    let url = etcd.url("/moved");
    let server = start_server("127.0.0.1:0", temp());
    let data = server.kubeconfig.with_file_name("");
    server.apply(&secret("s"));
    let at = revision(&server, &["secret", "s"]);
    let migrate = |to: &str| {
        let mut command = upkeep(&["migrate", "--to", to], &data);
        command.env("ORCHD_LOG", "warn");
        command
    };
    let ran = run(&mut migrate(&url));
    assert!(ran.code == Some(1) && ran.err.contains("is in use by"), "{ran:?}");
    let (_, dir) = server.stop();
    let said = done(migrate(&url));
    assert!(said.contains(" records moved from sqlite:"), "{said}");

    // The old place is not used any more.
    let mut without = upkeep(&["server", "--listen", "127.0.0.1:0"], &data);
    let ran = run(&mut without);
    assert!(ran.code == Some(1) && ran.err.contains(&format!("--store {url}`")), "{ran:?}");
    let server = start_on(&url, dir);
    assert_eq!(server.json(&["secret", "s"])["data"]["p"], "YzRuNHJ5LTliMWY=");
    let moved = revision(&server, &["secret", "s"]);
    assert!(moved > at);
    server.apply(&secret("t"));
    let sqlite = format!("sqlite:{}", data.join("cluster.db").display());
    let ran = run(&mut migrate(&sqlite));
    assert!(ran.code == Some(1) && ran.err.contains("a server writes to etcd:"), "{ran:?}");
    assert!(!data.join("cluster.db").exists(), "nothing is moved");
    let (_, dir) = server.stop();

    done(migrate(&sqlite));
    let server = start_server("127.0.0.1:0", dir);
    assert!(revision(&server, &["secret", "t"]) > moved);
    let (_, _dir) = server.stop();
    let ran = run(&mut migrate(&url));
    assert!(
        ran.code == Some(1) && ran.err.contains("cluster.db.moved is left of an earlier move"),
        "{ran:?}"
    );
    std::fs::remove_file(data.join("cluster.db.moved")).expect("removed");
    let ran = run(&mut migrate(&url));
    assert!(ran.code == Some(1) && ran.err.contains("choose another prefix"), "{ran:?}");
}

#[test]
fn a_backup_of_sqlite_is_restored_into_etcd() {
    let etcd = Etcd::start();
    let url = etcd.url("/restored");
    let server = start_server("127.0.0.1:0", temp());
    let data = server.kubeconfig.with_file_name("");
    server.apply(&secret("s"));
    let backup = data.with_file_name("b.orchd");
    let mut command = upkeep(&["backup"], &data);
    command.arg(&backup);
    done(command);
    let dir = temp();
    let mut command = upkeep(&["restore", "--store", &url], &dir.path().join("data"));
    command.arg(&backup);
    done(command);
    let server = start_on(&url, dir);
    assert_eq!(server.json(&["secret", "s"])["data"]["p"], "YzRuNHJ5LTliMWY=");
}
