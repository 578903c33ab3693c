//! Prints how the gate reads request bodies: one line of JSON for each file in the given directories and each operation for which the
//! body is accepted. `filter/fuzz/compare-with-python` reads the output.

use std::error::Error;
use std::path::Path;

use pai_filter::openai::{Operation, Request};
use serde_json::json;

const OPERATIONS: [(&str, Operation); 3] =
    [("chat", Operation::Chat), ("completions", Operation::TextCompletion), ("embeddings", Operation::Embeddings)];

fn main() -> Result<(), Box<dyn Error>> {
    for directory in std::env::args().skip(1) {
        for entry in std::fs::read_dir(directory)? {
            decide(&entry?.path())?;
        }
    }
    Ok(())
}

fn decide(file: &Path) -> Result<(), Box<dyn Error>> {
    let body = std::fs::read(file)?;
    for (name, operation) in OPERATIONS {
        let Ok(request) = Request::parse(&body, operation) else { continue };
        let line = json!({
            "file": file,
            "operation": name,
            "model": request.model,
            "stream": request.stream,
            "include_usage": request.include_usage,
            "continuous_usage_stats": request.continuous_usage,
            "limit": request.limit,
            "min_tokens": request.min_tokens,
            "n": request.choices,
            "sequences": request.sequences,
        });
        println!("{line}");
    }
    Ok(())
}
