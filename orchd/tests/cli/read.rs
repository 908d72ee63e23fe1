//! `get`, `describe`, `explain` and `events`.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::daemon::{Daemon, deployment, pod};

const FOREVER: &str = "echo started; exec sleep 1000";

/// A daemon with two available replicas of `web`.
fn with_web() -> Daemon {
    let daemon = Daemon::start();
    daemon.apply(&deployment("web", 2, FOREVER));
    daemon.done(&["wait", "deploy/web", "--for", "condition=Available", "--timeout", "60s"]);
    daemon
}

#[test]
fn objects_are_listed_in_every_form() {
    let daemon = with_web();
    let table = daemon.done(&["get", "pods"]);
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    );
    assert!(lines[1].starts_with("web-") && lines[1].contains("1/1     Running   0"), "{table}");
    let column = lines[0].find("STATUS").expect("a column");
    assert!(lines[1..].iter().all(|line| line[column..].starts_with("Running")), "{table}");

    let wide = daemon.done(&["get", "po", "-o", "wide", "--no-headers"]);
    assert!(wide.lines().count() == 2 && wide.contains("local"), "{wide}");
    let names = daemon.done(&["get", "deploy,po", "-o", "name"]);
    assert!(names.starts_with("deployment.apps/web\npod/web-"), "{names}");
    let yaml = daemon.done(&["get", "deployments.apps", "web", "-o", "yaml"]);
    assert!(yaml.contains("\n  name: web\n") && yaml.contains("\nkind: Deployment\n"), "{yaml}");
    let list = daemon.json(&["pods", "-l", "app=web"]);
    assert_eq!((&list["kind"], list["items"].as_array().map(Vec::len)), (&"List".into(), Some(2)));
    assert_eq!(daemon.json(&["deploy/web"])["kind"], "Deployment");
    let all = daemon.done(&["get", "all", "-A"]);
    for part in ["NAMESPACE", "default     pod/web-", "deployment.apps/web", "replicaset.apps/web-"]
    {
        assert!(all.contains(part), "{part:?} is not in {all}");
    }
    let nodes = daemon.done(&["get", "no"]);
    assert!(nodes.contains("local") && nodes.contains("Ready"), "{nodes}");
}

#[test]
fn what_is_not_there_is_told_with_what_to_ask_next() {
    let daemon = Daemon::start();
    let ran = daemon.call(&["get", "pods"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""));
    assert_eq!(ran.err, "no pods in namespace \"default\"; -A shows all namespaces\n");
    let missing = daemon.refused(1, &["get", "pod", "nope"]);
    assert!(missing.contains("pods \"nope\" not found") && missing.contains("`orchd get pods -A`"));
    for call in [
        &["describe", "pod", "nope"][..],
        &["explain", "pod", "nope"],
        &["logs", "nope"],
        &["scale", "deploy", "nope", "--replicas", "1"],
        &["delete", "pod", "nope"],
        &["wait", "pod", "nope", "--for", "condition=Ready"],
        &["get", "pod/nope", "-w"],
        &["get", "pod/nope", "-o", "json"],
    ] {
        let missing = daemon.refused(1, call);
        assert!(missing.contains("\"nope\" not found in namespace \"default\""), "{missing}");
    }
}

#[test]
fn a_watch_tells_what_becomes_of_objects_and_ends_when_nobody_reads() {
    let daemon = Daemon::start();
    daemon.apply(&deployment("web", 0, FOREVER));
    for (form, first) in [(&["-o", "json"][..], "{"), (&[], "NAME")] {
        let call = [&["get", "deploy", "web", "-w"], form].concat();
        let mut watch = daemon.client(&call).stdout(Stdio::piped()).spawn().expect("it runs");
        let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
        let mut next = || lines.next().expect("a line").expect("text");
        assert!(next().starts_with(first));
        daemon.done(&["scale", "deploy", "web", "--replicas", "1"]);
        let is_new = |line: &str| match serde_json::from_str::<Value>(line) {
            Ok(object) => object["status"]["readyReplicas"] == 1,
            Err(_) => line.contains("1/1"),
        };
        while !is_new(&next()) {}
        daemon.done(&["scale", "deploy", "web", "--replicas", "0"]);
        daemon.done(&[
            "wait",
            "deploy/web",
            "--for",
            "jsonpath={.status.observedGeneration}",
            "--timeout",
            "9s",
        ]);
        // Nobody reads any more, and nothing more happens.
        drop(lines);
        assert!(watch.wait().expect("it ends").success());
        daemon.done(&["delete", "deploy", "web"]);
        daemon.apply(&deployment("web", 0, FOREVER));
    }
}

