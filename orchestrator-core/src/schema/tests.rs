//! What the table must say, whoever wrote it.

use serde_json::json;

use super::*;
use crate::model::Kind;

fn field(message: &str, name: &str) -> Field {
    *schema().find(message).expect(message).field(name).expect(name)
}

#[test]
fn every_line_of_the_table_is_read() {
    let text = include_str!("kubernetes.fields");
    let lines = text.lines().filter(|line| line.starts_with("  ")).count();
    let fields: usize = schema().messages().map(|message| message.fields.len()).sum();
    assert_eq!(fields, lines);
    for message in schema().messages() {
        let numbers: Vec<u32> = message.fields.iter().map(|field| field.number).collect();
        assert!(numbers.is_sorted_by(|one, next| one < next), "{}", message.name);
    }
}

#[test]
fn every_kind_that_is_served_is_in_it() {
    // What the table is made from has no definitions of custom kinds; clients send them as JSON.
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::CustomResourceDefinition) {
        let message = schema().of_kind(kind.api_version(), kind.name());
        assert!(message.is_some_and(|it| it.field("metadata").is_some()), "{kind}");
    }
}

#[test]
fn a_kind_of_somebody_elses_group_is_not_taken_for_a_built_in_one() {
    assert!(schema().of_kind("apps/v1", "Deployment").is_some());
    assert!(schema().of_kind("rbac.authorization.k8s.io/v1", "Role").is_some());
    for group in ["apps.example.com/v1", "rbac.example.com/v1", "apps.k8s.io.example.com/v1"] {
        assert!(
            schema().of_kind(group, "Deployment").or(schema().of_kind(group, "Role")).is_none()
        );
    }
}

#[test]
fn fields_have_the_facts_that_clients_rely_on() {
    let containers = field("core/v1.PodSpec", "containers");
    assert_eq!((containers.number, containers.shape), (2, Shape::List));
    assert_eq!(containers.merge, Merge::ByKey("name"));
    assert_eq!(containers.ownership, Ownership::ByKeys("name"));
    assert!(containers.is_required && containers.doc.is_some());
    let ports = field("core/v1.Container", "ports");
    assert_eq!(ports.merge, Merge::ByKey("containerPort"));
    assert_eq!(ports.ownership, Ownership::ByKeys("containerPort,protocol"));
    assert_eq!(field("core/v1.ServiceSpec", "ports").merge, Merge::ByKey("port"));
    assert_eq!(field("core/v1.PodSpec", "tolerations").merge, Merge::Replace);
    assert_eq!(field("core/v1.NodeSpec", "podCIDRs").merge, Merge::Set);
    assert_eq!(field("meta/v1.ObjectMeta", "finalizers").merge, Merge::Set);
    assert!(field("apps/v1.DeploymentSpec", "strategy").retain_keys);
    assert!(field("policy/v1.PodDisruptionBudgetSpec", "selector").is_replaced);
    assert_eq!(field("core/v1.PodSpec", "nodeSelector").ownership, Ownership::Atomic);
    assert_eq!(field("core/v1.PodSpec", "volumes").doc, None, "not implemented yet");
}

#[test]
fn what_is_inline_lies_in_the_message_around_it() {
    assert_eq!(field("core/v1.Probe", "httpGet").number, 2);
    assert_eq!(field("core/v1.Volume", "emptyDir").shape, Shape::One);
    let probe = schema().find("core/v1.Probe").expect("there");
    assert!(probe.field("handler").is_none());
    assert!(probe.numbered(1).is_some_and(|handler| handler.is_inline));
}

#[test]
fn unknown_fields_are_taken_out_wherever_they_are() {
    let mut pod = json!({
        "metadata": { "labels": { "anything": "goes" }, "bogus": 1 },
        "spec": {
            "containers": [{ "name": "a" }, { "name": "b", "imgae": "x", "env": [{ "valeu": 1 }] }],
            "volumes": [{ "name": "v", "emptyDir": { "mediun": "" } }],
            "overhead": { "cpu": "1" },
        },
        "statsu": {},
        "status": "not an object",
    });
    let message = schema().find("core/v1.Pod").expect("there");
    let found = take_unknown(message, &mut pod);
    let expected = [
        "metadata.bogus",
        "spec.containers[1].env[0].valeu",
        "spec.containers[1].imgae",
        "spec.volumes[0].emptyDir.mediun",
        "statsu",
    ];
    assert_eq!(found, expected);
    assert_eq!(pod["spec"]["containers"][1], json!({ "name": "b", "env": [{}] }));
    assert_eq!(pod["status"], "not an object");
    assert!(take_unknown(message, &mut pod).is_empty());
}
