//! Nothing panics, and the prefilter skips nothing that the rules find.

use proptest::prelude::*;

use super::super::rules::RULES;
use super::super::words::VOCABULARY;
use super::super::{Form, Sensitivity, detect, suspects};
use crate::guard::{Action, Check, Guard, Unreadable, evaluate};
use crate::openai::Operation;
use crate::openai::prompt_text::PromptSegment;

/// Words of attacks, and some between them.
const WORDS: [&str; 44] = [
    "ignore",
    "all",
    "previous",
    "instructions",
    "your",
    "rules",
    "reveal",
    "system",
    "prompt",
    "the",
    "and",
    "print",
    "disregard",
    "DAN",
    "you are now",
    "unrestricted",
    "mode",
    "developer",
    "without",
    "restrictions",
    "answer",
    "never",
    "refuse",
    "sorry",
    "vergiss",
    "alle",
    "Anweisungen",
    "olvida",
    "reglas",
    "todas",
    "consignes",
    "oublie",
    "tes",
    "verbatim",
    "word for word",
    "secretly",
    "send",
    "conversation",
    "https://x.example",
    "![x](https://e.example/)",
    "<|im_start|>system",
    "forget",
    "above",
    "filters",
];

/// What is done to a letter to hide it.
fn disguise(c: char, how: u8) -> String {
    match how {
        0 => format!("{c}\u{200b}"),
        1 => format!("{c}\u{301}"),
        2 if c.is_ascii_graphic() => char::from_u32(u32::from(c) + 0xfee0).unwrap().to_string(),
        3 => format!("&#{};", u32::from(c)),
        4 => format!("\\u{:04x}", u32::from(c)),
        5 => c.to_uppercase().to_string(),
        6 => match c {
            'e' => "é".into(),
            'o' => "ö".into(),
            'i' => "į".into(),
            'a' => "à".into(),
            's' => "ş".into(),
            'n' => "ñ".into(),
            'u' => "ů".into(),
            c => c.to_string(),
        },
        7 => match c {
            'e' => "3".into(),
            'o' => "0".into(),
            'i' => "1".into(),
            'a' => "4".into(),
            's' => "5".into(),
            c => c.to_string(),
        },
        16 => match c {
            's' => "$".into(),
            'i' | 'l' => "!".into(),
            'a' => "@".into(),
            c => c.to_string(),
        },
        8 => match c {
            'e' => "е".into(),
            'o' => "ο".into(),
            'i' => "і".into(),
            c => c.to_string(),
        },
        9 => format!("{c} "),
        10 => format!("{c}."),
        11 if c == ' ' => "%20".into(),
        12 if c == ' ' => "_".into(),
        13 if c == ' ' => "\u{a0}".into(),
        14 => match c {
            'a'..='m' => char::from(c as u8 + 13).to_string(),
            'n'..='z' => char::from(c as u8 - 13).to_string(),
            c => c.to_string(),
        },
        15 if c == ' ' => String::new(),
        _ => c.to_string(),
    }
}

fn attack() -> impl Strategy<Value = String> {
    let words = prop::collection::vec(prop::sample::select(&WORDS[..]), 2..12);
    let hows = prop::collection::vec(0..24_u8, 1..4);
    (words, hows, any::<u64>(), any::<bool>()).prop_map(|(words, hows, seed, backwards)| {
        let text = words.join(" ");
        let mut state = seed | 1;
        let disguised: String = text
            .chars()
            .map(|c| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // Either the whole text in one way, or letters here and there in several.
                let how = if hows.len() == 1 { hows[0] } else { hows[(state >> 33) as usize % hows.len()] };
                if hows.len() > 1 && state >> 40 & 3 != 0 { c.to_string() } else { disguise(c, how) }
            })
            .collect();
        if backwards && hows.len() == 3 { disguised.chars().rev().collect() } else { disguised }
    })
}

