//! Character classes as ranges of code points.

use std::collections::BinaryHeap;

/// Code points from the first to the last, both included.
pub(super) type Range = (u32, u32);

pub(super) fn one(c: char) -> Range {
    (u32::from(c), u32::from(c))
}

/// Returns the ranges of a named class.
pub(super) fn named(name: &str) -> Option<Vec<Range>> {
    let pairs: &[u8] = match name {
        "alnum" => b"09AZaz",
        "alpha" => b"AZaz",
        "ascii" => b"\x00\x7f",
        "blank" => b"\t\t  ",
        "cntrl" => b"\x00\x1f\x7f\x7f",
        "digit" => b"09",
        "graph" => b"!~",
        "lower" => b"az",
        "print" => b" ~",
        "punct" => b"!/:@[`{~",
        "space" => b"\t\r  ",
        "upper" => b"AZ",
        "word" => b"09AZ__az",
        "xdigit" => b"09AFaf",
        _ => return None,
    };
    Some(pairs.as_chunks::<2>().0.iter().map(|&[first, last]| (first.into(), last.into())).collect())
}

/// Sorts `ranges` and joins those that touch.
pub(super) fn merged(ranges: Vec<Range>) -> Vec<Range> {
    let mut ranges = BinaryHeap::from(ranges).into_sorted_vec();
    ranges.dedup_by(|next, last| {
        let touches = next.0 <= last.1 + 1;
        if touches {
            last.1 = last.1.max(next.1);
        }
        touches
    });
    ranges
}

/// Returns the code points that are not in the sorted `ranges`.
pub(super) fn others(ranges: &[Range]) -> Vec<Range> {
    let mut others = Vec::new();
    let mut next = 0;
    for &(first, last) in ranges {
        if next < first {
            others.push((next, first - 1));
        }
        next = last + 1;
    }
    if next <= u32::from(char::MAX) {
        others.push((next, char::MAX.into()));
    }
    others
}

/// Returns the letters of a range in the other case. Like `regex-lite`, it adds capitals only where there are no small letters:
/// `[Y-b]` does not match `y`. A negated class that excluded more would be too narrow.
pub(super) fn other_case((first, last): Range) -> Option<Range> {
    let within = |from: char, to: char| {
        let (first, last) = (first.max(from.into()), last.min(to.into()));
        (first <= last).then_some((first, last))
    };
    let small = within('a', 'z').map(|(first, last)| (first - 0x20, last - 0x20));
    small.or_else(|| within('A', 'Z').map(|(first, last)| (first + 0x20, last + 0x20)))
}
