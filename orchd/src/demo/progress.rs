//! What the demo shows: a spinner on a terminal, plain lines in a pipe, each with the time since the start.

use std::fmt;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Tells what happens, with times.
pub struct Progress {
    start: Instant,
    /// Hidden when standard error is no terminal.
    spinner: ProgressBar,
}

impl Progress {
    /// Starts the clock.
    pub fn start() -> Self {
        let spinner = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("           {spinner} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        spinner.set_style(style);
        spinner.enable_steady_tick(Duration::from_millis(100));
        Self { start: Instant::now(), spinner }
    }

    /// Shows what is being waited for.
    pub fn waiting(&self, what: impl fmt::Display) {
        self.spinner.set_message(what.to_string());
    }

    /// Prints what happened.
    pub fn tell(&self, what: impl fmt::Display) {
        let line = format!("[{:>7.2} s] {what}", self.start.elapsed().as_secs_f64());
        self.spinner.suspend(|| crate::say(format_args!("{line}")));
    }

    /// Takes the spinner away.
    pub fn end(&self) {
        self.spinner.finish_and_clear();
    }
}
