//! Containers: programs run in them, files copied, ports forwarded, what they print.

use std::sync::Arc;

use orchestrator_tests::kubectl::Kubectl;
use orchestrator_tests::rig::{Rig, poll};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{manifest, with_kubectl};

pub(super) async fn programs_run_in_containers_and_ports_are_forwarded(rig: Arc<Rig>) {
    let dir = rig.dir.path().join("copied");
    with_kubectl(rig, |kubectl| async move {
        let k = &*kubectl;
        k.write("web.yaml", &manifest("web", 1, "1"));
        k.ok("apply -f web.yaml").await;
        k.ok("rollout status deployment/web --timeout=90s").await;
        assert_eq!(k.ok("exec deployment/web -- echo hello").await, "hello\n");
        let said =
            k.run("exec deployment/web -- /bin/sh -c 'echo out; echo err >&2; exit 7'").await;
        assert_eq!((said.code, said.stdout.as_str()), (7, "out\n"), "{said:?}");
        assert!(said.stderr.contains("err"), "{said:?}");
        let input = b"0123456789".repeat(50_000);
        let said = k.run_with("exec -i deployment/web -- cat", &input).await;
        assert!(said.code == 0 && said.stdout.as_bytes() == input, "{}", said.stdout.len());
        k.fails("exec deployment/web -c nope -- true", &["container"]).await;
        k.fails("exec nobody -- true", &["not found"]).await;

        let pod = k.ok("get pods -l app=web -o jsonpath={.items[0].metadata.name}").await;
        // Agents measure every few seconds.
        poll("the pod is measured", || async {
            let said = k.run("top pod").await;
            if said.stdout.contains(&pod) { Ok(()) } else { Err(said) }
        })
        .await;
        k.says("top node", &["local", "%"]).await;
        k.says("top pod --containers", &[&pod, "main"]).await;
        let text = "line\n".repeat(10_000);
        k.write("here", &text);
        let there = dir.display();
        k.ok(&format!("exec {pod} -- mkdir -p {there}")).await;
        k.ok(&format!("cp here {pod}:{there}/file")).await;
        k.ok(&format!("cp {pod}:{there}/file back")).await;
        assert_eq!(k.read("back"), text.as_bytes());
        let serve = format!("exec busybox httpd -f -p $POD_IP:9000 -h {there}");
        let mut server = k
            .command(&format!("exec {pod} -- /bin/sh -c '{serve}'"))
            .spawn()
            .expect("kubectl runs");
        let page = fetch(k, &format!("{pod} :9000"), "/file").await;
        assert!(page.ends_with(&text), "{} bytes", page.len());
        server.kill().await.expect("killed");
        k.ok(&format!("exec {pod} -- rm -r {there}")).await;
        let said = k.run("attach nobody").await;
        assert_ne!(said.code, 0);
    })
    .await;
}

/// Fetches a file through a forwarded port. Who serves it listens a moment after it is started; until then port-forward ends.
async fn fetch(kubectl: &Kubectl, what: &str, path: &str) -> String {
    poll("somebody listens in the pod", || async {
        try_fetch(kubectl, what, path).await.ok_or_else(|| format!("{what} {path}"))
    })
    .await
}

/// Fetches a file through a forwarded port; `None` when nobody listens in the pod.
async fn try_fetch(kubectl: &Kubectl, what: &str, path: &str) -> Option<String> {
    let mut forward = kubectl.start(&format!("port-forward {what}"));
    let line = forward.until(&["Forwarding from 127.0.0.1:"]).await;
    let port = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next());
    let port: u16 = port.and_then(|port| port.parse().ok()).expect("a port");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("taken");
    let mut page = String::new();
    let read = stream.read_to_string(&mut page).await;
    forward.stop().await;
    (read.is_ok() && !page.is_empty()).then_some(page)
}

