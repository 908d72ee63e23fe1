//! The table as text: a line per message, and one per field below it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use crate::json_names::Names;
use crate::model_docs::{Docs, TypeDocs, camel};
use crate::protobuf::{Message, Messages, ProtoField, Shape};

/// The kinds that are served, and what clients send besides. What they are made of comes by itself.
const ROOTS: [&str; 27] = [
    "apps/v1.Deployment",
    "apps/v1.ReplicaSet",
    "authentication/v1.SelfSubjectReview",
    "authentication/v1.TokenRequest",
    "authentication/v1.TokenReview",
    "authorization/v1.LocalSubjectAccessReview",
    "authorization/v1.SelfSubjectAccessReview",
    "authorization/v1.SelfSubjectRulesReview",
    "authorization/v1.SubjectAccessReview",
    "autoscaling/v1.Scale",
    "coordination/v1.Lease",
    "core/v1.Binding",
    "core/v1.ConfigMap",
    "core/v1.Event",
    "core/v1.Namespace",
    "core/v1.Node",
    "core/v1.Pod",
    "core/v1.Secret",
    "core/v1.Service",
    "core/v1.ServiceAccount",
    "meta/v1.DeleteOptions",
    "policy/v1.Eviction",
    "policy/v1.PodDisruptionBudget",
    "rbac/v1.ClusterRole",
    "rbac/v1.ClusterRoleBinding",
    "rbac/v1.Role",
    "rbac/v1.RoleBinding",
];

/// Messages that JSON writes in a form of their own.
const SPECIAL: [(&str, &str); 5] = [
    ("intstr.IntOrString", "intOrString"),
    ("meta/v1.FieldsV1", "fieldsV1"),
    ("meta/v1.MicroTime", "microTime"),
    ("meta/v1.Time", "time"),
    ("resource.Quantity", "quantity"),
];

/// Scalars that are pointers in Kubernetes' own types: their zero is not the same as their absence. (The sources do not
/// tell; for a field of the same name that is none, its zero means its absence, and does no harm.)
const POINTERS: [&str; 50] = [
    "activeDeadlineSeconds",
    "allocateLoadBalancerNodePorts",
    "allowPrivilegeEscalation",
    "appProtocol",
    "automountServiceAccountToken",
    "blockOwnerDeletion",
    "collisionCount",
    "controller",
    "defaultMode",
    "deletionGracePeriodSeconds",
    "enableServiceLinks",
    "expirationSeconds",
    "fsGroup",
    "fsGroupChangePolicy",
    "gracePeriodSeconds",
    "hostUsers",
    "hostnameOverride",
    "immutable",
    "internalTrafficPolicy",
    "ipFamilyPolicy",
    "loadBalancerClass",
    "mode",
    "optional",
    "orphanDependents",
    "preemptionPolicy",
    "priority",
    "privileged",
    "procMount",
    "progressDeadlineSeconds",
    "propagationPolicy",
    "readOnlyRootFilesystem",
    "recursiveReadOnly",
    "replicas",
    "revisionHistoryLimit",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "runtimeClassName",
    "seLinuxChangePolicy",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "started",
    "storageClassName",
    "supplementalGroupsPolicy",
    "terminatingReplicas",
    "terminationGracePeriodSeconds",
    "tolerationSeconds",
    "trafficDistribution",
    "volumeAttributesClassName",
    "volumeMode",
];

const HEAD: &str = "\
# What Kubernetes' objects are made of. Written by `cargo run --manifest-path xtask/Cargo.toml -- fields`, from the
# sources of k8s-pb (numbers, types, how lists merge) and k8s-openapi (spelling, required fields), and from the comments
# of our own model. Read by orchestrator-core/src/schema.
#
# MESSAGE [atomic] [| what our model says]
#   NUMBER NAME TYPE [FLAG…] [| what our model says; without it we do not implement the field]
";

/// Writes the table.
pub fn write(messages: &Messages, names: &Names, docs: &Docs) -> Result<String> {
    let mut text = HEAD.to_owned();
    let reachable = reachable(messages)?;
    let docs_of = |name: &str| {
        let called = names.type_name(name).unwrap_or(name);
        docs.of(called.rsplit('.').next().unwrap_or(called))
    };
    for name in &reachable {
        let message = &messages[*name];
        let called = names.type_name(name).unwrap_or(name);
        // What is written into the messages around it is modelled as a part of them.
        let around = || {
            let mut all = reachable.iter();
            all.find(|outer| has_inline(outer, name, messages, names)).and_then(|it| docs_of(it))
        };
        let own = docs_of(name).or_else(around);
        text.push('\n');
        text.push_str(called);
        if message.markers.iter().any(|marker| marker == "structType=atomic") {
            text.push_str(" atomic");
        }
        if let Some(own) = docs_of(name).filter(|own| !own.text.is_empty()) {
            write!(text, " | {}", own.text)?;
        }
        text.push('\n');
        let mut fields: Vec<&ProtoField> = message.fields.iter().collect();
        fields.sort_by_key(|field| field.number);
        for field in fields {
            let inner = messages.get(&field.of);
            writeln!(text, "  {}", line(name, field, message, inner, names, own))?;
        }
    }
    Ok(text)
}

