//! Whether a request means this server: by one of its names, or by an address.
//!
//! A page in a browser may come to reach us under a name of its own (DNS rebinding); an address it cannot take away from us.

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;

use super::{Api, text};
use crate::status::Failure;

impl Api {
    /// Refuses what is sent to a host that this server is not.
    ///
    /// # Errors
    /// 403, with the host that was meant. In the same process, and over a socket in the file system, nobody is mistaken.
    pub(super) fn meant(&self, parts: &Parts) -> Result<(), Failure> {
        let Some(credentials) = &self.inner.credentials else { return Ok(()) };
        // HTTP/2 has it in the target.
        let said = parts.uri.authority().map(Authority::as_str);
        let said = said.or_else(|| text(&parts.headers, HOST)).unwrap_or_default();
        match is_own(said, &credentials.names) {
            true => Ok(()),
            false => Err(Failure::forbidden(format!(
                "Host: {said:?} is not a name of this server; if it should be, start the server with --name"
            ))),
        }
    }
}

/// Whether a host, perhaps with a port, is an address, nothing, or one of these names. Without names everything is.
fn is_own(said: &str, names: &[String]) -> bool {
    if names.is_empty() || said.is_empty() {
        return true;
    }
    let Ok(authority) = said.parse::<Authority>() else { return false };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    address.parse::<std::net::IpAddr>().is_ok()
        || names.iter().any(|name| name.eq_ignore_ascii_case(host.trim_end_matches('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_and_addresses_are_meant_and_strangers_are_not() {
        let names = ["localhost".to_owned(), "api.example".to_owned()];
        for said in
            ["", "LOCALHOST:6443", "api.example", "api.example.:1", "10.0.0.1:6443", "[::1]:1"]
        {
            assert!(is_own(said, &names), "{said}");
        }
        for said in [
            "evil.example",
            "evil.example:6443",
            "localhost.evil.example",
            "a b",
            "10.0.0.1.nip.io",
        ] {
            assert!(!is_own(said, &names), "{said}");
        }
        assert!(is_own("anything", &[]), "who has no names is not looked up by them");
    }
}
