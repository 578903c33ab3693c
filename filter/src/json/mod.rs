//! JSON, read in place: no tree, no copies, byte ranges into the document.
//!
//! [`Reader`] reads one complete document strictly (RFC 8259, UTF-8, bounded depth): every parser reads what it accepts in the same
//! way. [`MemberScanner`] follows a document that arrives in chunks, and reports where the members of its outermost object are.

mod member_scanner;
mod reader;
mod scan;
mod string;
mod utf8;
mod whole_number;

pub use member_scanner::{Mark, MemberScanner};
pub use reader::{ArrayReader, InvalidJson, ObjectReader, Reader, ValueKind};
pub use string::{JsonString, StringVisitor};
pub use whole_number::whole_number;

/// Appends `text` to `out` as a JSON string, quotes included.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            c if u32::from(c) < 0x20 => out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes()),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}