/// Every message that the roots need, by name.
fn reachable(messages: &Messages) -> Result<BTreeSet<&str>> {
    let mut found: BTreeSet<&str> = BTreeSet::new();
    let mut left: Vec<&str> = ROOTS.to_vec();
    while let Some(name) = left.pop() {
        let (name, message) =
            messages.get_key_value(name).with_context(|| format!("no message {name}"))?;
        if found.insert(name) {
            let needed = message.fields.iter().map(|field| field.of.as_str());
            left.extend(needed.filter(|of| of.contains('.') && special(of).is_none()));
        }
    }
    Ok(found)
}

/// Whether JSON has no field for a message, though it has what lies in it: it is written into the message around it.
fn is_inline(outer: &str, field: &ProtoField, inner: &Message, names: &Names) -> bool {
    names.own(outer, &field.name).is_none()
        && inner.fields.iter().any(|field| names.own(outer, &field.name).is_some())
}

fn has_inline(outer: &str, inner: &str, messages: &Messages, names: &Names) -> bool {
    let fields = messages.get(outer).into_iter().flat_map(|outer| &outer.fields);
    let mut of_inner = fields.filter(|field| field.of == inner);
    let inner = messages.get(inner);
    of_inner.any(|field| inner.is_some_and(|inner| is_inline(outer, field, inner, names)))
}

fn special(message: &str) -> Option<&'static str> {
    SPECIAL.iter().find(|(name, _)| *name == message).map(|(_, form)| *form)
}

fn line(
    message_name: &str,
    field: &ProtoField,
    message: &Message,
    inner: Option<&Message>,
    names: &Names,
    own: Option<&TypeDocs>,
) -> String {
    let spelt = names.own(message_name, &field.name);
    let is_inline = inner.is_some_and(|inner| is_inline(message_name, field, inner, names));
    let json = spelt
        .or_else(|| names.anywhere(&field.name))
        .map_or_else(|| camel(&field.snake), str::to_owned);
    let of = special(&field.of).or_else(|| names.type_name(&field.of)).unwrap_or(&field.of);
    let of = match field.shape {
        Shape::One => of.to_owned(),
        Shape::List => format!("[]{of}"),
        Shape::Map => format!("map[]{of}"),
    };
    let mut line = format!("{} {json} {of}", field.number);
    if is_inline {
        line.push_str(" inline");
    }
    if names.is_required(message_name, &field.name) {
        line.push_str(" required");
    }
    if field.shape == Shape::One && !field.of.contains('.') && POINTERS.contains(&json.as_str()) {
        line.push_str(" keepsZero");
    }
    line.push_str(&merging(field, message));
    if let Some(doc) = own.and_then(|own| own.fields.get(&json)) {
        line.push_str(" | ");
        line.push_str(doc);
    }
    line
}

/// How a field merges: `merge=KEY` or `merge` in a strategic merge patch, `retainKeys`, and `list=map:KEY,…`,
/// `list=set` or `atomic` in a server-side apply.
fn merging(field: &ProtoField, message: &Message) -> String {
    let values = |name: &str| -> Vec<&str> {
        let with = |marker: &'_ String| {
            marker.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
        };
        field
            .markers
            .iter()
            .filter(|marker| with(marker))
            .map(|marker| &marker[name.len() + 1..])
            .collect()
    };
    let mut flags = String::new();
    for strategy in values("patchStrategy").iter().flat_map(|strategies| strategies.split(',')) {
        match (strategy, values("patchMergeKey").first()) {
            ("merge", Some(key)) => flags.push_str(&format!(" merge={key}")),
            ("merge", None) => flags.push_str(" merge"),
            (other, _) => flags.push_str(&format!(" {other}")),
        }
    }
    let is_struct_atomic = message.markers.iter().any(|marker| marker == "structType=atomic");
    match values("listType").first() {
        Some(&"map") => flags.push_str(&format!(" list=map:{}", values("listMapKey").join(","))),
        Some(&"set") => flags.push_str(" list=set"),
        Some(&"atomic") if !is_struct_atomic => flags.push_str(" atomic"),
        _ => {}
    }
    if ["mapType", "structType"].iter().any(|name| values(name).contains(&"atomic")) {
        flags.push_str(" atomic");
    }
    flags
}
