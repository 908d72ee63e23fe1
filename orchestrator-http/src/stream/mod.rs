//! Streams past the request: connections that become WebSockets, for exec, attach and port-forward.
//!
//! A request that asks for an upgrade is answered with 101, and the answer carries a [`Takeover`]: what is to be done with
//! the connection then. Whoever serves the connection runs it, so that it ends with the server.

mod channels;
mod exec;
mod forward;
mod spdy;
mod tunnel;
mod websocket;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use http::Extensions;

pub(crate) use exec::ExecQuery;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is to be done with a connection once its request has been answered.
#[derive(Clone)]
pub(crate) struct Takeover(Arc<Mutex<Option<Task>>>);

impl Takeover {
    pub(crate) fn new(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::pin(task)))))
    }

    /// Holds something until the task has ended.
    pub(crate) fn hold(extensions: &mut Extensions, held: impl Send + 'static) {
        if let Some(task) = Self::take_from(extensions) {
            extensions.insert(Self::new(async move {
                task.await;
                drop(held);
            }));
        }
    }

    /// Ends the task when something else has happened.
    pub(crate) fn until(
        extensions: &mut Extensions,
        happened: impl Future<Output = ()> + Send + 'static,
    ) {
        if let Some(task) = Self::take_from(extensions) {
            extensions.insert(Self::new(async move {
                tokio::select! {
                    () = task => {}
                    () = happened => {}
                }
            }));
        }
    }

    /// Takes the task out of an answer.
    pub(crate) fn take_from(extensions: &mut Extensions) -> Option<Task> {
        let takeover = extensions.remove::<Self>()?;
        takeover.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Takeover")
    }
}
