//! The vector of the target does what the plain one does.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::{U8x16, Vector};

type Plain = [u8; 16];

/// Checks every operation on `a` and `b`.
fn check(a: Plain, b: Plain) {
    let (x, y) = (U8x16::load(&a), U8x16::load(&b));
    assert_eq!(x.bitmask(), a.bitmask(), "bitmask of {a:x?}");
    // The others are compared by means of `equals` and `bitmask`, so these two must be right first.
    assert_eq!(x.equals(y).bitmask(), a.equals(b).bitmask(), "{a:x?} equals {b:x?}");
    let same = |vector: U8x16, plain: Plain| vector.equals(U8x16::load(&plain)).bitmask() == u16::MAX;
    assert!(same(x.equals(y), a.equals(b)), "{a:x?} equals {b:x?}");
    assert!(same(x.signed_less(y), a.signed_less(b)), "{a:x?} less, as signed numbers, than {b:x?}");
    assert!(same(x.plus(y), a.plus(b)), "{a:x?} plus {b:x?}");
    assert!(same(x.minus(y), a.minus(b)), "{a:x?} minus {b:x?}");
    assert!(same(x.or(y), a.or(b)), "{a:x?} or {b:x?}");
    assert!(same(x.and(y), a.and(b)), "{a:x?} and {b:x?}");
    assert!(same(x.shifted_after(y), a.shifted_after(b)), "{a:x?} shifted after {b:x?}");
    assert_eq!(x.sum(), a.sum(), "sum of {a:x?}");
}

#[test]
fn any_two_bytes_give_what_the_plain_vector_gives() {
    for a in 0..=u8::MAX {
        assert_eq!(U8x16::splat(a).equals(U8x16::load(&[a; 16])).bitmask(), u16::MAX, "{a:#x}");
        for first in (0..=u8::MAX).step_by(16) {
            // Each pair in another place, next to others.
            let mut b = std::array::from_fn(|place| first + place as u8);
            b.rotate_left(usize::from(a % 16));
            check([a; 16], b);
            check(b, [a; 16]);
        }
    }
}

#[test]
fn every_place_has_its_bit() {
    for mask in 0..=u16::MAX {
        // What is not the highest bit does not count.
        let block = std::array::from_fn(|place| if mask >> place & 1 == 1 { 0x80 } else { 0x7f });
        assert_eq!(U8x16::load(&block).bitmask(), mask);
        assert_eq!(block.bitmask(), mask);
    }
}

#[test]
fn the_plain_vector_computes_what_is_promised() {
    let a = *b"\x00\x1f\x20\x7f\x80\xff\x00\x1f\x20\x7f\x80\xff\x01\x02\x03\x04";
    let b = *b"\x20\x20\x20\x20\x20\x20\x80\x80\x80\x80\x80\x80\x01\x01\x04\xff";
    assert_eq!(a.equals(b), *b"\x00\x00\xff\x00\x00\x00\x00\x00\x00\x00\xff\x00\xff\x00\x00\x00");
    assert_eq!(a.signed_less(b), *b"\xff\xff\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\xff\x00");
    assert_eq!(a.plus(b), *b"\x20\x3f\x40\x9f\xa0\x1f\x80\x9f\xa0\xff\x00\x7f\x02\x03\x07\x03");
    assert_eq!(a.or(b), *b"\x20\x3f\x20\x7f\xa0\xff\x80\x9f\xa0\xff\x80\xff\x01\x03\x07\xff");
    assert_eq!(a.minus(b), *b"\xe0\xff\x00\x5f\x60\xdf\x80\x9f\xa0\xff\x00\x7f\x00\x01\xff\x05");
    assert_eq!(a.and(b), *b"\x00\x00\x20\x20\x00\x20\x00\x00\x00\x00\x80\x80\x01\x00\x00\x04");
    assert_eq!(a.shifted_after(b), *b"\xff\x00\x1f\x20\x7f\x80\xff\x00\x1f\x20\x7f\x80\xff\x01\x02\x03");
    assert_eq!(a.sum(), 2 * (0x1f + 0x20 + 0x7f + 0x80 + 0xff) + 10);
    assert_eq!(a.bitmask(), 0b0000_1100_0011_0000);
    assert_eq!(Plain::splat(7), [7; 16]);
    assert_eq!(Plain::load(&a), a);
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn random_blocks_give_what_the_plain_vector_gives(a: Plain, b: Plain, alike: u16) {
            // Random bytes are hardly ever equal.
            let b = std::array::from_fn(|place| if alike >> place & 1 == 1 { a[place] } else { b[place] });
            check(a, b);
        }
    }
}
