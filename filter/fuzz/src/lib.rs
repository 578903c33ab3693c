//! Shared code of the fuzz targets: reference readers, division of streams into chunks, and a simulation of exchanges.
//!
//! A target takes bytes and asserts properties. The reference implementations are in this crate. They are simple, and independent of the
//! filter's own readers.

pub mod chunks;
pub mod lax;
pub mod simulation;
