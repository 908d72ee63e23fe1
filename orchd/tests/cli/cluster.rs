//! `orchd server`, `agent`, `token` and `node`: a cluster of several agents on this machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::daemon::{Daemon, Ran, deployment, orchd, run, signal, until};

pub fn temp() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// `orchd server` in a directory.
pub fn server_in(dir: &Path, listen: &str) -> Command {
    let mut command = orchd();
    command.args(["server", "--listen", listen, "--data-dir"]).arg(dir.join("data"));
    command
}

pub fn start_server(listen: &str, dir: TempDir) -> Daemon {
    let kubeconfig = dir.path().join("data/kubeconfig");
    Daemon::ready(server_in(dir.path(), listen), kubeconfig, dir)
}

pub fn url(server: &Daemon) -> &str {
    server.ready.split_whitespace().nth(1).expect("ready URL …")
}

pub fn token(server: &Daemon) -> String {
    let printed = server.done(&["token", "create"]);
    let (token, rest) = printed.split_once('\n').expect("a line");
    assert!(token.starts_with("orch1.agent.") && rest.is_empty(), "the token alone");
    token.to_owned()
}

/// `orchd agent` in a directory, which has joined or is yet to.
pub fn agent_in(dir: &Path) -> Command {
    let mut command = orchd();
    command.args(["agent", "--runtime", "process", "--data-dir"]).arg(dir.join("data"));
    command
}

pub fn joining(server: &Daemon, token: &str, name: &str, dir: &Path) -> Command {
    let mut command = agent_in(dir);
    command.args(["--server", url(server), "--token", token, "--name", name]);
    command
}

pub fn join(server: &Daemon, name: &str, arguments: &[&str]) -> Daemon {
    let dir = temp();
    let mut command = joining(server, &token(server), name, dir.path());
    command.args(arguments);
    Daemon::ready(command, server.kubeconfig.clone(), dir)
}

