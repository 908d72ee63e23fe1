//! `Etcd`: one etcd of one or more members, as processes of its own on an address of the loopback network that is its alone.
//!
//! Dropping it kills the members and removes their data.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

use base64::Engine;
use orchestrator_etcd::{EtcdHistory, EtcdOptions, EtcdStore};
use serde_json::Value;
use tempfile::TempDir;

/// Which etcd.
#[derive(Clone, Copy, Debug)]
pub enum Program {
    Current,
    Old,
}

impl Program {
    fn path(self) -> PathBuf {
        let variable = match self {
            Self::Current => "ORCH_TEST_ETCD",
            Self::Old => "ORCH_TEST_ETCD_OLD",
        };
        let path = std::env::var_os(variable);
        path.unwrap_or_else(|| panic!("${variable} names no etcd: use tests/run")).into()
    }
}

/// An etcd that runs.
pub struct Etcd {
    members: Vec<Member>,
    // Dropped, with the data, after the members have been killed.
    _directory: TempDir,
}

struct Member {
    command: Mutex<Command>,
    process: Mutex<Option<Child>>,
    client: SocketAddrV4,
}

/// The addresses that have been given to members of this process.
static ADDRESSES: AtomicU16 = AtomicU16::new(0);

impl Etcd {
    /// Starts an etcd of one member.
    pub fn start(program: Program) -> Self {
        Self::start_with(program, 1, |_, _| vec![])
    }

