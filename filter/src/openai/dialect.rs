//! stub

use std::ops::Range;

use super::{Operation, Request};
use crate::policy::Dialect;

/// stub
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peculiarities;
/// stub
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Translation {
    /// stub
    pub changes: Vec<(Range<usize>, Vec<u8>)>,
    /// stub
    pub stream_options: bool,
}
/// stub
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsayable;

impl Peculiarities {
    /// stub
    pub fn read(_body: &[u8], _operation: Operation) -> Self {
        Self
    }
    /// stub
    pub fn translate(&self, _request: &Request, _from: Dialect, _to: Dialect) -> Result<Translation, Unsayable> {
        Ok(Translation::default())
    }
}
