//! Prints the filter's estimates of prompts: `scripts/prompt-estimates` compares them with real tokenizers.
//!
//! Standard input contains the prompts, each as its number of bytes, a line feed and the bytes. For each, a line is printed with the typical
//! and the high number of tokens, without the allowances for requests and messages.

use std::io::{BufRead as _, BufWriter, Read as _, Write as _, stdin, stdout};

use anyhow::{Context, Result};
use pai_filter::openai::{Operation, Request};
use serde_json::json;

fn main() -> Result<()> {
    let mut input = stdin().lock();
    let mut output = BufWriter::new(stdout().lock());
    let mut length = String::new();
    while input.read_line(&mut length).context("reading a length")? > 0 {
        let mut text = vec![0; length.trim_end().parse().with_context(|| format!("{length:?} is not a length"))?];
        input.read_exact(&mut text).context("the last prompt is shorter than its length")?;
        // As a request contains it, with the escapes of JSON.
        let body = json!({ "model": "m", "prompt": String::from_utf8(text).context("a prompt is not UTF-8")? }).to_string();
        let request = Request::parse(body.as_bytes(), Operation::TextCompletion)?;
        let tokens = request.prompt.text;
        writeln!(output, "{} {}", tokens.typical(), tokens.high().min(request.prompt.text_bytes))?;
        length.clear();
    }
    Ok(output.flush()?)
}
