//! Tests of `translate`.

use std::net::Ipv4Addr;

use orchestrator_core::model::Uid;
use orchestrator_core::runtime::StandardStreams;

use orchestrator_core::node::PodWire;

use super::*;

fn sandbox_key() -> SandboxKey {
    let scope = Scope { cluster: "home".to_owned(), node: "n1.lan".to_owned() };
    SandboxKey { scope, pod: Uid::default(), attempt: 2 }
}

fn spec() -> ContainerSpec {
    ContainerSpec {
        key: ContainerKey { sandbox: sandbox_key(), name: "web".to_owned(), attempt: 3 },
        image: "app:1".to_owned(),
        command: Vec::new(),
        args: Vec::new(),
        working_dir: String::new(),
        env: vec![("A".to_owned(), "b=c".to_owned())],
        limits: Limits::default(),
        stdio: StandardStreams::default(),
    }
}

fn facts() -> SandboxFacts {
    SandboxFacts {
        id: "4c01".to_owned(),
        ip: Some("172.18.0.2".to_owned()),
        files: None,
        namespace: "default".to_owned(),
        pod_name: "web-1".to_owned(),
    }
}

fn host_config(spec: &ContainerSpec) -> HostConfig {
    container_request(spec, &facts()).host_config.expect("set")
}

fn port(host_port: u16) -> PortMapping {
    PortMapping { host_ip: None, host_port, container_port: 80, protocol: Protocol::Tcp }
}

#[test]
fn names_are_spelt_from_keys() {
    let name = container_name(&spec().key).expect("a name");
    let uid = Uid::default();
    assert_eq!(name, format!("orchestrator_home_n1.lan_{uid}_2_web_3"));
}

#[test]
fn a_name_that_would_change_a_request_is_refused() {
    for bad in ["", "../x", "a/b", "a?b", "a_b", ".", "a b", "ä"] {
        let mut key = spec().key;
        key.name = bad.to_owned();
        assert!(matches!(container_name(&key), Err(RuntimeError::Invalid { .. })), "{bad:?}");
        key.sandbox.scope.cluster = bad.to_owned();
        assert!(sandbox_name(&key.sandbox).is_err(), "{bad:?}");
    }
}

#[test]
fn the_program_and_its_arguments_replace_the_images_as_the_contract_says() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    for (command, args, entrypoint, cmd) in [
        (words(&[]), words(&[]), None, None),
        (words(&["sh"]), words(&[]), Some(words(&["sh"])), None),
        (words(&[]), words(&["-v"]), None, Some(words(&["-v"]))),
        (words(&["sh"]), words(&["-v"]), Some(words(&["sh"])), Some(words(&["-v"]))),
    ] {
        let request = container_request(&ContainerSpec { command, args, ..spec() }, &facts());
        assert_eq!((request.entrypoint, request.cmd), (entrypoint, cmd));
    }
}

#[test]
fn the_pods_address_is_in_the_environment_unless_the_user_sets_it() {
    let env = |spec: &ContainerSpec| container_request(spec, &facts()).env.expect("set");
    assert_eq!(env(&spec()), ["POD_IP=172.18.0.2", "A=b=c"]);
    let own = ContainerSpec { env: vec![("POD_IP".to_owned(), "x".to_owned())], ..spec() };
    assert_eq!(env(&own), ["POD_IP=x"]);
}

#[test]
fn streams_are_tied_as_the_spec_says() {
    let tied = |stdio: StandardStreams| {
        let request = container_request(&ContainerSpec { stdio, ..spec() }, &facts());
        [request.open_stdin, request.stdin_once, request.tty].map(Option::unwrap_or_default)
    };
    assert_eq!(tied(StandardStreams::default()), [false; 3]);
    let input = StandardStreams { stdin: true, ..StandardStreams::default() };
    assert_eq!(tied(input), [true, false, false]);
    assert_eq!(tied(StandardStreams { stdin_once: true, ..input }), [true, true, false]);
    assert_eq!(tied(StandardStreams { terminal: true, ..input }), [true, false, true]);
}

#[test]
fn limits_become_quota_shares_and_memory_without_swap() {
    let none = host_config(&spec());
    assert_eq!((none.cpu_quota, none.memory, none.cpu_shares), (None, None, None));
    let limits = Limits { cpu_milli: 2500, memory_bytes: 64 << 20, cpu_request_milli: 500 };
    let some = host_config(&ContainerSpec { limits, ..spec() });
    assert_eq!((some.cpu_period, some.cpu_quota), (Some(100_000), Some(250_000)));
    assert_eq!((some.memory, some.memory_swap), (Some(64 << 20), Some(64 << 20)));
    assert_eq!(some.cpu_shares, Some(512));
    let limits = Limits { cpu_milli: 1, memory_bytes: u64::MAX, cpu_request_milli: u64::MAX };
    let extreme = host_config(&ContainerSpec { limits, ..spec() });
    assert_eq!((extreme.cpu_quota, extreme.cpu_shares), (Some(1_000), Some(262_144)));
    assert_eq!(extreme.memory, Some(i64::MAX));
}

