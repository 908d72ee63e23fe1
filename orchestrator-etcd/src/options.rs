//! `EtcdOptions`: which etcd, where in it, as whom, and the limits of a store; each limit has a default.

use std::fmt;
use std::time::Duration;

use crate::error::OpenError;

/// The port of an endpoint that names none.
const PORT: u16 = 2379;
/// Where in etcd a cluster lies unless told otherwise.
const PREFIX: &str = "/orchestrator";
/// The most endpoints.
const ENDPOINTS_MAX: usize = 16;
/// The most bytes of a prefix.
const PREFIX_BYTES_MAX: usize = 128;
/// The most records in a page of a listing, by default.
const PAGE_RECORDS_MAX: usize = 500;
/// The most milliseconds that a call waits for etcd, by default.
const REQUEST_MS_MAX: u64 = 10_000;
/// The age of history that is kept, by default.
const HISTORY_AGE: Duration = Duration::from_secs(5 * 60);
const SCHEME: &str = "etcd://";
/// What an endpoint must look like, for messages.
const ENDPOINT_FORM: &str = "`host` or `host:port`, an IPv6 address in brackets";

/// How to reach an etcd, and how a store on it behaves. Begin with [`EtcdOptions::new`] or [`EtcdOptions::from_url`], and change
/// what you need.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// The members of the etcd, as `host` or `host:port` (2379 unless named); 1 to 16. One after another is tried.
    pub endpoints: Vec<String>,
    /// What becomes of history; the store compacts what is older than 5 minutes unless changed.
    pub history: EtcdHistory,
    /// The most records in a page of a listing. 500 unless changed.
    pub page_records_max: usize,
    /// Where the cluster's keys lie: begins with a slash and does not end with one; at most 128 bytes. Clusters with different
    /// prefixes share an etcd without seeing each other. `/orchestrator` unless changed.
    pub prefix: String,
    /// The most milliseconds that a call waits for etcd, other members included. 10,000 unless changed.
    pub request_ms_max: u64,
    /// How to speak TLS; plain TCP unless changed.
    pub tls: Option<EtcdTls>,
    /// Whom to log in as; nobody unless changed. An etcd may also know a client by its certificate's common name.
    pub user: Option<EtcdUser>,
}

/// What becomes of the history that watches read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EtcdHistory {
    /// The store compacts what is older than this, and keeps at most twice that. Compaction concerns all of an etcd, whoever else
    /// uses it.
    Age(Duration),
    /// Somebody else compacts: etcd itself (`--auto-compaction-retention`), or another user of the same etcd.
    KeptByOthers,
}

/// How to speak TLS with an etcd.
#[derive(Clone)]
pub struct EtcdTls {
    /// The certificates, in PEM, one of which has signed etcd's.
    pub ca_pem: Vec<u8>,
    /// The client's own certificate, where etcd asks for one (`--client-cert-auth`).
    pub identity: Option<EtcdIdentity>,
    /// The name that etcd's certificate must bear, if not the endpoint's host.
    pub server_name: Option<String>,
}

/// A client's certificate with its key.
#[derive(Clone)]
pub struct EtcdIdentity {
    /// The certificate and what stands between it and its authority, in PEM.
    pub certificate_pem: Vec<u8>,
    /// The private key, in PEM.
    pub key_pem: Vec<u8>,
}

/// A user of etcd with a password. They need the permission to read and write everything below the prefix.
#[derive(Clone)]
pub struct EtcdUser {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
}

impl EtcdOptions {
    /// Takes endpoints, as `host` or `host:port`, and everything else as usual.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            history: EtcdHistory::Age(HISTORY_AGE),
            page_records_max: PAGE_RECORDS_MAX,
            prefix: PREFIX.to_owned(),
            request_ms_max: REQUEST_MS_MAX,
            tls: None,
            user: None,
        }
    }

    /// Reads `etcd://a,b:2379,c/prefix`: endpoints, and the prefix if there is one.
    ///
    /// # Errors
    /// [`OpenError::Option`] when it is nothing of the kind.
    pub fn from_url(url: &str) -> Result<Self, OpenError> {
        let Some(rest) = url.strip_prefix(SCHEME) else {
            return Err(wrong("store", url, "`etcd://host:port,host:port/prefix`"));
        };
        let (endpoints, prefix) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let mut options = Self::new(endpoints.split(','));
        if !matches!(prefix, "" | "/") {
            options.prefix = prefix.to_owned();
        }
        options.check()?;
        Ok(options)
    }

    /// Looks whether every option makes sense.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let count = self.endpoints.len();
        if count == 0 || count > ENDPOINTS_MAX {
            let wanted = format!("1 to {ENDPOINTS_MAX} endpoints");
            return Err(wrong("endpoints", format!("{count} endpoints"), wanted));
        }
        for endpoint in &self.endpoints {
            if Endpoint::parse(endpoint).is_none() {
                return Err(wrong_endpoint(endpoint));
            }
        }
        let is_prefix = self.prefix.starts_with('/')
            && !self.prefix.ends_with('/')
            && self.prefix.len() <= PREFIX_BYTES_MAX
            && !self.prefix.contains(char::is_control);
        if !is_prefix {
            let wanted = format!(
                "a slash at the beginning, none at the end, no control characters, \
                 at most {PREFIX_BYTES_MAX} bytes"
            );
            return Err(wrong("prefix", &self.prefix, wanted));
        }
        if self.page_records_max == 0 {
            return Err(wrong("page_records_max", "0", "1 or more"));
        }
        if self.request_ms_max == 0 {
            return Err(wrong("request_ms_max", "0", "1 or more"));
        }
        if self.history == EtcdHistory::Age(Duration::ZERO) {
            return Err(wrong("history", "an age of 0", "a longer one"));
        }
        self.tls.as_ref().map_or(Ok(()), EtcdTls::check)
    }

    /// Whether both have a member of an etcd in common, however its port is said.
    pub fn shares_member(&self, other: &Self) -> bool {
        let others = other.parsed_endpoints();
        self.parsed_endpoints().iter().any(|endpoint| others.contains(endpoint))
    }

    /// The endpoints with their parts told apart; those that `check` refuses are left out.
    pub(crate) fn parsed_endpoints(&self) -> Vec<Endpoint> {
        self.endpoints.iter().filter_map(|endpoint| Endpoint::parse(endpoint)).collect()
    }
}

