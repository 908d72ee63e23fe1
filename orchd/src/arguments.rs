//! Values of flags: read strictly, and refused with what would be right.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use orchestrator_core::model::is_dns_subdomain;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// Reads a whole number within bounds.
///
/// # Errors
/// What is none, with the bounds.
pub fn number<T>(text: &str, range: RangeInclusive<T>) -> Result<T, String>
where
    T: Display + FromStr + PartialOrd,
{
    let found = text.parse().ok().filter(|number| range.contains(number));
    let (least, most) = (range.start(), range.end());
    found.ok_or_else(|| format!("a whole number from {least} to {most} is needed"))
}

/// Reads an address to listen on.
///
/// # Errors
/// What is none, with examples.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let examples = "127.0.0.1:6443 or [::1]:0";
    text.parse().map_err(|_| {
        format!("an IP address and a port up to {} are needed, such as {examples}", u16::MAX)
    })
}

/// Reads the URL of a server.
///
/// # Errors
/// What is none, with an example.
pub fn url(text: &str) -> Result<String, String> {
    let authority = text.strip_prefix("https://").unwrap_or_default();
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !host.contains('/') && is_port(port) => {
            Ok(text.to_owned())
        }
        Some(_) | None => {
            Err("a URL of https with a port is needed, such as https://10.0.0.1:6443".to_owned())
        }
    }
}

/// Reads the URL of a server to connect to; without a port it is 443.
///
/// # Errors
/// What is none, with an example.
pub fn server(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    match text.strip_prefix("https://") {
        Some(name) if host(name).is_ok() => Ok(text.to_owned()),
        Some(_) | None => url(text),
    }
}

/// Reads a name or an address by which a server is reached.
///
/// # Errors
/// What can be none, with examples.
pub fn host(text: &str) -> Result<String, String> {
    match is_dns_subdomain(&text.to_ascii_lowercase()) || text.parse::<IpAddr>().is_ok() {
        true => Ok(text.to_owned()),
        false => {
            Err("a host name or an IP address is needed, such as orchd.example.com or 192.0.2.1"
                .to_owned())
        }
    }
}

/// Reads the name of a node.
///
/// # Errors
/// What can be none, with an example.
pub fn node_name(text: &str) -> Result<String, String> {
    match is_dns_subdomain(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} can be no name of a node, such as node-1")),
    }
}

/// Reads a log filter: levels, for everything or for a module.
///
/// # Errors
/// What is none, such as a mistyped level, which otherwise would be a module of that name.
pub fn log_filter(text: &str) -> Result<Targets, String> {
    // A variable that is set to nothing asks for nothing.
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (module, level) = part.split_once('=').unwrap_or(("all", part));
        let is_module = |module: &str| {
            module.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
        };
        if level.parse::<LevelFilter>().is_err() || module.is_empty() || !is_module(module) {
            return Err(format!(
                "{part:?} is no filter: write off, error, warn, info, debug or trace, or one of these for a module, \
                 such as orchestrator_core=trace"
            ));
        }
    }
    text.parse().map_err(|error: tracing_subscriber::filter::ParseError| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_address_name_or_filter_is_refused_with_what_would_be() {
        assert_eq!(number("3", 0..=i32::MAX), Ok(3));
        for text in ["-1", "1.5", "", "2147483648", "x"] {
            let message = number(text, 0..=i32::MAX).expect_err(text);
            assert_eq!(message, "a whole number from 0 to 2147483647 is needed");
        }
        assert!(address("[::1]:0").is_ok());
        for text in ["nowhere", "127.0.0.1", "127.0.0.1:65536", "localhost:80"] {
            let message = address(text).expect_err(text);
            assert!(message.contains("such as 127.0.0.1:6443"), "{message}");
        }
        assert!(url("https://10.0.0.1:6443").is_ok());
        for text in ["10.0.0.1:6443", "http://a:1", "https://a", "https://:1", "https://a/b:1"] {
            let message = url(text).expect_err(text);
            assert!(message.contains("such as https://10.0.0.1:6443"), "{message}");
        }
        for text in ["https://10.0.0.1:6443/", "https://api.example", "https://[::1]:6443"] {
            assert_eq!(server(text).as_deref(), Ok(text.trim_end_matches('/')));
        }
        for text in ["http://10.0.0.1:6443", "10.0.0.1:6443", "https://", "https://a/b", ""] {
            let message = server(text).expect_err(text);
            assert!(message.contains("such as https://10.0.0.1:6443"), "{message}");
        }
        for text in ["orchd.example.com", "Orchd", "192.0.2.1", "2001:db8::1"] {
            assert_eq!(host(text), Ok(text.to_owned()));
        }
        for text in ["", "bad name", "https://a", "a:6443", "-a"] {
            let message = host(text).expect_err(text);
            assert!(message.contains("such as orchd.example.com"), "{message}");
        }
        assert_eq!(node_name("node-1"), Ok("node-1".to_owned()));
        for text in ["", "A", "a b", "a/b", "-a"] {
            let message = node_name(text).expect_err(text);
            assert!(message.contains("such as node-1"), "{message}");
        }
        for text in ["", "warn", "DEBUG", "off", "info,orchestrator_core=trace", "a::b=error"] {
            assert!(log_filter(text).is_ok(), "{text}");
        }
        for text in ["debgu", "bad[", "a=b", "=warn", "warn debug", "a[b]=warn"] {
            let message = log_filter(text).expect_err(text);
            assert!(message.contains("orchestrator_core=trace"), "{message}");
        }
    }
}
