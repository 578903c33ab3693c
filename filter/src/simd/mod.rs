//! Vectors of sixteen bytes: the operations that byte scans are written in, on every target.
//!
//! [`U8x16`] is the vector of the target: of WebAssembly's SIMD, SSE2 or NEON, or else a plain array. A comparison sets each byte
//! of its result to 0xff where it holds and to 0 where it does not; [`Vector::bitmask`] turns the result into a number.

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon;
mod plain;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod sse2;
#[cfg(test)]
mod tests;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;

cfg_select! {
    all(target_arch = "wasm32", target_feature = "simd128") => {
        pub use core::arch::wasm32::v128 as U8x16;
    }
    all(target_arch = "x86_64", target_feature = "sse2") => {
        pub use core::arch::x86_64::__m128i as U8x16;
    }
    all(target_arch = "aarch64", target_feature = "neon") => {
        pub use core::arch::aarch64::uint8x16_t as U8x16;
    }
    _ => {
        pub type U8x16 = [u8; 16];
    }
}

/// Sixteen bytes; each operation runs on all of them.
pub trait Vector: Copy {
    /// Loads `bytes`.
    fn load(bytes: &[u8; 16]) -> Self;

    /// Repeats `byte` sixteen times.
    fn splat(byte: u8) -> Self;

    /// Compares the bytes for equality.
    fn equals(self, other: Self) -> Self;

    /// Compares the bytes as signed numbers, of which those from 0x80 are negative: `self < other`.
    fn signed_less(self, other: Self) -> Self;

    /// Adds the bytes, modulo 256.
    fn plus(self, other: Self) -> Self;

    /// Subtracts the bytes, modulo 256.
    fn minus(self, other: Self) -> Self;

    /// Returns the bits that are set in `self` or in `other`.
    fn or(self, other: Self) -> Self;

    /// Returns the bits that are set in `self` and in `other`.
    fn and(self, other: Self) -> Self;

    /// Returns the last byte of `before` and all bytes of `self` except the last.
    fn shifted_after(self, before: Self) -> Self;

    /// Returns the sum of the bytes as unsigned numbers.
    fn sum(self) -> u32;

    /// Returns the highest bit of each byte, that of the first byte lowest.
    fn bitmask(self) -> u16;
}
