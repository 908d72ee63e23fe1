//! `Runs`: how often a test does its fault.

use std::io::Write as _;

/// How often each fault is done; `tests/run --long` says it.
const VARIABLE: &str = "ORCH_TEST_FAULT_RUNS";

/// The runs of a fault, from 0. When there are several each is told on standard error as it begins, also by a test that passes.
#[derive(Debug)]
pub struct Runs {
    test: String,
    next: u32,
    all: u32,
}

impl Runs {
    /// As many as are asked for, or else one, by the test that the thread is of.
    ///
    /// # Panics
    /// When what is asked for is no number.
    pub fn here() -> Self {
        Self::of(std::thread::current().name().unwrap_or_default())
    }

    pub(crate) fn of(test: &str) -> Self {
        let said = std::env::var(VARIABLE).ok();
        let number = |text: String| {
            text.parse().unwrap_or_else(|_| panic!("${VARIABLE} is {text:?}, not a number of runs"))
        };
        Self { test: test.to_owned(), next: 0, all: said.map_or(1, number) }
    }

    /// As many as are asked for, and at least so many.
    #[must_use]
    pub fn at_least(self, least: u32) -> Self {
        Self { all: self.all.max(least), ..self }
    }
}

impl Iterator for Runs {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let run = self.next;
        if run == self.all {
            return None;
        }
        self.next += 1;
        if self.all > 1 {
            // What is printed is kept from whoever waits; what is written is not.
            let line = format!("{}: run {} of {}\n", self.test, self.next, self.all);
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        Some(run)
    }
}
