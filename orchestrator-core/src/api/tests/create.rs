//! Create: what is set, defaulted, ignored and refused.

use super::*;

#[test]
fn a_created_deployment_gets_identity_and_defaults() {
    let mut bench = Bench::new();
    let mut sent = deployment("web");
    sent["metadata"]["uid"] = json!("00000000-0000-0000-0000-0000000000ff");
    sent["metadata"]["creationTimestamp"] = json!(null);
    sent["status"] = json!({ "replicas": 7 });
    bench.create(Kind::Deployment, "default", sent);
    let stored = bench.json(&key(Kind::Deployment, "web"));
    assert_eq!(stored["metadata"]["generation"], 1);
    assert_eq!(stored["metadata"]["creationTimestamp"], "1970-01-12T13:46:40Z");
    assert_eq!(stored["metadata"]["uid"], "00000000-0000-0000-0000-000000000002");
    assert_eq!(stored["status"], json!({}), "a status is reported, not made up");
    assert_eq!(stored["spec"]["revisionHistoryLimit"], 10);
    assert_eq!(stored["spec"]["progressDeadlineSeconds"], 600);
    assert_eq!(
        stored["spec"]["strategy"],
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": "25%" } })
    );
    let spec = &stored["spec"]["template"]["spec"];
    assert_eq!(spec["restartPolicy"], "Always");
    assert_eq!(spec["terminationGracePeriodSeconds"], 30);
    assert_eq!(spec["schedulerName"], "default-scheduler");
    assert_eq!(spec["containers"][0]["imagePullPolicy"], "IfNotPresent");
    assert_eq!(spec["containers"][0]["ports"][0]["protocol"], "TCP");
    assert_eq!(spec["tolerations"], json!(null), "those of a pod, not of a template");
}

#[test]
fn a_created_pod_tolerates_a_lost_node_for_five_minutes() {
    let mut bench = Bench::new();
    let mut sent = pod("web");
    sent["spec"]["containers"][0]["resources"] = json!({ "limits": { "cpu": "500m" } });
    bench.create(Kind::Pod, "default", sent);
    let stored = bench.json(&key(Kind::Pod, "web"));
    let keys: Vec<_> = stored["spec"]["tolerations"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (one["key"].clone(), one["tolerationSeconds"].clone()))
        .collect();
    assert_eq!(
        keys,
        [
            (json!("node.kubernetes.io/not-ready"), json!(300)),
            (json!("node.kubernetes.io/unreachable"), json!(300)),
        ]
    );
    assert_eq!(stored["spec"]["containers"][0]["resources"]["requests"]["cpu"], "500m");
}

#[test]
fn images_are_pulled_by_their_tag() {
    for (image, policy) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("localhost:5000/nginx", "Always"),
        ("localhost:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:0123", "IfNotPresent"),
    ] {
        let mut bench = Bench::new();
        let mut sent = pod("web");
        sent["spec"]["containers"][0]["image"] = json!(image);
        bench.create(Kind::Pod, "default", sent);
        let stored = bench.json(&key(Kind::Pod, "web"));
        assert_eq!(stored["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn a_namespace_is_active_and_held_by_its_finalizer() {
    let bench = Bench::new();
    let stored = bench.json(&Key::cluster(Kind::Namespace, "default"));
    assert_eq!(stored["status"]["phase"], "Active");
    assert_eq!(stored["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(stored["metadata"]["labels"]["kubernetes.io/metadata.name"], "default");
}

#[test]
fn a_node_comes_with_its_status() {
    let mut bench = Bench::new();
    bench.create(Kind::Node, "", node("n1"));
    assert_eq!(bench.json(&Key::node("n1"))["status"]["capacity"]["cpu"], "2");
}

#[test]
fn plain_values_of_a_secret_end_up_encoded() {
    let mut bench = Bench::new();
    let sent = json!({ "metadata": { "name": "s" }, "stringData": { "user": "admin" } });
    bench.create(Kind::Secret, "default", sent);
    let stored = bench.json(&key(Kind::Secret, "s"));
    assert_eq!(stored["data"], json!({ "user": "YWRtaW4=" }));
    assert_eq!(stored["stringData"], json!(null));
    assert_eq!(stored["type"], "Opaque");
}

#[test]
fn a_service_gets_its_defaults() {
    let mut bench = Bench::new();
    let sent = json!({
        "metadata": { "name": "web" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] },
    });
    bench.create(Kind::Service, "default", sent);
    let stored = bench.json(&key(Kind::Service, "web"));
    assert_eq!(stored["spec"]["type"], "ClusterIP");
    assert_eq!(stored["spec"]["sessionAffinity"], "None");
    assert_eq!(
        stored["spec"]["ports"],
        json!([{ "port": 80, "protocol": "TCP", "targetPort": 80 }])
    );
}

#[test]
fn a_generated_name_is_the_prefix_and_five_characters() {
    let mut bench = Bench::new();
    let sent = json!({ "metadata": { "generateName": "job-" }, "data": {} });
    let first = bench.create(Kind::ConfigMap, "default", sent.clone());
    let second = bench.create(Kind::ConfigMap, "default", sent);
    assert_ne!(first.meta().name, second.meta().name);
    let suffix = first.meta().name.strip_prefix("job-").expect("the prefix");
    assert!(suffix.len() == 5 && suffix.chars().all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c)));
}

#[test]
fn what_exists_is_not_created_again() {
    let mut bench = Bench::new();
    bench.create(Kind::Deployment, "default", deployment("web"));
    assert_eq!(
        bench.refuse(&create(Kind::Deployment, "default", deployment("web"))),
        "deployments.apps \"web\" already exists"
    );
}

#[test]
fn the_namespace_must_be_there_and_stay() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.refuse(&create(Kind::Pod, "shop", pod("web"))),
        "namespaces \"shop\" not found"
    );
    bench.create(Kind::Namespace, "", json!({ "metadata": { "name": "shop" } }));
    let effect = bench.decide(&create(Kind::Pod, "shop", pod("web"))).expect("valid");
    let shop = Key::cluster(Kind::Namespace, "shop");
    bench.submit(&delete(&shop, DeleteOptions::default())).expect("deleted");
    assert_eq!(
        bench.refuse(&create(Kind::Pod, "shop", pod("web"))),
        "pods \"web\" is forbidden: unable to create new content in namespace shop because it is being terminated"
    );
    // The decision made before does not slip in behind the deletion.
    let proposal = effect.proposal.expect("a write");
    assert_eq!(bench.commit(&proposal), Err(RecordKey::main(shop.clone())));
    assert_eq!(bench.json(&shop)["status"]["phase"], "Terminating");
}

#[test]
fn a_dry_run_answers_and_writes_nothing() {
    let mut bench = Bench::new();
    let options = WriteOptions { dry_run: true, ..WriteOptions::default() };
    let request = Request::Create {
        kind: Kind::Pod,
        namespace: "default".to_owned(),
        object: pod("web"),
        options,
    };
    let effect = bench.decide(&request).expect("valid");
    assert!(effect.created && effect.proposal.is_none());
    assert_eq!(effect.reply.meta().name, "web");
}

#[test]
fn a_pod_may_be_born_with_a_node() {
    let mut bench = Bench::new();
    let mut sent = pod("web");
    sent["spec"]["nodeName"] = json!("n1");
    bench.create(Kind::Pod, "default", sent);
    assert_eq!(bench.world.pods_on("n1").count(), 1);
}
