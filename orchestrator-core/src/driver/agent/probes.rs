//! Doing checks: fetching a page, connecting to a port, running a program in the container.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::core::Core;
use super::tasks::{Event, contained};
use crate::driver::network::PodNetwork;
use crate::model::Uid;
use crate::node::{ProbeCheck, ProbeDue, ProbeResult};
use crate::runtime::{ContainerKey, Runtime};

/// How much of a page's head is read, in bytes; the status line is in it.
const HTTP_HEAD_BYTES_MAX: usize = 4096;
/// How much longer than a check's own limit a program in a container may take to be ended, in milliseconds.
const EXEC_MARGIN_MS: u64 = 5_000;

impl Core {
    pub(super) fn start_probe(&mut self, pod: Uid, due: ProbeDue) {
        let (runtime, slots) = (Arc::clone(&self.runtime), Arc::clone(&self.probes));
        let network = Arc::clone(&self.config.network);
        self.tasks.spawn(async move {
            let _permit = slots.acquire_owned().await;
            let ProbeDue { container, kind, check, timeout_ms } = due;
            let check = do_check(&runtime, &*network, &container, &check, timeout_ms);
            let done = contained(check).await;
            let result = match done {
                Some(Ok(())) => ProbeResult::Success,
                Some(Err(message)) => ProbeResult::Failure(message),
                None => ProbeResult::Failure("the check panicked".to_owned()),
            };
            Event::Probed { pod, container, kind, result }
        });
    }
}

async fn do_check(
    runtime: &Arc<dyn Runtime>,
    network: &dyn PodNetwork,
    container: &ContainerKey,
    check: &ProbeCheck,
    timeout_ms: u64,
) -> Result<(), String> {
    match check {
        ProbeCheck::Exec { command } => {
            let exec = runtime.exec(container, command, timeout_ms);
            let outcome = within(timeout_ms.saturating_add(EXEC_MARGIN_MS), exec).await?;
            let outcome = outcome.map_err(|error| error.to_string())?;
            match outcome.code {
                0 => Ok(()),
                code => Err(format!("exit code {code}: {}", outcome.output.trim_end())),
            }
        }
        ProbeCheck::HttpGet { host, port, path, headers } => {
            within(timeout_ms, http_get(network, host, *port, path, headers)).await?
        }
        ProbeCheck::Impossible { message } => Err(message.clone()),
        ProbeCheck::TcpSocket { host, port } => {
            let connected = within(timeout_ms, network.connect(host, *port)).await?;
            connected.map(drop).map_err(|error| format!("{host}:{port}: {error}"))
        }
    }
}

async fn within<T>(limit_ms: u64, future: impl Future<Output = T>) -> Result<T, String> {
    let limit = Duration::from_millis(limit_ms);
    let outcome = tokio::time::timeout(limit, future).await;
    outcome.map_err(|_| format!("no answer within {limit_ms} ms"))
}

/// Fetches a page with HTTP/1.1 and judges its status.
async fn http_get(
    network: &dyn PodNetwork,
    host: &str,
    port: u16,
    path: &str,
    headers: &[(String, String)],
) -> Result<(), String> {
    let request = request(host, port, path, headers)?;
    let failed = |error: std::io::Error| format!("http://{host}:{port}{path}: {error}");
    let mut stream = network.connect(host, port).await.map_err(failed)?;
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut head = Vec::with_capacity(512);
    let mut limited = (&mut stream).take(HTTP_HEAD_BYTES_MAX as u64);
    while !head.contains(&b'\n') && limited.read_buf(&mut head).await.map_err(failed)? > 0 {}
    match status_code(&head) {
        Some(200..=399) => Ok(()),
        Some(code) => Err(format!("http://{host}:{port}{path}: status {code}")),
        None => Err(format!("http://{host}:{port}{path}: the answer is not HTTP")),
    }
}

/// Writes the request; refuses what would not stay on its line.
fn request(
    host: &str,
    port: u16,
    path: &str,
    headers: &[(String, String)],
) -> Result<String, String> {
    let is_plain = |text: &str| !text.bytes().any(|byte| byte.is_ascii_control());
    if !is_plain(path) || path.contains(' ') {
        return Err(format!("path {path:?} holds a space or a control character"));
    }
    let given = |wanted: &str| headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
    let mut text = format!("GET {path} HTTP/1.1\r\n");
    if !given("Host") {
        // An IPv6 address stands in brackets.
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        text.push_str(&format!("Host: {host}:{port}\r\n"));
    }
    if !given("User-Agent") {
        text.push_str("User-Agent: orchestrator-probe\r\n");
    }
    for (name, value) in headers {
        if !is_plain(name) || !is_plain(value) || name.contains([':', ' ']) {
            return Err(format!("header {name:?} holds a character that headers cannot"));
        }
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("Accept: */*\r\nConnection: close\r\n\r\n");
    Ok(text)
}

/// Returns the code of a status line such as `HTTP/1.1 200 OK`.
fn status_code(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let (version, rest) = line.split_once(' ')?;
    let code = rest.get(..3)?.parse().ok()?;
    version.starts_with("HTTP/1.").then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::network::HostNetwork;

    #[test]
    fn the_code_is_read_from_the_status_line_alone() {
        assert_eq!(status_code(b"HTTP/1.1 204 No Content\r\nX: 500\r\n"), Some(204));
        assert_eq!(status_code(b"HTTP/1.0 503\r\n"), Some(503));
        assert_eq!(status_code(b"SSH-2.0-OpenSSH_9\r\n"), None);
        assert_eq!(status_code(b""), None);
        assert_eq!(status_code(b"HTTP/1.1 \xff\xff\xff"), None);
    }

    #[test]
    fn a_header_cannot_smuggle_a_line() {
        let evil = [("X".to_owned(), "a\r\nHost: other".to_owned())];
        assert!(request("h", 80, "/", &evil).is_err());
        assert!(request("h", 80, "/ HTTP/1.1", &[]).is_err());
        let host = [("host".to_owned(), "web".to_owned())];
        let text = request("::1", 80, "/x", &host).expect("fine");
        assert!(text.starts_with("GET /x HTTP/1.1\r\n") && text.contains("\r\nhost: web\r\n"));
        assert_eq!(text.to_lowercase().matches("host:").count(), 1);
    }

    /// Answers one connection with a text and returns its port.
    async fn serve(answer: &'static str) -> u16 {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.expect("a request");
            assert!(request[..read].starts_with(b"GET /health HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.expect("an answer");
        });
        port
    }

    #[tokio::test]
    async fn a_page_is_judged_by_its_status() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Ok(())),
            ("HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", Ok(())),
            ("HTTP/1.1 500 Oh\r\n\r\n", Err("status 500")),
            ("hello\r\n", Err("the answer is not HTTP")),
            ("", Err("the answer is not HTTP")),
        ] {
            let port = serve(answer).await;
            let result = http_get(&HostNetwork, "127.0.0.1", port, "/health", &[]).await;
            match (&result, expected) {
                (Ok(()), Ok(())) => {}
                (Err(message), Err(part)) if message.contains(part) => {}
                _ => panic!("{answer:?}: {result:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_port_nobody_listens_on_fails_with_its_address() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        drop(listener);
        let message =
            http_get(&HostNetwork, "127.0.0.1", port, "/", &[]).await.expect_err("refused");
        assert!(message.contains(&port.to_string()), "{message}");
    }
}
