//! `Servers`: three orchd servers of one cluster over an etcd of three members, and an agent, as child processes.
//!
//! Dropping it ends the agent with its pods, kills the others and removes their data. The etcd is that of `$ORCH_TEST_ETCD`.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use orchestrator_core::model::{Key, Kind, Lease};
use orchestrator_http::{Client, ClientError, WriteParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};

use crate::orchd::{command, run};
use crate::rig::poll;

/// How many servers and members of etcd there are.
pub const SERVERS: usize = 3;
/// The server at which the agent joins.
pub const AGENT_JOINED_AT: usize = SERVERS - 1;
/// What says where a server is reached, on its own lease.
const URL_ANNOTATION: &str = "orchestrator.dev/url";
/// How long anything may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long something may take to end.
const END_WITHIN: Duration = Duration::from_secs(30);

/// Three servers.
#[derive(Debug)]
pub struct Servers {
    etcd: Vec<Option<Child>>,
    etcd_options: Vec<String>,
    members: Vec<Member>,
    servers: Vec<Option<Process>>,
    agent: Option<Process>,
    addresses: Vec<SocketAddrV4>,
    store: String,
    dir: TempDir,
}

/// What has said that it is ready.
#[derive(Debug)]
struct Process {
    child: Child,
    _stdout: BufReader<ChildStdout>,
}

impl Process {
    async fn start(mut command: Command, log: &Path) -> Self {
        let errors = File::options().create(true).append(true).open(log).expect("a file");
        let child = command.stdout(Stdio::piped()).stderr(errors).spawn();
        let mut child = child.expect("it runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut ready = String::new();
        let line = tokio::time::timeout(READY_WITHIN, stdout.read_line(&mut ready)).await;
        let said = || std::fs::read_to_string(log).unwrap_or_default();
        assert!(line.is_ok() && ready.starts_with("ready"), "{command:?}: {ready:?} {}", said());
        Self { child, _stdout: stdout }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).expect("it runs");
        nix::sys::signal::kill(Pid::from_raw(pid), signal).expect("it is ours");
    }

    async fn kill(mut self) {
        self.child.start_kill().expect("it runs");
        let status = self.child.wait().await.expect("it is waited for");
        assert_eq!(status.code(), None, "it was killed, and did not end by itself before");
    }
}

impl Servers {
    /// Starts everything: the first server makes the cluster, the others join it, the agent joins the last.
    ///
    /// # Panics
    /// When something does not become ready.
    pub async fn start() -> Self {
        Self::start_on(&[]).await
    }

    /// As [`Self::start`], on an etcd whose members have these options too.
    ///
    /// # Panics
    /// When something does not become ready.
    pub async fn start_on(etcd_options: &[&str]) -> Self {
        let etcd_options: Vec<_> = etcd_options.iter().map(|it| (*it).to_owned()).collect();
        let dir = tempfile::tempdir().expect("a directory");
        let hosts: Vec<_> = (0..SERVERS).map(|_| free_host()).collect();
        let members: Vec<_> = hosts.iter().copied().map(Member::on).collect();
        let start = |n| Some(start_member(dir.path(), &members, n, &etcd_options));
        let etcd = (0..SERVERS).map(start).collect();
        let endpoints: Vec<_> = members.iter().map(|member| member.client.to_string()).collect();
        let store = format!("etcd://{}", endpoints.join(","));
        let addresses = hosts.iter().map(|host| free_address(*host)).collect();
        let mut servers = Self {
            etcd,
            etcd_options,
            members,
            servers: (0..SERVERS).map(|_| None).collect(),
            agent: None,
            addresses,
            store,
            dir,
        };
        servers.start_server(0).await;
        for n in 1..SERVERS {
            let token = servers.token("server").await;
            servers.start_server_with(n, &["--join", &servers.url(0)], &token).await;
        }
        let token = servers.token("agent").await;
        servers
            .start_agent(&["--server", &servers.url(AGENT_JOINED_AT), "--name", "n1"], &token)
            .await;
        servers
    }