impl EtcdTls {
    fn check(&self) -> Result<(), OpenError> {
        require_pem("tls.ca_pem", &self.ca_pem, "CERTIFICATE-----")?;
        if let Some(EtcdIdentity { certificate_pem, key_pem }) = &self.identity {
            require_pem("tls.identity.certificate_pem", certificate_pem, "CERTIFICATE-----")?;
            require_pem("tls.identity.key_pem", key_pem, "PRIVATE KEY-----")?;
        }
        Ok(())
    }
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl fmt::Debug for EtcdIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EtcdIdentity")
    }
}

impl fmt::Debug for EtcdUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An endpoint, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The host, without brackets.
    pub host: String,
    pub port: u16,
}

impl Endpoint {
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, port)
            }
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match port {
            "" => PORT,
            port => port.strip_prefix(':')?.parse().ok().filter(|port| *port != 0)?,
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
        let good = !host.is_empty() && host.chars().all(is_host);
        good.then(|| Self { host: host.to_owned(), port })
    }

    /// `host:port`, as it stands in a URL.
    pub(crate) fn authority(&self) -> String {
        let Self { host, port } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

fn require_pem(option: &'static str, pem: &[u8], block: &str) -> Result<(), OpenError> {
    if String::from_utf8_lossy(pem).contains(block) {
        return Ok(());
    }
    let found = format!("{} bytes without such a block", pem.len());
    Err(wrong(option, found, format!("PEM with a block `{block}`")))
}

/// The error for an endpoint that is none.
pub(crate) fn wrong_endpoint(found: &str) -> OpenError {
    wrong("endpoints", found, ENDPOINT_FORM)
}

fn wrong(option: &'static str, found: impl Into<String>, wanted: impl Into<String>) -> OpenError {
    OpenError::Option { option, found: found.into(), wanted: wanted.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_endpoints_and_prefix() {
        let cases = [
            ("etcd://a", &["a:2379"][..], "/orchestrator"),
            ("etcd://a/", &["a:2379"], "/orchestrator"),
            ("etcd://a,b:1,10.0.0.1/x/y", &["a:2379", "b:1", "10.0.0.1:2379"], "/x/y"),
            ("etcd://[::1],[::1]:7/x", &["[::1]:2379", "[::1]:7"], "/x"),
        ];
        for (url, endpoints, prefix) in cases {
            let options = EtcdOptions::from_url(url).expect(url);
            let found: Vec<_> =
                options.parsed_endpoints().iter().map(Endpoint::authority).collect();
            assert_eq!(found, endpoints, "{url}");
            assert_eq!(options.prefix, prefix, "{url}");
        }
    }

    #[test]
    fn a_bad_url_is_refused_with_what_would_be_right() {
        let many = format!("etcd://{}", ["a"; ENDPOINTS_MAX + 1].join(","));
        let cases = [
            ("http://a", "store"),
            ("etcd://", "endpoints"),
            ("etcd://a,,b", "endpoints"),
            ("etcd://a:0", "endpoints"),
            ("etcd://a:x", "endpoints"),
            ("etcd://a:65536", "endpoints"),
            ("etcd://u@a", "endpoints"),
            ("etcd://::1", "endpoints"),
            ("etcd://[a]", "endpoints"),
            ("etcd://a/x/", "prefix"),
            ("etcd://a/x\ny", "prefix"),
            (&many, "endpoints"),
        ];
        for (url, option) in cases {
            let error = EtcdOptions::from_url(url).expect_err(url);
            assert!(matches!(&error, OpenError::Option { option: found, .. } if *found == option));
        }
        let error = EtcdOptions::from_url("etcd://a:x").expect_err("no port").to_string();
        assert!(error.contains("\"a:x\"") && error.contains("`host:port`"), "{error}");
    }

    #[test]
    fn secrets_are_not_printed() {
        let mut options = EtcdOptions::new(["a"]);
        options.user = Some(EtcdUser { name: "u".into(), password: "hush".into() });
        let pem = |block: &str| format!("-----BEGIN {block}-----hush").into_bytes();
        let identity =
            EtcdIdentity { certificate_pem: pem("CERTIFICATE"), key_pem: pem("PRIVATE KEY") };
        let ca_pem = pem("CERTIFICATE");
        options.tls = Some(EtcdTls { ca_pem, identity: Some(identity), server_name: None });
        options.check().expect("good options");
        let printed = format!("{options:?}");
        assert!(!printed.contains("hush") && !printed.contains("104"), "{printed}");
    }

    #[test]
    fn what_is_no_pem_is_refused_by_name() {
        let mut options = EtcdOptions::new(["a"]);
        options.tls = Some(EtcdTls { ca_pem: b"x".into(), identity: None, server_name: None });
        let error = options.check().expect_err("no certificate").to_string();
        assert!(error.contains("tls.ca_pem"), "{error}");
    }
}
