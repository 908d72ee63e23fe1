//! Formats of texts and numbers. One that is not known here says nothing, as in Kubernetes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use serde_json::Value;

use crate::model::ids::is_dns_subdomain;

/// Whether a value has a format.
pub(super) fn has(format: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => text_has(format, text),
        Value::Number(number) => match (format, number.as_i64()) {
            ("int32", Some(number)) => i32::try_from(number).is_ok(),
            ("int32" | "int64", None) => number.as_f64().is_some_and(|number| {
                number.fract() == 0.0 && (format == "int64" || number.abs() <= f64::from(i32::MAX))
            }),
            _ => true,
        },
        Value::Array(_) | Value::Bool(_) | Value::Null | Value::Object(_) => true,
    }
}

fn text_has(format: &str, text: &str) -> bool {
    match format {
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "cidr" => text.split_once('/').is_some_and(|(address, bits)| {
            let bits_max = match address.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => 32,
                Ok(IpAddr::V6(_)) => 128,
                Err(_) => return false,
            };
            bits.parse::<u8>().is_ok_and(|bits| bits <= bits_max)
        }),
        "date" => text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10,
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "hostname" => is_dns_subdomain(&text.to_ascii_lowercase()),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "uuid" => uuid::Uuid::try_parse(text).is_ok(),
        _ => true,
    }
}
