//! The shell around the engine: the only tokio, the only clock. No decision is made here.

mod agent;
mod clock;

pub use agent::{Agent, AgentConfig, AgentHandle};
pub use clock::{Clock, SystemClock};
