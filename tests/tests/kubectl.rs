//! Real kubectl against real orchd: what each command prints, and what it does.

use std::sync::Arc;
use std::time::Duration;

use orchestrator_tests::kubectl::Kubectl;
use orchestrator_tests::orchd::Orchd;
use orchestrator_tests::rig::Rig;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

super::on_every_runtime! {
    objects_are_made_shown_changed_and_deleted
    deployments_roll_out_and_back
    what_is_applied_is_owned
    nodes_are_cordoned_tainted_and_drained
    programs_run_in_containers_and_ports_are_forwarded
}

/// A deployment of pods that run on every runtime, and print their version.
pub(crate) fn manifest(name: &str, replicas: i32, version: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: main
        image: {image}
        imagePullPolicy: Never
        command: [/bin/sh, -c, \"echo version $VERSION; trap 'exit 0' TERM; sleep 100000 & wait\"]
        env: [{{name: VERSION, value: '{version}'}}]
",
        image = orchestrator_tests::engine::IMAGE,
    )
}

/// Runs a scenario with a kubectl, and takes orchd and its pods down.
pub(crate) async fn with_kubectl<S, F>(rig: Arc<Rig>, scenario: S)
where
    S: FnOnce(Arc<Kubectl>) -> F,
    F: Future<Output = ()>,
{
    let orchd = Orchd::start(&rig).await;
    rig.know(&orchd.scope().await);
    let home = rig.dir.path().join("home");
    std::fs::create_dir(&home).expect("a new directory");
    let kubectl = Arc::new(Kubectl::new(&rig.data_dir().join("kubeconfig"), &home));
    scenario(Arc::clone(&kubectl)).await;
    kubectl.ok("delete deployments,pods --all --grace-period=1 --timeout=60s").await;
    rig.assert_no_pods().await;
    assert_eq!(orchd.stop().await.code(), Some(0));
}

