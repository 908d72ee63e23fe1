//! Probes.

use super::container::{PORT_NAME, is_port_name};
use super::errors::{Errors, Path};
use crate::model::{FieldError, PortOrName, Probe};

/// `has_other_handler` tells of a handler that Kubernetes has and we do not.
pub(super) fn validate(probe: &Probe, has_other_handler: bool, at: &Path<'_>, errors: &mut Errors) {
    let handlers = usize::from(probe.exec.is_some())
        + usize::from(probe.http_get.is_some())
        + usize::from(probe.tcp_socket.is_some())
        + usize::from(has_other_handler);
    match handlers {
        0 => errors.push(FieldError::required(at, "must specify a handler type")),
        1 => {}
        _ => errors.push(FieldError::forbidden(at, "may not specify more than 1 handler type")),
    }
    if let Some(exec) = &probe.exec {
        let at = at.field("exec");
        let command = at.field("command");
        if exec.command.is_empty() {
            errors.push(FieldError::required(command, ""));
        }
        for (index, word) in exec.command.iter().enumerate() {
            errors.no_nul(&command.index(index), word);
        }
    }
    if let Some(get) = &probe.http_get {
        let at = at.field("httpGet");
        port(&get.port, &at.field("port"), errors);
        if !["HTTP", "HTTPS"].contains(&&*get.scheme) {
            let known = ["HTTP", "HTTPS"];
            errors.push(FieldError::not_supported(at.field("scheme"), &*get.scheme, &known));
        }
        let headers = at.field("httpHeaders");
        for (index, header) in get.http_headers.iter().enumerate() {
            if !is_token(&header.name) {
                let at = headers.index(index);
                let right = "must be a name of an HTTP header, such as X-Header-Name";
                errors.push(FieldError::invalid(at.field("name"), &*header.name, right));
            }
        }
    }
    if let Some(connect) = &probe.tcp_socket {
        port(&connect.port, &at.field("tcpSocket").field("port"), errors);
    }
    for (field, number, least) in [
        ("initialDelaySeconds", probe.initial_delay_seconds, 0),
        ("timeoutSeconds", probe.timeout_seconds, 1),
        ("periodSeconds", probe.period_seconds, 1),
        ("successThreshold", probe.success_threshold, 1),
        ("failureThreshold", probe.failure_threshold, 1),
    ] {
        if let Some(number) = number {
            errors.at_least(&at.field(field), number, least);
        }
    }
}

fn port(port: &PortOrName, at: &Path<'_>, errors: &mut Errors) {
    match port {
        PortOrName::Name(name) if !is_port_name(name) => {
            errors.push(FieldError::invalid(at, &**name, PORT_NAME));
        }
        PortOrName::Name(_) => {}
        PortOrName::Port(number) => errors.port(at, *number),
    }
}

/// Whether `name` is a token of HTTP (RFC 9110).
fn is_token(name: &str) -> bool {
    let is_char = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_char)
}
