//! Access and disruption budgets, driven by real kubectl: roles, tokens, certificates, impersonation, drain.

use std::path::PathBuf;
use std::sync::Arc;

use orchestrator_tests::kubectl::Kubectl;
use orchestrator_tests::orchd;
use orchestrator_tests::rig::Rig;

use super::{manifest, with_kubectl};

/// Makes the kubeconfig of a user with a certificate, as an administrator would.
async fn certificate_of(rig: &Rig, user: &str) -> PathBuf {
    let path = rig.dir.path().join(format!("{user}.kubeconfig"));
    let mut command = orchd::command(&["user", user, "--output"]);
    command.arg(&path).arg("--data-dir").arg(rig.data_dir());
    let status = command.status().await.expect("orchd runs");
    assert!(status.success(), "{status}");
    path
}

pub(super) async fn users_do_what_their_roles_permit(rig: Arc<Rig>) {
    let of_rig = Arc::clone(&rig);
    with_kubectl(rig, |kubectl| async move {
        let k = &*kubectl;
        k.says("get clusterroles", &["cluster-admin", "admin", "edit", "view"]).await;
        k.says("describe clusterrole view", &["deployments.apps", "[get list watch]"]).await;
        let path = certificate_of(&of_rig, "jane").await;
        let jane = Kubectl::new(&path, &of_rig.dir.path().join("home"));
        jane.says("auth whoami", &["jane", "system:authenticated"]).await;
        jane.fails("get pods", &["User \"jane\" cannot list resource \"pods\""]).await;
        k.says("create rolebinding jane --clusterrole=view --user=jane", &["created"]).await;
        k.says("get rolebindings -o wide", &["ClusterRole/view", "jane"]).await;
        jane.says("get pods", &[]).await;
        jane.says("get all", &[]).await;
        jane.says("auth can-i list deployments", &["yes"]).await;
        jane.says("auth can-i --list", &["deployments.apps", "[get list watch]"]).await;
        jane.fails("auth can-i create deployments", &[]).await;
        jane.fails("create configmap a", &["cannot create resource \"configmaps\""]).await;
        jane.fails("get secrets", &["cannot list resource \"secrets\""]).await;
        jane.fails("get nodes", &["at the cluster scope"]).await;
        k.says("auth can-i get pods/log --as jane", &["yes"]).await;
        k.fails("get nodes --as jane", &["User \"jane\""]).await;
        jane.fails("get pods --as admin", &["cannot impersonate resource \"users\""]).await;

        // Nobody gives what they do not hold.
        k.ok("create rolebinding owner --clusterrole=admin --user=jane").await;
        jane.ok("create role reader --verb=get,list --resource=pods").await;
        jane.fails("create role greedy --verb=* --resource=nodes", &["not currently held"]).await;
        jane.fails(
            "create rolebinding joe --clusterrole=cluster-admin --user=joe",
            &["not currently held"],
        )
        .await;
        jane.ok("create rolebinding joe --clusterrole=edit --user=joe").await;
        k.says("create configmap a --from-literal=b=c --as joe", &["created"]).await;

        // A watch ends when the right to it does. What is made after the list was shown comes through the watch.
        let mut watch = jane.start("get configmaps -w");
        watch.until(&["a"]).await;
        k.ok("create configmap told").await;
        watch.until(&["told"]).await;
        k.ok("delete rolebinding jane owner").await;
        let said = watch.end().await;
        assert!(said.stdout.contains("cannot watch resource \"configmaps\""), "{said:?}");
        jane.fails("get configmaps", &["cannot list"]).await;

        k.ok("create serviceaccount robot").await;
        k.says("get serviceaccounts", &["robot"]).await;
        k.ok("create rolebinding robot --clusterrole=view --serviceaccount=default:robot").await;
        let token = k.ok("create token robot --duration=10m").await;
        let nobody = of_rig.dir.path().join("nobody.kubeconfig");
        let text = std::fs::read_to_string(&path).expect("readable");
        let certificates = |line: &&str| !line.trim_start().starts_with("client-");
        let text: Vec<&str> = text.lines().filter(certificates).collect();
        std::fs::write(&nobody, text.join("\n")).expect("writable");
        let robot = Kubectl::new(&nobody, &of_rig.dir.path().join("home"));
        let as_robot = |line: &str| format!("{line} --token={}", token.trim());
        robot.says(&as_robot("auth whoami"), &["system:serviceaccount:default:robot"]).await;
        robot.says(&as_robot("get configmaps"), &["a"]).await;
        robot.fails(&as_robot("delete configmap a"), &["cannot delete"]).await;
        k.ok("delete serviceaccount robot").await;
        robot.fails(&as_robot("get configmaps"), &["Unauthorized"]).await;

        let log = std::fs::read_to_string(of_rig.data_dir().join("audit.log")).expect("readable");
        assert!(log.contains(r#""impersonatedBy":"admin""#), "who acted for joe: {log}");
        assert!(!log.contains(token.trim()), "a token is in no log");
    })
    .await;
}

pub(super) async fn drain_waits_for_the_disruption_budget(rig: Arc<Rig>) {
    with_kubectl(rig, |kubectl| async move {
        let k = &*kubectl;
        k.write("web.yaml", &manifest("web", 2, "1"));
        k.ok("apply -f web.yaml").await;
        k.ok("rollout status deployment/web --timeout=90s").await;
        k.ok("create poddisruptionbudget web --selector=app=web --min-available=2").await;
        let allowed = |count: u8| {
            format!(
                "wait --for=jsonpath={{.status.disruptionsAllowed}}={count} pdb/web --timeout=60s"
            )
        };
        let healthy = "wait --for=jsonpath={.status.currentHealthy}=2 pdb/web --timeout=60s";
        k.ok(healthy).await;
        k.says("get pdb", &["web", "2", "N/A", "0"]).await;
        k.says("describe pdb web", &["Allowed disruptions:  0", "Desired:              2"]).await;
        // Nothing may go: drain tries again until its time is up.
        k.fails(
            "drain local --timeout=8s",
            &["would violate the pod's disruption budget", "global timeout reached"],
        )
        .await;
        let pods = k.ok("get pods -l app=web -o name").await;
        assert_eq!(pods.lines().count(), 2, "{pods}");
        k.ok("patch pdb web --type=merge -p '{\"spec\":{\"minAvailable\":1}}'").await;
        k.ok(&allowed(1)).await;
        // The first one goes; its replacement finds no node, so that the second one stays.
        k.fails("drain local --timeout=8s", &["disruption budget"]).await;
        k.ok("wait --for=jsonpath={.status.currentHealthy}=1 pdb/web --timeout=60s").await;
        k.ok("uncordon local").await;
        k.ok("rollout status deployment/web --timeout=90s").await;
        k.ok("delete pdb web").await;
        k.says("drain local --timeout=90s", &["drained"]).await;
        k.ok("uncordon local").await;
    })
    .await;
}
