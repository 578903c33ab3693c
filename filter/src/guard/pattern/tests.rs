//! What patterns refuse, and what is known of a text without trying them.

#[cfg(not(target_arch = "wasm32"))]
mod properties;

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn patterns(deny: &[&str], allow: &[&str]) -> PatternCheck {
    let all = |patterns: &[&str]| patterns.iter().map(|pattern| RegexPattern::new(pattern).unwrap()).collect();
    PatternCheck::new(all(deny), all(allow))
}

fn refuses(patterns: &PatternCheck, text: &str) -> bool {
    patterns.check(text, &mut usize::MAX.clone()) == PatternOutcome::Match
}

#[test]
fn what_would_take_too_long_is_not_tried() {
    let excepted = patterns(&["titan", "tit.n"], &["titan x"]);
    let text = "titan x ".repeat(100);
    for (work, found, left) in [
        (3 * text.len(), PatternOutcome::NoMatch, 0),
        (3 * text.len() - 1, PatternOutcome::WorkExhausted, text.len() - 1),
        (0, PatternOutcome::WorkExhausted, 0),
    ] {
        let mut work = work;
        assert_eq!(excepted.check(&text, &mut work), found);
        assert_eq!(work, left);
    }
    assert_eq!(excepted.check("nothing of the kind", &mut 0), PatternOutcome::NoMatch, "what cannot match takes no work");
}

#[test]
fn texts_are_refused_and_excepted() {
    let titan = patterns(&[r"project\s+titan", r"\b\d{4}-\d{4}-\d{4}\b"], &[r"project titan \(public\)", "0000-0000-0000"]);
    for (text, refused) in [
        ("about Project  Titan", true),
        ("project tita", false),
        ("project titan (public)", false),
        ("project titan (public), project titan", true),
        ("card 1234-5678-9012", true),
        ("card 0000-0000-0000", false),
        ("card 0000-0000-0000 or 1234-5678-9012", true),
        ("ｐｒｏｊｅｃｔ\u{3000}ｔｉｔａｎ", true),
        ("pro\u{200b}ject tit\u{ad}an", true),
        ("𝐩𝐫𝐨𝐣𝐞𝐜𝐭 𝐭𝐢𝐭𝐚𝐧", true),
        ("project&nbsp;t&#105;tan", true),
        ("cHJvamVjdCB0aXRhbiBpcyBnbyBmb3IgbGF1bmNo", true),
        ("70726f6a65637420746974616e20676f6573", true),
        ("", false),
    ] {
        assert_eq!(refuses(&titan, text), refused, "{text}");
    }
    let case = patterns(&["(?-i)Titan", "ПРОЕКТ", "größe"], &[]);
    for (text, refused) in [("Titan", true), ("titan", false), ("проект", true), ("GRÖSSE", true), ("grösse", true)] {
        assert_eq!(refuses(&case, text), refused, "{text}");
    }
}

#[test]
fn patterns_are_bounded() {
    assert_eq!(RegexPattern::new(&"a".repeat(1025)).unwrap_err(), InvalidPattern::TooLong);
    assert_eq!(RegexPattern::new("a*").unwrap_err(), InvalidPattern::MatchesEmpty);
    for pattern in ["(", "a{1000}{1000}", &format!("{}a{}", "(".repeat(100), ")".repeat(100)), r"\w{900}\w{900}\w{900}", r"(a)\1"] {
        assert!(matches!(RegexPattern::new(pattern), Err(InvalidPattern::Syntax(_))), "{pattern}");
    }
}

/// Which of `patterns` may match in `text`.
fn candidates(patterns: &[&str], text: &str) -> Vec<bool> {
    let candidates = Prefilter::new(patterns.iter().copied()).candidates(text);
    (0..patterns.len()).map(|number| prefilter::has(candidates, number)).collect()
}

