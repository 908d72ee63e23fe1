//! Access: TLS with certificates on both sides, users with passwords, and etcds that are not what they should be.

use std::net::Ipv4Addr;
use std::path::Path;

use orchestrator_core::store::{Expect, StateStore, StoreError};
use orchestrator_core::testkit::store::{commit, next_batch, put, record_key};
use orchestrator_etcd::{EtcdIdentity, EtcdOptions, EtcdStore, EtcdTls, EtcdUser, OpenError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::etcd::{Etcd, Program, base64};
use crate::patience::create;
use crate::with_each_etcd;

with_each_etcd! {
    tls_needs_certificates_that_both_sides_trust
    a_user_needs_the_password_and_the_permission
    a_login_that_etcd_has_forgotten_is_renewed
    endpoints_of_different_etcds_are_not_mixed
    nobody_there_is_told_with_the_endpoints
}

/// An authority that signs certificates for its tests.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test");
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// A certificate for somebody at a host, with its key.
    fn sign(&self, name: &str, host: Ipv4Addr) -> EtcdIdentity {
        let mut params = CertificateParams::new([host.to_string()]).expect("an address");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        EtcdIdentity {
            certificate_pem: certificate.pem().into(),
            key_pem: key.serialize_pem().into(),
        }
    }

    fn pem(&self) -> Vec<u8> {
        self.0.pem().into()
    }
}

async fn tls_needs_certificates_that_both_sides_trust(program: Program) {
    let authority = Authority::new();
    let etcd = Etcd::start_with(program, 1, |directory: &Path, host| {
        let EtcdIdentity { certificate_pem, key_pem } = authority.sign("etcd", host);
        let file = |option: &str, name: &str, bytes: &[u8]| {
            let path = directory.join(name);
            std::fs::write(&path, bytes).expect("writable");
            format!("--{option}={}", path.display())
        };
        vec![
            file("cert-file", "etcd.crt", &certificate_pem),
            file("key-file", "etcd.key", &key_pem),
            file("trusted-ca-file", "ca.crt", &authority.pem()),
            "--client-cert-auth".to_owned(),
        ]
    });
    let with = |ca: &Authority, identity| {
        let tls = EtcdTls { ca_pem: ca.pem(), identity, server_name: None };
        EtcdOptions { tls: Some(tls), ..etcd.options() }
    };
    let stranger = Authority::new();
    let ours = || Some(authority.sign("us", Ipv4Addr::LOCALHOST));
    let store = EtcdStore::open(with(&authority, ours())).await.expect("both sides trust");
    let mut watch = store.watch(store.revision().await.expect("open")).await.expect("open");
    let revision = commit(&store, put(record_key(0), Expect::Absent, "v")).await;
    assert_eq!(next_batch(&mut *watch).await.revision, revision);
    let mut wrong_name = with(&authority, ours());
    wrong_name.tls.as_mut().expect("just set").server_name = Some("elsewhere".to_owned());
    let refused = [
        with(&stranger, ours()),
        with(&authority, None),
        with(&authority, Some(stranger.sign("us", Ipv4Addr::LOCALHOST))),
        wrong_name,
        etcd.options(),
    ];
    for mut options in refused {
        options.request_ms_max = 300;
        let refused = EtcdStore::open(options).await;
        assert!(matches!(refused, Err(OpenError::Unreachable { .. })), "{refused:?}");
    }
}

/// Turns authentication on, with a user `us` who may use `/ours` alone.
fn turn_authentication_on(etcd: &Etcd) {
    etcd.post("/v3/auth/user/add", r#"{"name": "root", "password": "r"}"#);
    etcd.post("/v3/auth/user/grant", r#"{"user": "root", "role": "root"}"#);
    etcd.post("/v3/auth/user/add", r#"{"name": "us", "password": "hush"}"#);
    etcd.post("/v3/auth/role/add", r#"{"name": "ours"}"#);
    let (key, end) = (base64("/ours/"), base64("/ours0"));
    let permission = format!(
        r#"{{"name": "ours", "perm": {{"permType": "READWRITE", "key": "{key}", "range_end": "{end}"}}}}"#
    );
    etcd.post("/v3/auth/role/grant", &permission);
    etcd.post("/v3/auth/user/grant", r#"{"user": "us", "role": "ours"}"#);
    etcd.post("/v3/auth/enable", "{}");
}

fn user(etcd: &Etcd, password: &str, prefix: &str) -> EtcdOptions {
    let user = EtcdUser { name: "us".to_owned(), password: password.to_owned() };
    EtcdOptions { prefix: prefix.to_owned(), user: Some(user), ..etcd.options() }
}

async fn a_user_needs_the_password_and_the_permission(program: Program) {
    let etcd = Etcd::start(program);
    etcd.open().await;
    turn_authentication_on(&etcd);
    let store = EtcdStore::open(user(&etcd, "hush", "/ours")).await.expect("the right password");
    let mut watch = store.watch(store.revision().await.expect("open")).await.expect("open");
    let revision = commit(&store, put(record_key(0), Expect::Absent, "v")).await;
    assert_eq!(next_batch(&mut *watch).await.revision, revision);
    for options in [
        user(&etcd, "wrong", "/ours"),
        user(&etcd, "hush", "/theirs"),
        EtcdOptions { user: None, ..user(&etcd, "", "/ours") },
    ] {
        let refused = EtcdStore::open(options).await;
        assert!(matches!(refused, Err(OpenError::Refused { .. })), "{refused:?}");
        assert!(!format!("{refused:?}").contains("hush"));
    }
}

async fn a_login_that_etcd_has_forgotten_is_renewed(program: Program) {
    let etcd = Etcd::start(program);
    etcd.open().await;
    turn_authentication_on(&etcd);
    let store = EtcdStore::open(user(&etcd, "hush", "/ours")).await.expect("the right password");
    let mut watch = store.watch(store.revision().await.expect("open")).await.expect("open");
    for n in 0..3 {
        let revision = create(&store, record_key(n)).await;
        assert_eq!(next_batch(&mut *watch).await.revision, revision);
        // Its tokens are in memory alone.
        etcd.kill_member(0);
        etcd.start_member(0);
    }
    // What others change in users and roles makes tokens old, too.
    let revision = create(&store, record_key(10)).await;
    assert_eq!(next_batch(&mut *watch).await.revision, revision);
    etcd.change_a_role("root", "r");
    let revision = create(&store, record_key(11)).await;
    assert_eq!(next_batch(&mut *watch).await.revision, revision);
}

async fn endpoints_of_different_etcds_are_not_mixed(program: Program) {
    let (one, two) = (Etcd::start(program), Etcd::start(program));
    // Whoever is asked first must be there by then.
    one.open().await;
    let mut options = one.options();
    options.endpoints.extend(two.options().endpoints);
    options.request_ms_max = 1_000;
    let store = EtcdStore::open(options).await.expect("the first one answers");
    one.kill_member(0);
    let refused = store.revision().await;
    assert!(matches!(refused, Err(StoreError::Backend(_))), "{refused:?}");
    assert_eq!(two.keys_below("/"), 0, "the second one was left alone");
}

async fn nobody_there_is_told_with_the_endpoints(program: Program) {
    let etcd = Etcd::start(program);
    let mut options = etcd.options();
    etcd.kill_member(0);
    options.request_ms_max = 200;
    let endpoint = options.endpoints[0].clone();
    let refused = EtcdStore::open(options).await.expect_err("nobody is there");
    assert!(matches!(refused, OpenError::Unreachable { .. }), "{refused:?}");
    assert!(refused.to_string().contains(&endpoint), "{refused}");
}
