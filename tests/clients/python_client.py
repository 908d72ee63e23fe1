"""The Python client against an orchd: what programs written for Kubernetes do. Run by tests/tests/clients.rs, with the
kubeconfig, the image to run and a directory for pages as arguments. Ends with 0 when everything was as expected."""

import sys
import time

from kubernetes import client, config, dynamic, watch
from kubernetes.stream import portforward, stream

KUBECONFIG, IMAGE, PAGES, NAMESPACE = *sys.argv[1:4], "default"
SERVE = f"mkdir -p {PAGES}/$POD_IP; echo page > {PAGES}/$POD_IP/index.html; echo started; " \
    f"trap 'exit 0' TERM; busybox httpd -f -p $POD_IP:9000 -h {PAGES}/$POD_IP & wait"


def deployment(name, replicas):
    labels = {"app": name}
    container = client.V1Container(
        name="main", image=IMAGE, image_pull_policy="Never", command=["/bin/sh", "-c", SERVE])
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels),
        spec=client.V1PodSpec(containers=[container], termination_grace_period_seconds=2))
    return client.V1Deployment(
        api_version="apps/v1", kind="Deployment", metadata=client.V1ObjectMeta(name=name),
        spec=client.V1DeploymentSpec(
            replicas=replicas, selector=client.V1LabelSelector(match_labels=labels),
            template=template))


def until(what, ask):
    for _ in range(1200):
        found = ask()
        if found:
            return found
        time.sleep(0.05)
    raise SystemExit(f"not within a minute: {what}")


def expect(code, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except client.exceptions.ApiException as error:
        assert error.status == code, error
        return error
    raise SystemExit(f"{call} did not fail with {code}")


config.load_kube_config(KUBECONFIG)
core, apps = client.CoreV1Api(), client.AppsV1Api()
assert client.VersionApi().get_code().major == "1"
assert client.AuthorizationV1Api().create_self_subject_access_review(
    client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(
        resource_attributes=client.V1ResourceAttributes(verb="create", resource="pods", namespace=NAMESPACE)))
).status.allowed

# Create, read, change, list by pages.
for number in range(5):
    core.create_namespaced_config_map(NAMESPACE, client.V1ConfigMap(
        metadata=client.V1ObjectMeta(name=f"m{number}", labels={"set": "m"}), data={"n": str(number)}))
expect(409, core.create_namespaced_config_map, NAMESPACE, client.V1ConfigMap(
    metadata=client.V1ObjectMeta(name="m0")))
names, token = [], None
while True:
    page = core.list_namespaced_config_map(NAMESPACE, label_selector="set=m", limit=2, _continue=token)
    names += [item.metadata.name for item in page.items]
    token = page.metadata._continue
    if not token:
        break
assert names == [f"m{number}" for number in range(5)], names
core.patch_namespaced_config_map("m0", NAMESPACE, {"data": {"a": "b"}})
found = core.read_namespaced_config_map("m0", NAMESPACE)
assert found.data == {"a": "b", "n": "0"}, found.data
core.patch_namespaced_config_map("m0", NAMESPACE, [{"op": "remove", "path": "/data/a"}])
merged = core.patch_namespaced_config_map("m0", NAMESPACE, {"data": {"n": None, "c": "d"}},
                                          _content_type="application/merge-patch+json")
assert merged.data == {"c": "d"}, merged.data
found = core.read_namespaced_config_map("m0", NAMESPACE)
found.data = {"only": "this"}
assert core.replace_namespaced_config_map("m0", NAMESPACE, found).data == {"only": "this"}
found.metadata.resource_version = "1"
expect(409, core.replace_namespaced_config_map, "m0", NAMESPACE, found)
expect(404, core.read_namespaced_config_map, "nobody", NAMESPACE)
expect(422, apps.create_namespaced_deployment, NAMESPACE, deployment("bad", -1))

# Watch.
seen = []
start = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
core.delete_namespaced_config_map("m1", NAMESPACE)
core.create_namespaced_config_map(NAMESPACE, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="m9")))
watcher = watch.Watch()
for event in watcher.stream(core.list_namespaced_config_map, NAMESPACE, resource_version=start, timeout_seconds=20):
    seen.append((event["type"], event["object"].metadata.name))
    if len(seen) == 2:
        watcher.stop()
