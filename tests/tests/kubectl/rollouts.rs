//! Deployments: rolled out and back, changed piece by piece, owned by who applies them, and deleted with what they own.

use std::sync::Arc;

use orchestrator_tests::rig::Rig;

use super::{manifest, with_kubectl};

pub(super) async fn deployments_roll_out_and_back(rig: Arc<Rig>) {
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

        let four = "'[{\"op\":\"replace\",\"path\":\"/spec/replicas\",\"value\":4}]'";
        k.ok(&format!("patch deployment web --subresource=scale --type=json -p {four}")).await;
        assert_eq!(k.ok("get deployment web -o jsonpath={.spec.replicas}").await, "4");
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
        let said = k.ok_despite_conflicts("replace -f web.yaml").await;
        assert!(said.contains("replaced"), "{said}");
        k.says("delete deployment web --cascade=orphan", &["deleted"]).await;
        let sets = k.ok("get replicasets -o name").await;
        assert!(!sets.is_empty(), "orphans stay");
        k.ok("delete replicasets -l app=web --cascade=foreground --timeout=60s").await;
        let pods = k.ok("get pods -l app=web -o name").await;
        assert_eq!(pods, "", "they went first");
    })
    .await;
}

pub(super) async fn what_is_applied_is_owned(rig: Arc<Rig>) {
    with_kubectl(rig, |kubectl| async move {
        let k = &*kubectl;
        k.write("web.yaml", &manifest("web", 0, "1"));
        k.says("apply --server-side -f web.yaml", &["serverside-applied"]).await;
        k.ok("scale deployment/web --replicas=2").await;
        k.fails(
            "apply --server-side -f web.yaml",
            &["Apply failed with 1 conflict", ".spec.replicas", "with subresource \"scale\""],
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
        k.ok("label deployment other who=me").await;
        k.ok("set env deployment/other EXTRA=x").await;
        k.ok("apply --server-side -f other.yaml").await;
        k.says("get deployment other -o yaml", &["who: me", "name: EXTRA"]).await;
        k.write("other.yaml", &manifest("other", 0, "2"));
        k.ok("apply --server-side -f other.yaml").await;
        // A status that changes between the two versions which diff compares is a difference too: soon it changes no more.
        let mut said = k.run("diff --server-side -f other.yaml").await;
        for _ in 0..20 {
            if said.code == 0 {
                break;
            }
            said = k.run("diff --server-side -f other.yaml").await;
        }
        assert_eq!(said.code, 0, "no difference: {said:?}");
    })
    .await;
}

pub(super) async fn histories_are_shown_and_changes_tried(rig: Arc<Rig>) {
    with_kubectl(rig, |kubectl| async move {
        let k = &*kubectl;
        k.write("web.yaml", &manifest("web", 1, "1"));
        k.ok("apply -f web.yaml").await;
        k.ok("annotate deployment web kubernetes.io/change-cause=first").await;
        k.ok("rollout status deployment/web --timeout=90s").await;
        k.ok("set env deployment/web VERSION=2").await;
        k.ok("annotate deployment web kubernetes.io/change-cause=second --overwrite").await;
        k.ok("set env deployment/web VERSION=3").await;
        k.ok("rollout status deployment/web --timeout=90s").await;
        k.says("rollout history deployment/web", &["first", "second"]).await;
        k.says("rollout history deployment/web --revision=1", &["revision #1", "VERSION:\t1"])
            .await;
        k.fails("rollout history deployment/web --revision=9", &["revision"]).await;
        k.says("rollout undo deployment/web --to-revision=2 --dry-run=server", &["server dry run"])
            .await;
        k.says("rollout undo deployment/web --to-revision=1", &["rolled back"]).await;
        k.ok("rollout status deployment/web --timeout=90s").await;
        let version =
            "get deployment web -o jsonpath={.spec.template.spec.containers[0].env[0].value}";
        assert_eq!(k.ok(version).await, "1");
        k.fails("rollout undo deployment/web --to-revision=9", &["unable to find"]).await;
        k.ok("rollout pause deployment/web").await;
        k.fails("rollout pause deployment/web", &["already paused"]).await;
        k.fails("rollout undo deployment/web", &["paused"]).await;
        k.fails("rollout restart deployment/web", &["paused"]).await;
        k.says("rollout resume deployment/web", &["resumed"]).await;
        k.fails("rollout resume deployment/web", &["not paused"]).await;

        k.says("set image deployment/web main=x:2 --dry-run=server", &["image updated (server"])
            .await;
        let image = "get deployment web -o jsonpath={.spec.template.spec.containers[0].image}";
        assert_eq!(k.ok(image).await, orchestrator_tests::engine::IMAGE);
        k.fails("set image deployment/web nobody=x:2", &["unable to find container"]).await;
        k.says("set env deployment/web --list", &["VERSION=1"]).await;
        k.says("set env deployment/web A=B --dry-run=server -o yaml", &["name: A"]).await;
        k.says("set env deployment/web A=B", &["env updated"]).await;
        k.ok("set env deployment/web A-").await;
        k.says("set resources deployment/web --limits=cpu=1 --dry-run=server", &["server dry run"])
            .await;
        k.fails("set resources deployment/web --limits=cpu=1 --requests=cpu=2", &["cpu limit"])
            .await;

        k.write("web.yaml", &manifest("web", 1, "1"));
        k.ok("apply -f web.yaml").await;
        assert_eq!(k.run("diff -f web.yaml").await.code, 0);
        k.write("web.yaml", &manifest("web", 2, "1"));
        let said = k.run("diff -f web.yaml").await;
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.stdout.contains("+  replicas: 2"), "{said:?}");
        assert!(k.run("diff -f nowhere.yaml").await.code > 1);
    })
    .await;
}

