//! What the fuzz targets share: readers to compare with, ways to cut a stream, a world for exchanges.
//!
//! A target takes bytes and asserts properties; what it needs to know better than the filter stands here, written as plainly as
//! possible and apart from the filter's own readers.

pub mod chunks;
pub mod lax;
pub mod simulation;