#[test]
fn ordinary_text_is_ruled_out() {
    let patterns = [
        r"project\s+titan",
        r"\b\d{4}[ -]?\d{4}[ -]?\d{4}[ -]?\d{4}\b",
        r"(?-i)AKIA[0-9A-Z]{16}",
        r"^begin",
        r"(?m)^end$",
        "größe|проект",
        r"[^\x00-\x7f]secret",
        r"[a-z0-9.]{1,64}@[a-z0-9.]{1,64}\.example",
        r"(?s)-----begin .{0,40}private key",
    ];
    for (text, candidate) in [
        ("The project was called titanic; 1234 5678 9012 is no card, nor is 1700000000000000000.", None),
        ("Großes, proyect, проекция? akia0123456789abcdef we begin, and end here: secret@example.org", None),
        ("Les modèles répondent en français — 人工智能正在改变我们的生活方式。", None),
        ("", None),
        ("the Project  Titan", Some(0)),
        ("card 1234-5678 9012-3456", Some(1)),
        ("(AKIA0123456789ABCDEF)", Some(2)),
        ("Begin", Some(3)),
        ("a\nend\nb", Some(4)),
        ("die Größe", Some(5)),
        ("Проект, проект", Some(5)),
        ("«secret", Some(6)),
        ("write to a.b@mail.example", Some(7)),
        ("-----BEGIN RSA\nPRIVATE KEY", Some(8)),
    ] {
        let expected: Vec<bool> = (0..patterns.len()).map(|number| Some(number) == candidate).collect();
        assert_eq!(candidates(&patterns, text), expected, "{text}");
    }
}

#[test]
fn what_cannot_be_told_is_a_candidate() {
    let large = format!("(?:{}){{200}}", "(?:aé|b)[^x]".repeat(8));
    assert_eq!(candidates(&["x", "(?x) a b", "y", &large, "z"], "y"), [false, true, true, true, false]);
    let many = ["x"; 70];
    assert_eq!(candidates(&many, "y").iter().filter(|may| **may).count(), 6);
}

#[test]
fn characters_of_every_length_are_known() {
    for c in (0..=u32::from(char::MAX)).step_by(991).filter_map(char::from_u32).filter(|c| !c.is_ascii()) {
        let (class, other) = (format!("x[{c}]y"), format!("x[^{c}]y"));
        let patterns = [&class, &other, "x.y", r"x\Dy", "x[^a-z]y"];
        let found = candidates(&patterns, &format!("x{c}y"));
        assert!(found[0] && found[2..] == [true; 3], "{c:?}: {found:?}");
        assert_eq!(candidates(&patterns, "x-y"), [false, true, true, true, true], "{c:?}");
        assert_eq!(candidates(&patterns, &format!("x{c}{c}y")), [false; 5], "{c:?}");
    }
}

/// Letters without an order.
fn random(letters: &'static [char]) -> impl FnMut(usize) -> String {
    let mut bits = 1_u32;
    let mut next = move || {
        bits ^= bits << 13;
        bits ^= bits >> 17;
        bits ^= bits << 5;
        letters[bits as usize % letters.len()]
    };
    move |length| (0..length).map(|_| next()).collect()
}

#[test]
fn more_states_than_are_kept_are_told_as_well() {
    let pattern = "a[ab]{12}[cd]";
    let (regex, prefilter) = (compile(pattern).unwrap(), Prefilter::new([pattern].into_iter()));
    let mut random = random(&['a', 'b', 'a', 'b', 'a', 'b', 'a', 'b', 'c', 'e', 'a', 'b', 'a', 'b', 'a', 'b', 'a']);
    let texts: Vec<String> = (0..150).map(|_| random(150)).collect();
    let matches: Vec<bool> = texts.iter().map(|text| regex.is_match(text)).collect();
    assert!(matches.contains(&true) && matches.contains(&false));
    for (text, matches) in texts.iter().zip(matches) {
        assert_eq!(prefilter::has(prefilter.candidates(text), 0), matches, "{text}");
    }
}

#[test]
fn a_text_of_too_many_states_is_given_up() {
    // Whether one of the last letters was an `a` takes two states for each of them.
    let pattern = "a[ab]{20}c";
    let text = random(&['a', 'b'])(200_000);
    let prefilter = Prefilter::new([pattern].into_iter());
    assert!(prefilter::has(prefilter.candidates(&text), 0));
    assert_eq!(prefilter.candidates(&"an ordinary text ".repeat(100)), !1, "afterwards");
    assert!(!refuses(&patterns(&[pattern], &[]), &text));
    assert!(refuses(&patterns(&[pattern], &[]), &(text + "c")));
}
