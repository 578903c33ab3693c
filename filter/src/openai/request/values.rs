//! Strict readers of single values. Each leaves the reader after the value.

use std::ops::Range;

use super::invalid::InvalidBody;
use crate::json::{Reader, ValueKind, whole_number};

/// A whole number.
#[derive(Debug, Clone, Copy)]
pub(super) struct WholeNumber {
    pub value: i64,
    /// Whether it is written in digits only. Servers differ in what else they accept.
    pub is_plain: bool,
}

/// Reads a whole number of at least `least`, or null. Returns it with its byte range.
pub(super) fn at_least(
    least: i64,
    reader: &mut Reader<'_>,
    param: &'static str,
) -> Result<(Option<WholeNumber>, Range<usize>), InvalidBody> {
    if reader.kind()? == ValueKind::Null {
        return Ok((None, reader.skip()?));
    }
    let start = reader.offset();
    let number = whole(reader, param)?;
    if number.value < least {
        let reason = match least {
            -1 => "must be at least 0, or -1 for all that the model can hold",
            0 => "must be at least 0",
            _ => "must be at least 1",
        };
        return Err(InvalidBody::wrong(param, reason));
    }
    Ok((Some(number), start..reader.offset()))
}

/// Reads a whole number of at most 2^53 in magnitude, however it is written.
pub(super) fn whole(reader: &mut Reader<'_>, param: &'static str) -> Result<WholeNumber, InvalidBody> {
    const REASON: &str = "must be a whole number of at most 2^53, without quotes";
    if reader.kind()? != ValueKind::Number {
        return Err(InvalidBody::wrong(param, REASON));
    }
    let written = reader.number()?;
    let value = whole_number(written).ok_or(InvalidBody::wrong(param, REASON))?;
    let is_plain = written.strip_prefix(b"-").unwrap_or(written).iter().all(u8::is_ascii_digit);
    Ok(WholeNumber { value, is_plain })
}

/// Reads `true`, `false`, or null for `false`. Returns it with its byte range.
pub(super) fn flag(reader: &mut Reader<'_>, param: &'static str) -> Result<(bool, Range<usize>), InvalidBody> {
    let kind = reader.kind()?;
    let start = reader.offset();
    let value = match kind {
        ValueKind::Bool => reader.bool()?,
        ValueKind::Null => {
            reader.literal()?;
            false
        }
        _ => return Err(InvalidBody::wrong(param, "must be true, false or null")),
    };
    Ok((value, start..reader.offset()))
}
