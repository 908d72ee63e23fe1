//! The token that an agent joins with: from a file, from the environment, or from the command line, where it does not stay.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use orchestrator_http::JoinToken;

use crate::out;

/// The variable that holds a token.
const VARIABLE: &str = "ORCHD_TOKEN";
/// The option that gives one.
const OPTION: &str = "--token";
/// How much of a file is read: more is no token.
const FILE_BYTES_MAX: u64 = 4_096;

/// Where a token comes from.
#[derive(Debug, clap::Args)]
pub struct TokenArgs {
    /// The token to join with, from `orchd token create`; not needed again afterwards. Rather give it by ORCHD_TOKEN or --token-file:
    /// what is on a command line can be seen by everybody on the machine until the program has taken it away
    #[arg(long, value_name = "TOKEN", env = VARIABLE, hide_env_values = true)]
    token: Option<String>,
    /// A file that holds the token
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
}

impl TokenArgs {
    /// Whether there is to be one.
    pub const fn is_given(&self) -> bool {
        self.token.is_some() || self.token_file.is_some()
    }

    /// The token, if there is to be one.
    ///
    /// # Errors
    /// When the file cannot be read, or what is given is no token.
    pub fn token(&self) -> anyhow::Result<Option<JoinToken>> {
        let text = match (&self.token, &self.token_file) {
            (Some(text), _) => text.clone(),
            (None, Some(path)) => {
                let shown = path.display();
                let read = || -> std::io::Result<String> {
                    let file = std::fs::File::open(path)?;
                    let mut text = String::new();
                    std::io::Read::read_to_string(
                        &mut std::io::Read::take(file, FILE_BYTES_MAX),
                        &mut text,
                    )?;
                    Ok(text)
                };
                read().with_context(|| format!("--token-file: cannot read {shown}"))?
            }
            (None, None) => return Ok(None),
        };
        text.parse().map(Some).map_err(out::usage)
    }
}

/// Takes a token off the command line, which everybody on the machine can read: begins the program anew, in the same process, with
/// the token in its environment, which only its owner can read. Returns when there is nothing to take off, or it cannot be done.
pub fn hide() {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let Some((token, rest)) = without_token(&arguments) else { return };
    let Ok(program) = std::env::current_exe() else { return };
    let name = std::env::args_os().next().unwrap_or_else(|| program.clone().into());
    let error = Command::new(program).arg0(name).args(rest).env(VARIABLE, token).exec();
    tracing::warn!(%error, "the token stays on the command line, where everybody on this machine can see it");
}

/// The token among the arguments, and the arguments without it.
fn without_token(arguments: &[OsString]) -> Option<(OsString, Vec<OsString>)> {
    let at = arguments.iter().position(|argument| {
        argument == OPTION
            || argument
                .as_bytes()
                .strip_prefix(OPTION.as_bytes())
                .is_some_and(|rest| rest.starts_with(b"="))
    })?;
    let mut rest = arguments.to_vec();
    let option = rest.remove(at);
    let token = match option.as_bytes().get(OPTION.len() + 1..) {
        Some(value) => OsStr::from_bytes(value).to_owned(),
        None if at < rest.len() => rest.remove(at),
        None => return None,
    };
    Some((token, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_off_the_command_line_and_nothing_else() {
        let strings = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        for (given, token, rest) in [
            (&["agent", "--token", "t", "--name", "a"][..], "t", &["agent", "--name", "a"][..]),
            (&["agent", "--name=a", "--token=t"], "t", &["agent", "--name=a"]),
            (&["agent", "--token="], "", &["agent"]),
        ] {
            let taken = without_token(&strings(given)).expect("there is one");
            assert_eq!(taken, (token.into(), strings(rest)));
            assert_eq!(without_token(&taken.1), None);
        }
        for none in [&["agent", "--token-file", "f"][..], &["agent"], &["agent", "--token"]] {
            assert_eq!(without_token(&strings(none)), None, "{none:?}");
        }
    }
}
