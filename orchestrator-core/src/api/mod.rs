//! The verbs: what a request means, whoever makes it.
//!
//! Pure functions of (request, caller, world, now, fresh uid) to a transaction or a rejection. HTTP, `Cluster`,
//! the command line and agents all go through [`decide`]. Depends on `model` and `world`.

mod rejection;
mod request;

pub use rejection::{FieldError, FieldErrorKind, Rejection};
pub use request::{
    Caller, Cascade, DeleteOptions, Effect, FieldValidation, Patch, Preconditions, Request,
    WriteOptions,
};
