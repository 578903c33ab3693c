//! The fields that no client may send.
//!
//! Each of them moves cost or prompt content past the checks of the filter. `docs/security.md` gives the reason for each.

use super::invalid::InvalidBody;
use super::values::whole;
use crate::json::{JsonString, Reader, ValueKind};

/// Fields that are rejected unless their value is null or `false`, at the top level and within `vllm_xargs` and
/// `chat_template_kwargs`.
pub(super) const FORBIDDEN_FIELDS: [&str; 5] =
    ["kv_transfer_params", "ec_transfer_params", "use_beam_search", "prompt_embeds", "chat_template"];

/// Rejects the value of a forbidden field unless it is null or `false`.
pub(super) fn reject(reader: &mut Reader<'_>, param: &'static str) -> Result<(), InvalidBody> {
    match reader.kind()? {
        ValueKind::Null => Ok(reader.literal()?),
        ValueKind::Bool if !reader.bool()? => Ok(()),
        _ => Err(InvalidBody::wrong(param, "is not allowed")),
    }
}

/// Rejects a `priority` other than null or 0: it would let one client overtake the others in vLLM's queue.
pub(super) fn reject_priority(reader: &mut Reader<'_>, param: &'static str) -> Result<(), InvalidBody> {
    match reader.kind()? {
        ValueKind::Null => Ok(reader.literal()?),
        ValueKind::Number if whole(reader, param)?.value == 0 => Ok(()),
        _ => Err(InvalidBody::wrong(param, "cannot be set by clients: omit it, or send 0")),
    }
}

/// Reads an object or null, and rejects an object that holds a forbidden field, whatever its value.
pub(super) fn reject_within(reader: &mut Reader<'_>, param: &'static str) -> Result<(), InvalidBody> {
    if reader.kind()? == ValueKind::Null {
        return Ok(reader.literal()?);
    }
    if reader.kind()? != ValueKind::Object {
        return Err(InvalidBody::wrong(param, "must be an object or null"));
    }
    let mut arguments = reader.object()?;
    while let Some(key) = arguments.next(reader)? {
        if is_forbidden(&key) {
            return Err(InvalidBody::wrong(param, "must not hold a field that is forbidden in the body"));
        }
        reader.skip()?;
    }
    Ok(())
}

fn is_forbidden(key: &JsonString<'_>) -> bool {
    FORBIDDEN_FIELDS.iter().any(|name| key.is(name))
}
