//! What the filter answers by itself.

pub mod models;
