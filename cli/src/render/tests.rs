//! Rendered configurations.
