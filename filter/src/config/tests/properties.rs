//! Configurations broken at random: refused in a few short lines, never a panic.

use proptest::prelude::*;

use super::*;

/// One change to a text, which may leave it broken in any way.
fn mutated(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let edit = (0..text.len(), 0..20_usize, proptest::collection::vec(any::<u8>(), 0..6));
    proptest::collection::vec(edit, 1..4).prop_map(move |edits| {
        let mut bytes = text.as_bytes().to_vec();
        for (at, removed, inserted) in edits {
            let start = at.min(bytes.len());
            let end = (start + removed).min(bytes.len());
            bytes.splice(start..end, inserted);
        }
        bytes
    })
}

/// Text made of what YAML and this configuration are made of.
fn yaml_like() -> impl Strategy<Value = Vec<u8>> {
    let tokens = vec![
        "---\n",
        "- ",
        "a",
        ": ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "\n",
        "  ",
        "&a ",
        "*a",
        "!t ",
        "!!str ",
        "!!int ",
        "'",
        "\"",
        "|\n",
        ">-\n",
        "#",
        "? ",
        "~",
        "1",
        "1e9",
        ".inf",
        "items: ",
        "kind: Gateway",
        "apiVersion: pai.io/v1",
        "\t",
        "<<: ",
        "...\n",
        "%",
        "\\",
        "\u{85}",
        "\u{2028}",
        "é",
    ];
    proptest::collection::vec(proptest::sample::select(tokens), 0..60).prop_map(|tokens| tokens.concat().into_bytes())
}

fn short_lines(text: &[u8]) {
    if let Err(invalid) = load(text, &env) {
        let lines: Vec<_> = invalid.lines().collect();
        assert!((1..=21).contains(&lines.len()), "{lines:?}");
        for line in &lines {
            assert!(!line.chars().any(char::is_control), "{line:?}");
            assert!(line.len() < 600, "{line:?}");
        }
        assert_eq!(invalid.to_string(), lines.join("\n"));
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        short_lines(&bytes);
    }

    #[test]
    fn no_mutation_panics(bytes in prop_oneof![mutated(ALL), mutated(ALL_JSON), mutated(TOKEN_GATED)]) {
        short_lines(&bytes);
    }

    #[test]
    fn no_yaml_panics(bytes in yaml_like()) {
        short_lines(&bytes);
    }
}
