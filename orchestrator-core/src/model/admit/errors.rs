//! Collecting field errors, and the paths they carry.

use std::fmt;

use crate::model::FieldError;

/// The most errors that one admission reports; what is wrong beyond them shows when these are put right.
pub const ERRORS_MAX: usize = 32;

/// What was found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Errors(Vec<FieldError>);

impl Errors {
    pub(super) fn push(&mut self, error: FieldError) {
        if self.0.len() < ERRORS_MAX {
            self.0.push(error);
        }
    }

    pub(super) fn none_or<T>(self, admitted: T) -> Result<T, Vec<FieldError>> {
        if self.0.is_empty() { Ok(admitted) } else { Err(self.0) }
    }

    /// Notes a number below `least`.
    pub(super) fn at_least(&mut self, path: &Path<'_>, number: impl Into<i64>, least: i64) {
        let number = number.into();
        if number < least {
            let right = format!("must be greater than or equal to {least}");
            self.push(FieldError::invalid(path, number, &right));
        }
    }

    /// Notes a list or map with more than `entries_max` entries.
    pub(super) fn at_most(&mut self, path: &Path<'_>, found: usize, entries_max: usize) {
        if found > entries_max {
            self.push(FieldError::too_many(path, found, entries_max));
        }
    }

    /// Notes a number that is no port.
    pub(super) fn port(&mut self, path: &Path<'_>, port: i32) {
        if !(1..=65535).contains(&port) {
            self.push(FieldError::invalid(path, port, "must be between 1 and 65535, inclusive"));
        }
    }

    /// Notes a text with a NUL byte, which no program could be given.
    pub(super) fn no_nul(&mut self, path: &Path<'_>, text: &str) {
        if text.contains('\0') {
            self.push(FieldError::invalid(path, text, "must not contain NUL bytes"));
        }
    }
}

/// The path of a field, made of borrowed steps; printed only when there is an error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: PathStep<'a>,
}

#[derive(Clone, Copy, Debug)]
enum PathStep<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    pub(super) const fn root(name: &'a str) -> Self {
        Self { parent: None, step: PathStep::Field(name) }
    }

    pub(super) const fn field<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path { parent: Some(self), step: PathStep::Field(name) }
    }

    pub(super) const fn index(&self, index: usize) -> Path<'_> {
        Path { parent: Some(self), step: PathStep::Index(index) }
    }

    pub(super) const fn key<'b>(&'b self, key: &'b str) -> Path<'b> {
        Path { parent: Some(self), step: PathStep::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            PathStep::Field(name) if self.parent.is_some() => write!(f, ".{name}"),
            PathStep::Field(name) => f.write_str(name),
            PathStep::Index(index) => write!(f, "[{index}]"),
            PathStep::Key(key) => write!(f, "[{key}]"),
        }
    }
}
