//! Tests of the process runtime on real processes: the conformance suite, and what is its own.

mod attach;
mod conformance;
mod fixture;
mod helper;
mod own;
mod survival;
