//! Requests through what was rendered.
