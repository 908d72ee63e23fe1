//! Objects: made in every way, labelled, patched, edited, applied, pruned, deleted.

use std::sync::Arc;

use orchestrator_tests::rig::Rig;

use super::{manifest, with_kubectl};

pub(super) async fn objects_are_made_shown_changed_and_deleted(rig: Arc<Rig>) {
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

pub(super) async fn objects_are_made_by_generators(rig: Arc<Rig>) {
    with_kubectl(rig, |kubectl| async move {
        let k = &*kubectl;
        k.write("file", "text of a file\n");
        k.write("variables", "a=1\nb=2\n");
        k.says("create configmap files --from-file=file --from-literal=x=y", &["created"]).await;
        let text = k.ok("get configmap files -o jsonpath={.data.file}").await;
        assert_eq!(text, "text of a file\n");
        k.ok("create configmap variables --from-env-file=variables").await;
        let data = k.ok("get configmap variables -o jsonpath={.data}").await;
        assert_eq!(data, r#"{"a":"1","b":"2"}"#);
        let registry = "--docker-server=example.com --docker-username=u --docker-password=p";
        k.ok(&format!("create secret docker-registry pull {registry}")).await;
        k.ok("create secret generic own --type=example.com/own --from-file=name=file").await;
        let types = k.ok("get secrets -o jsonpath={.items[*].type}").await;
        assert_eq!(types, "example.com/own kubernetes.io/dockerconfigjson");

        k.says("create service clusterip one --tcp=80:8080", &["service/one created"]).await;
        k.says("create service nodeport two --tcp=80", &["service/two created"]).await;
        k.says("create service loadbalancer three --tcp=80", &["service/three created"]).await;
        k.ok("create service externalname four --external-name=example.com").await;
        let types = k.ok("get services -o custom-columns=N:.metadata.name,T:.spec.type").await;
        let words: Vec<_> = types.split_whitespace().skip(2).collect();
        assert_eq!(
            words,
            [
                "four",
                "ExternalName",
                "one",
                "ClusterIP",
                "three",
                "LoadBalancer",
                "two",
                "NodePort"
            ]
        );
        k.ok("set selector service one app=other").await;
        let selector = k.ok("get service one -o jsonpath={.spec.selector}").await;
        assert_eq!(selector, r#"{"app":"other"}"#);

        k.ok("create deployment web --image=example.com/web:1 --replicas=0 --port=80 -- sleep 9")
            .await;
        let container = k.ok("get deployment web -o jsonpath={..containers[0].command}").await;
        assert_eq!(container, r#"["sleep","9"]"#);
        k.says("expose deployment web --port=80 --target-port=8080 --name=front", &["exposed"])
            .await;
        let ports = k.ok("get service front -o jsonpath={.spec.ports[0].targetPort}").await;
        assert_eq!(ports, "8080");
        k.fails("expose deployment web --port=80 --name=front", &["already exists"]).await;
        let made = k.ok("create deployment tried --image=x --dry-run=server -o name").await;
        assert_eq!(made, "deployment.apps/tried\n");
        k.fails("get deployment tried", &["not found"]).await;
        k.fails("create deployment a_b --image=x", &["metadata.name", "a_b"]).await;

        // Kinds that every Kubernetes has, and this server has not.
        k.fails("create job once --image=x", &["jobs.batch is not implemented by this server"])
            .await;
        k.fails("create ingress in --rule=a/b=c:80", &["ingresses.networking.k8s.io"]).await;
        k.fails("create quota q --hard=cpu=1", &["resourcequotas is not implemented"]).await;
        k.fails("create priorityclass p --value=1", &["priorityclasses.scheduling.k8s.io is not"])
            .await;
        k.fails("autoscale deployment web --max=3", &["horizontalpodautoscalers.autoscaling"])
            .await;
        k.fails("get job once", &["jobs.batch \"once\" not found"]).await;
        let jobs = k.ok("get jobs -A").await;
        assert_eq!(jobs, "");
        k.ok("delete service one two three four front").await;
    })
    .await;
}

/// Two config maps, or only the first of them.
fn maps(names: &[&str]) -> String {
    let map = |name: &&str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{set: one}}}}\n"
        )
    };
    names.iter().map(map).collect::<Vec<_>>().join("---\n")
}

