//! Tables as kubectl prints them: columns three blanks apart, no lines.

use comfy_table::{ContentArrangement, Table, presets};

/// The header and the cells of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// The names of the columns.
    pub header: Vec<&'static str>,
    /// The cells, one for each column.
    pub cells: Vec<Vec<String>>,
}

/// Returns the lines of a table, the header first, each with its end of line and without blanks before it.
pub fn lines(rows: &Rows) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(&rows.header);
    table.add_rows(&rows.cells);
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Returns a table as one text.
pub fn render<const N: usize>(header: [&'static str; N], cells: Vec<[String; N]>) -> String {
    lines(&Rows { header: header.to_vec(), cells: cells.into_iter().map(Vec::from).collect() }).concat()
}

#[cfg(test)]
mod tests {
    use super::{Rows, lines};

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let cells = [["vllm-local", "—", "5s"], ["b", "50000000", "2d"]];
        let cells = cells.into_iter().map(|row| row.map(str::to_owned).to_vec()).collect();
        let expected = "\
NAME         MAX/DAY    AGE
vllm-local   —          5s
b            50000000   2d
";
        assert_eq!(lines(&Rows { header: vec!["NAME", "MAX/DAY", "AGE"], cells }).concat(), expected);
    }
}
