//! "Did you mean …?": the known word that a misspelled one is closest to.

/// The most edits between a word and its suggestion.
const MAX_EDITS: usize = 2;

/// The longest word for which a suggestion is searched, in bytes: longer than any known one.
const MAX_BYTES: usize = 32;

/// Returns the word of `known` that `written` is most likely a misspelling of. Case, `_` and `-` do not count; otherwise at
/// most two edits, and no more than a third of the known word.
pub(super) fn closest<'w>(written: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    if written.len() > MAX_BYTES {
        return None;
    }
    let written = letters(written);
    let distance = |word: &'w str| {
        let letters = letters(word);
        let allowed = MAX_EDITS.min(letters.len() / 3);
        let edits = (0..=allowed).find(|&edits| is_within(&written, &letters, edits))?;
        Some((edits, word))
    };
    known.filter_map(distance).min_by_key(|(edits, _)| *edits).map(|(_, word)| word)
}

fn letters(word: &str) -> Vec<u8> {
    word.bytes().filter(|byte| !matches!(byte, b'_' | b'-')).map(|byte| byte.to_ascii_lowercase()).collect()
}

/// Returns whether `a` becomes `b` by at most `edits` edits. An edit inserts, deletes or replaces one byte, or swaps two
/// neighbours.
fn is_within(a: &[u8], b: &[u8], edits: usize) -> bool {
    if let ([x, a @ ..], [y, b @ ..]) = (a, b)
        && x == y
    {
        return is_within(a, b, edits);
    }
    let Some(left) = edits.checked_sub(1) else { return a.is_empty() && b.is_empty() };
    let swapped = matches!((a, b), ([v, w, a @ ..], [x, y, b @ ..]) if v == y && w == x && is_within(a, b, left));
    let (shorter_a, shorter_b) = (a.get(1..), b.get(1..));
    swapped
        || shorter_a.is_some_and(|a| is_within(a, b, left))
        || shorter_b.is_some_and(|b| is_within(a, b, left))
        || shorter_a.zip(shorter_b).is_some_and(|(a, b)| is_within(a, b, left))
        || a.is_empty() && b.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn misspellings_are_recognised() {
        let fields = ["allowedModels", "deniedModels", "maxTokensPerDay", "maxTokensPerRequest", "keys", "name", "sha256"];
        for (written, expected) in [
            ("allowedModel", Some("allowedModels")),
            ("alowedModels", Some("allowedModels")),
            ("allowdeModels", Some("allowedModels")),
            ("allowed_models", Some("allowedModels")),
            ("ALLOWED-MODELS", Some("allowedModels")),
            ("allowedMdels ", Some("allowedModels")),
            ("denyModels", None),
            ("maxTokensPerDays", Some("maxTokensPerDay")),
            ("maxTokensPerWeek", None),
            ("key", Some("keys")),
            ("kyes", Some("keys")),
            ("ksy", None),
            ("nmae", Some("name")),
            ("sha265", Some("sha256")),
            ("sha512", None),
            ("md5", None),
            ("", None),
            ("___", None),
            ("é", None),
            ("alloẃedModels", None),
            (&"allowedModels".repeat(100_000), None),
        ] {
            assert_eq!(closest(written, fields.into_iter()), expected, "{written}");
        }
        assert_eq!(closest("vlm", ["vllm", "openai"].into_iter()), Some("vllm"));
        assert_eq!(closest("model", ["models", "model"].into_iter()), Some("model"), "the closest one, whatever the order");
        assert_eq!(closest("a", ["a", "b"].into_iter()), Some("a"));
        assert_eq!(closest("b", ["a"].into_iter()), None);
    }

    /// The distance by the textbook: a table of all prefixes.
    #[cfg(not(target_arch = "wasm32"))]
    fn distance(a: &[u8], b: &[u8]) -> usize {
        let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
        for i in 0..=a.len() {
            for j in 0..=b.len() {
                table[i][j] = match (i, j) {
                    (0, edits) | (edits, 0) => edits,
                    _ => {
                        let replaced = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                        let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                        let swap = if swapped { table[i - 2][j - 2] + 1 } else { usize::MAX };
                        replaced.min(swap).min(table[i - 1][j] + 1).min(table[i][j - 1] + 1)
                    }
                };
            }
        }
        table[a.len()][b.len()]
    }

    #[cfg(not(target_arch = "wasm32"))]
    proptest::proptest! {
        #[test]
        fn edits_are_counted_as_in_the_textbook(a in "[abc]{0,8}", b in "[abc]{0,8}") {
            for edits in 0..=MAX_EDITS {
                let expected = distance(a.as_bytes(), b.as_bytes()) <= edits;
                assert_eq!(is_within(a.as_bytes(), b.as_bytes(), edits), expected, "{a} {b} {edits}");
            }
        }
    }
}
