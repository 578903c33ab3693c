//! WebAssembly's SIMD.

use core::arch::wasm32::{
    i8x16_add, i8x16_lt, i8x16_shuffle, i8x16_sub, u8x16, u8x16_bitmask, u8x16_eq, u8x16_splat, u16x8_extadd_pairwise_u8x16,
    u32x4_extadd_pairwise_u16x8, u32x4_extract_lane, v128, v128_and, v128_or,
};

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
    fn signed_less(self, other: Self) -> Self {
        i8x16_lt(self, other)
    }

    #[inline]
    fn plus(self, other: Self) -> Self {
        i8x16_add(self, other)
    }

    #[inline]
    fn minus(self, other: Self) -> Self {
        i8x16_sub(self, other)
    }

    #[inline]
    fn or(self, other: Self) -> Self {
        v128_or(self, other)
    }

    #[inline]
    fn and(self, other: Self) -> Self {
        v128_and(self, other)
    }

    #[inline]
    fn shifted_after(self, before: Self) -> Self {
        i8x16_shuffle::<15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30>(before, self)
    }

    #[inline]
    fn sum(self) -> u32 {
        let sums = u32x4_extadd_pairwise_u16x8(u16x8_extadd_pairwise_u8x16(self));
        let [a, b] = [u32x4_extract_lane::<0>(sums), u32x4_extract_lane::<1>(sums)];
        let [c, d] = [u32x4_extract_lane::<2>(sums), u32x4_extract_lane::<3>(sums)];
        a + b + c + d
    }

    #[inline]
    fn bitmask(self) -> u16 {
        u8x16_bitmask(self)
    }
}
