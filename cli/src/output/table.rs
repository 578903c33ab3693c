//! Tables as kubectl prints them: columns three blanks apart, no lines.

use comfy_table::{ContentArrangement, Table, presets};

/// Returns the table with a header, one line for each row, without blanks at the ends of lines.
pub fn render<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    let mut text = String::new();
    for line in table.to_string().lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::render;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let rows = vec![["vllm-local", "—", "5s"], ["b", "50000000", "2d"]];
        let rows = rows.into_iter().map(|row| row.map(str::to_owned)).collect();
        let expected = "\
NAME         MAX/DAY    AGE
vllm-local   —          5s
b            50000000   2d
";
        assert_eq!(render(["NAME", "MAX/DAY", "AGE"], rows), expected);
    }
}
