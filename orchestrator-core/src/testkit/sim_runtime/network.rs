//! The network of simulated pods: whoever connects to a port of a ready program gets its HTTP status.

use std::io;
use std::net::IpAddr;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::SimRuntime;
use crate::driver::{Connection, PodNetwork};

/// The longest head of a request that is read, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

#[async_trait]
impl PodNetwork for SimRuntime {
    async fn connect(&self, host: &str, port: u16) -> io::Result<Box<dyn Connection>> {
        let now = self.now();
        let address: Option<IpAddr> = host.parse().ok();
        let Some(status) = address.and_then(|address| self.lock().answer(address, now)) else {
            let message = format!("nobody listens at {host}:{port}");
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, message));
        };
        let (ours, theirs) = tokio::io::duplex(HEAD_BYTES_MAX);
        tokio::spawn(answer(ours, status));
        Ok(Box::new(theirs))
    }
}

/// Reads the head of a request and answers it.
async fn answer(mut stream: DuplexStream, status: u16) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        // A peer that hangs up or goes on without end is not answered.
        match stream.read_buf(&mut head).await {
            Ok(1..) if head.len() <= HEAD_BYTES_MAX => {}
            Ok(_) | Err(_) => return,
        }
    }
    let text = format!("HTTP/1.1 {status} \r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    // A peer that is gone needs no answer.
    let _ = stream.write_all(text.as_bytes()).await;
}
