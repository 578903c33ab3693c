//! Nothing panics, and the quick look passes over nothing that the rules find.

use proptest::prelude::*;

use super::super::{Form, Sensitivity, judge, suspects};
use crate::guard::{Action, Check, Guard, Unreadable, judge as judge_body};
use crate::openai::Operation;

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
        if let Some(found) = judge(&text, Sensitivity::High) {
            prop_assert!(suspects(text.as_bytes(), Form::Decoded), "{found:?} {text}");
            let mut json = Vec::new();
            crate::json::write_string(&mut json, &text);
            prop_assert!(suspects(&json[1..json.len() - 1], Form::Raw), "{found:?} {text}");
            let body = [br#"{"model":"m-Instruct","messages":[{"role":"system","content":"#.as_slice(), &json, b"}]}"].concat();
            prop_assert!(judge_body(&guards(), &body, Operation::Chat).rejection.is_some(), "{found:?} {text}");
        }
    }
}

proptest! {
    #[test]
    fn nothing_panics(text in "\\PC{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        judge(&text, Sensitivity::High);
        for form in [Form::Body, Form::Raw, Form::Decoded] {
            suspects(text.as_bytes(), form);
            suspects(&bytes, form);
        }
        judge_body(&guards(), &bytes, Operation::Chat);
        judge_body(&guards(), serde_json::json!({"messages": [{"content": text}], "prompt": [text, 1]}).to_string().as_bytes(), Operation::TextCompletion);
    }
}
