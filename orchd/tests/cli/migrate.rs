//! `orchd migrate`, between SQLite and an etcd that really runs.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orchestrator_core::store::StateStore as _;
use orchestrator_etcd::{EtcdOptions, EtcdStore};
use tempfile::TempDir;

use crate::cluster::{start_server, temp};
use crate::daemon::{Daemon, orchd, run, until};
use crate::upkeep::{backup_of, done, revision, secret, upkeep};

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
        until("etcd", || TcpStream::connect(&etcd.address).is_ok());
        etcd
    }

    /// Writes a key past every store.
    fn put(&self, key: &str, value: &str) {
        let (key, value) = (STANDARD.encode(key), STANDARD.encode(value));
        self.post("put", &format!(r#"{{"key":"{key}","value":"{value}"}}"#));
    }

    /// Deletes every key.
    fn delete_all(&self) {
        let nul = STANDARD.encode("\0");
        self.post("deleterange", &format!(r#"{{"key":"{nul}","range_end":"{nul}"}}"#));
    }

    fn post(&self, call: &str, body: &str) {
        let mut etcd = TcpStream::connect(&self.address).expect("etcd runs");
        let (host, length) = (&self.address, body.len());
        write!(
            etcd,
            "POST /v3/kv/{call} HTTP/1.0\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .expect("written");
        let mut answer = String::new();
        etcd.read_to_string(&mut answer).expect("an answer");
        assert!(answer.contains(" 200 OK"), "{answer}");
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
    Daemon::ready(serve(store, &data), kubeconfig, dir)
}

fn serve(store: &str, data: &Path) -> Command {
    let mut command = orchd();
    command.args(["server", "--listen", "127.0.0.1:0", "--store", store, "--data-dir"]).arg(data);
    command
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
    let elsewhere = temp();
    let ran = run(&mut serve(&url, &elsewhere.path().join("data")));
    assert!(ran.code == Some(1) && ran.err.contains("has been moved to sqlite:"), "{ran:?}");
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
fn a_state_that_has_left_an_etcd_is_found_by_the_directories_of_other_servers() {
    let (old, new) = (Etcd::start(), Etcd::start());
    let (from, to) = (old.url("/same"), new.url("/same"));
    let (data, _dir) = has_run_on(&from);
    let other = temp();
    let copied = Command::new("cp").arg("-a").args([&data, &other.path().join("data")]).status();
    assert!(copied.expect("cp is there").success());
    let migrate = |to: &str, data: &Path| run(&mut upkeep(&["migrate", "--to", to], data));
    let ran = migrate(&to, &data);
    assert!(ran.out.contains(" records moved from etcd:"), "{ran:?}");

    let follower = other.path().join("data");
    let ran = run(&mut serve(&from, &follower));
    assert!(ran.code == Some(1) && ran.err.contains(&format!("--to {to}`")), "{ran:?}");
    let ran = migrate(&new.url("/another"), &follower);
    assert!(ran.code == Some(2) && ran.err.contains("has been moved to"), "{ran:?}");
    let ran = migrate(&to, &follower);
    assert!(ran.code == Some(0) && ran.out.contains("moved into"), "{ran:?}");
    still_has_the_secret(&to, other);
}

/// The data directory of a server on a store that has run, with a secret in its state.
fn has_run_on(store: &str) -> (PathBuf, TempDir) {
    let server = start_on(store, temp());
    server.apply(&secret("s"));
    let data = server.kubeconfig.with_file_name("");
    (data, server.stop().1)
}

/// Starts a server on a store, in whose state the secret must be.
fn still_has_the_secret(store: &str, dir: TempDir) {
    let server = start_on(store, dir);
    assert_eq!(server.json(&["secret", "s"])["data"]["p"], "YzRuNHJ5LTliMWY=");
}

/// Leaves a state in an etcd as `orchd migrate` does before the new place is whole.
fn leave(from: &str, to: &str) {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let options = EtcdOptions::from_url(from).expect("a URL");
        let store = EtcdStore::open(options).await.expect("whole");
        let at = store.revision().await.expect("etcd answers");
        assert!(store.leave(at, to).await.expect("etcd answers"));
    });
}

/// Says in a data directory that a move was begun.
fn begin_moving(data: &Path, from: &str, to: &str) {
    std::fs::write(data.join("moving"), format!("{from}\n{to}\n")).expect("written");
}

#[test]
fn a_move_out_of_an_etcd_that_was_interrupted_is_done_again_by_who_began_it() {
    let etcd = Etcd::start();
    for to_sqlite in [false, true] {
        let from = etcd.url(&format!("/from-{to_sqlite}"));
        let (data, dir) = has_run_on(&from);
        let sqlite = format!("sqlite:{}", data.join("cluster.db").display());
        let to = if to_sqlite { sqlite } else { etcd.url("/to") };
        leave(&from, &to);
        let migrate = |to: &str| run(&mut upkeep(&["migrate", "--to", to], &data));
        let ran = migrate(&to);
        assert!(ran.code == Some(1) && ran.err.contains("and there is none"), "{ran:?}");

        begin_moving(&data, &from, &to);
        let again = format!("migrate --data-dir {} --to {to}`", data.display()).replace("//", "/");
        let ran = run(&mut serve(&from, &data));
        let said = ran.err.replace("//", "/");
        assert!(ran.code == Some(1) && said.contains(&again), "{ran:?}");
        let ran = migrate(&etcd.url("/another"));
        assert!(ran.code == Some(2) && ran.err.contains("was interrupted"), "{ran:?}");
        let ran = migrate(&to);
        assert!(ran.out.contains(" records moved from etcd:"), "{ran:?}");
        still_has_the_secret(&to, dir);
    }
}

#[test]
fn a_move_out_of_a_database_that_was_interrupted_is_done_again_and_no_server_starts_before() {
    let etcd = Etcd::start();
    let to = etcd.url("/to");
    let server = start_server("127.0.0.1:0", temp());
    let data = server.kubeconfig.with_file_name("");
    server.apply(&secret("s"));
    let (_, dir) = server.stop();
    let migrate = || run(&mut upkeep(&["migrate", "--to", &to], &data));
    let ran = migrate();
    assert!(ran.out.contains(" records moved from sqlite:"), "{ran:?}");
    // As it was before the new place was remembered.
    std::fs::rename(data.join("cluster.db.moved"), data.join("cluster.db")).expect("renamed");
    std::fs::remove_file(data.join("store")).expect("removed");
    let from = format!("sqlite:{}", data.join("cluster.db").display());
    begin_moving(&data, &from, &to);
    let ran = run(&mut upkeep(&["server", "--listen", "127.0.0.1:0"], &data));
    assert!(ran.code == Some(1) && ran.err.contains("is being moved from sqlite:"), "{ran:?}");
    let ran = migrate();
    assert!(ran.out.contains("has been moved into etcd:"), "{ran:?}");
    let ran = migrate();
    assert!(ran.code == Some(0) && ran.out.contains("already"), "{ran:?}");
    let ran = run(&mut upkeep(&["server", "--listen", "127.0.0.1:0"], &data));
    assert!(ran.code == Some(1) && ran.err.contains(&format!("--store {to}`")), "{ran:?}");

    // What was put aside is not taken for a state that is gone, and the target is gone instead.
    begin_moving(&data, "own", &to);
    etcd.delete_all();
    let ran = migrate();
    assert!(ran.code == Some(1) && ran.err.contains("give it its name back"), "{ran:?}");
    std::fs::rename(data.join("cluster.db.moved"), data.join("cluster.db")).expect("renamed");
    // Nor is another cluster's state taken for this one's.
    drop(start_on(&to, temp()));
    let ran = migrate();
    assert!(ran.code == Some(1) && ran.err.contains("the state of another cluster"), "{ran:?}");
    etcd.delete_all();
    let ran = migrate();
    assert!(ran.out.contains(" records moved from sqlite:"), "{ran:?}");
    still_has_the_secret(&to, dir);
}

#[test]
fn who_follows_a_state_that_was_moved_twice_is_told_the_last_place_and_none_is_begun_on_the_way() {
    let etcd = Etcd::start();
    let [a, b, c] = ["/a", "/b", "/c"].map(|prefix| etcd.url(prefix));
    let (data, _dir) = has_run_on(&a);
    let migrate = |to: &str| run(&mut upkeep(&["migrate", "--to", to], &data));
    leave(&a, &b);
    let ran = run(upkeep(&["backup"], &data).arg(data.join("x")));
    assert!(ran.code == Some(1) && ran.err.contains("moved to"), "{ran:?}");
    drop(start_on(&b, temp()));
    leave(&b, &c);
    let ran = migrate(&b);
    assert!(ran.code == Some(2) && ran.err.contains(&format!("has been moved to {c}")), "{ran:?}");
    let ran = migrate(&c);
    assert!(ran.code == Some(1) && ran.err.contains("there is none"), "{ran:?}");

    // What is deleted since is not begun anew, and another place may be named then.
    etcd.delete_all();
    for verb in [&["check"][..], &["migrate", "--to", &c]] {
        let ran = run(&mut upkeep(verb, &data));
        let said = format!("{}{}", ran.out, ran.err);
        assert!(ran.code == Some(1) && said.contains("there is no state in etcd:"), "{ran:?}");
    }
    for place in [&a, &c] {
        let ran = run(&mut serve(place, &data));
        let says = format!("there is no state in {place}");
        assert!(ran.code == Some(1) && ran.err.contains(&says), "{ran:?}");
    }
    let server = start_server("127.0.0.1:0", temp());
    let backup = backup_of(&server);
    let fresh = temp();
    let mut restore = upkeep(&["restore", "--store", &c], &fresh.path().join("data"));
    restore.arg(&backup);
    assert!(done(restore).contains("restored into"), "nothing was begun there");
}

#[test]
fn a_move_that_fails_leaves_nothing_behind() {
    let etcd = Etcd::start();
    let from = etcd.url("/damaged");
    let (data, dir) = has_run_on(&from);
    etcd.put("/damaged/state\0Pod\0strange", "v");
    let target = temp();
    let sqlite = format!("sqlite:{}", target.path().join("a.db").display());
    let ran = run(&mut upkeep(&["migrate", "--to", &sqlite], &data));
    assert!(ran.code == Some(1) && ran.err.contains("cannot be read"), "{ran:?}");
    let left: Vec<_> = std::fs::read_dir(target.path()).expect("a directory").collect();
    assert!(left.is_empty(), "{left:?}");
    still_has_the_secret(&from, dir);
}

#[test]
fn a_backup_of_sqlite_is_restored_into_etcd() {
    let etcd = Etcd::start();
    let url = etcd.url("/restored");
    let server = start_server("127.0.0.1:0", temp());
    server.apply(&secret("s"));
    let backup = backup_of(&server);
    let dir = temp();
    let mut command = upkeep(&["restore", "--store", &url], &dir.path().join("data"));
    command.arg(&backup);
    done(command);
    still_has_the_secret(&url, dir);
}