    /// Starts an etcd of several members, with further options that `options` makes of a member's directory and host.
    pub fn start_with(
        program: Program,
        count: usize,
        options: impl Fn(&Path, Ipv4Addr) -> Vec<String>,
    ) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let places: Vec<_> = (0..count).map(|_| free_addresses()).collect();
        let all = places.iter().enumerate().map(|(n, (_, peer))| format!("m{n}=http://{peer}"));
        let all = all.collect::<Vec<_>>().join(",");
        let members = places.into_iter().enumerate().map(|(n, (client, peer))| {
            let own = directory.path().join(format!("m{n}"));
            std::fs::create_dir(&own).expect("a directory");
            let options = options(&own, *client.ip());
            let secure = options.iter().any(|option| option.starts_with("--cert-file"));
            let scheme = if secure { "https" } else { "http" };
            let client_url = format!("{scheme}://{client}");
            let peer_url = format!("http://{peer}");
            let mut command = Command::new(program.path());
            command
                .args(["--name", &format!("m{n}"), "--initial-cluster", &all])
                .arg("--data-dir")
                .arg(own.join("data"))
                .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
                .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
                .args(timing(count))
                .args(options)
                .stdin(Stdio::null());
            let output = File::create(own.join("output")).expect("a file");
            command.stdout(output.try_clone().expect("a file")).stderr(output);
            Member { command: Mutex::new(command), process: Mutex::default(), client }
        });
        let etcd = Self { members: members.collect(), _directory: directory };
        for n in 0..count {
            etcd.start_member(n);
        }
        etcd
    }

    /// What reaches it, with patience for a machine that is busy.
    pub fn options(&self) -> EtcdOptions {
        let mut options = EtcdOptions::new(self.members.iter().map(|it| it.client.to_string()));
        options.history = EtcdHistory::KeptByOthers;
        options.request_ms_max = 60_000;
        options
    }

    /// Opens a store with the usual prefix.
    pub async fn open(&self) -> EtcdStore {
        EtcdStore::open(self.options()).await.expect("etcd answers")
    }

    /// Starts a member that does not run.
    pub fn start_member(&self, n: usize) {
        let Member { command, process, .. } = &self.members[n];
        let mut process = process.lock().expect("no panic");
        assert!(process.is_none(), "member {n} runs");
        *process = Some(command.lock().expect("no panic").spawn().expect("etcd starts"));
    }

    /// Kills a member with SIGKILL.
    pub fn kill_member(&self, n: usize) {
        let child = self.members[n].process.lock().expect("no panic").take();
        let mut child = child.expect("it runs");
        assert!(child.try_wait().expect("a child").is_none(), "member {n} ended by itself");
        child.kill().expect("SIGKILL is sent");
        child.wait().expect("it is gone");
    }

    /// Stops a member where it is, with SIGSTOP.
    pub fn pause_member(&self, n: usize) {
        self.signal(n, "-STOP");
    }

    /// Lets a paused member go on.
    pub fn resume_member(&self, n: usize) {
        self.signal(n, "-CONT");
    }

    /// Waits until a member says that it leads, and returns its number.
    pub async fn leader(&self) -> usize {
        loop {
            let leads = |n: &usize| {
                let metrics = self.ask(*n, "GET", "/metrics", "", "");
                metrics.is_ok_and(|text| text.contains("\netcd_server_is_leader 1"))
            };
            if let Some(n) = (0..self.members.len()).find(leads) {
                return n;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Calls etcd's JSON gateway on its first member, which must agree, and returns the answer.
    pub fn post(&self, path: &str, body: &str) -> Value {
        self.post_as(path, body, "")
    }

    /// Makes a role, as a user who may, so that every login is older than the last change of users and roles.
    pub fn change_a_role(&self, name: &str, password: &str) {
        let login = format!(r#"{{"name": "{name}", "password": "{password}"}}"#);
        let answer = self.post("/v3/auth/authenticate", &login);
        let token = answer["token"].as_str().expect("a token");
        self.post_as("/v3/auth/role/add", r#"{"name": "new"}"#, token);
    }

    /// Writes a key behind the store's back.
    pub fn put(&self, key: &str, value: &str) {
        let body = format!(r#"{{"key": "{}", "value": "{}"}}"#, base64(key), base64(value));
        self.post("/v3/kv/put", &body);
    }

    /// Counts the keys that begin with a text of ASCII.
    pub fn keys_below(&self, start: &str) -> u64 {
        let (key, end) = (base64(start), base64(&format!("{start}\u{7f}")));
        let body = format!(r#"{{"key": "{key}", "range_end": "{end}", "count_only": true}}"#);
        // A count of 0 is left out.
        let count = self.post("/v3/kv/range", &body)["count"].take();
        count.as_str().map_or(0, |count| count.parse().expect("a number"))
    }

    fn post_as(&self, path: &str, body: &str, token: &str) -> Value {
        let header =
            if token.is_empty() { String::new() } else { format!("Authorization: {token}\r\n") };
        let answer = self.ask(0, "POST", path, &header, body).expect("etcd answers");
        assert!(answer.starts_with("HTTP/1.0 200"), "{path}: {answer}");
        let (_, json) = answer.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(json).expect("JSON")
    }

    fn signal(&self, n: usize, signal: &str) {
        let process = self.members[n].process.lock().expect("no panic");
        let pid = process.as_ref().expect("it runs").id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Makes one call over HTTP/1.0, which has the simplest answers.
    fn ask(
        &self,
        n: usize,
        method: &str,
        path: &str,
        header: &str,
        body: &str,
    ) -> std::io::Result<String> {
        let address = self.members[n].client;
        let mut stream = TcpStream::connect(address)?;
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: {address}\r\n{header}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for Member { process, .. } in &mut self.members {
            if let Ok(Some(child)) = process.get_mut() {
                // One that has ended needs no signal.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// As etcd's JSON has keys and values.
pub fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A member alone need not wait for others; several should not lose touch because the machine is busy.
const fn timing(count: usize) -> [&'static str; 4] {
    let [heartbeat, election] = if count == 1 { ["20", "200"] } else { ["100", "1000"] };
    ["--heartbeat-interval", heartbeat, "--election-timeout", election]
}

/// Two addresses that nobody uses: no other test has this host.
fn free_addresses() -> (SocketAddrV4, SocketAddrV4) {
    let [high, low] = (ADDRESSES.fetch_add(1, Ordering::Relaxed) + 1).to_be_bytes();
    let process = u8::try_from(std::process::id() % 64).expect("below 64");
    let host = Ipv4Addr::new(127, 128 + process, high, low);
    let listen = || TcpListener::bind((host, 0)).expect("the loopback network has the address");
    let port = |listener: &TcpListener| listener.local_addr().expect("it listens").port();
    let (client, peer) = (listen(), listen());
    (SocketAddrV4::new(host, port(&client)), SocketAddrV4::new(host, port(&peer)))
}
