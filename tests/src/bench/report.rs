//! The table, and the same as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::load::Served;
use super::machine::Machine;
use super::{Column, Filter};
use std::time::Duration;

/// All that was measured.
#[derive(Debug)]
pub struct Report {
    pub(super) machine: Machine,
    pub(super) envoy: String,
    pub(super) connections: usize,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
}

/// One workload.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) workload: &'static str,
    /// Requests of a round.
    pub(super) requests: u64,
    /// Events that each answer has, where it is a stream.
    pub(super) events: Option<u64>,
    pub(super) cells: Vec<Cell>,
}

/// One configuration under one workload.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) column: String,
    pub(super) rounds: Vec<Round>,
}

/// One round of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// Envoy's CPU time per request, in microseconds.
    micros: f64,
    /// Requests per second.
    rate: f64,
    /// Chunks of an answer.
    chunks: f64,
}

/// A number that was measured more than once.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

// === impl Report ===

impl Report {
    /// The table, for people.
    pub fn table(&self) -> String {
        let rounds = self.rows.first().and_then(|row| row.cells.first()).map_or(0, |cell| cell.rounds.len());
        let mut text = format!(
            "Envoy's CPU time per request in µs: median (min–max) of {rounds} rounds, one worker, {} connections\n\
             Envoy {}; {}\n\n",
            self.connections,
            self.envoy,
            self.machine.line()
        );
        let mut lines = vec![self.header()];
        lines.extend(self.rows.iter().map(|row| self.line(row)));
        write_aligned(&mut text, &lines);
        let _ = writeln!(text, "\nRatios compare what ran in the same round: their median (min–max).");
        for row in &self.rows {
            let Some(events) = row.events else { continue };
            let each = |cell: &Cell| format!("{} {:.1}", cell.column, events as f64 / cell.spread(|round| round.chunks).median);
            let all: Vec<String> = row.cells.iter().map(each).collect();
            let _ = writeln!(text, "{}: events per response body callback: {}", row.workload, all.join(", "));
        }
        text
    }

    /// Everything, for programs.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let cells = row.cells.iter().map(Cell::json);
            let ratios = self.ratios().into_iter().filter_map(|(title, over, under)| Some((title, row.ratio(over, under)?.json())));
            json!({
                "workload": row.workload,
                "requests_per_round": row.requests,
                "events_per_answer": row.events,
                "cells": cells.collect::<Vec<_>>(),
                "ratios": ratios.collect::<serde_json::Map<_, _>>(),
            })
        });
        let columns = self.columns.iter().map(|column| {
            let bytes = column.filter.module().and_then(|module| Some(module.metadata().ok()?.len()));
            json!({ "name": column.name, "module_bytes": bytes })
        });
        json!({
            "unit": "microseconds of Envoy's CPU time per request",
            "machine": self.machine,
            "envoy": self.envoy,
            "workers": 1,
            "connections": self.connections,
            "columns": columns.collect::<Vec<_>>(),
            "rows": rows.collect::<Vec<_>>(),
        })
    }

    fn header(&self) -> Vec<String> {
        let names = self.columns.iter().map(|column| column.name.clone());
        let ratios = self.ratios().into_iter().map(|(title, ..)| title);
        std::iter::once(String::new()).chain(names).chain(ratios).collect()
    }

    fn line(&self, row: &Row) -> Vec<String> {
        let cells = row.cells.iter().map(|cell| cell.spread(|round| round.micros).show(1));
        let ratios = self.ratios().into_iter();
        let ratios = ratios.map(|(_, over, under)| row.ratio(over, under).map_or_else(String::new, |ratio| ratio.show(2)));
        std::iter::once(row.workload.to_owned()).chain(cells).chain(ratios).collect()
    }

    /// Which columns are compared: every build of the filter with what is no filter of ours, and the first with the others.
    fn ratios(&self) -> Vec<(String, usize, usize)> {
        let is_ours = |column: &Column| matches!(column.filter, Filter::Gateway(_));
        let mut ratios = Vec::new();
        for (over, column) in self.columns.iter().enumerate().filter(|(_, column)| is_ours(column)) {
            for (under, base) in self.columns.iter().enumerate() {
                if !is_ours(base) || under > over {
                    ratios.push((format!("{} / {}", column.name, base.name), over, under));
                }
            }
        }
        ratios.sort_by_key(|(_, over, under)| (*over, std::cmp::Reverse(*under)));
        ratios
    }
}

/// Writes lines in columns; the first is flush left.
fn write_aligned(text: &mut String, lines: &[Vec<String>]) {
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

// === impl Row ===

impl Row {
    fn ratio(&self, over: usize, under: usize) -> Option<Spread> {
        let (over, under) = (self.cells.get(over)?, self.cells.get(under)?);
        let ratios = over.rounds.iter().zip(&under.rounds).map(|(over, under)| over.micros / under.micros);
        Some(Spread::of(ratios.collect()))
    }
}

// === impl Cell ===

impl Cell {
    fn spread(&self, what: impl Fn(&Round) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(what).collect())
    }

    fn json(&self) -> Value {
        json!({
            "column": self.column,
            "micros": self.spread(|round| round.micros).json(),
            "rounds": self.rounds.iter().map(|round| round.micros).collect::<Vec<_>>(),
            "requests_per_second": self.spread(|round| round.rate).median,
            "chunks_per_answer": self.spread(|round| round.chunks).median,
        })
    }
}

// === impl Round ===

impl Round {
    pub(super) fn new(used: Duration, served: &Served) -> Self {
        let requests = served.requests as f64;
        Self {
            micros: used.as_secs_f64() * 1e6 / requests,
            rate: requests / served.took.as_secs_f64(),
            chunks: served.chunks as f64 / requests,
        }
    }
}

// === impl Spread ===

impl Spread {
    fn of(mut numbers: Vec<f64>) -> Self {
        numbers.sort_by(f64::total_cmp);
        let at = |place: usize| numbers.get(place).copied().unwrap_or(f64::NAN);
        let last = numbers.len().saturating_sub(1);
        Self { median: f64::midpoint(at(last / 2), at(last.div_ceil(2))), min: at(0), max: at(last) }
    }

    fn show(&self, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$}–{:.digits$})", self.median, self.min, self.max)
    }

    fn json(&self) -> Value {
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
