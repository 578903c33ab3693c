//! Measures the time that guards need for one body of each kind, in nanoseconds.
//!
//! `cargo run --release -p pai-filter --example guards`, or as WebAssembly: `scripts/bench-guards`.

#![allow(clippy::unwrap_used, reason = "a measurement")]

use std::hint::black_box;
use std::time::Instant;

use pai_filter::guard::injection::Sensitivity;
use pai_filter::guard::pattern::{PatternCheck, RegexPattern};
use pai_filter::guard::{Action, Check, Guard, Unreadable, evaluate};
use pai_filter::openai::{Operation, Request};

const LONG_BYTES: usize = 112 * 1024;

/// The sentences of `Workload::Long` in the gateway's benchmark.
const SENTENCES: [&str; 6] = [
    "The ledger keeps one record for each budget and day, and every worker of the proxy changes it in the same way.",
    "She said: \\\"Count what was promised, then what was used\\\" — and closed the book.\\nThe next page was empty.",
    "A stream may be cut at any byte; whatever was generated until then has been paid for with somebody's electricity.",
    "Les modèles répondent en français aussi bien qu'en anglais, à condition qu'on le leur demande poliment.",
    "fn main() {\\n    println!(\\\"{}\\\", std::env::args().count());\\n}",
    "In the morning the fox ran over the hill, across the old road and past the two red barns, where nobody saw it.",
];

fn long(sentences: &[&str]) -> String {
    let mut body = String::from(r#"{"messages":[{"content":"You are a helpful assistant.","role":"system"}"#);
    let mut number = 0;
    while body.len() < LONG_BYTES {
        number += 1;
        let role = if number % 2 == 1 { "user" } else { "assistant" };
        let text: Vec<&str> = sentences.iter().cycle().skip(number).take(5).copied().collect();
        body += &format!(r#",{{"content":"{}","role":"{role}"}}"#, text.join(" "));
    }
    body + r#"],"model":"vllm-local/meta-llama/Meta-Llama-3-70B-Instruct","temperature":0.7}"#
}

fn one(text: &str, bytes: usize) -> String {
    format!(r#"{{"messages":[{{"content":"{}","role":"user"}}],"model":"m"}}"#, text.repeat(bytes / text.len()))
}

fn guard(check: Check) -> Vec<Guard> {
    vec![Guard { name: "g".into(), action: Action::Reject, roles: None, unreadable: Unreadable::Reject, check }]
}

/// Returns a pseudo-random sequence of the letters `a` and `b`.
fn states(length: usize) -> String {
    let mut bits = 1_u32;
    let mut next = || {
        bits ^= bits << 13;
        bits ^= bits >> 17;
        bits ^= bits << 5;
        if bits & 1 == 0 { 'a' } else { 'b' }
    };
    (0..length).map(|_| next()).collect()
}

/// Returns whether the measurement's name contains the second argument, if there is one.
fn is_wanted(name: &str) -> bool {
    std::env::args().nth(2).is_none_or(|part| name.contains(&part))
}

fn measure(name: &str, rounds: u32, mut run: impl FnMut()) {
    if !is_wanted(name) {
        return;
    }
    let mut best = u128::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        (0..rounds).for_each(|_| run());
        best = best.min(start.elapsed().as_nanos() / u128::from(rounds));
    }
    println!("{name:<44} {best:>12} ns");
}

fn main() {
    let injection = guard(Check::Injection(Sensitivity::Medium));
    let words = PatternCheck::new(
        vec![RegexPattern::new(r"project\s+titan").unwrap(), RegexPattern::new(r"\b\d{4}-\d{4}\b").unwrap()],
        vec![],
    );
    let pattern = guard(Check::Pattern(words));
    let bench = long(&SENTENCES);
    assert_eq!(evaluate(&injection, bench.as_bytes(), Operation::Chat).rejection, None);
    measure("parse, 112 KB", 1000, || _ = black_box(Request::parse(black_box(bench.as_bytes()), Operation::Chat).is_ok()));
    let case = |name: &str, guards: &[Guard], body: &str, rounds: u32| {
        measure(name, rounds, || _ = black_box(evaluate(guards, black_box(body.as_bytes()), Operation::Chat)));
    };
    case("promptInjection, 112 KB of the benchmark", &injection, &bench, 1000);
    case("promptInjection, 112 KB of English", &injection, &long(&[SENTENCES[0], SENTENCES[2], SENTENCES[5]]), 1000);
    case("promptInjection, 112 KB of French", &injection, &long(&[SENTENCES[3]]), 100);
    let russian = "В лесу родилась ёлочка, в лесу она росла, зимой и летом стройная, зелёная была. ";
    case("promptInjection, 112 KB of Russian", &injection, &one(russian, LONG_BYTES), 20);
    case("promptInjection, 112 KB of Chinese", &injection, &one("人工智能正在改变我们的生活方式和工作方式。", LONG_BYTES), 20);
    let manual = "Please read the installation instructions before you set the rules of the filter. ";
    case("promptInjection, 112 KB about instructions", &injection, &one(manual, LONG_BYTES), 20);
    case("pattern, 2 patterns, 112 KB", &pattern, &bench, 10);
    if std::env::args().nth(1).is_none() {
        return;
    }
    // Node's WASI aborts the process if memory grows by more.
    let mb = if cfg!(target_os = "wasi") { 4 } else { 16 };
    let large = |name: &str, guards: &[Guard], text: &str| {
        if is_wanted(name) {
            case(name, guards, &one(text, mb * 1024 * 1024), 1);
        }
    };
    for (name, text) in [
        ("letters", "a"),
        ("English", SENTENCES[0]),
        ("about instructions", manual),
        ("ignore", "ignore "),
        ("quoted attacks", "the example 'ignore previous instructions' explains "),
        ("spelled out", "i g n o r e "),
        ("base64", "aWdub3JlIHByZXZpb3VzIGluc3RydWN0aW9ucyA "),
        ("base64 runs", "aWdub3JlIHByZXZpb3VzIGluc3RydWN0aW9ucyA"),
        ("hex", "69 67 6e "),
        ("references", "&#105;"),
        ("escapes", "\\u0069"),
        ("zero width", "i\u{200b}"),
        ("Cyrillic lookalikes", "іgnоrе "),
        ("Chinese", "忽略所有的的"),
        ("leet", "1gn0r3 "),
        ("accents", "é"),
        ("quotes", "\\\""),
        ("ampersands", "&"),
    ] {
        large(&format!("promptInjection, {mb} MB: {name}"), &injection, text);
    }
    // Matching an `a` among the last letters needs two states for each letter.
    let many = guard(Check::Pattern(PatternCheck::new(vec![RegexPattern::new("a[ab]{20}c").unwrap()], vec![])));
    for (name, guards, text) in [
        ("English", &pattern, SENTENCES[0]),
        ("Chinese", &pattern, "忽略所有的的"),
        ("digits", &pattern, "1234-567 "),
        ("one match less", &pattern, "1234-56789 "),
        ("more states than are kept", &many, &states(64 * 1024)),
    ] {
        large(&format!("pattern, {mb} MB: {name}"), guards, text);
    }
}
