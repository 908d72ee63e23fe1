//! Tests of the API without sockets, of the server with them, and of the client against it.

mod client;
mod dispatch;
mod fixture;
mod sockets;
mod watch;
