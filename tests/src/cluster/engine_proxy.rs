//! `EngineProxy`: stands at a socket between an agent and its Docker engine, and lets chosen calls hang, fail or lose their answer.
//!
//! Each call is a connection of its own, as the runtime makes them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::AbortHandle;

/// How long the head of a request may be.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineFault {
    /// It reaches the engine, and its answer nobody.
    AnswerLost,
    /// The engine never hears of it, and the caller nothing.
    Hang,
    /// It is delivered so late.
    Late(Duration),
    /// It is answered with this code, and the engine never hears of it.
    Refused(u16),
    /// The answer ends after so many bytes.
    Torn(usize),
}

/// A proxy before an engine. It serves as long as it lives.
#[derive(Debug)]
pub struct EngineProxy {
    socket: PathBuf,
    plan: Arc<Mutex<Plan>>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct Plan {
    /// Calls whose first line has this in it, what happens to them, and to how many.
    fault: Option<(String, EngineFault, usize)>,
    struck: usize,
}

impl EngineProxy {
    /// Listens at a socket for an engine at another, which need not be there.
    ///
    /// # Panics
    /// When the socket cannot be made.
    pub fn start(engine: &Path, socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).expect("a socket");
        let plan = Arc::new(Mutex::new(Plan::default()));
        let (shared, engine) = (Arc::clone(&plan), engine.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (plan, engine) = (Arc::clone(&shared), engine.clone());
                tokio::spawn(async move {
                    // A call that fails is the caller's business.
                    let _ = serve(stream, &engine, &plan).await;
                });
            }
        });
        Self { socket: socket.to_owned(), plan, task: task.abort_handle() }
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Has a fault happen to the next `times` calls whose first line (`POST /v1.41/containers/create?name=… HTTP/1.1`) has `text` in it.
    pub fn strike(&self, text: &str, fault: EngineFault, times: usize) {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        plan.fault = Some((text.to_owned(), fault, times));
        plan.struck = 0;
    }

    /// Lets everything pass again. Calls that hang go on hanging.
    pub fn calm(&self) {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).fault = None;
    }

    /// To how many calls the last fault has happened.
    pub fn struck(&self) -> usize {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).struck
    }
}

impl Drop for EngineProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Plan {
    /// The fault that happens to a call.
    fn take(&mut self, line: &str) -> Option<EngineFault> {
        let (text, fault, times) = self.fault.as_mut()?;
        if *times == 0 || !line.contains(text.as_str()) {
            return None;
        }
        *times -= 1;
        self.struck += 1;
        Some(*fault)
    }
}

async fn serve(mut client: UnixStream, engine: &Path, plan: &Mutex<Plan>) -> std::io::Result<()> {
    let head = head(&mut client).await?;
    let line = String::from_utf8_lossy(&head);
    let line = line.lines().next().unwrap_or_default();
    let fault = plan.lock().unwrap_or_else(PoisonError::into_inner).take(line);
    match fault {
        None => pass(client, engine, &head).await,
        Some(EngineFault::AnswerLost) => {
            let mut upstream = UnixStream::connect(engine).await?;
            upstream.write_all(&head).await?;
            let (mut from, mut to) = client.split();
            let (mut answer, mut request) = upstream.split();
            // The body, until the engine has answered in full: its answer tells that the deed is done.
            let mut byte = [0];
            tokio::select! {
                copied = tokio::io::copy(&mut from, &mut request) => drop(copied?),
                read = answer.read(&mut byte) => drop(read?),
            }
            to.shutdown().await
        }
        Some(EngineFault::Hang) => std::future::pending().await,
        Some(EngineFault::Late(by)) => {
            tokio::time::sleep(by).await;
            pass(client, engine, &head).await
        }
        Some(EngineFault::Refused(code)) => {
            let body = "{\"message\":\"a fault of this test\"}";
            let answer = format!(
                "HTTP/1.1 {code} Fault\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{body}",
                body.len()
            );
            client.write_all(answer.as_bytes()).await?;
            client.shutdown().await
        }
        Some(EngineFault::Torn(bytes)) => {
            let mut upstream = UnixStream::connect(engine).await?;
            upstream.write_all(&head).await?;
            let (mut from, mut to) = client.split();
            let (answer, mut request) = upstream.split();
            let mut answer = answer.take(bytes as u64);
            tokio::select! {
                copied = tokio::io::copy(&mut answer, &mut to) => drop(copied?),
                // A body that is over is no end of the call.
                copied = async {
                    let copied = tokio::io::copy(&mut from, &mut request).await;
                    if copied.is_ok() { std::future::pending().await } else { copied }
                } => drop(copied?),
            }
            to.shutdown().await
        }
    }
}

async fn pass(mut client: UnixStream, engine: &Path, head: &[u8]) -> std::io::Result<()> {
    let mut upstream = UnixStream::connect(engine).await?;
    upstream.write_all(head).await?;
    copy_bidirectional(&mut client, &mut upstream).await.map(drop)
}

/// Reads up to the empty line, and what came along behind it.
async fn head(stream: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = stream.read(&mut buffer).await?;
        if read == 0 || head.len() > HEAD_BYTES_MAX {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&buffer[..read]);
    }
    Ok(head)
}
