//! A progress line on stderr, on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A line that says what a command is doing.
#[derive(Debug)]
pub struct Progress(ProgressBar);

// === impl Progress ===

impl Progress {
    /// Starts the line. It is not visible where stderr is no terminal.
    pub fn start(what: &'static str) -> Self {
        let bar = ProgressBar::new_spinner().with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    /// Goes on with another step.
    pub fn next(&self, what: &'static str) {
        self.0.set_message(what);
    }

    /// Removes the line.
    pub fn end(self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
