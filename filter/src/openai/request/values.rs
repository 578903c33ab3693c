//! Strict readers of single values. Each leaves the reader after the value.

use std::ops::Range;

use super::invalid::InvalidBody;
use crate::json::{Reader, ValueKind};

/// Reads an integer of at least 1, or null. Returns it with its byte range.
pub(super) fn positive(reader: &mut Reader<'_>, param: &'static str) -> Result<(Option<u64>, Range<usize>), InvalidBody> {
    if reader.kind()? == ValueKind::Null {
        return Ok((None, reader.skip()?));
    }
    let start = reader.offset();
    let value = integer(reader, param)?;
    match u64::try_from(value) {
        Ok(value @ 1..) => Ok((Some(value), start..reader.offset())),
        _ => Err(InvalidBody::wrong(param, "must be at least 1")),
    }
}

/// Reads an integer of at least 0, or null for 0.
pub(super) fn not_negative(reader: &mut Reader<'_>, param: &'static str) -> Result<u64, InvalidBody> {
    if reader.kind()? == ValueKind::Null {
        reader.literal()?;
        return Ok(0);
    }
    u64::try_from(integer(reader, param)?).map_err(|_| InvalidBody::wrong(param, "must be at least 0"))
}

/// Reads `truncate_prompt_tokens`. Returns whether the server truncates prompts, and to how many tokens; `None` for -1, the context
/// length.
pub(super) fn truncation(reader: &mut Reader<'_>, param: &'static str) -> Result<(bool, Option<u64>), InvalidBody> {
    if reader.kind()? == ValueKind::Null {
        reader.literal()?;
        return Ok((false, None));
    }
    match integer(reader, param)? {
        -1 => Ok((true, None)),
        tokens => u64::try_from(tokens)
            .map(|tokens| (true, Some(tokens)))
            .map_err(|_| InvalidBody::wrong(param, "must be at least 0, or -1 for all that the model can hold")),
    }
}

/// Reads an integer within 64 bits, written as `-?[0-9]+`.
pub(super) fn integer(reader: &mut Reader<'_>, param: &'static str) -> Result<i64, InvalidBody> {
    const REASON: &str = "must be an integer, written without quotes, point or exponent";
    if reader.kind()? != ValueKind::Number {
        return Err(InvalidBody::wrong(param, REASON));
    }
    let digits = std::str::from_utf8(reader.number()?).unwrap_or_default();
    digits.parse().map_err(|_| InvalidBody::wrong(param, REASON))
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
