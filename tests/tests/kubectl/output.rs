//! What kubectl shows: every form of output, descriptions, what the server says of itself, and what happens as it does.

use std::sync::Arc;

use orchestrator_tests::rig::Rig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{manifest, with_kubectl};

pub(super) async fn objects_are_shown_in_every_form(rig: Arc<Rig>) {
    with_kubectl(rig, |kubectl| async move {
        let k = &*kubectl;
        k.write("web.yaml", &manifest("web", 1, "1"));
        k.ok("apply -f web.yaml").await;
        k.ok("rollout status deployment/web --timeout=90s").await;
        let image = orchestrator_tests::engine::IMAGE;

        k.says("get deployment web -o json", &["\"kind\": \"Deployment\"", "\"readyReplicas\": 1"])
            .await;
        k.says("get deployment web -o yaml", &["kind: Deployment", "readyReplicas: 1"]).await;
        let wide = k.ok("get deployment web -o wide").await;
        let columns =
            ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"];
        assert_eq!(wide.split_whitespace().take(8).collect::<Vec<_>>(), columns);
        assert!(wide.contains("1/1") && wide.contains(image) && wide.contains("app=web"), "{wide}");
        k.says("get pods -o wide", &["NOMINATED NODE", "READINESS GATES", "local"]).await;
        k.says("get replicasets -o wide", &["DESIRED", "CURRENT", "pod-template-hash="]).await;
        k.write("name.path", "{.metadata.name}");
        k.write("name.template", "{{.metadata.name}}");
        k.write("columns", "WHO REPLICAS\nmetadata.name spec.replicas\n");
        for (form, text) in [
            ("name", "deployment.apps/web\n"),
            ("jsonpath={.metadata.name}", "web"),
            ("jsonpath-file=name.path", "web"),
            ("jsonpath-as-json={.spec.replicas}", "[\n    1\n]\n"),
            ("go-template={{.spec.replicas}}", "1"),
            ("go-template-file=name.template", "web"),
            (
                "custom-columns=WHO:.metadata.name,IMAGE:..image --no-headers",
                "web   busybox:test\n",
            ),
            ("custom-columns-file=columns", "WHO   REPLICAS\nweb   1\n"),
        ] {
            assert_eq!(k.ok(&format!("get deployment web -o {form}")).await, text, "{form}");
        }
        k.says("get -f web.yaml", &["web", "1/1"]).await;
        k.says("get deployments,replicasets", &["deployment.apps/web", "replicaset.apps/web-"])
            .await;
        let plain = k.ok("get deployments --server-print=false").await;
        assert_eq!(plain.lines().next(), Some("NAME   AGE"), "{plain}");
        k.says("get deployment web --subresource=scale -o jsonpath={.kind}", &["Scale"]).await;
        k.fails("get gadgets", &["doesn't have a resource type \"gadgets\""]).await;

        for name in ["c", "a", "b"] {
            k.ok(&format!("create configmap {name} --from-literal=name={name}")).await;
        }
        k.ok("label configmap b tier=front").await;
        let lists = [
            ("get configmaps --chunk-size=1 -o name", "abc"),
            ("get configmaps --field-selector=metadata.name!=a -o name", "bc"),
            ("get configmaps -l tier=front -o name", "b"),
            ("get configmaps -l '!tier' -o name", "ac"),
            ("get configmaps --sort-by=.metadata.creationTimestamp -o name", "cab"),
            ("get configmaps --sort-by={.data.name} -o name", "abc"),
            ("get configmaps -l 'tier in (front,back)' -o name", "b"),
            ("get configmap a z --ignore-not-found -o name", "a"),
        ];
        for (line, names) in lists {
            let found = k.ok(line).await.replace("configmap/", "").replace('\n', "");
            // Names made within a second are sorted by chance of their creation.
            let mut found: Vec<_> = found.chars().collect();
            if line.contains("creationTimestamp") {
                found.sort_unstable();
                assert_eq!(found.iter().collect::<String>(), "abc", "{line}");
            } else {
                assert_eq!(found.iter().collect::<String>(), names, "{line}");
            }
        }
        k.fails("get configmaps --field-selector=data.name=a", &["field label not supported"])
            .await;
        k.says("get configmaps -A --show-labels", &["NAMESPACE", "LABELS", "tier=front"]).await;
        k.says("get configmaps -L tier --show-kind", &["TIER", "configmap/b", "front"]).await;
        k.says("get pods -A --field-selector=status.phase=Running,spec.nodeName=local", &["web-"])
            .await;
        k.ok("delete configmap a b c").await;

        let pod = k.ok("get pods -l app=web -o name").await;
        let words = [image, "State:          Running", "Ready:          True", "Started"];
        k.says(&format!("describe {}", pod.trim()), &words).await;
        k.says("describe pods -l app=web", &["Controlled By:  ReplicaSet/web-"]).await;
        k.says("describe replicaset -l app=web", &["1 current / 1 desired", "SuccessfulCreate"])
            .await;
        k.says("describe deployment web", &["1 desired | 1 updated", "MinimumReplicas"]).await;
        k.says("describe node local", &["Non-terminated Pods:", "web-", "Container Runtime"]).await;
        k.says("describe namespace default", &["Active", "No resource quota."]).await;
        k.ok("expose deployment web --port=80 --target-port=8080").await;
        k.says("describe service web", &["app=web", "80/TCP", "8080/TCP"]).await;
        k.ok("delete service web").await;
        k.fails("describe pod nobody", &["not found"]).await;
    })
    .await;
}

