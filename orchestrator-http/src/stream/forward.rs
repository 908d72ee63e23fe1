//! Port-forward: connections to ports of a pod, over channels or in a SPDY tunnel.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use orchestrator_core::driver::Cluster;
use orchestrator_core::model::{Key, Pod};
use orchestrator_core::runtime::{Session, SessionEvent, SessionInput};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::websocket::{Handshake, Receiver, Sender};
use super::{channels, tunnel};
use crate::api::Api;
use crate::body::Body;
use crate::query::Query;
use crate::status::Failure;

/// What kubectl speaks: SPDY/3.1 in the messages of a WebSocket.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// The most ports of one request.
const PORTS_MAX: usize = 64;
/// How many messages to a client may be on their way.
pub(super) const MESSAGES_MAX: usize = 64;

impl Api {
    /// Connects a client to ports of a pod.
    pub(crate) fn port_forward(
        &self,
        pod: &Key,
        query: &Query,
        parts: &mut Parts,
    ) -> Result<Response<Body>, Failure> {
        let cluster = self.cluster().clone();
        let ports = ports(query)?;
        let protocols = [TUNNEL, channels::PROTOCOLS[1], channels::PROTOCOLS[0]];
        if cluster.world().at::<Pod>(pod).is_none() {
            return Err(Failure::not_found(pod));
        }
        let handshake = Handshake::read(parts, &protocols)?;
        let pod = pod.clone();
        if handshake.protocol == TUNNEL {
            return Ok(handshake
                .accept(move |sender, receiver| tunnel::serve(cluster, pod, sender, receiver)));
        }
        if ports.is_empty() {
            return Err(Failure::bad_request("ports: at least one is needed"));
        }
        Ok(handshake.accept(move |sender, receiver| serve(cluster, pod, ports, sender, receiver)))
    }
}

/// Reads `ports=80&ports=81` or `ports=80,81`.
fn ports(query: &Query) -> Result<Vec<u16>, Failure> {
    let mut ports = Vec::new();
    for text in query.all("ports").flat_map(|list| list.split(',')) {
        let port = text.trim().parse::<u16>().ok().filter(|port| *port > 0);
        ports.push(port.ok_or_else(|| {
            Failure::bad_request(format!("ports: {text:?} is no port from 1 to 65535"))
        })?);
    }
    if ports.len() > PORTS_MAX {
        return Err(Failure::bad_request(format!("ports: at most {PORTS_MAX} in one request")));
    }
    Ok(ports)
}

/// Port number `i` has the channels `2i` for data and `2i + 1` for errors, each begun with the port's number.
async fn serve(
    cluster: Cluster,
    pod: Key,
    ports: Vec<u16>,
    mut sender: Sender,
    mut receiver: Receiver,
) {
    let (messages, mut outgoing) = mpsc::channel::<Bytes>(MESSAGES_MAX);
    let mut tasks = JoinSet::new();
    let mut inputs: Vec<Option<Box<dyn SessionInput>>> = Vec::with_capacity(ports.len());
    for (index, port) in ports.into_iter().enumerate() {
        let data = u8::try_from(2 * index).unwrap_or(u8::MAX - 1);
        for channel in [data, data + 1] {
            if sender.send(channels::message(channel, &port.to_le_bytes())).await.is_err() {
                return;
            }
        }
        match cluster.connect(&pod, port).await {
            Ok(Session { input, mut output }) => {
                inputs.push(Some(input));
                let messages = messages.clone();
                tasks.spawn(async move {
                    while let Some(Ok(SessionEvent::Stdout(bytes))) = output.next().await {
                        if messages.send(channels::message(data, &bytes)).await.is_err() {
                            return;
                        }
                    }
                });
            }
            Err(rejection) => {
                inputs.push(None);
                let text = rejection.to_string();
                let _ = messages.send(channels::message(data + 1, text.as_bytes())).await;
            }
        }
    }
    drop(messages);
    let take_in = async {
        while let Some(message) = receiver.next().await {
            let Some((channel, bytes)) = channels::split(message) else { continue };
            let input = inputs.get_mut(usize::from(channel / 2)).and_then(Option::as_mut);
            if let (0, Some(input)) = (channel % 2, input) {
                let _ = input.write(bytes).await;
            }
        }
    };
    let hand_out = async {
        while let Some(message) = outgoing.recv().await {
            if sender.send(message).await.is_err() {
                break;
            }
        }
        // Every connection has ended.
        sender.close().await;
    };
    tokio::select! { () = take_in => {}, () = hand_out => {} }
}
