//! Bytes one by one: for other targets, and the reference that tests compare with.

use super::Vector;

impl Vector for [u8; 16] {
    fn load(bytes: &[u8; 16]) -> Self {
        *bytes
    }

    fn splat(byte: u8) -> Self {
        [byte; 16]
    }

    fn equals(self, other: Self) -> Self {
        zip(self, other, |a, b| all_ones(a == b))
    }

    fn signed_less(self, other: Self) -> Self {
        zip(self, other, |a, b| all_ones(a.cast_signed() < b.cast_signed()))
    }

    fn plus(self, other: Self) -> Self {
        zip(self, other, u8::wrapping_add)
    }

    fn minus(self, other: Self) -> Self {
        zip(self, other, u8::wrapping_sub)
    }

    fn or(self, other: Self) -> Self {
        zip(self, other, |a, b| a | b)
    }

    fn and(self, other: Self) -> Self {
        zip(self, other, |a, b| a & b)
    }

    fn shifted_after(self, before: Self) -> Self {
        let [.., last] = before;
        let mut shifted = self;
        shifted.rotate_right(1);
        if let Some(first) = shifted.first_mut() {
            *first = last;
        }
        shifted
    }

    fn sum(self) -> u32 {
        self.iter().copied().map(u32::from).sum()
    }

    fn bitmask(self) -> u16 {
        self.iter().rev().fold(0, |mask, byte| mask << 1 | u16::from(byte >> 7))
    }
}

fn all_ones(holds: bool) -> u8 {
    if holds { 0xff } else { 0 }
}

fn zip(mut a: [u8; 16], b: [u8; 16], operation: impl Fn(u8, u8) -> u8) -> [u8; 16] {
    a.iter_mut().zip(b).for_each(|(a, b)| *a = operation(*a, b));
    a
}