/// Uid, node and restarts of every pod that runs, by name.
pub fn running(server: &Daemon) -> BTreeMap<String, (String, String, u64)> {
    let list = server.json(&["pods"]);
    let text = |pod: &Value, at: &str| {
        pod.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let pods = list["items"].as_array().cloned().unwrap_or_default();
    pods.iter()
        .filter(|pod| text(pod, "/status/phase") == "Running")
        .map(|pod| {
            let restarts = pod.pointer("/status/containerStatuses/0/restartCount");
            let restarts = restarts.and_then(Value::as_u64).unwrap_or_default();
            let about = (text(pod, "/metadata/uid"), text(pod, "/spec/nodeName"), restarts);
            (text(pod, "/metadata/name"), about)
        })
        .collect()
}

fn nodes_of(pods: &BTreeMap<String, (String, String, u64)>) -> Vec<&str> {
    let mut nodes: Vec<_> = pods.values().map(|(_, node, _)| node.as_str()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

#[track_caller]
pub fn refused(command: &mut Command, code: i32, says: &str) {
    let ran: Ran = run(command);
    assert_eq!(ran.code, Some(code), "{ran:?}");
    assert!(ran.err.contains(says), "{says}: {ran:?}");
}

#[test]
fn pods_run_on_every_node_and_outlive_servers_and_agents_that_are_killed() {
    let server = start_server("127.0.0.1:0", temp());
    let [a, b] = ["a", "b"].map(|name| join(&server, name, &["--stop-pods"]));
    assert_eq!(a.ready.split_whitespace().next_back(), Some("runtime=process"), "{}", a.ready);
    server.apply(&deployment("web", 4, "echo hello; exec sleep 3600"));
    until("4 pods", || running(&server).len() == 4);
    let before = running(&server);
    assert_eq!(nodes_of(&before), ["a", "b"]);
    for pod in before.keys() {
        assert_eq!(server.done(&["logs", pod]), "hello\n", "through its node's tunnel");
    }

    let listen = url(&server).trim_start_matches("https://").to_owned();
    let server = start_server(&listen, server.kill());
    until("both nodes heard of", || {
        let text = server.done(&["node", "list"]);
        text.matches(" Ready").count() == 2
    });
    assert_eq!(running(&server), before, "nothing was restarted");

    // An agent that has joined needs no token to start again, and takes over what runs.
    let dir = a.kill();
    let mut command = agent_in(dir.path());
    command.arg("--stop-pods");
    let a = Daemon::ready(command, server.kubeconfig.clone(), dir);
    let pod = before.iter().find(|(_, (_, node, _))| node == "a").map(|(name, _)| name);
    let pod = pod.expect("one on each node");
    until("its tunnel", || server.call(&["logs", pod]).out == "hello\n");
    assert_eq!(running(&server), before, "nothing was restarted");

    server.done(&["delete", "deployment", "web"]);
    until("no pods", || server.pods().is_empty());
    drop((a, b));
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn an_agent_started_without_its_server_restarts_what_died_and_nothing_is_restarted_on_return() {
    let server = start_server("127.0.0.1:0", temp());
    let a = join(&server, "a", &["--stop-pods"]);
    let pids = temp();
    let starts_of = |name: &str| -> Vec<String> {
        let text = std::fs::read_to_string(pids.path().join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    for name in ["dies", "lives"] {
        let script = format!("echo $$$$ >> {}; exec sleep 3600", pids.path().join(name).display());
        server.apply(&deployment(name, 1, &script));
    }
    until("2 pods", || running(&server).len() == 2);
    let before = running(&server);
    let kept = a.dir.path().join("data/pods.json");
    let known = || std::fs::read_to_string(&kept).unwrap_or_default();
    until("both to be kept", || before.keys().all(|pod| known().contains(pod)));
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&kept.metadata().expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);

    let listen = url(&server).trim_start_matches("https://").to_owned();
    let kubeconfig = server.kubeconfig.clone();
    let servers = server.kill();
    let dir = a.kill();
    let first = starts_of("dies");
    assert_eq!(first.len(), 1);
    signal(&first[0], "KILL");
    let mut command = agent_in(dir.path());
    command.arg("--stop-pods");
    let mut a = Daemon::begin(command, kubeconfig, dir);
    until("what died to run again", || starts_of("dies").len() == 2);

    let server = start_server(&listen, servers);
    a.becomes_ready();
    until("the restart to be told", || {
        running(&server).values().map(|(_, _, restarts)| restarts).sum::<u64>() == 1
    });
    let told = running(&server);
    assert!(before.keys().eq(told.keys()), "{before:?} {told:?}");
    assert_eq!((starts_of("dies").len(), starts_of("lives").len()), (2, 1));
    drop(a);
}

#[test]
fn a_token_may_come_from_a_file_and_stays_on_no_command_line_and_in_no_environment() {
    let server = start_server("127.0.0.1:0", temp());
    let secret = token(&server);
    let dir = temp();
    let a =
        Daemon::ready(joining(&server, &secret, "a", dir.path()), server.kubeconfig.clone(), dir);
    let shown = a.command_line_and_environment();
    assert!(shown.contains("--name a") && !shown.contains("orch1"), "{shown}");
    drop(a);
    server.done(&["node", "remove", "a", "--force"]);

    // What it starts, as the same user, sees none either.
    let dir = temp();
    let mut command = agent_in(dir.path());
    command.args(["--server", url(&server), "--name", "a", "--stop-pods"]);
    command.env("ORCHD_TOKEN", token(&server));
    let a = Daemon::ready(command, server.kubeconfig.clone(), dir);
    let proc = a.proc();
    let look = format!("env; cat {0}/environ {0}/cmdline; echo; echo seen", proc.display());
    server.apply(&deployment("looks", 1, &format!("{look}; exec sleep 3600")));
    until("a pod", || running(&server).len() == 1);
    let pod = server.pods().remove(0);
    until("it to look", || server.call(&["logs", &pod]).out.contains("seen"));
    let seen = server.done(&["logs", &pod]);
    assert!(seen.contains("PATH=") && seen.contains("--token-file"), "{seen}");
    assert!(!seen.contains("orch1"), "{seen}");

    let (dir, secret) = (temp(), token(&server));
    let file = dir.path().join("token");
    std::fs::write(&file, format!("{secret}\n")).expect("written");
    let from = |file: &Path| {
        let mut command = agent_in(dir.path());
        command.args(["--server", url(&server), "--name", "b", "--token-file"]).arg(file);
        command
    };
    refused(&mut from(&dir.path().join("absent")), 1, "--token-file: cannot read");
    refused(&mut from(&a.dir.path().join("data/agent.json")), 2, "no join token");
    refused(from(&file).args(["--token", "x"]), 2, "--token-file cannot be used with --token;");
    refused(from(&file).env("ORCHD_TOKEN", "x"), 2, "with the environment's ORCHD_TOKEN");
    let command = from(&file);
    let b = Daemon::ready(command, server.kubeconfig.clone(), dir);
    assert_eq!(server.done(&["node", "list", "-o", "name"]), "node/a\nnode/b\n");
    server.done(&["delete", "deployment", "looks"]);
    until("no pods", || server.pods().is_empty());
    drop((a, b));
}

#[test]
fn the_agent_of_a_node_that_was_removed_says_so_once_and_leaves_its_pods_running() {
    let server = start_server("127.0.0.1:0", temp());
    let (dir, pids) = (temp(), temp());
    let log = dir.path().join("log");
    let mut command = joining(&server, &token(&server), "a", dir.path());
    command.args(["--log", "warn,orchestrator_core::driver::agent=debug"]);
    command.stderr(std::fs::File::create(&log).expect("a file"));
    let a = Daemon::ready(command, server.kubeconfig.clone(), dir);
    let pid = pids.path().join("pid");
    server.apply(&deployment("web", 1, &format!("echo $$$$ > {}; exec sleep 3600", pid.display())));
    until("a pod", || running(&server).len() == 1);
    server.done(&["node", "remove", "a", "--force"]);
    let said = || std::fs::read_to_string(&log).expect("readable");
    until("its agent to say so", || said().contains("orchd token create"));
    until("it to be refused more than once", || said().matches("was not registered").count() > 3);
    let warnings = said().lines().filter(|line| line.contains("WARN")).count();
    assert_eq!(warnings, 1, "{}", said());
    let pid = std::fs::read_to_string(&pid).expect("it ran");
    assert!(Path::new("/proc").join(pid.trim()).exists(), "its pod runs on");

    joins_anew_and_ends(&server, a.kill(), pid.trim());
}

/// Lets an agent join anew as the node `a`: it has other pods then, and ends the process of an old one.
pub fn joins_anew_and_ends(server: &Daemon, dir: TempDir, pid: &str) {
    let mut command = joining(server, &token(server), "a", dir.path());
    command.arg("--stop-pods");
    let a = Daemon::ready(command, server.kubeconfig.clone(), dir);
    until("the old pod to end", || !Path::new("/proc").join(pid).exists());
    drop(a);
}

#[test]
fn pods_of_an_agent_that_dies_are_made_anew_elsewhere_and_end_where_it_returns() {
    let server = start_server("127.0.0.1:0", temp());
    let [a, b] = ["a", "b"].map(|name| join(&server, name, &["--stop-pods"]));
    server.apply(&deployment("web", 4, "exec sleep 3600"));
    until("4 pods", || running(&server).len() == 4);
    let before = running(&server);
    let dir = b.kill();
    until("4 pods on the other", || {
        let pods = running(&server);
        let there = pods.values().filter(|(_, node, _)| node == "a").count();
        there == 4
    });
    let after = running(&server);
    let kept = before.iter().filter(|(_, (_, node, _))| node == "a");
    for (name, about) in kept {
        assert_eq!(after.get(name), Some(about), "what need not move stays as it was");
    }
    let mut command = agent_in(dir.path());
    command.arg("--stop-pods");
    let b = Daemon::ready(command, server.kubeconfig.clone(), dir);
    until("the surplus to end", || server.pods().len() == 4);
    assert_eq!(nodes_of(&running(&server)), ["a"]);
    drop((a, b));
}

#[test]
fn a_node_is_drained_closed_opened_and_taken_out() {
    let server = start_server("127.0.0.1:0", temp());
    let [a, b] = ["a", "b"].map(|name| join(&server, name, &["--stop-pods"]));
    server.apply(&deployment("web", 4, "exec sleep 3600"));
    until("4 pods", || running(&server).len() == 4);
    assert_eq!(nodes_of(&running(&server)), ["a", "b"]);
    let said = server.refused(1, &["node", "remove", "a"]);
    assert!(said.contains("orchd node drain a"), "{said}");
    let said = server.done(&["node", "drain", "a", "--timeout", "60s"]);
    assert!(said.starts_with("node/a cordoned\n") && said.ends_with("node/a drained\n"), "{said}");
    until("4 pods on the other", || {
        let pods = running(&server);
        pods.len() == 4 && nodes_of(&pods) == ["b"]
    });
    assert!(server.done(&["node", "list"]).contains("Ready,SchedulingDisabled"));
    assert_eq!(server.done(&["node", "uncordon", "a"]), "node/a uncordoned\n");
    assert!(!server.done(&["node", "list"]).contains("SchedulingDisabled"));
    assert_eq!(server.done(&["node", "remove", "a"]), "node/a removed\n");
    assert_eq!(server.done(&["node", "list", "-o", "name"]), "node/b\n");
    let said = server.refused(1, &["node", "remove", "a"]);
    assert!(said.contains("orchd get nodes"), "{said}");
    let said = server.refused(2, &["node", "remove", ""]);
    assert!(said.contains("can be no name of a node"), "{said}");
    assert_eq!(server.done(&["node", "list", "-o", "name"]), "node/b\n", "not all of them");
    // Its agent is of the cluster no more, whatever it keeps in its directory, until it joins anew.
    let dir = a.kill();
    let kept = server.kubeconfig.clone();
    let a = Daemon::ready(joining(&server, &token(&server), "a", dir.path()), kept, dir);
    assert_eq!(server.done(&["node", "list", "-o", "name"]), "node/a\nnode/b\n");
    drop(a);
    drop(b);
}

#[test]
fn who_has_no_good_token_or_name_or_directory_does_not_join() {
    let server = start_server("127.0.0.1:0", temp());
    let a = join(&server, "a", &[]);
    let (dir, other) = (temp(), temp());
    let good = token(&server);
    refused(&mut agent_in(dir.path()), 2, "--server and --token are needed");
    refused(&mut joining(&server, "secret", "b", dir.path()), 2, "no join token");
    refused(&mut joining(&server, &good, "a", dir.path()), 1, "orchd node remove a");
    refused(&mut joining(&server, &good, "B_", dir.path()), 1, "can be no name of a node");
    let at = |url: &str| {
        let mut command = agent_in(dir.path());
        command.args(["--server", url, "--token", &good, "--name", "b"]);
        command
    };
    refused(&mut at(&url(&server).replace("https", "http")), 2, "such as https://10.0.0.1:6443");
    let nobody = run(&mut at("https://127.0.0.1:1"));
    assert!(
        nobody.code == Some(1) && nobody.err.contains("`orchd server` runs there"),
        "{nobody:?}"
    );
    assert!(!nobody.err.contains("kubeconfig") && !nobody.err.contains("orchd dev"), "{nobody:?}");
    let unknown = good.replace(good.split('.').nth(2).expect("an id"), "00000000");
    let unknown = run(&mut joining(&server, &unknown, "b", dir.path()));
    assert!(unknown.code == Some(1) && unknown.err.contains("orchd token create"), "{unknown:?}");
    assert!(!unknown.err.contains("kubeconfig"), "{unknown:?}");
    let agents = a.dir.path();
    refused(&mut agent_in(agents), 1, "another agent uses");

    let stranger = start_server("127.0.0.1:0", temp());
    let strange = token(&stranger);
    refused(
        &mut joining(&server, &strange, "b", dir.path()),
        1,
        "it is not a server of the cluster",
    );
    drop(stranger);

    let listed = server.done(&["token", "list"]);
    assert!(listed.contains("good for") && listed.contains("used"), "{listed}");
    let id = good.split('.').nth(2).expect("an id");
    assert_eq!(server.done(&["token", "revoke", id]), format!("token {id} revoked\n"));
    refused(&mut joining(&server, &good, "b", dir.path()), 1, "orchd token create");
    let said = server.refused(1, &["token", "revoke", id]);
    assert!(said.contains("orchd token list"), "{said}");
    for none in ["", "orch1.agent.", "a b"] {
        let said = server.refused(2, &["token", "revoke", none]);
        assert!(said.contains("eight digits") && said.contains("orchd token list"), "{said}");
    }
    let said = server.refused(2, &["token", "create", "--ttl", "48h"]);
    assert!(said.contains("at most 24h"), "{said}");
    for secret in [&good, &strange] {
        assert!(!listed.contains(&secret[90..]), "no secret is listed");
    }

    // What is of one kind is not taken for another.
    let data = a.dir.path().join("data");
    refused(server_in(a.dir.path(), "127.0.0.1:0").arg("--name=x"), 1, "agent.json");
    let mut agent = orchd();
    agent.args(["agent", "--runtime", "process", "--data-dir"]).arg(server.dir.path().join("data"));
    refused(&mut agent, 1, "no agent.json");
    refused(
        orchd().args(["agent", "--runtime", "process", "--name", "b", "--data-dir"]).arg(&data),
        1,
        "another agent uses",
    );
    let dev = Daemon::start_on(&other.path().join("data"), &["--stop-pods"], temp());
    drop(dev);
    refused(&mut server_in(other.path(), "127.0.0.1:0"), 1, "orchd dev");
}