assert seen == [("DELETED", "m1"), ("ADDED", "m9")], seen
# Watch-list: what there is comes first, and a bookmark says that it is all.
seen = []
for event in watch.Watch().stream(core.list_namespaced_config_map, NAMESPACE, send_initial_events=True,
                                  resource_version_match="NotOlderThan", allow_watch_bookmarks=True, timeout_seconds=20):
    meta = event["raw_object"]["metadata"]
    if meta.get("annotations", {}).get("k8s.io/initial-events-end") == "true":
        assert event["type"] == "BOOKMARK", event
        break
    seen.append((event["type"], meta["name"]))
else:
    raise SystemExit("no bookmark ended the initial events")
assert seen == [("ADDED", name) for name in ("m0", "m2", "m3", "m4", "m9")], seen

# A workload: status, scale, log, exec, port-forward, eviction.
apps.create_namespaced_deployment(NAMESPACE, deployment("web", 1))
until("it is available", lambda: apps.read_namespaced_deployment_status("web", NAMESPACE).status.available_replicas == 1)
assert apps.read_namespaced_deployment_scale("web", NAMESPACE).spec.replicas == 1
apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 2}})
until("there are two", lambda: apps.read_namespaced_deployment("web", NAMESPACE).status.ready_replicas == 2)
pods = core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items
pod = pods[0].metadata.name
assert pods[0].status.container_statuses[0].state.running and pods[0].status.pod_ip
until("it has printed", lambda: core.read_namespaced_pod_log(pod, NAMESPACE) == "started\n")
said = stream(core.connect_get_namespaced_pod_exec, pod, NAMESPACE, command=["/bin/sh", "-c", "echo hello"],
              stdout=True, stderr=True, stdin=False, tty=False)
assert said == "hello\n", said
shell = stream(core.connect_get_namespaced_pod_exec, pod, NAMESPACE, command=["/bin/sh", "-c", "read x; echo got $x; exit 3"],
               stdout=True, stderr=True, stdin=True, tty=False, _preload_content=False)
shell.write_stdin("this\n")
shell.run_forever(timeout=30)
assert shell.read_stdout() == "got this\n" and shell.returncode == 3, shell.returncode


def fetch():
    tunnel = portforward(core.connect_get_namespaced_pod_portforward, pod, NAMESPACE, ports="9000")
    socket = tunnel.socket(9000)
    socket.setblocking(True)
    socket.sendall(b"GET / HTTP/1.0\r\n\r\n")
    page = b""
    while piece := socket.recv(4096):
        page += piece
    socket.close()
    return page.endswith(b"page\n")


until("a page comes through the tunnel", fetch)
core.create_namespaced_pod_eviction(pod, NAMESPACE, client.V1Eviction(metadata=client.V1ObjectMeta(name=pod)))
until("it is gone", lambda: pod not in [it.metadata.name for it in core.list_namespaced_pod(NAMESPACE).items])

# What knows no types: discovery, server-side apply, every kind.
anything = dynamic.DynamicClient(client.ApiClient())
deployments = anything.resources.get(api_version="apps/v1", kind="Deployment")
applied = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 1}}
expect(409, deployments.server_side_apply, body=applied, namespace=NAMESPACE, field_manager="python")
forced = deployments.server_side_apply(body=applied, namespace=NAMESPACE, field_manager="python", force_conflicts=True)
assert forced.spec.replicas == 1
assert {entry.manager for entry in forced.metadata.managedFields} >= {"python"}
node = core.list_node().items[0]
assert node.status.node_info.operating_system == "linux"
seen_by = {"type": "example.com/SeenByPython", "status": "True"}
written = core.patch_node_status(node.metadata.name, {"status": {"conditions": [seen_by]}})
assert {it.type for it in written.status.conditions} >= {"Ready", "example.com/SeenByPython"}, written.status.conditions
for kind in (core.list_namespace, core.list_event_for_all_namespaces, core.list_service_for_all_namespaces,
             core.list_secret_for_all_namespaces, apps.list_replica_set_for_all_namespaces):
    kind()

apps.delete_namespaced_deployment("web", NAMESPACE, propagation_policy="Foreground")
until("its pods are gone", lambda: not core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items)
core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="set=m")
assert [it.metadata.name for it in core.list_namespaced_config_map(NAMESPACE).items] == ["m9"]
core.delete_namespaced_config_map("m9", NAMESPACE)
print("as expected")
