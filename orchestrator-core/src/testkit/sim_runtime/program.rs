//! What simulated programs do, and how verbs fail.

use crate::node::RuntimeOp;
use crate::runtime::RuntimeError;

/// What a simulated program does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimProgram {
    /// Milliseconds from its start to its end; it runs until it is ended when `None`.
    pub runs_ms: Option<i64>,
    /// The exit code of its own end.
    pub exit_code: i32,
    /// What it does when it is asked to end.
    pub on_term: OnTerm,
    /// What it prints when it starts, a line each.
    pub prints: Vec<String>,
    /// Why it cannot start, if so.
    pub broken: Option<String>,
    /// The exit code of every program that is run in its container.
    pub exec_code: i32,
    /// Milliseconds from its start until checks of it succeed and its ports are open; never when `None`.
    pub ready_ms: Option<i64>,
    /// The HTTP status with which it answers on every port.
    pub http_status: u16,
}

/// What a program does when it is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTerm {
    /// It ends with this code.
    Exit(i32),
    /// It goes on until it is killed.
    Ignore,
}

impl Default for SimProgram {
    fn default() -> Self {
        Self {
            runs_ms: None,
            exit_code: 0,
            on_term: OnTerm::Exit(143),
            prints: Vec::new(),
            broken: None,
            exec_code: 0,
            ready_ms: Some(0),
            http_status: 200,
        }
    }
}

impl SimProgram {
    /// Ends with a code, so many milliseconds after its start.
    pub fn exits(exit_code: i32, runs_ms: i64) -> Self {
        Self { runs_ms: Some(runs_ms), exit_code, ..Self::default() }
    }

    /// Runs, and its checks begin to succeed so many milliseconds after its start.
    pub fn ready_after(ready_ms: i64) -> Self {
        Self { ready_ms: Some(ready_ms), ..Self::default() }
    }

    /// Runs, and no check of it ever succeeds.
    pub fn never_ready() -> Self {
        Self { ready_ms: None, ..Self::default() }
    }

    /// Cannot be started.
    pub fn broken(why: &str) -> Self {
        Self { broken: Some(why.to_owned()), ..Self::default() }
    }
}

/// A call of a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // each names the method of `Runtime`
pub enum SimVerb {
    Attach,
    CreateContainer,
    CreateSandbox,
    Describe,
    Exec,
    Image,
    List,
    Logs,
    Pull,
    RemoveContainer,
    RemoveSandbox,
    StartContainer,
    StopContainer,
    Usage,
}

impl SimVerb {
    /// The call that a planned verb leads to.
    pub const fn of(op: &RuntimeOp) -> Self {
        match op {
            RuntimeOp::CreateContainer(_) => Self::CreateContainer,
            RuntimeOp::CreateSandbox(_) => Self::CreateSandbox,
            RuntimeOp::Pull { .. } => Self::Pull,
            RuntimeOp::RemoveContainer(_) => Self::RemoveContainer,
            RuntimeOp::RemoveSandbox(_) => Self::RemoveSandbox,
            RuntimeOp::StartContainer(_) => Self::StartContainer,
            RuntimeOp::Stop { .. } => Self::StopContainer,
        }
    }
}

/// How a call fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// With [`RuntimeError::Backend`].
    Backend,
    /// It never returns.
    Hang,
    /// With [`RuntimeError::Invalid`] and this message.
    Invalid(String),
    /// With [`RuntimeError::Unreachable`].
    Unreachable,
}

impl Fault {
    /// The error, unless the call hangs.
    pub fn error(&self) -> Option<RuntimeError> {
        match self {
            Self::Backend => Some(Self::backend("as the test wants")),
            Self::Hang => None,
            Self::Invalid(message) => Some(RuntimeError::Invalid { message: message.clone() }),
            Self::Unreachable => Some(RuntimeError::Unreachable("as the test wants".into())),
        }
    }

    pub(super) fn backend(why: &str) -> RuntimeError {
        RuntimeError::Backend { action: "simulated call".to_owned(), source: why.into() }
    }
}
