//! Colours, on a terminal only and without `NO_COLOR`.

use std::io::IsTerminal as _;

/// Returns `text` as the beginning of an error message on stderr.
pub fn error(text: &str) -> String {
    paint(text, "1;31")
}

/// Returns `text` as the beginning of a warning on stderr.
pub fn warning(text: &str) -> String {
    paint(text, "1;33")
}

fn paint(text: &str, colour: &str) -> String {
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || !std::io::stderr().is_terminal();
    if is_plain { text.to_owned() } else { format!("\u{1b}[{colour}m{text}\u{1b}[0m") }
}

/// Returns `text` as a heading on stdout.
pub fn heading(text: &str) -> String {
    if std::io::stdout().is_terminal() { paint(text, "1;33") } else { text.to_owned() }
}
