//! Field selectors: `status.phase=Running,spec.nodeName!=n1`, for the fields Kubernetes selects by.

use orchestrator_core::model::{EventType, Kind, Object, Pod, PodPhase, RestartPolicy};

use crate::status::Failure;

/// A conjunction of terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSelector(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    field: String,
    value: String,
    equal: bool,
}

/// Fields of every kind.
const COMMON: [&str; 2] = ["metadata.name", "metadata.namespace"];
const POD: [&str; 5] =
    ["spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "status.phase", "status.podIP"];
const EVENT: [&str; 11] = [
    "involvedObject.apiVersion",
    "involvedObject.fieldPath",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.resourceVersion",
    "involvedObject.uid",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

fn fields_of(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Event => &EVENT,
        Kind::Namespace => &["status.phase"],
        Kind::Node => &["spec.unschedulable"],
        Kind::Pod => &POD,
        Kind::ReplicaSet => &["status.replicas"],
        Kind::Secret => &["type"],
        _ => &[],
    }
}

impl FieldSelector {
    /// Reads a selector for a kind.
    ///
    /// # Errors
    /// 400 for what is no selector, and for a field the kind is not selected by.
    pub(crate) fn parse(kind: Kind, text: &str) -> Result<Self, Failure> {
        let mut terms = Vec::new();
        for term in text.split(',').filter(|term| !term.trim().is_empty()) {
            let split = |separator: &str| term.split_once(separator);
            let (field, value, equal) = if let Some((field, value)) = split("!=") {
                (field, value, false)
            } else if let Some((field, value)) = split("==").or_else(|| split("=")) {
                (field, value, true)
            } else {
                let message = format!("invalid field selector {term:?}: no '=', '==' or '!='");
                return Err(Failure::bad_request(message));
            };
            let field = field.trim();
            if !COMMON.contains(&field) && !fields_of(kind).contains(&field) {
                let known = [&COMMON, fields_of(kind)].concat().join(", ");
                let message = format!("field label not supported: {field}; {kind} has {known}");
                return Err(Failure::bad_request(message));
            }
            terms.push(Term { field: field.to_owned(), value: value.trim().to_owned(), equal });
        }
        Ok(Self(terms))
    }

    /// Whether the selector selects everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object is selected.
    pub(crate) fn matches(&self, object: &Object) -> bool {
        self.0.iter().all(|term| (value_of(object, &term.field) == term.value) == term.equal)
    }

    /// Selects only the object of this name among those selected so far.
    pub(crate) fn and_name(mut self, name: &str) -> Self {
        let term = Term { field: COMMON[0].to_owned(), value: name.to_owned(), equal: true };
        self.0.push(term);
        self
    }
}

fn value_of(object: &Object, field: &str) -> String {
    match field {
        "metadata.name" => return object.meta().name.clone(),
        "metadata.namespace" => return object.meta().namespace.clone(),
        _ => {}
    }
    match object {
        Object::Event(event) => {
            let involved = &event.involved_object;
            match field {
                "involvedObject.apiVersion" => involved.api_version.clone(),
                "involvedObject.fieldPath" => involved.field_path.clone(),
                "involvedObject.kind" => involved.kind.clone(),
                "involvedObject.name" => involved.name.clone(),
                "involvedObject.namespace" => involved.namespace.clone(),
                "involvedObject.resourceVersion" => match involved.resource_version.0 {
                    0 => String::new(),
                    revision => revision.to_string(),
                },
                "involvedObject.uid" if involved.uid.is_nil() => String::new(),
                "involvedObject.uid" => involved.uid.to_string(),
                "reason" => event.reason.clone(),
                "reportingComponent" => event.reporting_component.clone(),
                "source" if event.source.component.is_empty() => event.reporting_component.clone(),
                "source" => event.source.component.clone(),
                "type" => match event.kind {
                    EventType::Normal => "Normal".to_owned(),
                    EventType::Warning => "Warning".to_owned(),
                },
                _ => String::new(),
            }
        }
        Object::Namespace(namespace) => match namespace.status.phase {
            Some(orchestrator_core::model::NamespacePhase::Terminating) => "Terminating".to_owned(),
            Some(orchestrator_core::model::NamespacePhase::Active) | None => "Active".to_owned(),
        },
        Object::Node(node) => node.spec.unschedulable.to_string(),
        Object::Pod(pod) => pod_field(pod, field),
        Object::ReplicaSet(set) => set.status.replicas.to_string(),
        Object::Secret(secret) => secret.kind.clone(),
        _ => String::new(),
    }
}

fn pod_field(pod: &Pod, field: &str) -> String {
    match field {
        "spec.nodeName" => pod.node_name.clone(),
        "spec.restartPolicy" => match pod.spec.restart_policy() {
            RestartPolicy::Always => "Always".to_owned(),
            RestartPolicy::Never => "Never".to_owned(),
            RestartPolicy::OnFailure => "OnFailure".to_owned(),
        },
        "spec.schedulerName" => pod.spec.scheduler_name.clone(),
        "status.phase" => phase(pod.status.phase).to_owned(),
        "status.podIP" => pod.status.pod_ip.clone(),
        _ => String::new(),
    }
}

/// The name of a pod's phase.
pub(crate) const fn phase(phase: PodPhase) -> &'static str {
    match phase {
        PodPhase::Failed => "Failed",
        PodPhase::Pending => "Pending",
        PodPhase::Running => "Running",
        PodPhase::Succeeded => "Succeeded",
        PodPhase::Unknown => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use orchestrator_core::model::{Event, Key, ObjectReference, Uid};

    use super::*;

    #[track_caller]
    fn check(object: &Object, selector: &str, selected: bool) {
        let parsed = FieldSelector::parse(object.kind(), selector).expect(selector);
        assert_eq!(parsed.matches(object), selected, "{selector}");
    }

    #[test]
    fn pods_are_selected_by_node_and_phase() {
        let mut pod = Pod::new("a", "x");
        pod.node_name = "n1".to_owned();
        let pod = Object::from(pod);
        check(&pod, "spec.nodeName=n1,status.phase!=Failed", true);
        check(&pod, "spec.nodeName!=n1", false);
        check(&pod, "metadata.name==a,metadata.namespace=default", true);
        check(&pod, "spec.nodeName=", false);
        check(&pod, "", true);
    }

    #[test]
    fn events_are_selected_by_what_they_speak_of() {
        let involved_object = ObjectReference::to(&Key::pod("default", "a"), Uid::default());
        let event = Object::from(Event {
            involved_object,
            reason: "Pulled".to_owned(),
            ..Event::default()
        });
        check(
            &event,
            "involvedObject.name=a,involvedObject.kind=Pod,involvedObject.uid=,type=Normal",
            true,
        );
        check(&event, "reason=Failed", false);
    }

    #[test]
    fn other_fields_are_refused_by_name() {
        let failure =
            FieldSelector::parse(Kind::ConfigMap, "spec.nodeName=n1").expect_err("no such field");
        assert!(failure.message.contains("spec.nodeName"));
        assert!(FieldSelector::parse(Kind::Pod, "status.phase").is_err());
    }

    #[test]
    fn a_field_that_a_kind_is_not_selected_by_is_refused_with_those_it_is() {
        let refused = FieldSelector::parse(Kind::Node, "spec.x=1").expect_err("no such field");
        let right = "field label not supported: spec.x; Node has metadata.name, metadata.namespace, spec.unschedulable";
        assert_eq!(refused.message, right);
    }
}
