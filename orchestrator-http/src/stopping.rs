//! `Stopping`: how streams and connections learn that the server stops.

use tokio::sync::watch;

/// Tells once, when the server stops. Cloning is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Stopping(Option<watch::Receiver<bool>>);

/// The other end. Dropping it stops too.
#[derive(Debug)]
pub(crate) struct Stop(watch::Sender<bool>);

/// Makes both ends.
pub(crate) fn channel() -> (Stop, Stopping) {
    let (sender, receiver) = watch::channel(false);
    (Stop(sender), Stopping(Some(receiver)))
}

impl Stop {
    /// Tells everybody to stop.
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stopping {
    /// For what nobody stops: streams end when they are dropped.
    pub(crate) const fn never() -> Self {
        Self(None)
    }

    /// Waits until the server stops. Cancel-safe.
    pub(crate) async fn wait(&mut self) {
        match &mut self.0 {
            // An error means that the other end is gone, which is the same news.
            Some(receiver) => drop(receiver.wait_for(|stop| *stop).await),
            None => std::future::pending().await,
        }
    }
}