#[test]
fn a_description_tells_state_conditions_and_events() {
    let daemon = with_web();
    let name = daemon.pods().remove(0);
    let expect = |call: &[&str], parts: &[&str]| {
        let text = daemon.done(call);
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in orchd {call:?}:\n{text}");
        }
    };
    expect(
        &["describe", "pod", &name],
        &[
            &format!("Name:              {name}\n"),
            "Labels:            app=web\n",
            "Node:              local\n",
            "Status:            Running\n",
            "    State:         running since ",
            "Command:       /bin/sh -c \"echo started; exec sleep 1000\"",
            "  Ready             True",
            "Started",
        ],
    );
    expect(
        &["describe", "deploy/web"],
        &[
            "Replicas:          2 wanted; 2 there, 2 of the newest version, 2 ready, 2 available",
            "Strategy:          RollingUpdate",
            "  Available     True",
            "Replica sets:\n",
            &name,
            "ScalingReplicaSet",
        ],
    );
    expect(&["describe", "rs"], &["Controlled by:     deployment/web", &name, "SuccessfulCreate"]);
    expect(&["describe", "node", "local"], &["Takes new pods:    yes", "  Ready", "cpu", &name]);
    daemon.apply(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter22}\n",
    );
    let secret = daemon.done(&["describe", "secret", "s"]);
    assert!(secret.contains("8 bytes") && !secret.contains("hunter22"), "{secret}");
    assert!(!secret.contains("aHVudGVy"), "{secret}");
    expect(
        &["events", "--for", "deploy/web"],
        &["LAST SEEN", "ScalingReplicaSet", "deployment/web"],
    );
    let warnings = daemon.done(&["events", "--for", "deploy/web", "--type", "warning"]);
    assert_eq!(warnings, "");
    let everywhere = daemon.done(&["events", "-A"]);
    assert!(everywhere.starts_with("NAMESPACE   LAST SEEN"), "{everywhere}");
}

#[test]
fn an_explanation_tells_every_reason_and_every_score() {
    let daemon = Daemon::start();
    daemon.apply(&pod("small", &[("main", FOREVER)]));
    let big = pod("big", &[("main", FOREVER)])
        .replace("  containers:", "  nodeSelector: {disk: ssd}\n  containers:")
        + "    resources: {requests: {cpu: 1000, memory: 9Ti}}\n";
    daemon.apply(&big);
    daemon.done(&["wait", "pod", "small", "--for", "condition=Ready"]);
    let small = daemon.done(&["explain", "pod", "small"]);
    assert!(
        small.contains("It is on local, which is what the scheduler would choose now."),
        "{small}"
    );
    assert!(small.contains("leastUsed×") && small.contains("\nlocal   chosen"), "{small}");
    daemon.done(&["wait", "pod", "big", "--for", "condition=PodScheduled=False"]);
    let big = daemon.done(&["explain", "pod/big"]);
    for part in
        ["It fits nowhere: 0/1 nodes", "insufficient cpu", "insufficient memory", "disk=ssd"]
    {
        assert!(big.contains(part), "{part:?} is not in {big}");
    }
    let text = daemon.done(&["explain", "pod", "big", "-o", "json"]);
    let data: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(data["nodes"][0]["failures"].as_array().map(Vec::len), Some(3), "{data}");
    assert!(data["nodes"][0]["scores"].as_array().is_some_and(|scores| !scores.is_empty()));
    assert!(daemon.done(&["explain", "pod", "big", "-o", "yaml"]).contains("- filter: resources"));
    let hint = daemon.refused(1, &["logs", "big"]);
    assert!(hint.contains("`orchd explain pod big`"), "{hint}");
}
