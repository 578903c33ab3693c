//! Repeatedly measured numbers, and their formatting.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::machine::Machine;

/// A number that was measured several times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    min: f64,
    max: f64,
}

/// Formats a page: the title, the machine, and the rows under their titles.
pub(super) fn page<const N: usize>(
    what: &str,
    envoy: &str,
    machine: &Machine,
    titles: [&str; N],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let mut text = format!("{what}\nEnvoy {envoy}; {}\n\n", machine.line());
    let mut lines = vec![titles.map(str::to_owned).to_vec()];
    lines.extend(rows);
    write_aligned(&mut text, &lines);
    text
}

/// Writes aligned columns; the first is left-aligned.
pub(super) fn write_aligned(text: &mut String, lines: &[Vec<String>]) {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| lines.iter().filter_map(|line| Some(line.get(column)?.chars().count())).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for line in lines {
        let mut cells = line.iter().zip(&widths);
        if let Some((first, width)) = cells.next() {
            let _ = write!(text, "{first:<width$}");
        }
        for (cell, width) in cells {
            let _ = write!(text, "  {cell:>width$}");
        }
        text.push('\n');
    }
}

// === impl Spread ===

impl Spread {
    pub(super) fn of(mut numbers: Vec<f64>) -> Self {
        numbers.sort_by(f64::total_cmp);
        let at = |place: usize| numbers.get(place).copied().unwrap_or(f64::NAN);
        let last = numbers.len().saturating_sub(1);
        Self { median: f64::midpoint(at(last / 2), at(last.div_ceil(2))), min: at(0), max: at(last) }
    }

    pub(super) fn show(&self, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$}–{:.digits$})", self.median, self.min, self.max)
    }

    pub(super) fn json(&self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (numbers, median, min, max) in
            [(vec![3.0, 1.0, 2.0], 2.0, 1.0, 3.0), (vec![4.0, 1.0, 2.0, 3.0], 2.5, 1.0, 4.0), (vec![7.0], 7.0, 7.0, 7.0)]
        {
            assert_eq!(Spread::of(numbers), Spread { median, min, max });
        }
    }
}
