//! `apply`: what it says, and that bad manifests are refused where they are wrong.

use crate::daemon::{Daemon, deployment};

const FOREVER: &str = "exec sleep 1000";

#[test]
fn a_manifest_is_created_then_unchanged_then_configured() {
    let daemon = Daemon::start();
    let manifest = deployment("web", 1, FOREVER);
    assert_eq!(daemon.apply(&manifest), "deployment.apps/web created\n");
    assert_eq!(daemon.apply(&manifest), "deployment.apps/web unchanged\n");
    let changed = manifest.replace("replicas: 1", "minReadySeconds: 1\n  replicas: 2");
    assert_eq!(daemon.apply(&changed), "deployment.apps/web configured\n");
    assert_eq!(daemon.json(&["deploy/web"])["spec"]["minReadySeconds"], 1);
    daemon.apply(&manifest);
    assert!(
        daemon.json(&["deploy/web"])["spec"]["minReadySeconds"].is_null(),
        "a field left out goes"
    );
}

#[test]
fn files_directories_streams_and_lists_are_taken_in_their_order() {
    let daemon = Daemon::start();
    let map = |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
    daemon.write("dir/2.yaml", map("c"));
    daemon.write("dir/1.yml", format!("{}---\n{}---\n", map("a"), map("b")));
    daemon.write("dir/notes.txt", "no manifest");
    daemon.write("list.json", r#"{"kind": "List", "apiVersion": "v1", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d", "namespace": "team"}}]}"#);
    let out = daemon.done(&["apply", "-f", "dir", "-f", "list.json"]);
    let names: Vec<_> = out.lines().collect();
    assert_eq!(
        names,
        [
            "configmap/a created",
            "configmap/b created",
            "configmap/c created",
            "namespace/team created",
            "configmap/d created",
        ]
    );
    assert_eq!(daemon.done(&["get", "cm", "-n", "team", "-o", "name"]), "configmap/d\n");
    daemon.write("e.yaml", map("e"));
    daemon.done(&["apply", "-f", "e.yaml", "-n", "team"]);
    assert_eq!(daemon.json(&["cm/e", "-n", "team"])["metadata"]["namespace"], "team");
    let complaint = daemon.refused(1, &["apply", "-f", "list.json", "-n", "default"]);
    assert!(complaint.contains("list.json:3: metadata.namespace: \"team\" is not"), "{complaint}");
}

#[test]
fn a_dry_run_writes_nothing() {
    let daemon = Daemon::start();
    daemon.write("web.yaml", deployment("web", 1, FOREVER));
    let out = daemon.done(&["apply", "-f", "web.yaml", "--dry-run"]);
    assert_eq!(out, "deployment.apps/web created (dry run)\n");
    assert!(daemon.refused(1, &["get", "deploy", "web"]).contains("not found"));
}

#[test]
fn a_field_without_effect_is_kept_and_warned_of() {
    let daemon = Daemon::start();
    let text = deployment("web", 0, FOREVER)
        .replace("      containers:", "      hostNetwork: true\n      containers:");
    daemon.write("web.yaml", text);
    let ran = daemon.call(&["apply", "-f", "web.yaml"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.err.starts_with("warning: web.yaml:14: spec.template.spec.hostNetwork: "),
        "{ran:?}"
    );
    assert_eq!(daemon.json(&["deploy/web"])["spec"]["template"]["spec"]["hostNetwork"], true);
}

/// Manifests that are wrong, and what must be said of each.
#[test]
fn what_is_wrong_is_told_with_file_and_line_and_nothing_is_written() {
    let daemon = Daemon::start();
    let good = deployment("bad", 1, FOREVER);
    let change = |from: &str, to: &str| {
        assert!(good.contains(from), "{from:?} is not in the manifest");
        good.replace(from, to).into_bytes()
    };
    let mut aliases = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..10 {
        let refs = vec![format!("*a{}", level - 1); 9].join(",");
        aliases.push_str(&format!("a{level}: &a{level} [{refs}]\n"));
    }
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        (
            "unknown fields",
            change("  replicas: 1", "  bogus: 1\n  replicas: 1\n  wrong: 2"),
            &[
                "error: m.yaml:6: unknown field \"spec.bogus\"\n",
                "error: m.yaml:8: unknown field \"spec.wrong\"\n",
            ],
        ),
        (
            "unknown deep field",
            change("        image: none", "        imgae: none"),
            &["m.yaml:16: unknown field \"spec.template.spec.containers[0].imgae\""],
        ),
        (
            "duplicate field",
            change("  replicas: 1", "  replicas: 1\n  replicas: 2"),
            &["m.yaml:7:3: spec.replicas: given twice, first on line 6"],
        ),
        ("wrong type", change("replicas: 1", "replicas: two"), &["m.yaml:6: spec.replicas: "]),
        (
            "negative replicas",
            change("replicas: 1", "replicas: -1"),
            &["m.yaml:6: spec.replicas: Invalid value: -1"],
        ),
        (
            "selector without match",
            change("matchLabels: {app: bad}", "matchLabels: {app: other}"),
            &["m.yaml:11: spec.template.metadata.labels"],
        ),
        (
            "unknown kind",
            change("kind: Deployment", "kind: Gadget"),
            &["m.yaml:2: kind: \"Gadget\""],
        ),
        (
            "kind of another group",
            change("apiVersion: apps/v1", "apiVersion: v1"),
            &["m.yaml:1: apiVersion: \"v1\" has no Deployment; it is in \"apps/v1\""],
        ),
        ("no name", change("  name: bad", "  labels: {}"), &["m.yaml:3: metadata.name: Required"]),
        ("a path as name", change("  name: bad", "  name: ../../etc"), &["m.yaml:", "../../etc"]),
        (
            "unknown namespace",
            change("  name: bad", "  name: bad\n  namespace: nowhere"),
            &["m.yaml:5: namespaces \"nowhere\" not found"],
        ),
        ("no YAML", b"a: [b\n".to_vec(), &["m.yaml:"]),
        ("not an object", b"just words".to_vec(), &["m.yaml:1:1: expected an object"]),
        ("nothing", b"---\n# nothing\n".to_vec(), &["m.yaml: there is no object in it"]),
        ("no UTF-8", b"kind: \xff\n".to_vec(), &["m.yaml:1:7: not valid UTF-8 (byte 0xff)"]),
        ("depth bomb", "[".repeat(100_000).into_bytes(), &["m.yaml:1:", "nested more than 100"]),
        ("alias bomb", aliases.into_bytes(), &["m.yaml:", "aliases"]),
        ("17 MB", vec![b'#'; 17 << 20], &["m.yaml:1:1: ", "too many for a manifest"]),
        (
            "10 MB in one object",
            {
                let data = "x".repeat(10 << 20);
                format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: big}}\ndata: {{a: {data}}}\n")
                .into_bytes()
            },
            &["m.yaml:"],
        ),
    ];
    let before = daemon.done(&["get", "cm,deploy,pods", "-A", "-o", "json"]);
    for (name, text, needles) in cases {
        daemon.write("m.yaml", text);
        let complaint = daemon.refused(1, &["apply", "-f", "m.yaml"]);
        for needle in needles {
            assert!(complaint.contains(needle), "{name}: {needle:?} is not in {complaint}");
        }
    }
    assert_eq!(daemon.done(&["get", "cm,deploy,pods", "-A", "-o", "json"]), before);
    assert!(daemon.refused(1, &["apply", "-f", "absent.yaml"]).contains("cannot read absent.yaml"));
}

#[test]
fn one_refused_object_does_not_hinder_the_others() {
    let daemon = Daemon::start();
    let map = |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
    daemon.write("m.yaml", format!("{}---\n{}bogus: 1\n---\n{}", map("a"), map("b"), map("c")));
    let ran = daemon.call(&["apply", "-f", "m.yaml"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.out, "configmap/a created\nconfigmap/c created\n");
    assert_eq!(ran.err, "error: m.yaml:8: unknown field \"bogus\"\n");
}