#[test]
fn containers_get_no_new_privileges_no_raw_sockets_and_bounded_logs() {
    let config = host_config(&spec());
    assert_eq!(config.network_mode.as_deref(), Some("container:4c01"));
    assert_eq!(config.security_opt, Some(vec!["no-new-privileges".to_owned()]));
    assert_eq!(config.cap_drop, Some(vec!["NET_RAW".to_owned()]));
    assert_eq!(config.pids_limit, Some(CONTAINER_PIDS_MAX));
    let log = config.log_config.and_then(|log| log.config).expect("set");
    assert!(log.contains_key("max-size") && log.contains_key("max-file"), "{log:?}");
}

#[test]
fn a_sandbox_publishes_its_ports_and_has_the_pods_name() {
    let host_ip = Some(Ipv4Addr::LOCALHOST.into());
    let sandbox = SandboxSpec {
        key: sandbox_key(),
        namespace: "default".to_owned(),
        name: format!("{}-x", "a".repeat(62)),
        ports: vec![port(8080), PortMapping { host_ip, ..port(8081) }],
    };
    let request = sandbox_request(&sandbox, "pause:1", &Place::Network("net1".to_owned()));
    assert_eq!(request.hostname, Some("a".repeat(62)), "no dash at the end");
    assert_eq!(request.exposed_ports, Some(vec!["80/tcp".to_owned()]));
    let config = request.host_config.expect("set");
    assert_eq!(config.network_mode.as_deref(), Some("net1"));
    let bindings = config.port_bindings.expect("set").remove("80/tcp").flatten().expect("bound");
    let hosts: Vec<_> = bindings.into_iter().map(|it| (it.host_ip, it.host_port)).collect();
    let bound = |ip: &str, port: &str| (Some(ip.to_owned()), Some(port.to_owned()));
    assert_eq!(hosts, [bound("", "8080"), bound("127.0.0.1", "8081")]);
}

#[test]
fn a_sandbox_that_is_tied_by_us_gets_no_network_of_the_engines_and_its_containers_get_files() {
    let sandbox = SandboxSpec {
        key: sandbox_key(),
        namespace: "default".to_owned(),
        name: "web-1".to_owned(),
        ports: vec![port(8080)],
    };
    let tied = Tied {
        wire: PodWire { address: Ipv4Addr::new(10, 64, 0, 7), ports: sandbox.ports.clone() },
        slice: "10.64.0.0/24".parse().expect("a range"),
        files: "/files/1".into(),
    };
    let request = sandbox_request(&sandbox, "pause:1", &Place::Tied(tied.clone()));
    assert_eq!(request.network_disabled, Some(true));
    assert_eq!(request.labels.as_ref().and_then(Tied::read), Some(tied.clone()));
    let config = request.host_config.expect("set");
    assert_eq!((config.network_mode, config.port_bindings), (None, None));

    let facts = SandboxFacts { files: Some(tied.files), ..facts() };
    let mounts = container_request(&spec(), &facts).host_config.and_then(|config| config.mounts);
    let targets = mounts.into_iter().flatten().filter_map(|mount| mount.target);
    assert_eq!(targets.collect::<Vec<_>>(), ["/etc/hosts", "/etc/resolv.conf"]);
    assert_eq!(host_config(&spec()).mounts, None, "the engine writes them itself");
}

#[test]
fn a_taken_port_is_named() {
    let ports = [port(80), port(8080)];
    let engine = "driver failed programming external connectivity on endpoint x (4c01): Bind for \
        0.0.0.0:8080 failed: port is already allocated";
    let message = taken_port_message(&ports, engine);
    assert_eq!(message.as_deref(), Some("host port 8080/tcp is taken"));
    let engine =
        "Error starting userland proxy: listen tcp4 0.0.0.0:80: bind: address already in use";
    let message = taken_port_message(&ports, engine);
    assert_eq!(message.as_deref(), Some("host port 80/tcp is taken"));
    let message = taken_port_message(&ports, "port is already allocated");
    assert_eq!(message.as_deref(), Some("host port 80/tcp or 8080/tcp is taken"));
    assert_eq!(taken_port_message(&ports, "no space left on device"), None);
    assert_eq!(taken_port_message(&[], "address already in use"), None);
}

#[test]
fn a_reference_gets_the_default_tag_only_when_it_has_none() {
    for (image, complete) in [
        ("busybox", "busybox:latest"),
        ("busybox:test", "busybox:test"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
        ("a@sha256:0f", "a@sha256:0f"),
    ] {
        assert_eq!(image_reference(image).expect("a reference"), complete);
    }
    for bad in ["", "a b", "../containers", "a/../b", "a//b", "/a", "a?x=1", "a#b", "a/.."] {
        assert!(image_reference(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn only_the_key_decides_whether_two_containers_are_the_same() {
    let labels = |spec: &ContainerSpec| container_request(spec, &facts()).labels.expect("set");
    let mut other = ContainerSpec { image: "app:2".to_owned(), ..spec() };
    assert!(is_same_key(&labels(&spec()), &labels(&other)));
    other.key.attempt = 4;
    assert!(!is_same_key(&labels(&spec()), &labels(&other)));
}
