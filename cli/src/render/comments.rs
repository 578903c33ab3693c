//! Comments in a list of similar entries: each is written at the first entry only.

use std::collections::HashSet;

/// Removes comments that were in the text before: blocks of comment lines, and comments at the ends of lines. All other `#` of the text
/// have to be written as `\u0023`.
pub(super) fn without_repetition(text: &str) -> String {
    let mut seen = HashSet::new();
    let mut kept = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if is_comment(line) {
            let mut block = vec![line];
            while let Some(next) = lines.next_if(|next| is_comment(next)) {
                block.push(next);
            }
            keep(&block.join("\n"), &mut seen, &mut kept);
        } else {
            keep_code(line, &mut seen, &mut kept);
        }
    }
    kept
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

fn keep(block: &str, seen: &mut HashSet<String>, kept: &mut String) {
    let text: Vec<&str> = block.lines().map(str::trim).collect();
    if seen.insert(text.join("\n")) {
        kept.push_str(block);
        kept.push('\n');
    }
}

fn keep_code(line: &str, seen: &mut HashSet<String>, kept: &mut String) {
    let code = match line.split_once(" #") {
        Some((code, comment)) if !seen.insert(comment.trim().to_owned()) => code.trim_end(),
        _ => line,
    };
    kept.push_str(code);
    kept.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_kept_once() {
        let text = "- a: 1 # one\n  # two\n  # lines\n  b: 2\n\n- a: 3 # one\n  # two\n  # lines\n  b: 4 # other\n";
        assert_eq!(without_repetition(text), "- a: 1 # one\n  # two\n  # lines\n  b: 2\n\n- a: 3\n  b: 4 # other\n");
    }
}
