//! SSE2, which every x86-64 processor has.
#![expect(unsafe_code, reason = "calls of the processor's instructions")]

use core::arch::x86_64::{
    __m128i, _mm_add_epi8, _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128,
    _mm_set1_epi8,
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
    fn at_most(self, other: Self) -> Self {
        // SSE2 has no unsigned comparison.
        // SAFETY: the target has SSE2.
        unsafe { _mm_cmpeq_epi8(_mm_min_epu8(self, other), self) }
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
    fn or(self, other: Self) -> Self {
        // SAFETY: the target has SSE2.
        unsafe { _mm_or_si128(self, other) }
    }

    #[inline]
    fn bitmask(self) -> u16 {
        // SAFETY: the target has SSE2.
        let mask = unsafe { _mm_movemask_epi8(self) };
        mask as u16
    }
}
