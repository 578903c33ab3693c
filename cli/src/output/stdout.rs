//! Writing to stdout and stderr.

use std::io::{ErrorKind, IsTerminal as _, Write as _, stderr, stdout};

use crate::command::Outcome;
use crate::failure::Failure;

/// Writes data to stdout at once. Ends the process if the reader has gone, as in `pai models | head -1`.
pub fn print(text: &str) -> Outcome {
    let mut stdout = stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::refused(format!("the output cannot be written: {error}"))),
    }
}

/// Writes a line of talk to stderr.
pub fn note(text: &str) {
    let _ = writeln!(stderr(), "{text}"); // without a reader there is nothing else to do
}

/// Writes a warning to stderr.
pub fn warn(text: &str) {
    note(&format!("{} {text}", super::style::warning("warning:")));
}

/// Returns text from outside without the control characters that change what a terminal shows.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// Returns true if a person reads stdout.
pub fn is_terminal() -> bool {
    stdout().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}]0;title\u{7}b\n\tc\r\u{9b}2J é"), "a]0;titleb\n\tc2J é");
    }
}
