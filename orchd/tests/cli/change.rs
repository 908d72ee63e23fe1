//! `scale`, `wait` and `delete`.

use crate::daemon::{Daemon, deployment, pod, until};

const FOREVER: &str = "exec sleep 1000";

#[test]
fn a_deployment_is_scaled_up_and_to_nothing() {
    let daemon = Daemon::start();
    daemon.apply(&deployment("web", 1, FOREVER));
    let out = daemon.done(&["scale", "deployment", "web", "--replicas", "3"]);
    assert_eq!(out, "deployment.apps/web scaled\n");
    daemon.done(&[
        "wait",
        "deploy/web",
        "--for",
        "jsonpath={.status.readyReplicas}=3",
        "--timeout",
        "60s",
    ]);
    assert_eq!(daemon.pods().len(), 3);
    daemon.done(&["scale", "deploy/web", "--replicas=0"]);
    until("no pods", || daemon.pods().is_empty());
    daemon.refused(2, &["scale", "deploy", "web", "--replicas", "-1"]);
    daemon.refused(2, &["scale", "pod", "x", "--replicas", "1"]);
}

#[test]
fn waiting_ends_with_the_wish_or_says_why_not() {
    let daemon = Daemon::start();
    daemon.apply(&deployment("web", 2, FOREVER));
    let out =
        daemon.done(&["wait", "deploy", "web", "--for", "condition=available", "--timeout", "60s"]);
    assert_eq!(out, "deployment.apps/web condition met\n");
    let out = daemon.done(&["wait", "pods", "-l", "app=web", "--for", "condition=Ready"]);
    assert_eq!(out.lines().filter(|line| line.ends_with(" condition met")).count(), 2, "{out}");
    let late =
        daemon.refused(1, &["wait", "deploy/web", "--for", "condition=Nice", "--timeout", "0"]);
    assert!(late.contains("is not Nice after 0s (it has no such condition)"), "{late}");
    assert!(late.contains("`orchd describe deployment.apps/web`"), "{late}");
    let call =
        ["wait", "deploy/web", "--for", "jsonpath={.status.readyReplicas}=9", "--timeout", "200ms"];
    let late = daemon.refused(1, &call);
    assert!(late.contains("has another value than \"9\" after 200ms (2)"), "{late}");
    assert!(
        daemon.refused(2, &["wait", "deploy/web", "--for", "nonsense"]).contains("condition=TYPE")
    );
    daemon.refused(2, &["wait", "deploy/web", "--for", "delete", "--timeout", "-5"]);
    daemon.refused(2, &["wait", "pods", "--for", "delete"]);
    assert_eq!(daemon.done(&["wait", "pod/gone", "--for", "delete"]), "pod/gone deleted\n");

    let mut waiting = daemon.client(&["wait", "pod/late", "--for", "create", "--timeout", "60s"]);
    let mut waiting = waiting.stdout(std::process::Stdio::null()).spawn().expect("it runs");
    daemon.apply(&pod("late", &[("main", FOREVER)]));
    assert!(waiting.wait().expect("it ends").success());
}

#[test]
fn deleting_waits_until_objects_and_their_pods_are_gone() {
    let daemon = Daemon::start();
    daemon.apply(&deployment("web", 2, FOREVER));
    daemon.done(&["wait", "deploy/web", "--for", "condition=Available", "--timeout", "60s"]);
    let one = daemon.pods().remove(0);
    assert_eq!(daemon.done(&["delete", "pod", &one]), format!("pod {one:?} deleted\n"));
    assert!(!daemon.pods().contains(&one), "delete returned before the pod was gone");
    let out = daemon.done(&["delete", "deploy/web", "--cascade", "foreground"]);
    assert_eq!(out, "deployment.apps \"web\" deleted\n");
    assert_eq!(daemon.pods(), Vec::<String>::new());
    daemon.refused(1, &["delete", "deploy", "web"]);
    daemon.done(&["delete", "deploy", "web", "--ignore-not-found"]);
}

#[test]
fn orphans_stay_and_can_be_deleted_by_label() {
    let daemon = Daemon::start();
    daemon.apply(&deployment("web", 2, FOREVER));
    daemon.done(&["wait", "deploy/web", "--for", "condition=Available", "--timeout", "60s"]);
    let pods = daemon.pods();
    daemon.done(&["delete", "deploy", "web", "--cascade", "orphan"]);
    let sets = daemon.done(&["get", "rs", "-o", "name"]);
    daemon.done(&["delete", sets.trim(), "--cascade=orphan"]);
    assert_eq!(daemon.pods(), pods);
    assert!(daemon.refused(2, &["delete", "pods"]).contains("--all"));
    assert!(daemon.refused(2, &["delete", "pods", "-l", ""]).contains("--all"));
    daemon.done(&["delete", "pods", "--all", "--dry-run"]);
    assert_eq!(daemon.pods(), pods);
    let out = daemon.done(&["delete", "pods", "-l", "app=web", "--grace-period", "1"]);
    assert_eq!(out.lines().count(), 2, "{out}");
    assert_eq!(daemon.pods(), Vec::<String>::new());
}

#[test]
fn a_manifest_deletes_what_it_made() {
    let daemon = Daemon::start();
    let manifest = format!(
        "{}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: team}}\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c, namespace: team}}\n",
        deployment("web", 1, FOREVER)
    );
    daemon.write("all.yaml", manifest);
    daemon.done(&["apply", "-f", "all.yaml"]);
    let out = daemon.done(&["delete", "-f", "all.yaml"]);
    assert_eq!(
        out,
        "configmap \"c\" deleted\nnamespace \"team\" deleted\ndeployment.apps \"web\" deleted\n"
    );
    until("no pods", || daemon.pods().is_empty());
    daemon.refused(1, &["delete", "-f", "all.yaml"]);
    daemon.refused(2, &["delete", "-f", "all.yaml", "pod", "x"]);
}

#[test]
fn a_delete_that_does_not_wait_returns_at_once() {
    let daemon = Daemon::start();
    // It takes no notice of TERM.
    daemon.apply(&pod(
        "stubborn",
        &[("main", "trap '' TERM; echo deaf; while :; do sleep 0.1; done")],
    ));
    daemon.done(&["wait", "pod/stubborn", "--for", "condition=Ready", "--timeout", "60s"]);
    until("the trap", || daemon.done(&["logs", "stubborn"]).contains("deaf"));
    daemon.done(&["delete", "pod", "stubborn", "--wait=false", "--grace-period", "600"]);
    assert_eq!(daemon.pods(), ["stubborn"]);
    let shown = daemon.done(&["get", "pods"]);
    assert!(shown.contains("Terminating"), "{shown}");
    let late = daemon.refused(1, &["delete", "pod", "stubborn", "--timeout", "300ms"]);
    assert!(late.contains("pod/stubborn is still there after 300ms"), "{late}");
    daemon.done(&["delete", "pod", "stubborn", "--grace-period", "0"]);
    assert_eq!(daemon.pods(), Vec::<String>::new());
}
