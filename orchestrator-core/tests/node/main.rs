//! The node agent: its brain alone, its brain over a simulated runtime, and its shell.

mod agent;
mod alone;
mod orphans;
mod plan;
mod sim;
mod sim_runtime;
mod ticks;
