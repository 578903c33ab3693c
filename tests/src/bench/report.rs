//! The results as a table and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::load::Served;
use super::machine::Machine;
use super::table::{Spread, write_aligned};
use super::{Column, FilterPositions};

/// The results of the measurement.
#[derive(Debug)]
pub struct Report {
    pub(super) machine: Machine,
    pub(super) envoy: String,
    pub(super) connections: usize,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
}

/// The results of one workload.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) workload: &'static str,
    /// Requests per round.
    pub(super) requests: u64,
    /// Events per response, for a stream.
    pub(super) events: Option<u64>,
    pub(super) cells: Vec<Cell>,
}

/// The results of one configuration under one workload.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) column: String,
    pub(super) rounds: Vec<Round>,
}

/// The results of one round.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Round {
    /// Envoy's CPU time per request, in microseconds.
    pub(super) micros: f64,
    /// Requests per second.
    pub(super) rate: f64,
    /// Chunks per response.
    chunks: f64,
}

/// The CPU time of a request with two attempts.
#[derive(Debug)]
struct Moved {
    micros: Spread,
    /// The column that it is compared with.
    base: &'static str,
    ratio: Spread,
}

// === impl Report ===

impl Report {
    /// Formats the results as a table.
    pub fn table(&self) -> String {
        let rounds = self.rows.first().and_then(|row| row.cells.first()).map_or(0, |cell| cell.rounds.len());
        let mut text = format!(
            "Envoy's CPU time per request in µs: median (min–max) of {rounds} rounds, one worker, {} connections\n\
             Envoy {}; {}\n\n",
            self.connections,
            self.envoy,
            self.machine.line()
        );
        let names = self.columns.iter().map(|column| column.name.clone());
        let times = |row: &Row| row.cells.iter().map(|cell| cell.spread(|round| round.micros).show(1)).collect();
        self.write_rows(&mut text, names.collect(), times);
        text.push_str("\nRatios compare what ran in the same round: their median (min–max).\n\n");
        let pairs = self.pairs();
        let ratios = |row: &Row| pairs.iter().map(|(_, over, under)| row.show_ratio(*over, *under)).collect();
        self.write_rows(&mut text, pairs.iter().map(|(title, ..)| title.clone()).collect(), ratios);
        text.push('\n');
        for row in &self.rows {
            let Some(Moved { micros, base, ratio }) = self.moved(row) else { continue };
            let (micros, ratio) = (micros.show(1), ratio.show(2));
            let _ = writeln!(text, "{}: a request with two attempts: {micros} µs, {ratio} × {base}", row.workload);
        }
        for row in &self.rows {
            let Some(events) = row.events else { continue };
            let each = |cell: &Cell| format!("{} {:.1}", cell.column, events as f64 / cell.spread(|round| round.chunks).median);
            let all: Vec<String> = row.cells.iter().map(each).collect();
            let _ = writeln!(text, "{}: events per response body callback: {}", row.workload, all.join(", "));
        }
        text
    }

    /// Returns the results as JSON.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let cells = row.cells.iter().map(Cell::json);
            let ratios = self.pairs().into_iter().filter_map(|(title, over, under)| Some((title, row.ratio(over, under)?.json())));
            json!({
                "workload": row.workload,
                "requests_per_round": row.requests,
                "events_per_answer": row.events,
                "cells": cells.collect::<Vec<_>>(),
                "ratios": ratios.collect::<serde_json::Map<_, _>>(),
                "two_attempts": self.moved(row).map(|moved| moved.json()),
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

    /// Returns the compared columns: titles, and the positions of both.
    fn pairs(&self) -> Vec<(String, usize, usize)> {
        let place = |name: &str| self.columns.iter().position(|column| column.name == name);
        let pairs = self.columns.iter().enumerate().flat_map(|(over, column)| {
            let pair = move |name: &&str| Some((format!("{} / {name}", column.name), over, place(name)?));
            column.against.iter().filter_map(pair)
        });
        pairs.collect()
    }

    /// Computes the CPU time of a request with two attempts. In one column every second request has two attempts. The time of the
    /// other requests is taken from the column that differs only in that its first provider never fails.
    fn moved(&self, row: &Row) -> Option<Moved> {
        let (half, column) =
            self.columns.iter().enumerate().find(|(_, column)| column.positions == FilterPositions::BothFailing)?;
        let whole =
            self.columns.iter().position(|other| other.positions == FilterPositions::Both && other.filter == column.filter)?;
        let base = *column.against.first()?;
        let under = self.columns.iter().position(|other| other.name == base)?;
        let micros: Vec<f64> = row.each_round(half, whole, |half, whole| 2.0 * half - whole)?;
        let under = row.cells.get(under)?.rounds.iter();
        let ratio = micros.iter().zip(under).map(|(moved, under)| moved / under.micros).collect();
        Some(Moved { micros: Spread::of(micros), base, ratio: Spread::of(ratio) })
    }

    fn write_rows(&self, text: &mut String, titles: Vec<String>, cells: impl Fn(&Row) -> Vec<String>) {
        let line = |first: &str, rest: Vec<String>| std::iter::once(first.to_owned()).chain(rest).collect();
        let mut lines = vec![line("", titles)];
        lines.extend(self.rows.iter().map(|row| line(row.workload, cells(row))));
        write_aligned(text, &lines);
    }
}

// === impl Row ===

impl Row {
    fn ratio(&self, over: usize, under: usize) -> Option<Spread> {
        Some(Spread::of(self.each_round(over, under, |over, under| over / under)?))
    }

    /// Combines the times of two columns, round by round.
    fn each_round(&self, one: usize, other: usize, what: impl Fn(f64, f64) -> f64) -> Option<Vec<f64>> {
        let (one, other) = (self.cells.get(one)?, self.cells.get(other)?);
        Some(one.rounds.iter().zip(&other.rounds).map(|(one, other)| what(one.micros, other.micros)).collect())
    }

    fn show_ratio(&self, over: usize, under: usize) -> String {
        self.ratio(over, under).map_or_else(String::new, |ratio| ratio.show(2))
    }
}

// === impl Moved ===

impl Moved {
    fn json(&self) -> Value {
        json!({ "micros": self.micros.json(), "base": self.base, "ratio": self.ratio.json() })
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::{Configuration, Filter};
    use super::*;

    #[test]
    fn a_request_with_two_attempts_is_separated_from_the_others() {
        let gateway = || Filter::Gateway(PathBuf::new(), Configuration::Fallback);
        let column = |name: &str, filter, positions| Column { name: name.to_owned(), filter, positions, against: &["empty-twice"] };
        let columns = vec![
            column("empty-twice", Filter::Empty(PathBuf::new()), FilterPositions::Both),
            column("fallback", gateway(), FilterPositions::Both),
            column("fallback-used", gateway(), FilterPositions::BothFailing),
        ];
        let cell = |(column, micros): (&Column, f64)| Cell {
            column: column.name.clone(),
            rounds: vec![Round { micros, ..Round::default() }],
        };
        let cells = columns.iter().zip([100.0, 130.0, 190.0]).map(cell).collect();
        let rows = vec![Row { workload: "chat", requests: 2, events: None, cells }];
        let report = Report { machine: Machine::here(), envoy: String::new(), connections: 1, columns, rows };
        let table = report.table();
        let line = "chat: a request with two attempts: 250.0 (250.0–250.0) µs, 2.50 (2.50–2.50) × empty-twice";
        assert!(table.lines().any(|found| found == line), "{table}");
    }
}
