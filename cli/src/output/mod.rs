//! What commands print: tables, ages, colours. Data goes to stdout, everything else to stderr.

pub mod age;
pub mod progress;
pub mod rows;
mod stdout;
pub mod style;
pub mod table;
pub mod yaml;

pub use stdout::{is_terminal, note, print, printable, warn};
