//! NEON, which every 64-bit ARM processor has.
#![expect(unsafe_code, reason = "calls of the processor's instructions")]

use core::arch::aarch64::{
    uint8x16_t, vaddlvq_u8, vaddq_u8, vaddv_u8, vandq_u8, vceqq_u8, vcltq_s8, vdupq_n_u8, vextq_u8, vget_high_u8, vget_low_u8,
    vld1q_u8, vorrq_u8, vreinterpretq_s8_u8, vreinterpretq_u8_s8, vshrq_n_s8, vsubq_u8,
};

use super::Vector;

/// The bit of each byte in its half of the mask.
const PLACES: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];

impl Vector for uint8x16_t {
    #[inline]
    fn load(bytes: &[u8; 16]) -> Self {
        // SAFETY: `bytes` are sixteen bytes, which may lie at any address. This module is part of targets with NEON only.
        unsafe { vld1q_u8(bytes.as_ptr()) }
    }

    #[inline]
    fn splat(byte: u8) -> Self {
        // SAFETY: the target has NEON.
        unsafe { vdupq_n_u8(byte) }
    }

    #[inline]
    fn equals(self, other: Self) -> Self {
        // SAFETY: the target has NEON.
        unsafe { vceqq_u8(self, other) }
    }

    #[inline]
    fn signed_less(self, other: Self) -> Self {
        // SAFETY: the target has NEON.
        unsafe { vcltq_s8(vreinterpretq_s8_u8(self), vreinterpretq_s8_u8(other)) }
    }

    #[inline]
    fn plus(self, other: Self) -> Self {
        // SAFETY: the target has NEON.
        unsafe { vaddq_u8(self, other) }
    }

    #[inline]
    fn minus(self, other: Self) -> Self {
        // SAFETY: the target has NEON.
        unsafe { vsubq_u8(self, other) }
    }

    #[inline]
    fn or(self, other: Self) -> Self {
        // SAFETY: the target has NEON.
        unsafe { vorrq_u8(self, other) }
    }

    #[inline]
    fn and(self, other: Self) -> Self {
        // SAFETY: the target has NEON.
        unsafe { vandq_u8(self, other) }
    }

    #[inline]
    fn shifted_after(self, before: Self) -> Self {
        // SAFETY: the target has NEON.
        unsafe { vextq_u8::<15>(before, self) }
    }

    #[inline]
    fn sum(self) -> u32 {
        // SAFETY: the target has NEON.
        u32::from(unsafe { vaddlvq_u8(self) })
    }

    #[inline]
    fn bitmask(self) -> u16 {
        // NEON has no such instruction: each byte with a highest bit keeps the bit of its place, and the sum of a half is its mask.
        // SAFETY: the target has NEON.
        let (low, high) = unsafe {
            let marked = vreinterpretq_u8_s8(vshrq_n_s8::<7>(vreinterpretq_s8_u8(self)));
            let bits = vandq_u8(marked, Self::load(&PLACES));
            (vaddv_u8(vget_low_u8(bits)), vaddv_u8(vget_high_u8(bits)))
        };
        u16::from_le_bytes([low, high])
    }
}
