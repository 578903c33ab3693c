//! WebAssembly's SIMD.

use core::arch::wasm32::{i8x16_add, i8x16_lt, u8x16, u8x16_bitmask, u8x16_eq, u8x16_le, u8x16_splat, v128, v128_or};

use super::Vector;

impl Vector for v128 {
    #[inline]
    fn load(bytes: &[u8; 16]) -> Self {
        // The compiler makes one load of it.
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *bytes;
        u8x16(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p)
    }

    #[inline]
    fn splat(byte: u8) -> Self {
        u8x16_splat(byte)
    }

    #[inline]
    fn equals(self, other: Self) -> Self {
        u8x16_eq(self, other)
    }

    #[inline]
    fn at_most(self, other: Self) -> Self {
        u8x16_le(self, other)
    }

    #[inline]
    fn signed_less(self, other: Self) -> Self {
        i8x16_lt(self, other)
    }

    #[inline]
    fn plus(self, other: Self) -> Self {
        i8x16_add(self, other)
    }

    #[inline]
    fn or(self, other: Self) -> Self {
        v128_or(self, other)
    }

    #[inline]
    fn bitmask(self) -> u16 {
        u8x16_bitmask(self)
    }
}
