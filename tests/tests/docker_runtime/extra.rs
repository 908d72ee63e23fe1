//! What the contract leaves open and Docker must get right: ports of the host, images, limits, networks.

use std::sync::Arc;
use std::time::Duration;

use orchestrator_core::model::Protocol;
use orchestrator_core::runtime::{ContainerKey, Limits, LogSource, PortMapping, RuntimeError};
use orchestrator_core::testkit::runtime::bench::eventually;
use orchestrator_core::testkit::runtime::{Bench, check};
use orchestrator_docker::ImageFile;
use orchestrator_tests::engine::{IMAGE, TestEngine};
use tokio::net::TcpStream;

use super::DockerFixture;

const FOREVER: &str = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done";

pub(super) fn tcp(host_port: u16, container_port: u16) -> PortMapping {
    PortMapping { host_ip: None, host_port, container_port, protocol: Protocol::Tcp }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_the_host_leads_to_the_pod() {
    check(DockerFixture::new().await, ports_of_the_host).await;
}

pub(super) async fn ports_of_the_host(bench: Arc<Bench>) {
    let (outside, inside) = (bench.fixture.port(), bench.fixture.port());
    let mut pod = bench.pod();
    pod.ports = vec![tcp(outside, inside)];
    bench.runtime.create_sandbox(&pod).await.expect("made");
    bench.run(&pod.key, "web", &bench.fixture.listen("0.0.0.0", inside)).await;
    eventually("the port answers", || async {
        TcpStream::connect(("127.0.0.1", outside)).await.ok().map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_of_the_host_is_named_and_leaves_nothing() {
    check(DockerFixture::new().await, taken_port_of_the_host).await;
}

pub(super) async fn taken_port_of_the_host(bench: Arc<Bench>) {
    let (outside, free) = (bench.fixture.port(), bench.fixture.port());
    let mut first = bench.pod();
    first.ports = vec![tcp(outside, 80)];
    bench.runtime.create_sandbox(&first).await.expect("made");
    let mut second = bench.pod();
    second.ports = vec![tcp(free, 81), tcp(outside, 80)];
    for _ in 0..2 {
        match bench.runtime.create_sandbox(&second).await {
            Err(RuntimeError::Invalid { message }) => {
                assert_eq!(message, format!("host port {outside}/tcp is taken"));
            }
            outcome => panic!("a taken port is Invalid, not {outcome:?}"),
        }
        assert_eq!(bench.sandbox(&second.key).await, None);
    }
    bench.runtime.remove_sandbox(&first.key).await.expect("removed");
    bench.runtime.create_sandbox(&second).await.expect("the port is free now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image_says_so_and_a_pull_without_a_registry_tells_why() {
    check(DockerFixture::new().await, |bench: Arc<Bench>| async move {
        // Port 1 of this machine: refused at once, on every machine.
        let absent = "127.0.0.1:1/absent:1";
        assert_eq!(bench.runtime.image(absent).await.expect("asked"), None);
        let pod = bench.new_pod().await;
        let mut spec = bench.container(&pod.key, "main", "");
        spec.image = absent.to_owned();
        let outcome = bench.runtime.create_container(&spec).await;
        assert!(
            matches!(&outcome, Err(RuntimeError::ImageMissing { image }) if image == absent),
            "{outcome:?}"
        );
        let error = bench.runtime.pull(absent).await.expect_err("no registry");
        let reason = std::error::Error::source(&error).map(ToString::to_string);
        assert!(error.to_string().contains(absent), "{error}");
        assert!(reason.as_ref().is_some_and(|it| it.contains("connection refused")), "{reason:?}");
        assert!(bench.runtime.image(IMAGE).await.expect("asked").is_some());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_out_of_memory_says_so() {
    check(DockerFixture::new().await, |bench: Arc<Bench>| async move {
        let pod = bench.new_pod().await;
        // The text grows until the shell that holds it is killed.
        let mut spec = bench.container(&pod.key, "main", "x=0123456789; while :; do x=$x$x; done");
        spec.limits = Limits { memory_bytes: 32 << 20, cpu_milli: 900, cpu_request_milli: 100 };
        let key = bench.run_spec(&spec).await;
        let exit = bench.exit(&key).await;
        assert_eq!((exit.code, exit.oom_killed), (137, true));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn running_containers_are_measured() {
    check(DockerFixture::new().await, |bench: Arc<Bench>| async move {
        let script = "head -c 1000000 /dev/zero >/tmp/file; echo ready; while :; do :; done";
        let key = bench.run_ready(script).await;
        let ended = bench.run(&key.sandbox, "ended", "exit 0").await;
        bench.exit(&ended).await;
        let usage = eventually("there is a use", || async {
            let usage = bench.runtime.usage(&bench.scope).await.expect("measured");
            usage.first().is_some_and(|it| it.cpu_nanos > 0).then_some(usage)
        })
        .await;
        assert_eq!(usage.iter().map(|it| &it.key).collect::<Vec<_>>(), [&key], "only running ones");
        assert!(usage[0].memory_bytes > 0, "{usage:?}");
        assert!((1_000_000..4_000_000).contains(&usage[0].disk_bytes), "{usage:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_image_runs_its_program() {
    let fixture = DockerFixture::new().await;
    let docker = fixture.runtime.clone();
    check(fixture, |bench: Arc<Bench>| async move {
        let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
        let file = |path: &str, mode: u32, content: Vec<u8>| ImageFile {
            path: path.to_owned(),
            mode,
            content: content.into(),
        };
        let files =
            [file("/opt/busybox", 0o755, busybox), file("/etc/greeting", 0o644, b"hi\n".into())];
        let changes = [r#"ENTRYPOINT ["/opt/busybox", "cat"]"#, r#"CMD ["/etc/greeting"]"#];
        let changes = changes.map(str::to_owned);
        let image = format!("orchestrator.dev/test-{}:1", bench.scope.cluster);
        let id = docker.import_image(&image, &files, &changes).await.expect("imported");
        assert_eq!(docker_image(&bench, &image).await, Some(id));

        let pod = bench.new_pod().await;
        let mut spec = bench.container(&pod.key, "main", "");
        spec.image = image.clone();
        spec.command.clear();
        let key = bench.run_spec(&spec).await;
        assert_eq!(bench.exit(&key).await.code, 0);
        assert_eq!(bench.printed(&key, LogSource::Stdout).await, "hi\n");
        bench.runtime.remove_sandbox(&pod.key).await.expect("removed");
        for _ in 0..2 {
            docker.remove_image(&image).await.expect("removed");
        }
        assert_eq!(docker_image(&bench, &image).await, None);
    })
    .await;
}

async fn docker_image(bench: &Bench, image: &str) -> Option<String> {
    bench.runtime.image(image).await.expect("asked")
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_whose_sandbox_was_removed_from_outside_are_listed_and_removed() {
    check(DockerFixture::new().await, |bench: Arc<Bench>| async move {
        let key = bench.run_ready(FOREVER).await;
        let uid = key.sandbox.pod;
        let name = format!("orchestrator_{}_n1_{uid}_0", bench.scope.cluster);
        let engine = TestEngine::from_env();
        engine.call("DELETE", &format!("/containers/{name}?force=true")).await;
        let sandbox = bench.sandbox(&key.sandbox).await.expect("still listed");
        assert!(!sandbox.ready);
        assert_eq!(sandbox.containers.len(), 1);
        let mut spec = bench.container(&key.sandbox, "late", "");
        spec.key.attempt = 1;
        let outcome = bench.runtime.create_container(&spec).await;
        assert!(matches!(outcome, Err(RuntimeError::NotFound { .. })), "{outcome:?}");
        bench.runtime.remove_sandbox(&key.sandbox).await.expect("removed");
        assert_eq!(bench.sandbox(&key.sandbox).await, None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_removed_from_outside_is_made_again() {
    check(DockerFixture::new().await, |bench: Arc<Bench>| async move {
        let pod = bench.new_pod().await;
        let engine = TestEngine::from_env();
        // The runtime that made the network knows it; another one removes it with the last sandbox.
        let other = engine.connect().await;
        other.remove_cluster(&bench.scope.cluster).await.expect("removed");
        engine.assert_nothing_left(&bench.scope).await;
        bench.runtime.create_sandbox(&pod).await.expect("made in a new network");
        assert!(bench.sandbox(&pod.key).await.is_some_and(|it| it.ready && it.ip.is_some()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pods_made_and_removed_at_once_leave_no_network() {
    check(DockerFixture::new().await, |bench: Arc<Bench>| async move {
        for _ in 0..2 {
            let pods: Vec<_> = (0..6).map(|_| bench.pod()).collect();
            let mut tasks = tokio::task::JoinSet::new();
            for pod in pods {
                let bench = Arc::clone(&bench);
                tasks.spawn(async move {
                    bench.runtime.create_sandbox(&pod).await.expect("made");
                    bench.runtime.remove_sandbox(&pod.key).await.expect("removed");
                });
            }
            tasks.join_all().await;
            bench.assert_nothing_left().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_is_given_up_goes_to_its_end() {
    check(DockerFixture::new().await, |bench: Arc<Bench>| async move {
        let engine = TestEngine::from_env();
        // In the middle of containers, of looking whether there are others, and of the network.
        for millis in [10, 40, 80, 120, 160, 240] {
            let pod = bench.new_pod().await;
            let removing = bench.runtime.remove_sandbox(&pod.key);
            let _ = tokio::time::timeout(Duration::from_millis(millis), removing).await;
            eventually("nothing is left", || async {
                engine.left_of(&bench.scope.cluster).await.is_empty().then_some(())
            })
            .await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_container_is_not_run_again_by_a_repeated_start() {
    check(DockerFixture::new().await, |bench: Arc<Bench>| async move {
        let pod = bench.new_pod().await;
        let key: ContainerKey = bench.run(&pod.key, "main", "echo once").await;
        let exit = bench.exit(&key).await;
        bench.runtime.start_container(&key).await.expect("nothing to start");
        assert_eq!(bench.exit_now(&key).await, exit);
        assert_eq!(bench.printed(&key, LogSource::Stdout).await, "once\n");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_timed_out_does_not_run_on() {
    check(DockerFixture::new().await, |bench: Arc<Bench>| async move {
        let key = bench.run_ready(FOREVER).await;
        let program = |script: &str| ["/bin/sh", "-c", script].map(str::to_owned);
        let late = program("sleep 1234 | cat");
        let outcome = bench.runtime.exec(&key, &late, 300).await.expect("killed");
        assert_eq!(outcome.code, 137);
        assert!(outcome.output.contains("within 300 ms"), "{outcome:?}");
        eventually("the program is gone", || async {
            let seen = bench.runtime.exec(&key, &program("ps -o args"), 50_000).await;
            (!seen.expect("listed").output.contains("sleep 1234")).then_some(())
        })
        .await;
    })
    .await;
}
