//! The token that an agent joins with: from a file, from the environment, or from the command line, where it does not stay.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use orchestrator_http::{ClientError, JoinToken};

use crate::out;

/// The variable that holds a token.
const VARIABLE: &str = "ORCHD_TOKEN";
/// The option that gives one.
const OPTION: &str = "--token";
/// The option that names a file.
const FILE_OPTION: &str = "--token-file";
/// How much of a token is read: what has more is none.
const TOKEN_BYTES_MAX: usize = 4_096;
/// The files that are what this process has open.
const DESCRIPTORS: &str = "/proc/self/fd";
/// The last descriptor that is not ours to close.
const STANDARD_ERROR: RawFd = 2;

/// Where a token comes from.
#[derive(Debug, clap::Args)]
pub struct TokenArgs {
    /// The token to join with, from `orchd token create`; not needed again afterwards. Rather give it by --token-file: what is on a
    /// command line can be seen by everybody on the machine, and what is in the environment by programs of the same user, until the
    /// program has taken it away
    #[arg(long, value_name = "TOKEN", env = VARIABLE, hide_env_values = true)]
    token: Option<String>,
    /// A file that holds the token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl TokenArgs {
    /// Whether there is to be one.
    pub fn is_given(&self) -> bool {
        self.token.as_ref().is_some_and(|token| !token.is_empty()) || self.token_file.is_some()
    }

    /// The token, if there is to be one.
    ///
    /// # Errors
    /// When the file cannot be read, or what is given is no token.
    pub fn token(&self) -> anyhow::Result<Option<JoinToken>> {
        let text = match (&self.token, &self.token_file) {
            (Some(text), _) => text.clone(),
            (None, Some(path)) => read_file(path)?,
            (None, None) => return Ok(None),
        };
        text.parse().map(Some).map_err(out::usage)
    }
}

/// Says what to do when somebody with a token cannot join.
pub fn advised(error: ClientError) -> anyhow::Error {
    match error {
        ClientError::Unreachable { .. } => anyhow::anyhow!(
            "{error}; look whether `orchd server` runs there, and is reached from here by that address and port"
        ),
        error => error.into(),
    }
}

fn read_file(path: &Path) -> anyhow::Result<String> {
    let read = || -> std::io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(TOKEN_BYTES_MAX as u64).read_to_string(&mut text)?;
        Ok(text)
    };
    read().with_context(|| format!("{FILE_OPTION}: cannot read {}", path.display()))
}

/// Takes a token off the command line and out of the environment: others on the machine can read the one as long as the program
/// runs, and programs of the same user the other. Begins the program anew, in the same process, with the token in a pipe, which is
/// empty once it is read. Returns when there is nothing to take away, or it cannot be done.
///
/// # Errors
/// When there are two tokens, or the pipe cannot be read.
pub fn hide(given: &mut TokenArgs) -> anyhow::Result<()> {
    if let Some(path) = given.token_file.take_if(|path| path.starts_with(DESCRIPTORS)) {
        given.token = Some(read_file(&path)?);
        let descriptor = path.file_name().and_then(|name| name.to_str()?.parse::<RawFd>().ok());
        if let Some(pipe) = descriptor.filter(|descriptor| *descriptor > STANDARD_ERROR) {
            nix::unistd::close(pipe).with_context(|| format!("cannot close {}", path.display()))?;
        }
        return Ok(());
    }
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let rest = without_token(&arguments);
    if given.token.is_some() && given.token_file.is_some() {
        return Err(out::usage(match rest {
            Some(_) => {
                format!("{FILE_OPTION} cannot be used with {OPTION}; leave one of them away")
            }
            None => format!(
                "{FILE_OPTION} cannot be used with the environment's {VARIABLE}; leave the option away, or unset {VARIABLE}"
            ),
        }));
    }
    if rest.is_none() && std::env::var_os(VARIABLE).is_none() {
        return Ok(());
    }
    if let Err(error) = begin_anew(given.token.as_deref(), rest.unwrap_or(arguments)) {
        let error = out::chain(&error);
        tracing::warn!(error, "the token stays where other programs on this machine can see it");
    }
    Ok(())
}

/// Replaces this program by itself, without a token in its environment.
fn begin_anew(token: Option<&str>, mut arguments: Vec<OsString>) -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let name = std::env::args_os().next().unwrap_or_else(|| program.clone().into());
    let (pipe, mut write) = std::io::pipe()?;
    if let Some(token) = token {
        // More than is read of it would fill the pipe, and be no token.
        let bytes = &token.as_bytes()[..token.len().min(TOKEN_BYTES_MAX)];
        write.write_all(bytes)?;
        fcntl(&pipe, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let path = Path::new(DESCRIPTORS).join(pipe.as_raw_fd().to_string());
        arguments.extend([FILE_OPTION.into(), path.into()]);
    }
    Err(Command::new(program).arg0(name).args(arguments).env_remove(VARIABLE).exec().into())
}

/// The arguments without a token; `None` when there is none among them.
fn without_token(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let at = arguments.iter().position(|argument| {
        argument == OPTION
            || argument
                .as_bytes()
                .strip_prefix(OPTION.as_bytes())
                .is_some_and(|rest| rest.starts_with(b"="))
    })?;
    let mut rest = arguments.to_vec();
    if rest.remove(at) == OPTION {
        if at == rest.len() {
            return None;
        }
        rest.remove(at);
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_off_the_command_line_and_nothing_else() {
        let strings = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        for (given, rest) in [
            (&["agent", "--token", "t", "--name", "a"][..], &["agent", "--name", "a"][..]),
            (&["agent", "--name=a", "--token=t"], &["agent", "--name=a"]),
            (&["agent", "--token="], &["agent"]),
        ] {
            let taken = without_token(&strings(given)).expect("there is one");
            assert_eq!(taken, strings(rest));
            assert_eq!(without_token(&taken), None);
        }
        for none in [&["agent", "--token-file", "f"][..], &["agent"], &["agent", "--token"]] {
            assert_eq!(without_token(&strings(none)), None, "{none:?}");
        }
    }
}
