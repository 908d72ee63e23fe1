//! Reading a container's log, a file in the format of CRI: `TIME STREAM F|P TEXT`, where P says that no line end follows.
//!
//! The supervisor writes `log`, and renames it to `log.1` when it is full.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, BufRead, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use orchestrator_core::model::Time;
use orchestrator_core::runtime::{LogLine, LogOptions, LogSource, LogStream, RuntimeError};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::container::{Container, Phase, is_container};
use crate::error::{Result, backend, blocking, if_present};

/// How often a followed log is looked at, in milliseconds.
const FOLLOW_MS: u64 = 50;

/// A log being read.
#[derive(Debug)]
pub(crate) struct ProcessLog {
    container: Container,
    follow: bool,
    since: Option<Time>,
    /// Records still to be left out.
    skip: u64,
    /// Files to read, oldest first; the first is being read.
    files: VecDeque<Open>,
    /// The inode of the newest file opened; 0 if there was none.
    newest: u64,
    /// The beginning of a record.
    buffer: Vec<u8>,
    /// Whether nothing will be written any more.
    ended: bool,
    done: bool,
}

#[derive(Debug)]
struct Open {
    reader: BufReader<File>,
}

impl ProcessLog {
    /// Opens the log as it is now.
    pub(crate) async fn open(container: Container, options: LogOptions) -> Result<Self> {
        blocking(move || {
            Self::open_now(container, &options).map_err(|error| backend("open a log", error))
        })
        .await
    }

    fn open_now(container: Container, options: &LogOptions) -> io::Result<Self> {
        let mut files = open_files(&container.dir)?;
        let newest = match files.back() {
            Some(file) => file.metadata()?.ino(),
            None => 0,
        };
        let skip = match options.tail_lines {
            Some(lines) => records_before_tail(&mut files, lines, options.since)?,
            None => 0,
        };
        Ok(Self {
            container,
            follow: options.follow,
            since: options.since,
            skip,
            files: files.into_iter().map(Open::new).collect(),
            newest,
            buffer: Vec::new(),
            ended: false,
            done: false,
        })
    }

    /// Returns the next record of the files that are open, if there is a whole one.
    async fn record(&mut self) -> io::Result<Option<LogLine>> {
        while let Some(file) = self.files.front_mut() {
            file.reader.read_until(b'\n', &mut self.buffer).await?;
            if self.buffer.last() == Some(&b'\n') {
                let line = parse(&self.buffer);
                self.buffer.clear();
                match line {
                    Some(line) if is_since(&line, self.since) => {
                        if self.skip == 0 {
                            return Ok(Some(line));
                        }
                        self.skip -= 1;
                    }
                    Some(_) | None => {}
                }
            } else if self.files.len() > 1 {
                self.buffer.clear(); // cut by a full disk
                self.files.pop_front();
            } else {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// At the end of what is there: waits for more. Returns whether there may be some.
    async fn more(&mut self) -> Result<bool> {
        if self.open_newer().await.map_err(|error| backend("follow a log", error))? {
            return Ok(true);
        }
        if !self.follow || self.ended {
            return Ok(false);
        }
        let container = self.container.clone();
        let ended = blocking(move || {
            Ok(!is_container(&container.dir) || matches!(container.observe()?, Phase::Exited(..)))
        });
        // What was written before the end is still to be read.
        self.ended = ended.await?;
        if !self.ended {
            tokio::time::sleep(Duration::from_millis(FOLLOW_MS)).await;
        }
        Ok(true)
    }

    /// Queues the file that has taken the place of the one being read, if any.
    async fn open_newer(&mut self) -> io::Result<bool> {
        if !self.follow {
            return Ok(false);
        }
        let Some(file) = if_present(File::open(self.container.dir.join("log")).await)? else {
            return Ok(false);
        };
        let inode = file.metadata().await?.ino();
        if inode == self.newest {
            return Ok(false);
        }
        self.newest = inode;
        self.files.push_back(Open { reader: BufReader::new(file) });
        Ok(true)
    }
}

impl Open {
    fn new(file: fs::File) -> Self {
        Self { reader: BufReader::new(File::from_std(file)) }
    }
}

#[async_trait]
impl LogStream for ProcessLog {
    async fn next(&mut self) -> Option<Result<LogLine>> {
        while !self.done {
            match self.record().await {
                Ok(Some(line)) => return Some(Ok(line)),
                Ok(None) => {}
                Err(error) => return self.fail(backend("read a log", error)),
            }
            match self.more().await {
                Ok(more) => self.done = !more,
                Err(error) => return self.fail(error),
            }
        }
        None
    }
}

impl ProcessLog {
    fn fail(&mut self, error: RuntimeError) -> Option<Result<LogLine>> {
        self.done = true;
        Some(Err(error))
    }
}

/// Opens both files, the older first, as they belong together.
fn open_files(dir: &Path) -> io::Result<VecDeque<fs::File>> {
    loop {
        let Some(log) = if_present(fs::File::open(dir.join("log")))? else {
            return Ok(VecDeque::new());
        };
        let older = if_present(fs::File::open(dir.join("log.1")))?;
        let now = if_present(fs::metadata(dir.join("log")))?;
        if now.is_some_and(|it| log.metadata().is_ok_and(|mine| mine.ino() == it.ino())) {
            return Ok(older.into_iter().chain([log]).collect());
        }
    }
}

/// Counts the records before the last `lines` lines, and rewinds the files.
fn records_before_tail(
    files: &mut VecDeque<fs::File>,
    lines: usize,
    since: Option<Time>,
) -> io::Result<u64> {
    let mut records = 0;
    let mut starts = VecDeque::new();
    let mut unfinished = BTreeMap::new();
    for file in files {
        let mut reader = io::BufReader::new(&mut *file);
        let mut buffer = Vec::new();
        while reader.read_until(b'\n', &mut buffer)? > 0 {
            let line = parse(&buffer).filter(|line| is_since(line, since));
            if let Some(line) = line.filter(|_| buffer.ends_with(b"\n")) {
                let ends = line.text.ends_with(b"\n");
                if !unfinished.insert(line.stream as u8, !ends).unwrap_or(false) {
                    starts.push_back(records);
                }
                if starts.len() > lines {
                    starts.pop_front();
                }
                records += 1;
            }
            buffer.clear();
        }
        file.rewind()?;
    }
    Ok(starts.front().copied().unwrap_or(records))
}

fn is_since(line: &LogLine, since: Option<Time>) -> bool {
    since.is_none_or(|since| line.time.parse::<Time>().is_ok_and(|time| time >= since))
}

/// Reads a record with its line end; `None` if it is none.
fn parse(record: &[u8]) -> Option<LogLine> {
    let mut parts = record.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?.to_owned();
    let stream = match parts.next()? {
        b"stdout" => LogSource::Stdout,
        b"stderr" => LogSource::Stderr,
        _ => return None,
    };
    let tag = parts.next()?;
    let text = parts.next()?;
    let text = if tag == b"P" { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
    Some(LogLine { time, stream, text: Bytes::copy_from_slice(text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_its_line_end_unless_it_is_a_piece() {
        let line = parse(b"2026-01-01T00:00:00.5Z stderr F  a b \n").expect("a record");
        assert_eq!((line.stream, &line.text[..]), (LogSource::Stderr, &b" a b \n"[..]));
        let line = parse(b"2026-01-01T00:00:00.5Z stdout P a\n").expect("a record");
        assert_eq!(&line.text[..], b"a");
        assert_eq!(parse(b"torn stdout\n"), None);
    }
}
