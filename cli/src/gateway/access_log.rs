//! The access log: one readable line for each request on a terminal, JSON otherwise.

use std::io::{IsTerminal as _, Write as _};

use serde_json::Value;

/// How lines of the access log are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLog {
    /// As Envoy writes them.
    Json,
    /// For people.
    Readable,
}

// === impl AccessLog ===

impl AccessLog {
    /// Returns the form for standard output.
    pub fn for_stdout() -> Self {
        if std::io::stdout().is_terminal() { Self::Readable } else { Self::Json }
    }

    /// Prints a line. An output that is closed is not an error: the gateway goes on.
    pub fn print(self, line: &str) {
        let text = match self {
            Self::Json => line.to_owned(),
            Self::Readable => serde_json::from_str(line).map_or_else(|_| line.to_owned(), |entry| readable(&entry)),
        };
        let _ = writeln!(std::io::stdout(), "{text}");
    }
}

/// Returns `12:01:03 200 POST /v1/chat/completions vllm-local/llama 12+34 tokens 0.51s alice`.
fn readable(entry: &Value) -> String {
    let text = |field: &str| match entry.get(field) {
        Some(Value::String(text)) if text != "-" => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let time = text("time");
    let time = time.split_once('T').map_or("", |(_, time)| time).split('.').next().unwrap_or_default();
    let mut words = vec![time.to_owned(), text("status"), text("method"), text("path")];
    if !text("provider").is_empty() {
        words.push(format!("{}/{}", text("provider"), text("model")));
    }
    if !text("prompt_tokens").is_empty() {
        words.push(format!("{}+{} tokens", text("prompt_tokens"), text("completion_tokens")));
    }
    if let Ok(milliseconds) = text("duration_ms").parse::<f64>() {
        words.push(format!("{:.2}s", milliseconds / 1000.0));
    }
    words.push(text("subject"));
    let decision = text("decision");
    if !matches!(decision.as_str(), "" | "allowed" | "admitted") {
        words.push(decision);
    }
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::readable;
    use serde_json::json;

    #[test]
    fn an_entry_is_one_readable_line() {
        let entry = json!({
            "time": "2026-12-01T12:01:03.123Z", "status": 200, "method": "POST", "path": "/v1/chat/completions", "provider": "vllm-local",
            "model": "llama", "prompt_tokens": "12", "completion_tokens": "34", "duration_ms": 512, "subject": "agent/researcher",
            "decision": "-",
        });
        let expected = "12:01:03 200 POST /v1/chat/completions vllm-local/llama 12+34 tokens 0.51s agent/researcher";
        assert_eq!(readable(&entry), expected);
        assert_eq!(readable(&json!({ "time": "-", "status": 404, "path": "/x" })), "404 /x");
    }
}
