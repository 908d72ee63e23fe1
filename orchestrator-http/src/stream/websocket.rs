//! The handshake of a WebSocket, and the connection after it.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::header::{
    CONNECTION, HOST, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::Takeover;
use crate::body::{self, Body};
use crate::status::Failure;

/// The most bytes of a message; clients send pieces of at most 32 KiB.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A request that asks for a WebSocket, with the protocol that was chosen.
pub(super) struct Handshake {
    upgrade: OnUpgrade,
    accept: String,
    pub(super) protocol: &'static str,
}

impl Handshake {
    /// Reads a request; `protocols` are those that are spoken here, the best first.
    ///
    /// # Errors
    /// 400 for what is no such request or offers no protocol of ours, 403 when a page of another site asks.
    pub(super) fn read(parts: &mut Parts, protocols: &[&'static str]) -> Result<Self, Failure> {
        let text = |name: HeaderName| {
            parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
        };
        let has = |name, word: &str| {
            text(name).split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
        };
        if !has(CONNECTION, "upgrade") || !has(UPGRADE, "websocket") {
            let message = "a WebSocket is needed here (kubectl 1.31 and later use one); SPDY alone is not spoken";
            return Err(Failure::bad_request(message));
        }
        check_origin(text(ORIGIN), text(HOST))?;
        if text(SEC_WEBSOCKET_VERSION) != "13" || text(SEC_WEBSOCKET_KEY).is_empty() {
            return Err(Failure::bad_request("a WebSocket handshake of version 13 is needed"));
        }
        let offered: Vec<String> = parts
            .headers
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(',').map(|offer| offer.trim().to_owned()))
            .collect();
        let chosen = protocols.iter().find(|ours| offered.iter().any(|offer| offer == *ours));
        let Some(protocol) = chosen else {
            return Err(Failure::bad_request(format!(
                "Sec-WebSocket-Protocol: one of {} is needed, not {:?}",
                protocols.join(", "),
                offered.join(", ")
            )));
        };
        let accept = derive_accept_key(text(SEC_WEBSOCKET_KEY).as_bytes());
        let upgrade = parts.extensions.remove::<OnUpgrade>().ok_or_else(|| {
            Failure::bad_request("this needs a connection of its own, which there is none of")
        })?;
        Ok(Self { upgrade, accept, protocol })
    }

    /// Answers the request; `serve` is given the connection.
    pub(super) fn accept<Serve, Served>(self, serve: Serve) -> Response<Body>
    where
        Serve: FnOnce(Sender, Receiver) -> Served + Send + 'static,
        Served: Future<Output = ()> + Send,
    {
        let mut response = Response::new(body::full(""));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(self.protocol));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        let upgrade = self.upgrade;
        response.extensions_mut().insert(Takeover::new(async move {
            let upgraded = match upgrade.await {
                Ok(upgraded) => TokioIo::new(upgraded),
                Err(error) => return tracing::debug!(%error, "no upgrade came about"),
            };
            let mut config = WebSocketConfig::default();
            config.max_message_size = Some(MESSAGE_BYTES_MAX);
            config.max_frame_size = Some(MESSAGE_BYTES_MAX);
            let socket =
                WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(config)).await;
            let (sender, receiver) = socket.split();
            serve(Sender(sender), Receiver(receiver)).await;
        }));
        response
    }
}

/// A page in a browser says where it comes from; only our own may ask.
fn check_origin(origin: &str, host: &str) -> Result<(), Failure> {
    let site = origin.split_once("://").map_or(origin, |(_, site)| site);
    if origin.is_empty() || site.eq_ignore_ascii_case(host) {
        return Ok(());
    }
    let message = format!("Origin: {origin:?} is not this server ({host:?})");
    Err(Failure::new(StatusCode::FORBIDDEN, "Forbidden", message))
}

/// The end of a WebSocket that is written to.
pub(super) struct Sender(stream::SplitSink<Socket, Message>);

/// The connection is gone.
#[derive(Debug)]
pub(super) struct Gone;

impl Sender {
    /// Sends bytes as one message, and waits until the connection has taken them.
    pub(super) async fn send(&mut self, bytes: Bytes) -> Result<(), Gone> {
        self.0.send(Message::Binary(bytes)).await.map_err(|_| Gone)
    }

    /// Asks whether the client is still there: one that is gone lets this fail, or the next.
    pub(super) async fn ping(&mut self) -> Result<(), Gone> {
        self.0.send(Message::Ping(Bytes::new())).await.map_err(|_| Gone)
    }

    /// Says goodbye.
    pub(super) async fn close(&mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let _ = self.0.send(Message::Close(Some(frame))).await;
    }
}

/// The end of a WebSocket that is read from.
pub(super) struct Receiver(stream::SplitStream<Socket>);

impl Receiver {
    /// Waits for the next message; `None` at the end. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.0.next().await? {
                Ok(Message::Binary(bytes)) => return Some(bytes),
                Ok(Message::Text(text)) => return Some(Bytes::from(text)),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Ok(Message::Close(_)) | Err(Error::ConnectionClosed) => return None,
                Err(error) => {
                    tracing::debug!(%error, "a WebSocket broke off");
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_pages_may_ask() {
        assert!(check_origin("", "127.0.0.1:6443").is_ok());
        assert!(check_origin("https://127.0.0.1:6443", "127.0.0.1:6443").is_ok());
        for other in ["https://evil.example", "null", "https://127.0.0.1:6443.evil.example"] {
            assert_eq!(check_origin(other, "127.0.0.1:6443").expect_err(other).code, 403);
        }
    }
}
