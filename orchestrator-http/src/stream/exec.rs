//! Exec and attach: a program's input, output and end over channels.

use std::time::Duration;

use http::Response;
use http::request::Parts;
use orchestrator_core::model::Key;
use orchestrator_core::runtime::{
    AttachOptions, RuntimeError, Session, SessionEvent, SessionInput, SessionOptions, SessionOutput,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::channels::{self, CLOSE, PROTOCOLS, RESIZE, STATUS, STDERR, STDIN, STDOUT};
use super::websocket::{Gone, Handshake, Receiver, Sender};
use crate::api::Api;
use crate::body::Body;
use crate::query::Query;
use crate::status::Failure;

/// How often a client is asked whether it is still there: one whose program takes no input is not read from.
const PING_SECONDS: u64 = 10;

/// What a client wants of a program.
#[derive(Debug)]
pub(crate) struct ExecQuery {
    container: Option<String>,
    options: SessionOptions,
    stdout: bool,
    stderr: bool,
}

impl ExecQuery {
    /// Reads the query of an exec or attach.
    ///
    /// # Errors
    /// 400 when nothing of the program would be seen or sent.
    pub(crate) fn read(query: &Query) -> Result<Self, Failure> {
        let flag = |name: &str| query.flag(name).unwrap_or(false);
        let (stdin, stdout, terminal) = (flag("stdin"), flag("stdout"), flag("tty"));
        // A terminal has one output.
        let stderr = flag("stderr") && !terminal;
        if !stdin && !stdout && !stderr {
            let message = "you must specify at least 1 of stdin, stdout, stderr";
            return Err(Failure::bad_request(message));
        }
        let command = query.all("command").map(str::to_owned).collect();
        let options = SessionOptions { command, stdin, terminal };
        let container = query.text("container").filter(|name| !name.is_empty()).map(str::to_owned);
        Ok(Self { container, options, stdout, stderr })
    }
}

impl Api {
    /// Runs a program in a container of a pod.
    pub(crate) async fn exec(
        &self,
        pod: &Key,
        query: ExecQuery,
        parts: &mut Parts,
    ) -> Result<Response<Body>, Failure> {
        if query.options.command.is_empty() {
            return Err(Failure::bad_request("command: you must specify at least 1 word"));
        }
        let container = query.container.as_deref();
        let handshake = self.handshake(pod, container, parts)?;
        let session = self.cluster().session(pod, container, &query.options).await?;
        Ok(handshake.accept(move |sender, receiver| serve(session, query, sender, receiver)))
    }

    /// Ties the client to the program of a container: shows what it prints from now on, and hands it what is sent.
    pub(crate) async fn attach(
        &self,
        pod: &Key,
        query: ExecQuery,
        parts: &mut Parts,
    ) -> Result<Response<Body>, Failure> {
        let container = query.container.as_deref();
        let handshake = self.handshake(pod, container, parts)?;
        let options = AttachOptions { stdin: query.options.stdin };
        let session = self.cluster().attach(pod, container, &options).await?;
        Ok(handshake.accept(move |sender, receiver| serve(session, query, sender, receiver)))
    }
}

impl Api {
    /// Clients whose WebSocket was refused try SPDY, and show why that was refused: it should be what matters to them.
    fn handshake(
        &self,
        pod: &Key,
        container: Option<&str>,
        parts: &mut Parts,
    ) -> Result<Handshake, Failure> {
        let handshake = Handshake::read(parts, &PROTOCOLS);
        if handshake.is_err() {
            self.cluster().may_run(pod, container)?;
        }
        handshake
    }
}

/// Carries a session over a connection, until either ends.
async fn serve(session: Session, query: ExecQuery, mut sender: Sender, receiver: Receiver) {
    let Session { input, mut output } = session;
    let stdin = query.options.stdin;
    tokio::select! {
        // A client that is gone ends the session.
        () = take_in(input, stdin, receiver) => {}
        outcome = hand_out(&mut *output, &query, &mut sender) => {
            if let Ok(status) = outcome {
                let _ = sender.send(channels::message(STATUS, status.to_string().as_bytes())).await;
            }
            sender.close().await;
        }
    }
}

/// Takes in what the client sends. Returns when it is gone.
async fn take_in(mut input: Box<dyn SessionInput>, stdin: bool, mut receiver: Receiver) {
    while let Some(message) = receiver.next().await {
        let taken = match channels::split(message) {
            Some((STDIN, bytes)) if stdin => input.write(bytes).await,
            Some((CLOSE, bytes)) if bytes.first() == Some(&STDIN) => input.close().await,
            Some((RESIZE, bytes)) => match channels::size(&bytes) {
                Some((columns, rows)) => input.resize(columns, rows).await,
                None => Ok(()),
            },
            Some(_) | None => Ok(()),
        };
        if let Err(error) = taken {
            tracing::debug!(%error, "a program does not take what it is sent");
        }
    }
}

/// Hands out what the program prints. Returns how it ended.
async fn hand_out(
    output: &mut dyn SessionOutput,
    query: &ExecQuery,
    sender: &mut Sender,
) -> Result<Value, Gone> {
    let every = Duration::from_secs(PING_SECONDS);
    let mut pings = tokio::time::interval_at(Instant::now() + every, every);
    loop {
        let event = tokio::select! {
            event = output.next() => event,
            _ = pings.tick() => {
                sender.ping().await?;
                continue;
            }
        };
        let (channel, bytes) = match event {
            Some(Ok(SessionEvent::Stdout(bytes))) if query.stdout => (STDOUT, bytes),
            Some(Ok(SessionEvent::Stderr(bytes))) if query.stderr => (STDERR, bytes),
            Some(Ok(SessionEvent::Stdout(_) | SessionEvent::Stderr(_))) => continue,
            Some(Ok(SessionEvent::Exited(code))) => return Ok(exited(code)),
            Some(Err(error)) => return Ok(failed(&error)),
            None => return Ok(exited(0)),
        };
        sender.send(channels::message(channel, &bytes)).await?;
    }
}

fn exited(code: i32) -> Value {
    if code == 0 {
        return json!({ "metadata": {}, "status": "Success" });
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with exit code {code}"),
        "reason": "NonZeroExitCode",
        "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
    })
}

fn failed(error: &RuntimeError) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": error.to_string(),
        "reason": "InternalError",
        "code": 500,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_wants_is_read_as_kubectl_writes_it() {
        let read = |query: &str| ExecQuery::read(&Query::parse(Some(query)).expect("well-formed"));
        let query = "command=sh&command=-c&command=echo+hi&container=web&stdin=true&stdout=true&stderr=true&tty=true";
        let wish = read(query).expect("fine");
        assert_eq!(wish.options.command, ["sh", "-c", "echo hi"]);
        assert_eq!(wish.container.as_deref(), Some("web"));
        assert!(wish.options.stdin && wish.options.terminal && wish.stdout && !wish.stderr);
        assert_eq!(read("command=ls").expect_err("blind and deaf").code, 400);
    }

    #[test]
    fn an_exit_code_is_told_as_clients_read_it() {
        assert_eq!(exited(0)["status"], "Success");
        let failure = exited(3);
        assert_eq!(failure["reason"], "NonZeroExitCode");
        assert_eq!(failure["details"]["causes"][0]["message"], "3");
    }
}