    /// Starts a server that does not run, and that has been one of the cluster before.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_server(&mut self, n: usize) {
        self.start_server_with(n, &[], "").await;
    }

    async fn start_server_with(&mut self, n: usize, arguments: &[&str], token: &str) {
        let (data, listen) = (self.data_dir(n), self.addresses[n].to_string());
        let data = data.to_str().expect("paths of tests are text");
        let usual = ["server", "--data-dir", data, "--listen", &listen, "--store", &self.store];
        let mut command = command(&usual);
        command.args(arguments).env("ORCHD_TOKEN", token);
        self.servers[n] = Some(Process::start(command, &self.log(&format!("server-{n}"))).await);
    }

    async fn start_agent(&mut self, arguments: &[&str], token: &str) {
        let data = self.dir.path().join("agent");
        let data = data.to_str().expect("paths of tests are text");
        let usual = ["agent", "--data-dir", data, "--runtime", "process", "--stop-pods"];
        let mut command = command(&usual);
        command.args(arguments).env("ORCHD_TOKEN", token);
        self.agent = Some(Process::start(command, &self.log("agent")).await);
    }

    /// Kills a server with KILL.
    ///
    /// # Panics
    /// When it does not run.
    pub async fn kill(&mut self, n: usize) {
        self.servers[n].take().expect("it runs").kill().await;
    }

    /// Sends a server a signal.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, n: usize, signal: Signal) {
        self.servers[n].as_ref().expect("it runs").signal(signal);
    }

    /// Stops a server as an operator does, and waits for its end.
    ///
    /// # Panics
    /// When it does not run, or fails.
    pub async fn stop(&mut self, n: usize) {
        let mut server = self.servers[n].take().expect("it runs");
        server.signal(Signal::SIGTERM);
        let ended = tokio::time::timeout(END_WITHIN, server.child.wait()).await;
        let status = ended.expect("it ends in time").expect("it is waited for");
        assert!(status.success(), "{status}");
    }

    /// Kills a member of etcd.
    ///
    /// # Panics
    /// When it does not run.
    pub async fn kill_member(&mut self, n: usize) {
        self.etcd[n].take().expect("it runs").kill().await.expect("it is waited for");
    }

    /// Starts a member of etcd that was killed.
    ///
    /// # Panics
    /// When there is no etcd.
    pub fn start_member(&mut self, n: usize) {
        let member = start_member(self.dir.path(), &self.members, n, &self.etcd_options);
        self.etcd[n] = Some(member);
    }

    /// Starts every member of etcd anew, one after the other, with other options.
    ///
    /// # Panics
    /// When one does not run, or does not answer again.
    pub async fn restart_members(&mut self, options: &[&str]) {
        self.etcd_options = options.iter().map(|it| (*it).to_owned()).collect();
        for n in 0..SERVERS {
            self.kill_member(n).await;
            self.start_member(n);
            poll("the member answers", || self.ask_member(n, "/v3/kv/range", r#"{"key": "AA=="}"#))
                .await;
        }
    }

    /// Sends a member of etcd a signal.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal_member(&self, n: usize, signal: Signal) {
        let child = self.etcd[n].as_ref().expect("it runs");
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).expect("it runs");
        nix::sys::signal::kill(Pid::from_raw(pid), signal).expect("it is ours");
    }

    /// Takes back every alarm of etcd's members, as their operator does who has made room.
    ///
    /// # Panics
    /// When that takes two minutes.
    pub async fn disarm_members(&self) {
        let alarm = async |body: Value| {
            let answer = self.ask_member(0, "/v3/maintenance/alarm", &body.to_string()).await?;
            serde_json::from_str::<Value>(&answer).map_err(|error| error.to_string())
        };
        poll("no member raises an alarm", || async {
            let found = alarm(json!({ "action": "GET" })).await?;
            let raised = found["alarms"].as_array().cloned().unwrap_or_default();
            for mut one in raised.clone() {
                one["action"] = "DEACTIVATE".into();
                alarm(one).await?;
            }
            if raised.is_empty() { Ok(()) } else { Err(format!("{raised:?}")) }
        })
        .await;
    }

    async fn ask_member(&self, n: usize, path: &str, body: &str) -> Result<String, String> {
        let address = self.members[n].client;
        let ask = async {
            let mut stream = TcpStream::connect(address).await?;
            let head = format!("POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: ");
            stream.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = ask.await.map_err(|error| error.to_string())?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.0 200") => Ok(body.to_owned()),
            Some(_) | None => Err(answer),
        }
    }

    /// The URL of a server.
    pub fn url(&self, n: usize) -> String {
        format!("https://{}", self.addresses[n])
    }

    /// A client of a server, as its administrator.
    ///
    /// # Panics
    /// When it has never run.
    pub fn client(&self, n: usize) -> Client {
        Client::from_kubeconfig(&self.data_dir(n).join("kubeconfig")).expect("it wrote one")
    }

    /// Finds the number of the server that leads, as a server sees it.
    ///
    /// # Panics
    /// When that takes a minute.
    pub async fn leader(&self, seen_by: usize) -> usize {
        let client = self.client(seen_by);
        poll("a server leads", || async {
            self.led_by(&client).await.map_err(|error| error.to_string())?.ok_or_else(String::new)
        })
        .await
    }

    /// Says that a server leads, whoever does: writes its name into both objects that say it.
    ///
    /// # Errors
    /// When somebody else writes them at the same time, or no server of that number is known.
    pub async fn hand_lead_to(&self, n: usize, by: &Client) -> Result<(), ClientError> {
        let url = self.url(n);
        let all = by.list(Kind::Lease, Some("kube-system"), &Default::default()).await?;
        let all = all["items"].as_array().cloned().unwrap_or_default();
        let record = all.iter().find(|it| it["metadata"]["annotations"][URL_ANNOTATION] == *url);
        let Some(record) = record else { return Ok(()) };
        for name in ["orchestrator-lead", "orchestrator-leader"] {
            let key = Key::new(Kind::Lease, "kube-system", name);
            let mut lease = by.get(&key).await?;
            let number = lease["spec"]["leaseTransitions"].as_i64().unwrap_or_default();
            lease["spec"]["leaseTransitions"] = (number + 1).into();
            lease["spec"]["holderIdentity"] = record["spec"]["holderIdentity"].clone();
            by.replace(&key, &lease, WriteParams::default()).await?;
        }
        Ok(())
    }

    async fn led_by(&self, client: &Client) -> Result<Option<usize>, ClientError> {
        let lease =
            client.get(&Key::new(Kind::Lease, "kube-system", "orchestrator-leader")).await?;
        let holder = lease["spec"]["holderIdentity"].clone();
        let all = client.list(Kind::Lease, Some("kube-system"), &Default::default()).await?;
        let all = all["items"].as_array().cloned().unwrap_or_default();
        let records = all.into_iter().filter_map(|it| serde_json::from_value::<Lease>(it).ok());
        let mut urls = records
            .filter(|record| record.spec.holder_identity.as_deref() == holder.as_str())
            .filter_map(|record| record.metadata.annotations.get(URL_ANNOTATION).cloned());
        let url = urls.next();
        Ok((0..SERVERS).find(|n| Some(self.url(*n)) == url))
    }

    /// Calls orchd as a client of the first server, or as something that concerns this cluster's store.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn call(&self, arguments: &[&str]) -> crate::orchd::Ended {
        let mut command = command(arguments);
        command.env("KUBECONFIG", self.data_dir(0).join("kubeconfig"));
        run(command).await
    }

    /// The URL of the store.
    pub fn store(&self) -> &str {
        &self.store
    }

    /// A directory for the test's own files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    async fn token(&self, role: &str) -> String {
        let made = self.call(&["token", "create", "--role", role]).await;
        assert!(made.status.success(), "{made:?}");
        made.stdout.trim().to_owned()
    }

    /// The data directory of a server.
    pub fn data_dir(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("server-{n}"))
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        agent.signal(Signal::SIGTERM);
        let until = Instant::now() + END_WITHIN;
        while matches!(agent.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A member of etcd: where clients and the other members reach it.
#[derive(Debug)]
struct Member {
    client: SocketAddrV4,
    peer: SocketAddrV4,
}

impl Member {
    fn on(host: Ipv4Addr) -> Self {
        Self { client: free_address(host), peer: free_address(host) }
    }
}

fn start_member(dir: &Path, members: &[Member], n: usize, options: &[String]) -> Child {
    let program = std::env::var_os("ORCH_TEST_ETCD").expect("$ORCH_TEST_ETCD: use tests/run");
    let all = members.iter().enumerate().map(|(n, member)| format!("m{n}=http://{}", member.peer));
    let all = all.collect::<Vec<_>>().join(",");
    let Member { client, peer } = &members[n];
    let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
    let log = dir.join(format!("etcd-{n}.log"));
    let output = File::options().create(true).append(true).open(log).expect("a file");
    let mut command = Command::new(&program);
    command
        .args(["--name", &format!("m{n}"), "--initial-cluster", &all, "--data-dir"])
        .arg(dir.join(format!("etcd-{n}")))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(options)
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a descriptor"))
        .stderr(output)
        .kill_on_drop(true);
    command.spawn().expect("etcd starts")
}

/// An address of the loopback network that no other test has.
fn free_host() -> Ipv4Addr {
    static HOSTS: AtomicU8 = AtomicU8::new(1);
    let process = u8::try_from(std::process::id() % 64).expect("below 64");
    Ipv4Addr::new(127, 192 + process, 7, HOSTS.fetch_add(1, Ordering::Relaxed))
}

fn free_address(host: Ipv4Addr) -> SocketAddrV4 {
    let listener = TcpListener::bind((host, 0)).expect("the loopback network has the address");
    SocketAddrV4::new(host, listener.local_addr().expect("it listens").port())
}
