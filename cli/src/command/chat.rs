//! `pai chat`.

use std::io::Read as _;
use std::num::NonZeroU64;

use reqwest::blocking::Response;
use serde_json::{Value, json};
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

use super::{Outcome, Shared};
use crate::client::{Answer, Client, TargetArgs, read_stream, read_whole};
use crate::failure::Failure;
use crate::output;

/// Send one message to a model
///
/// The answer is written to stdout as it arrives.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pai chat vllm-local/meta-llama/Meta-Llama-3-70B-Instruct \"Why is the sky blue?\"
  git diff | pai chat vllm-local/meta-llama/Meta-Llama-3-70B-Instruct - --system \"Write a commit message.\"
  pai chat vllm-local/meta-llama/Meta-Llama-3-70B-Instruct \"Hello\" --max-tokens 50 --usage

`pai models` lists the models.")]
pub struct Args {
    /// Model reference, PROVIDER/MODEL
    #[arg(value_name = "REF")]
    model: String,
    /// The message; `-` reads it from stdin
    #[arg(value_name = "MESSAGE")]
    message: String,
    /// A system message before it
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// The most tokens that the answer may have
    #[arg(long, value_name = "N")]
    max_tokens: Option<NonZeroU64>,
    /// Write the answer when it is complete
    #[arg(long)]
    no_stream: bool,
    /// Write the number of tokens, and who answered, to stderr
    #[arg(long)]
    usage: bool,
    #[command(flatten)]
    target: TargetArgs,
}

// === impl Args ===

impl Args {
    /// Runs the command.
    pub fn run(mut self, shared: &Shared) -> Outcome {
        if self.message == "-" {
            self.message = read_stdin()?;
        }
        let body = self.body();
        let (usage, streams, max_tokens) = (self.usage, !self.no_stream, self.max_tokens);
        let client = Client::new(self.target.resolve(&shared.directory()?)?)?;
        end_line_at_interrupt()?;
        let response = client.chat(&body)?;
        let (served, limit) = (served(&response), limited(&response, max_tokens));
        let answer = if streams { read_stream(response, print) } else { read_whole(response, print) };
        output::print("\n")?;
        let answer = answer?;
        if answer.finish_reason.as_deref() == Some("length") {
            output::warn(&format!("the answer is cut: {limit}"));
        }
        if usage {
            output::note(&summary(&answer, &served));
        }
        Ok(())
    }

    fn body(&self) -> Value {
        let system = self.system.iter().map(|text| json!({"role": "system", "content": text}));
        let messages: Vec<_> = system.chain([json!({"role": "user", "content": self.message})]).collect();
        let mut body = json!({"model": self.model, "messages": messages});
        let mut set = |name: &str, value: Value| body.as_object_mut().map(|body| body.insert(name.to_owned(), value));
        if let Some(max_tokens) = self.max_tokens {
            set("max_completion_tokens", json!(max_tokens));
        }
        if !self.no_stream {
            set("stream", json!(true));
            set("stream_options", json!({"include_usage": true}));
        }
        body
    }
}

fn print(text: &str) -> Outcome {
    if output::is_terminal() { output::print(&output::printable(text)) } else { output::print(text) }
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().lock().read_to_string(&mut text);
    read.map_err(|error| Failure::refused(format!("the message cannot be read from stdin: {error}")))?;
    if text.trim().is_empty() { Err(Failure::usage("the message from stdin is empty")) } else { Ok(text) }
}

/// Ends the line on a terminal at Ctrl-C. The process then ends by the signal, so that a shell script around it ends too.
fn end_line_at_interrupt() -> Outcome {
    let mut signals = Signals::new([SIGINT]).map_err(anyhow::Error::from)?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if output::is_terminal() {
                let _ = output::print("\n");
            }
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    });
    Ok(())
}

/// Returns who answered, from the headers that a gateway adds.
fn served(response: &Response) -> String {
    match (header(response, "x-pai-provider"), header(response, "x-pai-model")) {
        (Some(provider), Some(model)) => format!("{provider}/{model}"),
        _ => "an unknown provider".to_owned(),
    }
}

/// Returns what limits the length of the answer.
fn limited(response: &Response, named: Option<NonZeroU64>) -> String {
    let count = header(response, "x-pai-max-tokens").unwrap_or_default();
    match header(response, "x-pai-limited-by").as_deref() {
        Some("budget") => format!("your budget limits it to {count} tokens"),
        Some("request-cap") => format!("maxTokensPerRequest of the provider limits it to {count} tokens"),
        Some("context-window") => format!("the context length of the model limits it to {count} tokens"),
        _ => {
            named.map_or_else(|| "the limit of the model is reached".to_owned(), |limit| format!("--max-tokens {limit} is reached"))
        }
    }
}

fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(output::printable)
}

fn summary(answer: &Answer, served: &str) -> String {
    match answer.usage {
        Some(usage) => {
            let (prompt, completion) = (usage.prompt_tokens, usage.completion_tokens);
            format!("{prompt} prompt + {completion} completion = {} tokens, from {served}", prompt.saturating_add(completion))
        }
        None => format!("the provider did not report the tokens; from {served}"),
    }
}
