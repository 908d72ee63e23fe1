//! `Kubectl`: the real one, against an orchd of a test.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How often in a row a command may be refused for what others wrote meanwhile.
const CONFLICTS_MAX: usize = 50;
/// How long a command may take.
const WITHIN: Duration = Duration::from_secs(120);

/// A kubectl with a home of its own.
#[derive(Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

/// What a command came to.
#[derive(Debug)]
pub struct Said {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Kubectl {
    /// Makes a kubectl for the cluster of a kubeconfig. `home` holds what it caches, and is where it runs.
    ///
    /// # Panics
    /// When `tests/run` has not said where kubectl is.
    pub fn new(kubeconfig: &Path, home: &Path) -> Self {
        let program = std::env::var_os("ORCH_TEST_KUBECTL").expect("run the tests by tests/run");
        Self::of(Path::new(&program), kubeconfig, home)
    }

    /// As [`Self::new`], of a program that is not that of the other tests.
    pub fn of(program: &Path, kubeconfig: &Path, home: &Path) -> Self {
        let [program, kubeconfig, home] = [program, kubeconfig, home].map(Path::to_owned);
        Self { program, kubeconfig, home }
    }

    /// Prepares a command given as one line of words, split at spaces; `'…'` keeps spaces. What it edits, the script
    /// `editor` edits.
    pub fn command(&self, line: &str) -> Command {
        let mut command = self.program(&self.program);
        command.args(words(line));
        command
    }

    /// Prepares a program with what a kubectl has around it.
    fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(&self.home);
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.home);
        command.env("EDITOR", "/bin/sh editor");
        // An edit that fails leaves a file behind.
        command.env("TMPDIR", &self.home);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn run(&self, line: &str) -> Said {
        finish(line, self.command(line).spawn().expect("kubectl runs")).await
    }

    /// Runs a command that reads `input`.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn run_with(&self, line: &str, input: &[u8]) -> Said {
        let mut child = self.command(line).stdin(Stdio::piped()).spawn().expect("kubectl runs");
        let mut stdin = child.stdin.take().expect("it is piped");
        let input = input.to_vec();
        let feed = tokio::spawn(async move {
            // What is not read is not missed.
            let _ = stdin.write_all(&input).await;
        });
        let said = finish(line, child).await;
        feed.abort();
        said
    }

    /// Starts a command that goes on until it is stopped.
    ///
    /// # Panics
    /// When it does not run.
    pub fn start(&self, line: &str) -> Running {
        Running::spawn(line, self.command(line))
    }

    /// As [`Self::start`], at a terminal of that size: what it is told is typed there, and what it prints is what is seen.
    ///
    /// # Panics
    /// When it does not run.
    pub fn start_at_terminal(&self, line: &str, columns: u16, rows: u16) -> Running {
        let program = self.program.display();
        let script = format!("stty cols {columns} rows {rows}; exec '{program}' {line}");
        let mut command = self.program("script");
        command.args(["--quiet", "--flush", "--return", "--command", &script, "/dev/null"]);
        Running::spawn(line, command)
    }

    /// Runs a command that must succeed, and returns what it prints.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ok<'a>(&'a self, line: &'a str) -> impl Future<Output = String> + 'a {
        let at = std::panic::Location::caller();
        async move {
            let said = self.run(line).await;
            assert_eq!(said.code, 0, "{at}: kubectl {line}: {said:?}");
            said.stdout
        }
    }

    /// Runs a command that must succeed and print all these words.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn says<'a>(
        &'a self,
        line: &'a str,
        words: &'a [&'a str],
    ) -> impl Future<Output = ()> + 'a {
        let at = std::panic::Location::caller();
        async move {
            let said = self.run(line).await;
            assert_eq!(said.code, 0, "{at}: kubectl {line}: {said:?}");
            said.assert_has(&said.stdout, words, &format!("{at}: kubectl {line}"));
        }
    }

    /// As [`Self::ok`] for a command that reads an object and writes it whole: when somebody wrote between the two it is
    /// refused (409), and run again, as it says itself. On a new object's way to its state its status is written often.
    ///
    /// # Panics
    /// When it fails otherwise, or is refused [`CONFLICTS_MAX`] times in a row.
    #[track_caller]
    pub fn ok_despite_conflicts<'a>(&'a self, line: &'a str) -> impl Future<Output = String> + 'a {
        let at = std::panic::Location::caller();
        async move {
            for _ in 0..CONFLICTS_MAX {
                let said = self.run(line).await;
                if said.code == 0 {
                    return said.stdout;
                }
                said.assert_has(
                    &said.stderr,
                    &["(Conflict)", "apply your changes to the latest version and try again"],
                    &format!("{at}: kubectl {line}"),
                );
            }
            panic!("{at}: kubectl {line}: refused {CONFLICTS_MAX} times")
        }
    }

    /// Runs a command that must fail and say all these words.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn fails<'a>(
        &'a self,
        line: &'a str,
        words: &'a [&'a str],
    ) -> impl Future<Output = ()> + 'a {
        let at = std::panic::Location::caller();
        async move {
            let said = self.run(line).await;
            assert_ne!(said.code, 0, "{at}: kubectl {line}: {said:?}");
            said.assert_has(&said.stderr, words, &format!("{at}: kubectl {line}"));
        }
    }

    /// Writes a file where commands run.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.home.join(name), text).expect("writable");
    }

    /// As [`Self::write`], with the directories that lead there.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_below(&self, path: &str, text: &str) {
        let directory = self.home.join(path).parent().map(Path::to_owned);
        std::fs::create_dir_all(directory.expect("a file is in a directory")).expect("writable");
        self.write(path, text);
    }

    /// Reads a file where commands run.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.home.join(name)).expect("readable")
    }
}

