//! `Progress`: how far it has come, on a terminal.

use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

/// Counts what passes. Hidden when standard error is no terminal.
#[derive(Debug)]
pub struct Progress {
    spinner: ProgressBar,
    doing: &'static str,
    pub records: u64,
    pub bytes: u64,
}

impl Progress {
    /// Begins to count.
    pub fn start(doing: &'static str) -> Self {
        let spinner = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        spinner.set_style(style);
        spinner.enable_steady_tick(Duration::from_millis(100));
        Self { spinner, doing, records: 0, bytes: 0 }
    }

    /// Counts a record.
    pub fn record(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes as u64;
        let (records, bytes) = (HumanCount(self.records), HumanBytes(self.bytes));
        self.spinner.set_message(format!("{}: {records} records, {bytes}", self.doing));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.spinner.finish_and_clear();
    }
}
