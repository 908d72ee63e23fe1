//! The tunnel: a connection that an agent has opened and over which the server asks it for streams, as HTTP/2 turned round.
//!
//! Each stream is a request of the server's; its body and the answer's are [`frame`]s. The first frame of a request says what
//! is wanted, the first of an answer that it was opened or why not. Flow control is that of HTTP/2: who does not read is not
//! sent more.

mod agent;
mod frame;
mod remote;

use std::time::Duration;

pub use agent::serve_streams;
pub(crate) use remote::Remote;

/// The protocol's name in the request that opens the tunnel.
pub(crate) const PROTOCOL: &str = "orchestrator-streams-1";
/// How often each side asks whether the other is there.
const PING_EVERY: Duration = Duration::from_secs(5);
/// How long the other may take to say so, before the tunnel is given up.
const PONG_WITHIN: Duration = Duration::from_secs(10);