/// A command that has not ended.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn spawn(line: &str, mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().expect("kubectl runs");
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { line: line.to_owned(), child, stdin, lines }
    }

    /// Waits for a line with these words, and returns it.
    ///
    /// # Panics
    /// When there is none in time.
    #[track_caller]
    pub fn until<'a>(&'a mut self, words: &'a [&'a str]) -> impl Future<Output = String> + 'a {
        let at = std::panic::Location::caller();
        async move {
            let mut before = Vec::new();
            loop {
                let next = tokio::time::timeout(WITHIN, self.lines.next_line()).await;
                match next.ok().and_then(Result::ok).flatten() {
                    Some(line) if words.iter().all(|word| line.contains(word)) => return line,
                    Some(line) => before.push(line),
                    None => panic!("{at}: kubectl {}: no {words:?} after {before:#?}", self.line),
                }
            }
        }
    }

    /// Sends it a line.
    ///
    /// # Panics
    /// When it does not take it.
    pub async fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("its input has not ended");
        stdin.write_all(format!("{line}\n").as_bytes()).await.expect("it reads");
    }

    /// Ends its input and waits for its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn end(mut self) -> Said {
        drop(self.stdin.take());
        let mut stdout = String::new();
        let rest = async {
            while let Ok(Some(line)) = self.lines.next_line().await {
                stdout.push_str(&line);
                stdout.push('\n');
            }
        };
        let in_time = tokio::time::timeout(WITHIN, rest).await;
        in_time.unwrap_or_else(|_| panic!("kubectl {} does not end", self.line));
        Said { stdout, ..finish(&self.line, self.child).await }
    }

    /// Stops it.
    ///
    /// # Panics
    /// When it cannot be stopped.
    pub async fn stop(mut self) {
        self.child.kill().await.expect("killed");
    }
}

impl Said {
    fn assert_has(&self, text: &str, words: &[&str], about: &str) {
        for word in words {
            assert!(text.contains(word), "{about}: no {word:?}: {self:?}");
        }
    }
}

async fn finish(line: &str, child: Child) -> Said {
    let output = tokio::time::timeout(WITHIN, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("kubectl {line} does not end"));
    let output = output.expect("kubectl is waited for");
    Said {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}
