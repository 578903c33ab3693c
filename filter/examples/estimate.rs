//! Estimates texts as the prompts of a model that is not calibrated, to compare the estimates with tokenizers.
//!
//! Standard input is a sequence of texts: the length in bytes as a decimal number, a line feed, and the text. For each of them, a line
//! has the typical and the high number of tokens, without the tokens of a chat template.

#![allow(clippy::unwrap_used, reason = "a measurement")]

use std::io::{BufRead, Read, Write};

use pai_filter::estimate::prompt_tokens::Factors;
use pai_filter::openai::{Operation, PromptSize, Request};
use pai_filter::policy::PromptEstimate;

fn main() {
    let mut input = std::io::stdin().lock();
    let mut output = std::io::stdout().lock();
    // What is added for the request, whatever its text.
    let request = estimate("").1;
    let mut length = String::new();
    while input.read_line(&mut length).unwrap() > 0 {
        let mut text = vec![0; length.trim().parse().unwrap()];
        input.read_exact(&mut text).unwrap();
        let (typical, high) = estimate(&String::from_utf8_lossy(&text));
        writeln!(output, "{typical} {}", high - request).unwrap();
        length.clear();
    }
}

/// Returns the typical and the high number of tokens.
fn estimate(text: &str) -> (u64, u64) {
    let body = serde_json::json!({ "model": "m", "prompt": text }).to_string();
    let prompt: PromptSize = Request::parse(body.as_bytes(), Operation::TextCompletion).unwrap().prompt;
    let estimate = Factors::default().estimate(&prompt, PromptEstimate::Estimated);
    (estimate.typical, estimate.high)
}
