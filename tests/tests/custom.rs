//! Kinds that users define, with real kubectl: defined, explained, shown, changed and gone.

use std::sync::Arc;

use orchestrator_tests::kubectl::Kubectl;
use orchestrator_tests::rig::Rig;

use super::kubectl::with_kubectl;

super::on_every_runtime! {
    custom_kinds_are_defined_used_and_removed
}

const DEFINITION: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: widgets.example.com
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets, shortNames: [wd], categories: [gear]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size}
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    - {name: Color, type: string, jsonPath: .spec.color}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [size]
            properties:
              size: {type: integer, minimum: 1, description: How big it is.}
              color: {type: string, enum: [red, blue], default: red}
              ports:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items:
                  type: object
                  required: [name]
                  properties:
                    name: {type: string}
                    port: {type: integer}
          status:
            type: object
            properties:
              size: {type: integer}
";

/// Runs a command that reads `input` and must succeed.
async fn ok_with(kubectl: &Kubectl, line: &str, input: &[u8]) -> String {
    let said = kubectl.run_with(line, input).await;
    assert_eq!(said.code, 0, "kubectl {line}: {said:?}");
    said.stdout
}

fn widget(name: &str, spec: &str) -> String {
    format!("apiVersion: example.com/v1\nkind: Widget\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

async fn custom_kinds_are_defined_used_and_removed(rig: Arc<Rig>) {
    with_kubectl(rig, |kubectl| async move {
        let made = ok_with(&kubectl, "apply -f -", DEFINITION.as_bytes()).await;
        assert_eq!(
            made,
            "customresourcedefinition.apiextensions.k8s.io/widgets.example.com created\n"
        );
        kubectl.ok("wait --for=condition=Established crd/widgets.example.com --timeout=60s").await;
        let resources = kubectl.ok("api-resources --api-group=example.com --no-headers").await;
        let words: Vec<_> = resources.split_whitespace().collect();
        assert_eq!(words, ["widgets", "wd", "example.com/v1", "true", "Widget"]);
        explained(&kubectl).await;
        used(&kubectl).await;

        kubectl.ok("delete crd widgets.example.com --timeout=60s").await;
        let gone = kubectl.run("get --raw /apis/example.com/v1").await;
        assert!(gone.stderr.contains("NotFound"), "{}", gone.stderr);
    })
    .await;
}

async fn explained(k: &Kubectl) {
    k.says("explain widgets.spec.size", &["KIND:       Widget", "<integer>", "How big it is."])
        .await;
    let spec = "explain widgets.spec --api-version=example.com/v1";
    k.says(spec, &["GROUP:      example.com", "size\t<integer> -required-", "color\t<string>"])
        .await;
    k.says("explain wd --recursive", &["metadata\t<ObjectMeta>", "labels\t<map[string]string>"])
        .await;
    k.fails("explain wd.spec.nope", &["field \"nope\" does not exist"]).await;
    k.says("explain crd", &["KIND:       CustomResourceDefinition", "spec\t<Object> -required-"])
        .await;
    let of_names = ["shortNames\t<[]string>", "plural\t<string> -required-", "such as `widgets`"];
    k.says("explain crd.spec.names", &of_names).await;
    k.says("explain crd.spec.versions.schema --recursive", &["openAPIV3Schema\t<Object>"]).await;
}

async fn used(kubectl: &Kubectl) {
    let made = ok_with(kubectl, "apply -f -", widget("a", "{size: 3}").as_bytes()).await;
    assert_eq!(made, "widget.example.com/a created\n");
    let again = ok_with(kubectl, "apply -f -", widget("a", "{size: 3}").as_bytes()).await;
    assert_eq!(again, "widget.example.com/a unchanged\n");
    let shown = kubectl.ok("get wd --no-headers").await;
    assert_eq!(shown.split_whitespace().collect::<Vec<_>>(), ["a", "3", "red"]);
    let bad = kubectl.run_with("apply -f -", widget("b", "{size: 0}").as_bytes()).await;
    assert!(bad.stderr.contains("should be greater than or equal to 1"), "{}", bad.stderr);
    let typo =
        kubectl.run_with("apply -f -", widget("b", "{size: 1, colour: red}").as_bytes()).await;
    assert!(typo.stderr.contains("unknown field \"spec.colour\""), "{}", typo.stderr);
    kubectl.ok("patch widget a --type=merge -p {\"spec\":{\"color\":\"blue\"}}").await;
    kubectl.ok("scale widget/a --replicas=5").await;
    kubectl.ok("label widget a tier=gold").await;
    let spec = kubectl.ok("get gear -l tier=gold -o jsonpath={.items[*].spec}").await;
    assert_eq!(spec, "{\"color\":\"blue\",\"size\":5}");
    kubectl
        .ok("patch widget a --subresource=status --type=merge -p {\"status\":{\"size\":2}}")
        .await;
    let scale =
        kubectl.ok("get --raw /apis/example.com/v1/namespaces/default/widgets/a/scale").await;
    assert!(scale.contains("\"status\":{\"replicas\":2"), "{scale}");
    let server = widget("c", "{size: 1}");
    let applied = ok_with(kubectl, "apply --server-side -f -", server.as_bytes()).await;
    assert_eq!(applied, "widget.example.com/c serverside-applied\n");
    for (manager, ports) in
        [("one", "[{name: http, port: 80}]"), ("two", "[{name: dns, port: 53}]")]
    {
        let manifest = widget("c", &format!("{{size: 1, ports: {ports}}}"));
        let line = format!("apply --server-side --field-manager={manager} -f -");
        ok_with(kubectl, &line, manifest.as_bytes()).await;
    }
    let names = kubectl.ok("get widget c -o jsonpath={.spec.ports[*].name}").await;
    assert_eq!(names, "http dns");
    let described = kubectl.ok("describe widget c").await;
    assert!(described.contains("API Version:  example.com/v1"), "{described}");
    kubectl.ok("delete widget c --timeout=60s").await;
}