pub(super) async fn objects_are_applied_pruned_and_edited(rig: Arc<Rig>) {
    with_kubectl(rig, |kubectl| async move {
        let k = &*kubectl;
        k.write("maps.yaml", &maps(&["first", "second"]));
        k.says("apply -f maps.yaml", &["first created", "second created"]).await;
        k.ok("create configmap other").await;
        k.write("maps.yaml", &maps(&["first"]));
        k.says("apply --prune -l set=one -f maps.yaml --dry-run=server", &["second pruned"]).await;
        k.says("get configmaps -o name", &["first", "other", "second"]).await;
        k.says("apply --prune -l set=one -f maps.yaml", &["first unchanged", "second pruned"])
            .await;
        let left = k.ok("get configmaps -o name").await;
        assert_eq!(left, "configmap/first\nconfigmap/other\n");
        let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: once}\nspec: {template: {}}\n";
        k.write("job.yaml", job);
        k.fails("apply -f job.yaml", &["jobs.batch is not implemented by this server"]).await;
        k.fails("apply --server-side -f job.yaml", &["jobs.batch is not implemented"]).await;
        k.ok("delete -f job.yaml --ignore-not-found").await;

        let typo = manifest("typo", 1, "1").replace("replicas", "replcas");
        k.write("typo.yaml", &typo);
        k.fails("create -f typo.yaml --validate=strict", &["unknown field \"spec.replcas\""]).await;
        let warned = k.run("create -f typo.yaml --validate=warn --dry-run=server").await;
        assert_eq!(warned.code, 0, "{warned:?}");
        assert!(warned.stderr.contains("Warning: unknown field \"spec.replcas\""), "{warned:?}");
        let silent = k.run("create -f typo.yaml --validate=ignore --dry-run=server").await;
        assert_eq!((silent.code, silent.stderr.as_str()), (0, ""), "{silent:?}");

        k.write("web.yaml", &manifest("web", 0, "1"));
        k.ok("apply -f web.yaml").await;
        k.write("editor", "sed -i 's/revisionHistoryLimit: 10/revisionHistoryLimit: 3/' \"$1\"\n");
        k.says("edit deployment web", &["deployment.apps/web edited"]).await;
        let limit = "get deployment web -o jsonpath={.spec.revisionHistoryLimit}";
        assert_eq!(k.ok(limit).await, "3");
        let same = k.run("edit deployment web").await;
        assert_eq!(same.code, 0, "{same:?}");
        assert!(same.stderr.contains("no changes made"), "{same:?}");
        k.write("editor", "sed -i 's/replicas: 0/replicas: -1/' \"$1\"\n");
        k.fails("edit deployment web", &["is invalid"]).await;
        k.write("editor", "sed -i 's/HistoryLimit\": 3/HistoryLimit\": 4/' \"$1\"\n");
        k.ok("edit deployment web -o json").await;
        assert_eq!(k.ok(limit).await, "4");

        k.ok("label configmap first tier=front").await;
        k.fails("label configmap first tier=back", &["--overwrite"]).await;
        k.says("label configmap first tier=back --overwrite", &["labeled"]).await;
        k.says("label configmap first tier=back", &["not labeled"]).await;
        k.fails("label configmap first tier=x --overwrite --resource-version=1", &["modified"])
            .await;
        k.fails("label configmap first tier=a_b!", &["a_b!"]).await;
        k.says("label configmaps --all all=yes --dry-run=server", &["labeled (server dry run)"])
            .await;
        k.says("label configmap first tier-", &["unlabeled"]).await;
        k.says("label configmap first --list", &["set=one"]).await;
        k.ok("annotate configmap first why=a").await;
        k.fails("annotate configmap first why=b", &["--overwrite"]).await;
        let why = "get configmap first -o jsonpath={.metadata.annotations.why}";
        assert_eq!(k.ok(why).await, "a");
        k.says("annotate configmap first why-", &["annotated"]).await;
        assert_eq!(k.ok(why).await, "");
    })
    .await;
}
