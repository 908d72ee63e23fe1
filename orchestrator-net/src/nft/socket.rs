//! A netlink socket to the kernel's packet filter: one question at a time, waited for.

use std::io;

use netlink_sys::{Socket as Netlink, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::errno::Errno;

use super::message::{BATCH_BEGIN, Batch, HEADER, NEW_RULE};

const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The most rules that are listed; a machine with more is not understood.
const RULES_MAX: usize = 65_536;

pub(super) struct Socket(Netlink);

impl Socket {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Netlink::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    /// Does all of a batch or nothing of it.
    pub(super) fn commit(&mut self, batch: Batch) -> io::Result<()> {
        let Some((bytes, changes)) = batch.finish() else { return Ok(()) };
        self.0.send(&bytes, 0)?;
        let mut answered = 0;
        let mut first = None;
        // A batch that fails is answered for each change, and perhaps for its end.
        while answered < changes {
            let (answer, _) = self.0.recv_from_full()?;
            for message in messages(&answer) {
                if let Some(code) = error_code(message) {
                    if is_about_border(message) {
                        return Err(io::Error::from_raw_os_error(-code));
                    }
                    answered += 1;
                    if code != 0 && first.is_none() {
                        first = Some(io::Error::from_raw_os_error(-code));
                    }
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Asks for a list; one of what is not there is empty.
    pub(super) fn dump(&mut self, question: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.0.send(question, 0)?;
        let mut all = Vec::new();
        loop {
            let (answer, _) = self.0.recv_from_full()?;
            for message in messages(&answer) {
                let kind = kind(message);
                match error_code(message) {
                    Some(0) => {}
                    Some(code) if -code == Errno::ENOENT as i32 => return Ok(Vec::new()),
                    Some(code) => return Err(io::Error::from_raw_os_error(-code)),
                    None if kind == DONE => return Ok(all),
                    None if kind & 0xff == NEW_RULE && all.len() < RULES_MAX => {
                        all.push(message.to_vec());
                    }
                    None => {}
                }
            }
        }
    }
}

/// Whether an answer is about the beginning of a batch: then nothing of it was looked at.
fn is_about_border(answer: &[u8]) -> bool {
    let asked = answer.get(HEADER + 4..).filter(|asked| asked.len() >= HEADER);
    asked.is_some_and(|asked| kind(asked) == BATCH_BEGIN)
}

fn kind(message: &[u8]) -> u16 {
    u16::from_ne_bytes([message[4], message[5]])
}

/// The code that an answer of this kind carries; 0 means done.
fn error_code(message: &[u8]) -> Option<i32> {
    let code = message.get(HEADER..HEADER + 4).filter(|_| kind(message) == ERROR)?;
    Some(i32::from_ne_bytes(code.try_into().ok()?))
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = bytes.get(..4)?.try_into().ok().map(u32::from_ne_bytes)?;
        let length = usize::try_from(length).ok().filter(|length| *length >= HEADER)?;
        let message = bytes.get(..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}
