//! `Capture`: what somebody sees who reads along on the network of the machines.

use std::io::{ErrorKind, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Every protocol, in the order of bytes that the kernel wants (`ETH_P_ALL`).
const ALL: u16 = 0x0003_u16.to_be();
/// The longest packet.
const PACKET_BYTES_MAX: usize = 65_535;
/// How long a read waits before it is looked whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Reads every packet on the calling thread's network until it is stopped.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<usize>>,
}

impl Capture {
    /// Begins, and counts from now on the packets that have each of some texts in them.
    ///
    /// # Panics
    /// When the kernel does not let this process read along.
    pub fn of(texts: &[&str]) -> Self {
        let protocol = Protocol::from(i32::from(ALL));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol));
        let socket = socket.expect("root may read along");
        socket.set_read_timeout(Some(LOOK_EVERY)).expect("a timeout");
        socket.set_recv_buffer_size(8 << 20).expect("a buffer");
        let texts: Vec<_> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || count(socket, &texts, &told));
        Self { stop, thread }
    }

    /// Ends, and tells how many packets had each text.
    ///
    /// # Panics
    /// When reading failed.
    pub fn stop(self) -> Vec<usize> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic")
    }
}

fn count(mut socket: Socket, texts: &[Vec<u8>], stop: &AtomicBool) -> Vec<usize> {
    let mut counts = vec![0; texts.len()];
    let mut packet = vec![0; PACKET_BYTES_MAX];
    loop {
        let length = match socket.read(&mut packet) {
            Ok(length) => length,
            // Nothing is left to read.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if stop.load(Ordering::Relaxed) {
                    return counts;
                }
                continue;
            }
            Err(error) => panic!("a packet cannot be read: {error}"),
        };
        for (text, count) in texts.iter().zip(&mut counts) {
            let has = packet[..length].windows(text.len()).any(|part| part == text);
            *count += usize::from(has);
        }
    }
}
