//! A small web server for demonstrations and tests: the demo's pods are made of it.
//!
//! On TERM it keeps answering for a while, so that clients which have not heard of its end yet are served, then
//! finishes what it has begun and ends.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// How long the server answers new connections after TERM.
const DRAIN: Duration = Duration::from_millis(1_500);
/// How long it then waits for what it has begun.
const FINISH: Duration = Duration::from_secs(5);

/// Options of the web workload.
#[derive(Debug, clap::Args)]
pub struct WebArgs {
    /// The port to answer on, at $POD_IP (every address if that is not set)
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// What the page says beside the pod's name
    #[arg(long, default_value = "v1")]
    text: String,
}

/// Serves until TERM, then drains.
pub async fn web(args: WebArgs) -> anyhow::Result<()> {
    let address = match std::env::var("POD_IP") {
        Ok(text) if !text.is_empty() => {
            text.parse().with_context(|| format!("POD_IP {text:?} is no address"))?
        }
        Ok(_) | Err(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let address = SocketAddr::new(address, args.port);
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let name = std::env::var("POD_NAME")
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_else(|_| "a pod".to_owned());
    let page = Bytes::from(format!("hello from {name}, {}\n", args.text));
    tracing::info!(%address, "serving");

    let graceful = GracefulShutdown::new();
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let drained = async {
        tokio::select! { _ = term.recv() => {}, _ = interrupt.recv() => {} }
        tokio::time::sleep(DRAIN).await;
    };
    tokio::pin!(drained);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut drained => break,
        };
        let Ok((stream, _)) = accepted else { continue };
        let page = page.clone();
        let answer = service_fn(move |_: Request<Incoming>| {
            let page = page.clone();
            async move { Ok::<_, Infallible>(Response::new(Full::new(page))) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), answer);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A client that went away is no concern of ours.
            let _ = connection.await;
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(FINISH, graceful.shutdown()).await;
    Ok(())
}
