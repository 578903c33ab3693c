//! What commands print: tables, ages, colours. Data goes to stdout, everything else to stderr.

pub mod age;
pub mod style;
pub mod table;
