//! Whole numbers, however they are written.

/// The largest whole number that is read: up to it, every JSON implementation represents whole numbers exactly.
const MAX: u64 = 1 << 53;

/// Returns the value of a JSON number if it is whole and at most 2^53 in magnitude: `5`, `5.0`, `5e3`, `500e-2`. It is computed from the
/// decimal digits, so that nothing is rounded.
pub fn whole_number(written: &[u8]) -> Option<i64> {
    let (negative, unsigned) = match written.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, written),
    };
    let (mantissa, exponent) = match unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (unsigned.get(..at)?, exponent(unsigned.get(at + 1..)?)?),
        None => (unsigned, 0),
    };
    let point = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
    let fraction = mantissa.len().saturating_sub(point + 1);
    let digits = || mantissa.iter().filter(|byte| **byte != b'.').map(|byte| u64::from(byte.wrapping_sub(b'0')));
    let zeros = digits().rev().take_while(|digit| *digit == 0).count();
    let significant = (mantissa.len() - usize::from(fraction > 0)).saturating_sub(zeros);
    if significant == 0 {
        return Some(0);
    }
    // The number of zeros that follow the significant digits; a number is whole if it is not negative.
    let shift = exponent.checked_add(i64::try_from(zeros).ok()?)?.checked_sub(i64::try_from(fraction).ok()?)?;
    let shift = u32::try_from(shift).ok()?;
    let value = digits().take(significant).try_fold(0u64, |value, digit| value.checked_mul(10)?.checked_add(digit))?;
    let value = value.checked_mul(10u64.checked_pow(shift)?).filter(|value| *value <= MAX)?;
    let value = i64::try_from(value).ok()?;
    Some(if negative { -value } else { value })
}

fn exponent(written: &[u8]) -> Option<i64> {
    std::str::from_utf8(written).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn whole_numbers_are_read_exactly() {
        for (written, expected) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("0.000e99999999999999999", Some(0)),
            ("0.0e5", Some(0)),
            ("5", Some(5)),
            ("-5", Some(-5)),
            ("5.0", Some(5)),
            ("4096.000", Some(4096)),
            ("5e3", Some(5000)),
            ("5E+3", Some(5000)),
            ("1.25e2", Some(125)),
            ("500e-2", Some(5)),
            ("120.50e1", Some(1205)),
            ("9007199254740992", Some(1 << 53)),
            ("9007199254740993", None),
            ("9007199254740992.0", Some(1 << 53)),
            ("9.007199254740992e15", Some(1 << 53)),
            ("9.007199254740993e15", None),
            ("1e18", None),
            ("1e400", None),
            ("5.5", None),
            ("125e-2", None),
            ("1e-1", None),
            ("1e-400", None),
            ("0.1", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(whole_number(written.as_bytes()), expected, "{written}");
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn a_shifted_number_keeps_its_value(value in 0..1i64 << 53, zeros in 0..6usize) {
                let point = format!("{value}.{}", "0".repeat(zeros + 1));
                prop_assert_eq!(whole_number(point.as_bytes()), Some(value));
                let exponent = format!("{value}{}e-{zeros}", "0".repeat(zeros));
                prop_assert_eq!(whole_number(exponent.as_bytes()), Some(value));
            }

            #[test]
            fn nothing_else_is_taken(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
                let _ = whole_number(&bytes);
            }
        }
    }
}
