//! Whole numbers, however they are written.

/// The largest whole number up to which every reader of JSON agrees: 2^53.
pub const MAX_WHOLE: u64 = 1 << 53;

/// Returns the value of a JSON number that is whole and from 0 to [`MAX_WHOLE`], also where it is written with a fraction of zeros
/// or an exponent. It is computed from the decimal, so that nothing is rounded.
pub fn whole_number(number: &[u8]) -> Option<u64> {
    let (mantissa, exponent) = split_at_byte(number, |byte| byte | 0x20 == b'e');
    let (integer, fraction) = split_at_byte(mantissa, |byte| byte == b'.');
    let point = i64::try_from(integer.len()).ok()?.saturating_add(parse_exponent(exponent)?);
    let (mut value, mut place): (u64, i64) = (0, 0);
    for digit in integer.iter().chain(fraction) {
        let digit = digit.checked_sub(b'0').filter(|&digit| digit < 10)?;
        if place < point {
            value = append(value, digit)?;
        } else if digit != 0 {
            return None;
        }
        place += 1;
    }
    while place < point && value != 0 {
        value = append(value, 0)?;
        place += 1;
    }
    Some(value)
}

/// Appends a digit.
fn append(value: u64, digit: u8) -> Option<u64> {
    Some(value * 10 + u64::from(digit)).filter(|&value| value <= MAX_WHOLE)
}

/// Returns an exponent. One with many digits is as good as one that is only large.
fn parse_exponent(digits: &[u8]) -> Option<i64> {
    let (negative, digits) = match digits {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let add = |value: i64, digit: &u8| {
        let digit = digit.checked_sub(b'0').filter(|&digit| digit < 10)?;
        Some(value.saturating_mul(10).saturating_add(digit.into()))
    };
    let value = digits.iter().try_fold(0, add)?;
    Some(if negative { -value } else { value })
}

/// Returns what is before and after the first byte for which `found` holds.
fn split_at_byte(bytes: &[u8], found: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let mut parts = bytes.splitn(2, |&byte| found(byte));
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn whole_numbers_are_read_however_they_are_written() {
        for (written, expected) in [
            ("0", Some(0)),
            ("17", Some(17)),
            ("2000.0", Some(2000)),
            ("2e3", Some(2000)),
            ("2E+3", Some(2000)),
            ("2.5e1", Some(25)),
            ("0.002e3", Some(2)),
            ("20000e-1", Some(2000)),
            ("120e-1", Some(12)),
            ("0.000", Some(0)),
            ("0e999999999999999999999999", Some(0)),
            ("1000000000000000000000e-18", Some(1000)),
            ("9007199254740992", Some(MAX_WHOLE)),
            ("9007199254740992.000", Some(MAX_WHOLE)),
            ("9007199254740993", None),
            ("9007199254740992.1", None),
            ("1e16", None),
            ("1e999999999999999999999999", None),
            ("1e-999999999999999999999999", None),
            ("1.5", None),
            ("2.5e0", None),
            ("0.99999999999999999999999999", None),
            ("5e-1", None),
            ("-1", None),
            ("-0", None),
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
            fn a_number_has_one_value_however_it_is_written(value in 0..=MAX_WHOLE, zeros in 0..30_usize) {
                let digits = value.to_string();
                let with_point = |at: usize| format!("{}.{}", &digits[..at], &digits[at..]);
                let places = digits.len();
                for written in [
                    format!("{digits}.{}", "0".repeat(zeros + 1)),
                    format!("{digits}{}e-{zeros}", "0".repeat(zeros)),
                    format!("{}0e{}", with_point(1), places - 1),
                    format!("0.{}{digits}E+{}", "0".repeat(zeros), places + zeros),
                ] {
                    prop_assert_eq!(whole_number(written.as_bytes()), Some(value), "{}", written);
                }
                let not_whole = format!("{digits}.{}1", "0".repeat(zeros));
                prop_assert_eq!(whole_number(not_whole.as_bytes()), None);
            }
        }
    }
}
