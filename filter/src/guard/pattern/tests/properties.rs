//! Whatever matches is a candidate; in ASCII, nothing else is.

use proptest::prelude::*;
use proptest::sample::select;

use super::super::{Prefilter, compile, prefilter};

const SINGLES: &[&str] = &[
    "a",
    "b",
    "A",
    "Z",
    "1",
    "_",
    " ",
    "-",
    "é",
    "É",
    "ф",
    "忽",
    "𝐢",
    ".",
    r"\d",
    r"\w",
    r"\s",
    r"\D",
    r"\W",
    r"\S",
    r"\n",
    r"\.",
    r"\x41",
    r"\u00e9",
    r"\x{444}",
    r"\U0001d422",
    r"\x{ 41}",
    r"\-",
    r"\t",
    r"\/",
    "/",
    "]",
    "}",
];

const CLASSES: &[&str] = &[
    "[a-c]",
    "[^a]",
    "[^a-cé]",
    "[忽忾]",
    "[一-忽]",
    "[𝐢-𝐯]",
    "[é-忽]",
    "[^一-𝐢]",
    "[Y-b]",
    "[^Y-b]",
    "[^b-y]",
    "[éф]",
    "[à-ö]",
    "[^x-ÿ]",
    "[^é-忽]",
    "[[:alpha:]]",
    "[^[:upper:]]",
    "[[:^digit:]_]",
    "[-a]",
    "[]a]",
    "[^]a]",
    "[^-a]",
    "[a-]",
    r"[\w-]",
    r"[\W\d]",
    r"[^\W]",
    r"[\x41-\x43]",
    r"[a\]b]",
    "[a^]",
    "[ -~]",
    "[Z-a]",
    "[[:punct:]]",
    "[^[:space:]b]",
    "[A-Z[-`a]",
    r"[\D1]",
    "[.]",
    r"[\--a]",
    r"[^\u00e9]",
];

const PLACES: &[&str] = &[
    r"\b",
    r"\B",
    "^",
    "$",
    r"\A",
    r"\z",
    r"\<",
    r"\>",
    r"\b{start}",
    r"\b{end}",
    r"\b{start-half}",
    r"\b{end-half}",
    "(?i)",
    "(?-i)",
    "(?s)",
    "(?m)",
    "(?R)",
    "(?mR)",
    "(?-s)",
    "(?s-i)",
    "(?U)",
    "(?u)",
    "",
];

const TIMES: &[&str] =
    &["*", "+", "?", "{2}", "{0,2}", "{1,}", "{2,}", "*?", "+?", "{ 1 , 2 }", "{1}", "{1}{2}", "{0}", "{0,1}?", "+*"];

fn pattern() -> impl Strategy<Value = String> {
    let single = prop_oneof![4 => select(SINGLES), 2 => select(CLASSES), 2 => select(PLACES)].prop_map(str::to_owned);
    single.prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            4 => prop::collection::vec(inner.clone(), 1..5).prop_map(|parts| parts.concat()),
            2 => (select(&["(", "(?:", "(?i:", "(?-i:", "(?s:", "(?mR:", "(?<n>", "(?P<n1>"][..]), prop::collection::vec(inner.clone(), 1..4))
                .prop_map(|(open, branches)| format!("{open}{})", branches.join("|"))),
            2 => prop::collection::vec(inner.clone(), 2..4).prop_map(|branches| branches.join("|")),
            2 => (inner.clone(), select(TIMES)).prop_map(|(inner, times)| format!("(?:{inner}){times}")),
            1 => (prop_oneof![select(SINGLES), select(CLASSES), select(PLACES)], select(TIMES)).prop_map(|(inner, times)| format!("{inner}{times}")),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    let plain =
        || select(&['a', 'b', 'c', 'A', 'B', 'X', 'Z', 'y', '0', '1', '_', '-', ' ', '.', '\n', '\r', '[', ']', '^', '\x7f'][..]);
    let foreign = select(&['é', 'É', 'à', 'ö', 'ф', 'Ф', '忽', '忾', '𝐢', '𝐣', '\u{80}', 'ÿ', char::MAX][..]);
    let any = prop_oneof![3 => plain(), 1 => foreign];
    let of = |letters: BoxedStrategy<char>| prop::collection::vec(letters, 0..24).prop_map(String::from_iter);
    prop_oneof![of(plain().boxed()), of(any.boxed())]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_matches_is_a_candidate(patterns in prop::collection::vec(pattern(), 1..4), texts in prop::collection::vec(text(), 1..6)) {
        let regexes: Vec<_> = patterns.iter().filter_map(|pattern| compile(pattern).ok()).collect();
        let filter = Prefilter::new(regexes.iter().map(|regex| regex.as_str()));
        // The second time, the states are known.
        for text in texts.iter().chain(&texts) {
            let candidates = filter.candidates(text);
            for (number, regex) in regexes.iter().enumerate() {
                let (matches, may) = (regex.is_match(text), prefilter::has(candidates, number));
                prop_assert!(may || !matches, "{regex} in {text:?}");
                prop_assert!(matches || !may || !text.is_ascii(), "{regex} not in {text:?}");
            }
        }
    }
}