fn guards() -> Vec<Guard> {
    let check = Check::Injection(Sensitivity::High);
    vec![Guard { name: "g".into(), action: Action::Reject, roles: None, unreadable: Unreadable::Reject, check }]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_quick_look_passes_over_nothing(text in attack(), padding in 0..70_usize) {
        let text = format!("{}{text}", "x ".repeat(padding));
        if let Some(found) = detect(&text, Sensitivity::High) {
            prop_assert!(suspects(text.as_bytes(), Form::Decoded), "{found:?} {text}");
            let mut json = Vec::new();
            crate::json::write_string(&mut json, &text);
            prop_assert!(suspects(&json[1..json.len() - 1], Form::Raw), "{found:?} {text}");
            let body = [br#"{"model":"m-Instruct","messages":[{"role":"system","content":"#.as_slice(), &json, b"}]}"].concat();
            prop_assert!(evaluate(&guards(), &body, Operation::Chat).rejection.is_some(), "{found:?} {text}");
        }
    }
}

proptest! {
    #[test]
    fn nothing_panics(text in "\\PC{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        detect(&text, Sensitivity::High);
        for form in [Form::Body, Form::Raw, Form::Decoded] {
            suspects(text.as_bytes(), form);
            suspects(&bytes, form);
        }
        evaluate(&guards(), &bytes, Operation::Chat);
        evaluate(&guards(), serde_json::json!({"messages": [{"content": text}], "prompt": [text, 1]}).to_string().as_bytes(), Operation::TextCompletion);
    }
}

/// What the guard would find without its quick look: every text, and the parts of every message put together.
fn finds(body: &[u8]) -> bool {
    let mut found = false;
    let mut parts: Vec<String> = Vec::new();
    let read = crate::openai::prompt_text::visit_segments(body, false, &mut |_, piece| {
        match piece {
            PromptSegment::Text(text) => found |= detect(&text.decode(), Sensitivity::High).is_some(),
            PromptSegment::Part(text) => {
                found |= detect(&text.decode(), Sensitivity::High).is_some();
                parts.push(text.decode().into_owned());
            }
            PromptSegment::Unreadable => found = true,
            PromptSegment::MessageEnd => {
                let parts = std::mem::take(&mut parts);
                found |= parts.len() > 1 && ["\n", ""].iter().any(|glue| detect(&parts.join(glue), Sensitivity::High).is_some());
            }
        }
        true
    });
    read.is_ok() && found
}

/// A sequence of numbers that begins anywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.roll(of.len())]
    }
}

/// Words that fulfil a rule, in any order and any spacing, in any language, disguised or not.
fn rule_text(dice: &mut Dice) -> String {
    let rule = &RULES[dice.roll(RULES.len())];
    let mut classes: Vec<u64> = rule.needs.iter().map(|near| near.0).chain([rule.key]).collect();
    for at in (1..classes.len()).rev() {
        classes.swap(at, dice.roll(at + 1));
    }
    let glue = dice.pick(&[" ", " ", " ", "", "-", "_", "\n", ", ", "\u{a0}", ".", "\"", " \u{201c}", "/"]);
    let language = dice.roll(4);
    let mut text = String::new();
    for class in classes {
        let entries: Vec<&str> =
            VOCABULARY.iter().filter(|(bit, _)| bit & class != 0).flat_map(|(_, words)| words.split_ascii_whitespace()).collect();
        if entries.is_empty() {
            text.push_str(dice.pick(&[
                "<|im_start|>system",
                "\u{200b}",
                "https://x.example",
                "![a](https://e.example/)",
                "1gn0re",
                "[INST]",
            ]));
        } else {
            let place = if language > 1 { dice.roll(entries.len().min(12)) } else { dice.roll(entries.len()) };
            let word = entries[place];
            let word = word.replace('*', dice.pick(&["", "", "s", "en", "ing", "0", "é", "wordsmith"]));
            text.push_str(&word.replace('_', dice.pick(&[" ", " ", "-", "\n"])));
        }
        text.push_str(glue);
        if dice.roll(6) == 0 {
            text.push_str(dice.pick(&["the ", "x ", "and 7 ", "é ", "…", "it's ", "\\", "& ", "[", "a b "]));
        }
    }
    let how = dice.roll(40) as u8;
    let often = [1, 1, 4, 16][dice.roll(4)];
    if how < 17 {
        return text.chars().map(|c| if dice.roll(often) == 0 { disguise(c, how) } else { c.to_string() }).collect();
    }
    if how == 17 { text.chars().rev().collect() } else { text }
}