pub(super) async fn deployments_go_with_what_they_own(rig: Arc<Rig>) {
    with_kubectl(rig, |kubectl| async move {
        let k = &*kubectl;
        let uid = "get deployment web -o jsonpath={.metadata.uid}";
        k.write("web.yaml", &manifest("web", 1, "1"));
        k.ok("create -f web.yaml").await;
        k.fails("create -f web.yaml", &["already exists"]).await;
        k.ok("rollout status deployment/web --timeout=90s").await;
        let first = k.ok(uid).await;
        k.says("replace --force -f web.yaml", &["deleted", "replaced"]).await;
        assert_ne!(k.ok(uid).await, first, "it is another one");
        k.ok("rollout status deployment/web --timeout=90s").await;

        // Kubernetes' default: what it owns goes after it.
        k.says("delete deployment web --dry-run=server", &["deleted (server dry run)"]).await;
        k.says("delete -f web.yaml --cascade=background", &["deleted"]).await;
        k.ok("wait --for=delete replicasets,pods -l app=web --timeout=60s").await;
        k.ok("create -f web.yaml").await;
        k.ok("rollout status deployment/web --timeout=90s").await;
        k.ok("delete deployment web --cascade=foreground --timeout=60s").await;
        let left = k.ok("get replicasets,pods -l app=web -o name").await;
        assert_eq!(left, "", "they went first");
        k.ok("create -f web.yaml").await;
        k.ok("rollout status deployment/web --timeout=90s").await;
        k.ok("delete deployment web --cascade=orphan").await;
        let pods = k.ok("get pods -l app=web -o name").await;
        assert_eq!(pods.lines().count(), 1, "{pods}");
        k.says("delete replicasets -l app=web --cascade=orphan", &["deleted"]).await;

        // Nobody makes another one now.
        let pod = pods.trim();
        k.says(&format!("delete {pod} --wait=false"), &["deleted"]).await;
        k.ok(&format!("wait --for=delete {pod} --timeout=60s")).await;
        k.fails(&format!("delete {pod}"), &["not found"]).await;
        k.ok(&format!("delete {pod} --ignore-not-found")).await;
        for how in ["--now", "--force", "--force --grace-period=0 --wait=false", "--grace-period=1"]
        {
            let run = "run one --restart=Never --image-pull-policy=Never";
            let image = orchestrator_tests::engine::IMAGE;
            k.ok(&format!("{run} --image={image} --command -- sleep 1000")).await;
            k.ok("wait --for=condition=Ready pod/one --timeout=60s").await;
            k.says(&format!("delete pod one {how}"), &["\"one\"", "deleted"]).await;
            k.ok("wait --for=delete pod/one --timeout=60s").await;
        }
    })
    .await;
}