pub(super) async fn directories_are_copied_and_services_forwarded(rig: Arc<Rig>) {
    let there = rig.dir.path().join("there").display().to_string();
    with_kubectl(rig, |kubectl| async move {
        let k = &*kubectl;
        // It listens on 9000 of the pod's address, and serves what is copied to it.
        let serve = format!("mkdir -p {there}; exec busybox httpd -f -p $POD_IP:9000 -h {there}");
        let sleep = "echo version $VERSION; trap 'exit 0' TERM; sleep 100000 & wait";
        k.write("web.yaml", &manifest("web", 1, "1").replace(sleep, &serve));
        k.ok("apply -f web.yaml").await;
        k.ok("rollout status deployment/web --timeout=90s").await;
        let pod = k.ok("get pods -l app=web -o jsonpath={.items[0].metadata.name}").await;
        k.write_below("here/a", "text of a");
        k.write_below("here/below/b", "text of b");
        k.ok(&format!("cp here {pod}:{there}/copy")).await;
        k.ok(&format!("cp default/{pod}:{there}/copy back -c main")).await;
        assert_eq!(k.read("back/a"), b"text of a");
        assert_eq!(k.read("back/below/b"), b"text of b");
        k.fails(&format!("cp nowhere {pod}:{there}/x"), &["nowhere"]).await;
        k.fails(&format!("cp here nobody:{there}/x"), &["not found"]).await;

        k.ok("expose deployment web --port=80 --target-port=9000 --name=front").await;
        for what in ["deployment/web :9000", "service/front :80", &format!("pod/{pod} :9000")] {
            let page = fetch(k, what, "/copy/below/b").await;
            assert!(page.ends_with("text of b"), "{what}: {page}");
        }
        k.fails("port-forward service/front :81", &["81"]).await;
        k.fails("port-forward service/nobody :80", &["not found"]).await;
        k.ok(&format!("exec {pod} -- rm -r {there}")).await;
        k.ok("delete service front").await;
    })
    .await;
}

/// A `kubectl run` of a shell script.
fn run(options: &str, script: &str) -> String {
    let image = orchestrator_tests::engine::IMAGE;
    let image = format!("--image={image} --image-pull-policy=Never");
    format!("run {image} {options} --command -- /bin/sh -c '{script}'")
}

pub(super) async fn programs_are_talked_to(rig: Arc<Rig>) {
    with_kubectl(rig, |kubectl| async move {
        let k = &*kubectl;
        let input = b"0123456789".repeat(50_000);
        let said = k.run_with(&run("once --restart=Never -i --rm --quiet", "cat"), &input).await;
        let whole = said.stdout.as_bytes() == input;
        assert!(said.code == 0 && whole, "{} bytes, {}", said.stdout.len(), said.stderr);
        let script = "read line; echo got $line; echo err >&2; exit 3";
        let said = k.run_with(&run("code --restart=Never -i --rm --quiet", script), b"it\n").await;
        assert_eq!((said.code, said.stdout.as_str()), (3, "got it\n"), "{said:?}");
        assert!(said.stderr.contains("err"), "{said:?}");
        k.fails("get pod once", &["not found"]).await;

        // The size comes on a way of its own.
        let sized = |size: &str| format!("until stty size | grep \"{size}\"; do sleep 0.1; done");
        let script = format!("read line; {}; test -t 0 && echo got $line; exit 4", sized("33 91"));
        let line = run("seat --restart=Never -it --rm", &script);
        let mut seat = k.start_at_terminal(&line, 91, 33);
        seat.until(&["try pressing enter"]).await;
        seat.tell("here").await;
        seat.until(&["33 91"]).await;
        seat.until(&["got here"]).await;
        assert_eq!(seat.end().await.code, 4);

        let script = "while read line; do echo got $line; done";
        k.ok(&run("open -i --attach=false --leave-stdin-open", script)).await;
        k.ok("wait --for=condition=Ready pod/open --timeout=60s").await;
        for word in ["one", "two"] {
            let mut attached = k.start("attach -i open");
            attached.tell(word).await;
            attached.until(&["got", word]).await;
            assert_eq!(attached.end().await.code, 0, "it goes, and the program stays");
        }
        assert_eq!(k.ok("logs open").await, "got one\ngot two\n");
        assert_eq!(
            k.ok("get pod open -o jsonpath={.status.containerStatuses[0].restartCount}").await,
            "0"
        );
        let script = format!("read line; {}; echo got $line; exit 5", sized("25 81"));
        let line = format!("exec -it open -- /bin/sh -c '{script}'");
        let mut seat = k.start_at_terminal(&line, 81, 25);
        seat.tell("here").await;
        seat.until(&["25 81"]).await;
        seat.until(&["got here"]).await;
        assert_eq!(seat.end().await.code, 5);
        let mut seat = k.start_at_terminal("attach -it open", 80, 24);
        seat.until(&["Unable to use a TTY"]).await;
        seat.tell("three").await;
        seat.until(&["got three"]).await;
        seat.stop().await;

        // What is sent to it is lost.
        let script = "cat; echo its end; while true; do echo tick; sleep 1; done";
        k.ok(&run("deaf", script)).await;
        k.ok("wait --for=condition=Ready pod/deaf --timeout=60s").await;
        let mut attached = k.start("attach -i deaf");
        attached.tell("anybody there?").await;
        attached.until(&["tick"]).await;
        attached.stop().await;
        let log = k.ok("logs deaf").await;
        assert!(log.starts_with("its end\ntick\n"), "{log}");
    })
    .await;
}