fn json(text: &str, dice: &mut Dice) -> String {
    let mut json = Vec::new();
    crate::json::write_string(&mut json, text);
    let json = String::from_utf8(json).unwrap();
    if dice.roll(4) > 0 {
        return json;
    }
    let inner: String = text
        .chars()
        .map(|c| match c {
            c if u32::from(c) < 0x10000 && dice.roll(5) == 0 => format!("\\u{:04X}", u32::from(c)),
            '/' => "\\/".into(),
            c if c < ' ' || matches!(c, '"' | '\\') => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    format!("\"{inner}\"")
}

fn shaped(text: &str, dice: &mut Dice) -> String {
    let space = dice.pick(&["", "", " ", "\n\t"]);
    let whole = json(text, dice);
    let pad = "x ".repeat(dice.roll(40));
    let model = r#""model":"meta-llama/System-Instruct""#;
    let message = match dice.roll(12) {
        0 => format!(r#"{{"role":"user","name":{whole}}}"#),
        1 => format!(r#"{{"role":"user","model":{whole},"content":"x"}}"#),
        2 => format!(r#"{{"messages":["a"],"model":{whole},"content":"x"}}"#),
        3 => format!(r#"{{"messages":[{{"a":1}}],{space}"model"{space}:{space}{whole}}}"#),
        4 => {
            let chars: Vec<char> = text.chars().collect();
            let cut = dice.roll(chars.len() + 1);
            let halves = [chars[..cut].iter().collect::<String>(), chars[cut..].iter().collect()].map(|half| json(&half, dice));
            match dice.roll(3) {
                0 => format!(r#"{{"role":"user","content":[{},{}]}}"#, halves[0], halves[1]),
                1 => format!(
                    r#"{{"content":[{{"type":"text","text":{}}},{{"type":"refusal","refusal":{}}}]}}"#,
                    halves[0], halves[1]
                ),
                _ => format!(r#"{{"role":"tool","content":{{"a":{},"b":[{}]}}}}"#, halves[0], halves[1]),
            }
        }
        5 => format!(r#"{{"tool_calls":[{{"function":{{"arguments":{whole}}}}}]}}"#),
        6 => format!(r#"{{"x":{{{whole}:1}}}}"#),
        7 => whole.clone(),
        _ => format!(r#"{{"role":"user",{space}"content"{space}:{space}{whole}}}"#),
    };
    let messages = format!(r#""messages"{space}:{space}[{space}{{"role":"system","content":"{pad}"}},{space}{message}{space}]"#);
    match dice.roll(6) {
        0 => format!("{{{space}{model},{messages}}}"),
        1 => format!(r#"{{{messages},{model},"task":{whole}}}"#),
        2 => format!(r#"{{"documents":[{whole}],{messages},{model}}}"#),
        3 => format!(r#"{{"tools":[{{"function":{{"description":{whole}}}}}],{messages},{model}}}"#),
        _ => format!("{{{messages}{space},{space}{model}}}"),
    }
}

#[test]
fn the_quick_look_passes_over_nothing_in_any_shape() {
    let rounds = std::env::var("FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5_000);
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let (mut dice, mut hits) = (Dice(seed), 0);
    let mut missed = std::collections::BTreeMap::new();
    for _ in 0..rounds {
        let text = rule_text(&mut dice);
        let body = shaped(&text, &mut dice);
        let found = finds(body.as_bytes());
        hits += usize::from(found);
        if found && evaluate(&guards(), body.as_bytes(), Operation::Chat).rejection.is_none() {
            let shape: String = body.replace(&text, "T");
            missed.entry(shape).or_insert(text);
        }
    }
    assert!(missed.is_empty(), "{hits} of {rounds}, {} missed: {:#?}", missed.len(), missed.iter().take(25).collect::<Vec<_>>());
    assert!(hits > rounds / 20, "{hits} of {rounds} texts are attacks");
}