async fn objects_are_made_shown_changed_and_deleted(rig: Arc<Rig>) {
    with_kubectl(rig, |kubectl| async move {
        let k = &*kubectl;
        k.says("version", &["Server Version: v1.32"]).await;
        k.says("auth whoami", &["admin", "system:masters"]).await;
        k.says("auth can-i create deployments", &["yes"]).await;
        k.says("auth can-i --list", &["*.*"]).await;
        k.says("cluster-info", &["control plane is running at"]).await;
        k.says("api-versions", &["apps/v1", "v1"]).await;
        k.says("api-resources", &["deployments", "deploy", "pods", "po"]).await;
        k.says("explain deployment.spec.replicas", &["replicas <integer>"]).await;
        k.says("get --raw /readyz", &["ok"]).await;

        // Bodies in protobuf.
        k.says("create namespace team", &["namespace/team created"]).await;
        k.says("create configmap settings --from-literal=a=b -n team", &["created"]).await;
        k.says("create secret generic keys --from-literal=k=v", &["secret/keys created"]).await;
        let decoded = k.ok("get secret keys -o jsonpath={.data.k}").await;
        assert_eq!(decoded, "dg==", "base64 of v");
        k.fails("create configmap settings -n team", &["already exists"]).await;
        k.fails("create configmap other -n nowhere", &["namespaces \"nowhere\" not found"]).await;

        k.says("label configmap settings tier=front -n team", &["labeled"]).await;
        k.says("annotate configmap settings why=because -n team", &["annotated"]).await;
        k.says("get configmaps -n team -l tier=front --show-labels", &["settings", "tier=front"]).await;
        k.says("get configmaps -A --sort-by=.metadata.name", &["team", "settings"]).await;
        let none = k.ok("get configmaps -n team -l tier=back -o name").await;
        assert_eq!(none, "");
        k.says("patch configmap settings -n team -p '{\"data\":{\"c\":\"d\"}}'", &["patched"]).await;
        k.ok("patch configmap settings -n team --type=json -p '[{\"op\":\"remove\",\"path\":\"/data/a\"}]'").await;
        k.ok("patch configmap settings -n team --type=merge -p '{\"data\":{\"e\":\"f\"}}'").await;
        let data = k.ok("get configmap settings -n team -o jsonpath={.data}").await;
        assert_eq!(data, r#"{"c":"d","e":"f"}"#);
        k.fails(
            "patch configmap settings -n team --type=json -p '[{\"op\":\"test\",\"path\":\"/data/c\",\"value\":\"x\"}]'",
            &["invalid"],
        )
        .await;

        k.write("typo.yaml", &manifest("typo", 1, "1").replace("replicas", "replcas"));
        k.fails("apply -f typo.yaml", &["unknown field \"spec.replcas\""]).await;
        k.fails("get deployment typo", &["not found"]).await;
        k.ok("create -f typo.yaml --validate=false --dry-run=server").await;

        k.says("create service clusterip web --tcp=80", &["service/web created"]).await;
        k.says("describe service web", &["Name:", "web", "80/TCP"]).await;
        k.says("delete service web", &["service \"web\" deleted"]).await;
        k.says("delete namespace team --timeout=60s", &["deleted"]).await;
        k.fails("get configmap settings -n team", &["not found"]).await;
    })
    .await;
}

async fn deployments_roll_out_and_back(rig: Arc<Rig>) {
    with_kubectl(rig, |kubectl| async move {
        let k = &*kubectl;
        let image = orchestrator_tests::engine::IMAGE;
        k.write("web.yaml", &manifest("web", 2, "1"));
        k.says("apply -f web.yaml", &["deployment.apps/web created"]).await;
        k.says("rollout status deployment/web --timeout=90s", &["successfully rolled out"]).await;
        k.says("get deployments", &["web", "2/2"]).await;
        k.says("wait --for=condition=Available deployment/web --timeout=60s", &["condition met"])
            .await;
        k.says("logs deployment/web", &["version 1"]).await;
        k.says("logs -l app=web --prefix", &["version 1"]).await;

        k.says("set env deployment/web VERSION=2", &["env updated"]).await;
        k.ok("rollout status deployment/web --timeout=90s").await;
        k.says("rollout history deployment/web", &["1", "2"]).await;
        k.says("rollout undo deployment/web", &["rolled back"]).await;
        k.ok("rollout status deployment/web --timeout=90s").await;
        let version =
            "get deployment web -o jsonpath={.spec.template.spec.containers[0].env[0].value}";
        assert_eq!(k.ok(version).await, "1");
        k.ok("rollout pause deployment/web").await;
        k.ok("set resources deployment/web --limits=memory=64Mi").await;
        let sets = k.ok("get replicasets -o name").await;
        assert_eq!(sets.lines().count(), 2, "a paused deployment does not roll: {sets}");
        k.ok("rollout resume deployment/web").await;
        k.ok("rollout status deployment/web --timeout=90s").await;
        k.ok("rollout restart deployment/web").await;
        k.ok("rollout status deployment/web --timeout=90s").await;
        k.ok(&format!("set image deployment/web main={image}")).await;

        k.says("scale deployment/web --replicas=3", &["scaled"]).await;
        k.ok("wait --for=jsonpath={.status.readyReplicas}=3 deployment/web --timeout=60s").await;
        k.fails(
            "scale deployment/web --replicas=1 --current-replicas=7",
            &["Expected replicas to be 7"],
        )
        .await;
        k.says("events --for deployment/web", &["ScalingReplicaSet"]).await;
        k.says("describe deployment web", &["ScalingReplicaSet", "Replicas:", "3 desired"]).await;
        k.says("get all", &["deployment.apps/web", "replicaset.apps/web-", "pod/web-"]).await;

        k.write("web.yaml", &manifest("web", 1, "1"));
        let difference = k.run("diff -f web.yaml").await;
        assert_eq!(difference.code, 1, "{difference:?}");
        assert!(difference.stdout.contains("-  replicas: 3"), "{difference:?}");
        k.says("apply -f web.yaml", &["configured"]).await;
        k.says("apply -f web.yaml", &["unchanged"]).await;
        k.says("replace -f web.yaml", &["replaced"]).await;
        k.says("delete deployment web --cascade=orphan", &["deleted"]).await;
        let sets = k.ok("get replicasets -o name").await;
        assert!(!sets.is_empty(), "orphans stay");
        k.ok("delete replicasets -l app=web --cascade=foreground --timeout=60s").await;
        let pods = k.ok("get pods -l app=web -o name").await;
        assert_eq!(pods, "", "they went first");
    })
    .await;
}

async fn what_is_applied_is_owned(rig: Arc<Rig>) {
    with_kubectl(rig, |kubectl| async move {
        let k = &*kubectl;
        k.write("web.yaml", &manifest("web", 0, "1"));
        k.says("apply --server-side -f web.yaml", &["serverside-applied"]).await;
        k.ok("scale deployment/web --replicas=2").await;
        k.fails(
            "apply --server-side -f web.yaml",
            &["Apply failed with 1 conflict", ".spec.replicas", "kubectl"],
        )
        .await;
        k.ok("apply --server-side --force-conflicts -f web.yaml").await;
        let replicas = "get deployment web -o jsonpath={.spec.replicas}";
        assert_eq!(k.ok(replicas).await, "0");
        let without =
            manifest("web", 0, "1").replace("        env: [{name: VERSION, value: '1'}]\n", "");
        k.write("web.yaml", &without);
        k.ok("apply --server-side -f web.yaml").await;
        let env = "get deployment web -o jsonpath={.spec.template.spec.containers[0].env}";
        assert_eq!(k.ok(env).await, "", "what is applied no more is gone");
        k.says(
            "get deployment web -o yaml --show-managed-fields",
            &["f:replicas", "operation: Apply"],
        )
        .await;

        // From client-side to server-side apply.
        k.write("other.yaml", &manifest("other", 0, "1"));
        k.ok("apply -f other.yaml").await;
        k.ok("apply --server-side -f other.yaml").await;
        k.write("other.yaml", &manifest("other", 0, "2"));
        k.ok("apply --server-side -f other.yaml").await;
        // A status that changes between the two versions which diff compares is a difference too.
        k.ok("rollout status deployment/other --timeout=60s").await;
        let said = k.run("diff --server-side -f other.yaml").await;
        assert_eq!(said.code, 0, "no difference: {said:?}");
    })
    .await;
}

async fn nodes_are_cordoned_tainted_and_drained(rig: Arc<Rig>) {
    with_kubectl(rig, |kubectl| async move {
        let k = &*kubectl;
        k.says("get nodes -o wide", &["local", "Ready"]).await;
        k.says("describe node local", &["Allocatable:", "Ready"]).await;
        k.says("cordon local", &["node/local cordoned"]).await;
        k.says("get nodes", &["SchedulingDisabled"]).await;
        k.write("web.yaml", &manifest("web", 1, "1"));
        k.ok("apply -f web.yaml").await;
        k.ok("wait --for=create pod -l app=web --timeout=60s").await;
        let scheduled = "--for=jsonpath={.status.conditions[0].reason}=Unschedulable";
        k.ok(&format!("wait {scheduled} pod -l app=web --timeout=60s")).await;
        k.says("uncordon local", &["uncordoned"]).await;
        k.ok("rollout status deployment/web --timeout=90s").await;
        k.says("taint nodes local key=value:NoSchedule", &["tainted"]).await;
        k.says("describe node local", &["key=value:NoSchedule"]).await;
        k.says("taint nodes local key-", &["untainted"]).await;
        k.says("drain local --timeout=90s", &["drained"]).await;
        k.ok("uncordon local").await;
        k.ok("rollout status deployment/web --timeout=90s").await;
    })
    .await;
}

async fn programs_run_in_containers_and_ports_are_forwarded(rig: Arc<Rig>) {
    let dir = rig.dir.path().join("copied");
    with_kubectl(rig, |kubectl| async move {
        let k = &*kubectl;
        k.write("web.yaml", &manifest("web", 1, "1"));
        k.ok("apply -f web.yaml").await;
        k.ok("rollout status deployment/web --timeout=90s").await;
        assert_eq!(k.ok("exec deployment/web -- echo hello").await, "hello\n");
        let said =
            k.run("exec deployment/web -- /bin/sh -c 'echo out; echo err >&2; exit 7'").await;
        assert_eq!((said.code, said.stdout.as_str()), (7, "out\n"), "{said:?}");
        assert!(said.stderr.contains("err"), "{said:?}");
        let input = b"0123456789".repeat(50_000);
        let said = k.run_with("exec -i deployment/web -- cat", &input).await;
        assert!(said.code == 0 && said.stdout.as_bytes() == input, "{}", said.stdout.len());
        k.fails("exec deployment/web -c nope -- true", &["container"]).await;
        k.fails("exec nobody -- true", &["not found"]).await;

        let pod = k.ok("get pods -l app=web -o jsonpath={.items[0].metadata.name}").await;
        // Agents measure every few seconds.
        while !k.run("top pod").await.stdout.contains(&pod) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        k.says("top node", &["local", "%"]).await;
        k.says("top pod --containers", &[&pod, "main"]).await;
        let text = "line\n".repeat(10_000);
        k.write("here", &text);
        let there = dir.display();
        k.ok(&format!("exec {pod} -- mkdir -p {there}")).await;
        k.ok(&format!("cp here {pod}:{there}/file")).await;
        k.ok(&format!("cp {pod}:{there}/file back")).await;
        assert_eq!(k.read("back"), text.as_bytes());
        let serve = format!("exec busybox httpd -f -p $POD_IP:9000 -h {there}");
        let mut server = k
            .command(&format!("exec {pod} -- /bin/sh -c '{serve}'"))
            .spawn()
            .expect("kubectl runs");
        let page = loop {
            // It listens a moment after it is started; until then port-forward ends.
            match fetch(k, &pod).await {
                Some(page) => break page,
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        assert!(page.ends_with(&text), "{} bytes", page.len());
        server.kill().await.expect("killed");
        k.ok(&format!("exec {pod} -- rm -r {there}")).await;
        let said = k.run("attach nobody").await;
        assert_ne!(said.code, 0);
    })
    .await;
}

/// Fetches a file through a forwarded port; `None` when nobody listens in the pod.
async fn fetch(kubectl: &Kubectl, pod: &str) -> Option<String> {
    let mut forward =
        kubectl.command(&format!("port-forward {pod} :9000")).spawn().expect("kubectl runs");
    let mut lines = BufReader::new(forward.stdout.take().expect("it is piped")).lines();
    let line = lines.next_line().await.expect("readable").expect("a line");
    let port = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next());
    let port: u16 = port.and_then(|port| port.parse().ok()).expect("a port");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    stream.write_all(b"GET /file HTTP/1.0\r\n\r\n").await.expect("taken");
    let mut page = String::new();
    let read = stream.read_to_string(&mut page).await;
    forward.kill().await.expect("killed");
    (read.is_ok() && !page.is_empty()).then_some(page)
}