pub(super) async fn pods_are_run_attached_to_and_their_logs_read(rig: Arc<Rig>) {
    with_kubectl(rig, |kubectl| async move {
        let k = &*kubectl;
        k.says(
            &run("once --restart=Never --labels=a=b --env=WHO=you", "echo hi $WHO"),
            &["created"],
        )
        .await;
        k.ok("wait --for=jsonpath={.status.phase}=Succeeded pod/once --timeout=60s").await;
        assert_eq!(k.ok("logs once").await, "hi you\n");
        k.says("get pod once -L a", &["0/1", "Completed", "b"]).await;
        let ended = run("asked --restart=Never --rm -i --quiet", "sleep 1; echo done; exit 3");
        let said = k.run(&ended).await;
        assert_eq!(said.code, 3, "the code of the container: {said:?}");
        k.fails("get pod asked", &["not found"]).await;

        // Says a line now and then, for whoever comes to listen.
        let ticks = "echo begin; n=0; while true; do n=$((n+1)); echo tick $n; sleep 1; done";
        k.says(&run("clock --port=80 --expose", ticks), &["service/clock", "pod/clock"]).await;
        k.ok("wait --for=condition=Ready pod/clock --timeout=60s").await;
        let mut attached = k.start("attach clock -c clock");
        attached.until(&["tick"]).await;
        attached.stop().await;
        k.fails("attach once", &["completed pod"]).await;
        let mut follow = k.start("logs -f clock");
        assert_eq!(follow.until(&[""]).await, "begin", "from the beginning");
        follow.until(&["tick 3"]).await;
        follow.stop().await;
        let lines = k.ok("logs clock --tail=1").await;
        assert!(lines.starts_with("tick ") && lines.lines().count() == 1, "{lines}");
        let stamped = k.ok("logs clock -c clock --timestamps --limit-bytes=30").await;
        assert!(stamped.len() == 30 && stamped.starts_with("20"), "{stamped}");
        assert!(k.ok("logs clock --since=1h").await.starts_with("begin\n"));
        assert_eq!(k.ok("logs clock --since-time=2100-01-01T00:00:00Z").await, "");
        k.says("logs -l run=clock --prefix --tail=-1", &["[pod/clock/clock] begin"]).await;
        k.says("logs clock --all-containers", &["begin"]).await;
        k.fails("logs clock -c nobody", &["nobody"]).await;
        k.fails("logs clock --previous", &["previous"]).await;
        k.ok("delete service clock").await;

        k.ok(&run("twice", "echo run; exit 1")).await;
        poll("it has run twice", || async {
            let said = k.run("logs twice --previous").await;
            if said.code == 0 { Ok(()) } else { Err(said) }
        })
        .await;
        assert_eq!(k.ok("logs twice --previous").await, "run\n");
    })
    .await;
}
