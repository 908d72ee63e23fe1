//! Tests of the API without sockets, of the server with them, and of the client against it.

mod absent;
mod access;
mod client;
mod crowds;
mod custom;
mod dispatch;
mod fairness;
mod fixture;
mod http2;
mod logs;
mod servers;
mod sockets;
mod streams;
mod testkit;
mod watch;