pub(super) async fn what_happens_is_followed(rig: Arc<Rig>) {
    with_kubectl(rig, |kubectl| async move {
        let k = &*kubectl;
        k.ok("create configmap old").await;
        let mut watch = k.start("get configmaps -w --output-watch-events");
        watch.until(&["EVENT", "NAME", "DATA", "AGE"]).await;
        watch.until(&["ADDED", "old"]).await;
        k.ok("create configmap new").await;
        watch.until(&["ADDED", "new", "0"]).await;
        k.ok("patch configmap new -p '{\"data\":{\"a\":\"b\"}}'").await;
        watch.until(&["MODIFIED", "new", "1"]).await;
        let mut only = k.start("get configmaps --watch-only -l tier=front -o name");
        let gone = k.start("wait --for=delete configmap/new --timeout=60s");
        k.ok("delete configmap new").await;
        watch.until(&["DELETED", "new"]).await;
        assert_eq!(gone.end().await.code, 0);
        // A watch that has not begun yet sees what comes after it only; so things go on until it does.
        let labels = async {
            for n in 0.. {
                k.ok(&format!("label configmap old n={n} tier=front --overwrite")).await;
            }
        };
        tokio::select! {
            _ = only.until(&["configmap/old"]) => {}
            () = labels => {}
        }
        only.stop().await;
        watch.stop().await;
        k.ok("delete configmap old").await;

        let mut created = k.start("wait --for=create deployment/web --timeout=60s");
        let mut events = k.start("events --watch");
        k.write("web.yaml", &manifest("web", 1, "1"));
        k.ok("apply -f web.yaml").await;
        created.until(&["condition met"]).await;
        assert_eq!(created.end().await.code, 0);
        events.until(&["ScalingReplicaSet", "Deployment/web", "from 0 to 1"]).await;
        k.ok("scale deployment web --replicas=2").await;
        events.until(&["ScalingReplicaSet", "Deployment/web", "from 1 to 2"]).await;
        events.stop().await;
        k.ok("wait --for=condition=Ready pod -l app=web --timeout=60s").await;
        k.ok("wait --for=jsonpath={.status.phase}=Running pod -l app=web --timeout=60s").await;
        k.ok("wait --for=jsonpath={.status.podIP} pod -l app=web --timeout=60s").await;
        k.fails("wait --for=condition=Never deployment/web --timeout=1s", &["timed out"]).await;
        k.fails("wait --for=condition=Ready pod/nobody --timeout=1s", &["not found"]).await;
        let none = k.ok("events --for deployment/web --types=Warning -o name").await;
        assert_eq!(none, "");

        let mut proxy = k.start("proxy --port=0");
        let line = proxy.until(&["Starting to serve on 127.0.0.1:"]).await;
        let address = line.rsplit(' ').next().expect("an address").to_owned();
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let path = "/apis/apps/v1/namespaces/default/deployments/web/scale";
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("taken");
        let mut page = String::new();
        stream.read_to_string(&mut page).await.expect("readable");
        assert!(page.starts_with("HTTP/1.1 200") && page.contains(r#""kind":"Scale""#), "{page}");
        proxy.stop().await;
        what_the_server_says_of_itself(k).await;
    })
    .await;
}

async fn what_the_server_says_of_itself(k: &orchestrator_tests::kubectl::Kubectl) {
    k.says("auth can-i '*' '*'", &["yes"]).await;
    k.says("auth can-i get pods --subresource=log", &["yes"]).await;
    k.says("auth can-i create deployments.apps -n kube-system -q", &[]).await;
    k.says("cluster-info dump", &["\"kind\": \"NodeList\"", "\"kind\": \"DeploymentList\""]).await;
    k.says("explain pods --recursive", &["containers", "imagePullPolicy"]).await;
    k.says("explain deployment.spec.strategy.rollingUpdate", &["maxSurge\t<IntOrString>"]).await;
    k.says("explain pod.spec.containers.resources", &["limits\t<map[string]Quantity>"]).await;
    k.says("explain deployment --api-version=apps/v1", &["GROUP:      apps", "VERSION:    v1"])
        .await;
    k.fails("explain deployment --api-version=apps/v2", &["apps/v2"]).await;
    k.fails("explain pods.spec.bogus", &["bogus"]).await;
    k.says("get --raw /version", &["\"gitVersion\":\"v1.32"]).await;
    k.says("get --raw /api/v1/namespaces/default", &["\"phase\":\"Active\""]).await;
    k.fails("get --raw /api/v1/gadgets", &["could not find the requested resource"]).await;
    let wide = k.ok("api-resources -o wide").await;
    let row = |kind: &str| {
        let mut rows = wide.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.find(|row| row.contains(&kind)).unwrap_or_else(|| panic!("no {kind} in {wide}"))
    };
    let all = "create,delete,deletecollection,get,list,patch,update,watch";
    assert_eq!(
        row("Deployment"),
        ["deployments", "deploy", "apps/v1", "true", "Deployment", all, "all"]
    );
    assert_eq!(row("Job"), ["jobs", "batch/v1", "true", "Job", "get,list,watch", "all"]);
    let cluster = k.ok("api-resources --namespaced=false --verbs=create,list -o name").await;
    assert!(cluster.starts_with("namespaces\nnodes\n"), "{cluster}");
}
