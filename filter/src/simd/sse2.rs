//! SSE2, which every x86-64 processor has.
#![expect(unsafe_code, reason = "calls of the processor's instructions")]

use core::arch::x86_64::{
    __m128i, _mm_add_epi8, _mm_and_si128, _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_cvtsi128_si32, _mm_extract_epi16, _mm_loadu_si128,
    _mm_movemask_epi8, _mm_or_si128, _mm_sad_epu8, _mm_set1_epi8, _mm_setzero_si128, _mm_slli_si128, _mm_srli_si128, _mm_sub_epi8,
};

use super::Vector;

impl Vector for __m128i {
    #[inline]
    fn load(bytes: &[u8; 16]) -> Self {
        // SAFETY: `bytes` are sixteen bytes, which may lie at any address. This module is part of targets with SSE2 only.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }

    #[inline]
    fn splat(byte: u8) -> Self {
        // SAFETY: the target has SSE2.
        unsafe { _mm_set1_epi8(byte.cast_signed()) }
    }

    #[inline]
    fn equals(self, other: Self) -> Self {
        // SAFETY: the target has SSE2.
        unsafe { _mm_cmpeq_epi8(self, other) }
    }

    #[inline]
    fn signed_less(self, other: Self) -> Self {
        // SAFETY: the target has SSE2.
        unsafe { _mm_cmplt_epi8(self, other) }
    }

    #[inline]
    fn plus(self, other: Self) -> Self {
        // SAFETY: the target has SSE2.
        unsafe { _mm_add_epi8(self, other) }
    }

    #[inline]
    fn minus(self, other: Self) -> Self {
        // SAFETY: the target has SSE2.
        unsafe { _mm_sub_epi8(self, other) }
    }

    #[inline]
    fn or(self, other: Self) -> Self {
        // SAFETY: the target has SSE2.
        unsafe { _mm_or_si128(self, other) }
    }

    #[inline]
    fn and(self, other: Self) -> Self {
        // SAFETY: the target has SSE2.
        unsafe { _mm_and_si128(self, other) }
    }

    #[inline]
    fn shifted_after(self, before: Self) -> Self {
        // SAFETY: the target has SSE2.
        unsafe { _mm_or_si128(_mm_slli_si128::<1>(self), _mm_srli_si128::<15>(before)) }
    }

    #[inline]
    fn sum(self) -> u32 {
        // The sums of both halves, of which neither exceeds 16 bits.
        // SAFETY: the target has SSE2.
        let (low, high) = unsafe {
            let halves = _mm_sad_epu8(self, _mm_setzero_si128());
            (_mm_cvtsi128_si32(halves), _mm_extract_epi16::<4>(halves))
        };
        low.cast_unsigned() + high.cast_unsigned()
    }

    #[inline]
    fn bitmask(self) -> u16 {
        // SAFETY: the target has SSE2.
        let mask = unsafe { _mm_movemask_epi8(self) };
        mask as u16
    }
}
