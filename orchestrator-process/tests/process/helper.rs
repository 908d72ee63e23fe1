//! This test program as a helper of its own tests: a TCP server, a TCP client, and a parent to be killed.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use orchestrator_core::runtime::Runtime;
use orchestrator_process::ProcessRuntime;

use crate::fixture::start_pod;

/// Spells a shell command that runs [`helper`] in `role`.
pub fn command(role: &str, variables: &str) -> String {
    let program = std::env::current_exe().expect("a test knows its program");
    format!(
        "env HELPER={role} {variables} '{}' --exact helper::helper --nocapture",
        program.display()
    )
}

/// Spells a shell command that sends back whatever comes.
pub fn echo(address: &str, port: u16) -> String {
    command("echo", &format!("ADDRESS={address} PORT={port}"))
}

/// Does nothing unless it is run by [`command`].
#[test]
fn helper() {
    let Ok(role) = std::env::var("HELPER") else { return };
    let variable = |name| std::env::var(name).expect("the helper's variables are set");
    let address = || (variable("ADDRESS"), variable("PORT").parse::<u16>().expect("a port"));
    match role.as_str() {
        "connect" => {
            let connected = TcpStream::connect(address()).is_ok();
            std::process::exit(i32::from(!connected));
        }
        "listen" => {
            let listener = TcpListener::bind(address()).expect("the address is free");
            for connection in listener.incoming() {
                drop(connection);
            }
        }
        "echo" => {
            let listener = TcpListener::bind(address()).expect("the address is free");
            for connection in listener.incoming().flatten() {
                let (mut reader, mut writer) = (&connection, &connection);
                let _ = std::io::copy(&mut reader, &mut writer);
            }
        }
        "parent" => be_a_parent(Path::new(&variable("STATE")), &variable("CLUSTER")),
        "churn" => churn(Path::new(&variable("STATE")), &variable("CLUSTER")),
        other => panic!("unknown role {other:?}"),
    }
}

/// Starts a pod and waits to be killed.
fn be_a_parent(state: &Path, cluster: &str) {
    let tokio = tokio::runtime::Runtime::new().expect("a runtime");
    tokio.block_on(async {
        start_pod(state, cluster).await;
        let mut out = std::io::stdout();
        writeln!(out, "parent-is-ready").expect("written");
        out.flush().expect("flushed");
        tokio::time::sleep(Duration::from_secs(600)).await;
    });
}

/// Makes and removes pods until it is killed.
fn churn(state: &Path, cluster: &str) {
    let tokio = tokio::runtime::Runtime::new().expect("a runtime");
    tokio.block_on(async {
        let runtime = ProcessRuntime::open(state).expect("opened");
        writeln!(std::io::stdout(), "parent-is-ready").expect("written");
        loop {
            let pod = start_pod(state, cluster).await;
            runtime.remove_sandbox(&pod.key).await.expect("removed");
        }
    });
}
