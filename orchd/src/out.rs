//! Standard output and standard error, and the ways to end that are more than an error's message.

use std::fmt;
use std::io::{ErrorKind, Write as _};
use std::os::fd::AsFd as _;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::oneshot;

/// How a verb may end besides with success or an error.
#[derive(Debug)]
pub enum Stop {
    /// Whoever read the output has enough. No failure.
    ReaderGone,
    /// It failed, and everything has been said.
    Told,
    /// What was asked for makes no sense: exit code 2.
    Usage(String),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReaderGone => f.write_str("nobody reads the output"),
            Self::Told => f.write_str("failed"),
            Self::Usage(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Stop {}

/// Makes an error of bad usage.
pub fn usage(message: impl fmt::Display) -> anyhow::Error {
    Stop::Usage(message.to_string()).into()
}

/// Prints bytes on standard output.
///
/// # Errors
/// [`Stop::ReaderGone`] when nobody reads it any more; else what the system says.
pub fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Stop::ReaderGone.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to standard output")),
    }
}

/// Prints text on standard output.
///
/// # Errors
/// As [`bytes`].
pub fn text(text: impl AsRef<str>) -> anyhow::Result<()> {
    bytes(text.as_ref().as_bytes())
}

/// Prints a line on standard output.
///
/// # Errors
/// As [`bytes`].
pub fn line(line: impl fmt::Display) -> anyhow::Result<()> {
    bytes(format!("{line}\n").as_bytes())
}

/// Does something that may wait long between its lines, until it ends or nobody reads them any more.
///
/// # Errors
/// [`Stop::ReaderGone`], and those of what is done.
pub async fn while_read<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::select! {
        outcome = work => outcome,
        () = reader_gone() => Err(Stop::ReaderGone.into()),
    }
}

/// Waits until nobody can read standard output any more. Of files and the like that never happens.
async fn reader_gone() {
    let (gone, told) = oneshot::channel();
    // A thread of its own: the end of the program does not wait for it.
    std::thread::spawn(move || {
        let stdout = std::io::stdout();
        let mut ends = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        let polled = loop {
            match poll(&mut ends, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                polled => break polled,
            }
        };
        if polled.is_ok() {
            let _ = gone.send(());
        }
    });
    if told.await.is_err() {
        std::future::pending().await
    }
}

/// Tells an error and its causes, but no cause that what comes before has told already.
pub fn chain(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

/// Prints a line on standard error, which may be closed.
pub fn remark(line: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Makes text from elsewhere fit to stand in a line of a terminal: nothing in it moves the cursor or begins a line.
pub fn clean(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        match c {
            '\n' | '\t' => line.push(' '),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::{chain, clean};

    #[test]
    fn no_cause_is_told_twice() {
        let inner = anyhow::anyhow!("refused");
        let error = inner.context("cannot reach x: refused; start it").context("cannot list");
        assert_eq!(chain(&error), "cannot list: cannot reach x: refused; start it");
    }

    #[test]
    fn text_from_elsewhere_cannot_steer_the_terminal() {
        assert_eq!(clean("a\nb\u{1b}[31mc\r\n"), "a b\\u{1b}[31mc");
        assert_eq!(clean("héllo – ok"), "héllo – ok");
    }
}
