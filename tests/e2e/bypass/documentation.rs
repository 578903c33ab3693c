//! Compares the numbers in `docs/security.md` with the number of rows.

use crate::{bodies, callers, caps, fields, framing, headers, http2, models, paths, providers};

#[test]
fn the_documentation_counts_the_rows() {
    let counts = [
        ("models", models::rows().len()),
        ("bodies", bodies::rows().len()),
        ("fields", fields::rows().len()),
        ("caps", caps::rows().len()),
        ("paths", paths::rows().len()),
        ("headers", headers::rows().len()),
        ("HTTP/1.1 framing", framing::rows().len()),
        ("HTTP/2 framing", http2::rows().len()),
        ("callers", callers::rows().len()),
        ("providers", providers::rows().len()),
    ];
    let text = include_str!("../../../docs/security.md");
    for (kind, count) in counts {
        let line = text.lines().find(|line| line.starts_with(&format!("| {kind} | {count} |")));
        assert!(line.is_some(), "docs/security.md does not say that there are {count} rows of {kind}");
    }
    let total: usize = counts.iter().map(|(_, count)| count).sum();
    assert!(text.contains(&format!("{total} ways")), "docs/security.md does not say that there are {total} in all");
}

#[test]
fn no_two_rows_have_one_name() {
    let tables = [
        models::rows(),
        bodies::rows(),
        fields::rows(),
        caps::rows(),
        paths::rows(),
        headers::rows(),
        framing::rows(),
        http2::rows(),
        callers::rows(),
    ];
    for rows in tables {
        let mut names: Vec<&str> = rows.iter().map(|row| row.name).collect();
        names.sort_unstable();
        let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(twice, None);
    }
}
