//! Agents that have joined and are given a token: when they join anew, and what they say when they do not.

use crate::cluster::{
    agent_in, join, joining, joins_anew_and_ends, refused, running, server_in, start_server, temp,
    token, url,
};
use crate::daemon::{Daemon, deployment, until};
use crate::upkeep::upkeep;

#[test]
fn an_agent_joins_anew_by_a_token_once_the_cluster_has_new_keys() {
    let server = start_server("127.0.0.1:0", temp());
    let (dir, pids) = (temp(), temp());
    let old_token = token(&server);
    let command = joining(&server, &old_token, "a", dir.path());
    let a = Daemon::ready(command, server.kubeconfig.clone(), dir);
    let pid = pids.path().join("pid");
    server.apply(&deployment("web", 1, &format!("echo $$$$ > {}; exec sleep 3600", pid.display())));
    until("a pod", || running(&server).len() == 1);
    let pid = std::fs::read_to_string(&pid).expect("it ran");
    let listen = url(&server).trim_start_matches("https://").to_owned();
    let (agents, servers) = (a.kill(), server.kill());
    let data = servers.path().join("data");
    std::fs::remove_dir_all(data.join("pki")).expect("ours");
    let mut command = server_in(servers.path(), &listen);
    command.arg("--new-keys");
    let server = Daemon::ready(command, data.join("kubeconfig"), servers);

    // Its node is there as long as nobody takes it out.
    let kept = std::fs::read(agents.path().join("data/agent.json")).expect("it joined");
    let mut command = joining(&server, &token(&server), "a", agents.path());
    refused(&mut command, 1, "orchd node remove a");
    refused(&mut command, 1, "of one whose keys were made anew");
    assert_eq!(std::fs::read(agents.path().join("data/agent.json")).expect("there"), kept);

    server.done(&["delete", "deployment", "web"]);
    server.done(&["node", "remove", "a", "--force"]);
    joins_anew_and_ends(&server, agents, pid.trim());
}

#[test]
fn a_token_that_is_not_used_is_said_not_to_be_and_why() {
    let server = start_server("127.0.0.1:0", temp());
    let a = join(&server, "a", &[]);
    let agents = a.kill();
    let log = agents.path().join("log");
    let said = || std::fs::read_to_string(&log).expect("readable");
    let restarted = |mut command: std::process::Command, dir| {
        command.stderr(std::fs::File::create(&log).expect("a file"));
        Daemon::ready(command, server.kubeconfig.clone(), dir)
    };
    let command = joining(&server, &token(&server), "a", agents.path());
    let a = restarted(command, agents);
    let text = said();
    assert!(text.contains("not used") && text.contains("`orchd node remove a --force`"), "{text}");
    // Nor is one that is gone since.
    let agents = a.kill();
    let mut command = agent_in(agents.path());
    command.arg("--token-file").arg(agents.path().join("gone"));
    let a = restarted(command, agents);
    let text = said();
    assert!(text.contains("not used") && text.contains("--token-file: cannot read"), "{text}");
    // And without one nothing is said.
    let agents = a.kill();
    let command = agent_in(agents.path());
    let a = restarted(command, agents);
    assert_eq!(said(), "");
    drop(a);
    // A server that joins no other has no use for one, either.
    let token = token(&server);
    let (kubeconfig, dir) = (server.kubeconfig.clone(), server.kill());
    let log = dir.path().join("log");
    let mut command = upkeep(&["server", "--listen", "127.0.0.1:0"], &dir.path().join("data"));
    command.env("ORCHD_TOKEN", token).stderr(std::fs::File::create(&log).expect("a file"));
    let _server = Daemon::ready(command, kubeconfig, dir);
    let text = std::fs::read_to_string(&log).expect("readable");
    assert!(text.contains("--join says which"), "{text}");
}

#[test]
fn an_agent_whose_membership_was_removed_joins_anew_in_its_directory() {
    let server = start_server("127.0.0.1:0", temp());
    let a = join(&server, "a", &[]);
    let pids = temp();
    let pid = pids.path().join("pid");
    server.apply(&deployment("web", 1, &format!("echo $$$$ > {}; exec sleep 3600", pid.display())));
    until("a pod", || running(&server).len() == 1);
    let pid = std::fs::read_to_string(&pid).expect("it ran");
    until("it to be kept", || a.dir.path().join("data/pods.json").exists());
    let agents = a.kill();
    server.done(&["node", "remove", "a", "--force"]);
    std::fs::remove_file(agents.path().join("data/agent.json")).expect("it joined");
    joins_anew_and_ends(&server, agents, pid.trim());
}
