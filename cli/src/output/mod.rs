//! What commands print: tables, ages, colours. Data goes to stdout, everything else to stderr.

pub mod age;
mod stdout;
pub mod style;
pub mod table;

pub use stdout::{is_terminal, note, print, printable, warn};
