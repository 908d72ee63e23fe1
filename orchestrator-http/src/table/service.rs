//! The row of a service: where it is reached.

use orchestrator_core::model::Service;
use serde_json::{Value, json};

use super::or_none;

/// Returns the cells of a service.
pub(super) fn cells(service: &Service, age: &str) -> Value {
    let spec = &service.spec;
    // Parts of a service are kept and not modelled.
    let whole = serde_json::to_value(service).unwrap_or_default();
    let ports: Vec<_> = spec
        .ports
        .iter()
        .enumerate()
        .map(|(index, port)| {
            let protocol = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
            match &whole["spec"]["ports"][index]["nodePort"] {
                Value::Number(node_port) => format!("{}:{node_port}/{protocol}", port.port),
                _ => format!("{}/{protocol}", port.port),
            }
        })
        .collect();
    let selector: Vec<_> =
        spec.selector.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let kind = if spec.kind.is_empty() { "ClusterIP" } else { &spec.kind };
    json!([
        service.metadata.name,
        kind,
        or_none(&spec.cluster_ip),
        external_addresses(kind, &whole),
        or_none(&ports.join(",")),
        age,
        or_none(&selector.join(",")),
    ])
}

/// Where a service is reached from outside.
fn external_addresses(kind: &str, service: &Value) -> String {
    let list = |value: &Value, text: fn(&Value) -> Option<&str>| {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(text).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut found = list(&service["spec"]["externalIPs"], Value::as_str);
    match kind {
        "ExternalName" => {
            return or_none(service["spec"]["externalName"].as_str().unwrap_or_default());
        }
        "LoadBalancer" => {
            let given = &service["status"]["loadBalancer"]["ingress"];
            found.extend(list(given, |one| one["ip"].as_str().or(one["hostname"].as_str())));
            if found.is_empty() {
                return "<pending>".to_owned();
            }
        }
        _ => {}
    }
    or_none(&found.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_shows_where_it_is_reached_from_outside() {
        let cells = |spec: Value| {
            let service: Service = serde_json::from_value(json!({ "spec": spec })).expect("one");
            let cells = super::cells(&service, "1s");
            (cells[3].clone(), cells[4].clone())
        };
        let ports = json!([{ "port": 80, "nodePort": 30080 }, { "port": 53, "protocol": "UDP" }]);
        let node = json!({ "type": "NodePort", "ports": ports, "externalIPs": ["192.0.2.1"] });
        assert_eq!(cells(node), ("192.0.2.1".into(), "80:30080/TCP,53/UDP".into()));
        assert_eq!(cells(json!({ "type": "LoadBalancer" })).0, "<pending>");
        let named = json!({ "type": "ExternalName", "externalName": "example.com" });
        assert_eq!(cells(named).0, "example.com");
        assert_eq!(cells(json!({})).0, "<none>");
    }
}
