//! The templates: YAML with comments. Values are written as YAML scalars, whatever they contain.

use std::sync::LazyLock;

use anyhow::Context as _;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;

use super::comments::without_repetition;

const SOURCES: [(&str, &str); 12] = [
    ("admin.yaml", include_str!("templates/admin.yaml")),
    ("bootstrap.yaml", include_str!("templates/bootstrap.yaml")),
    ("clusters.yaml", include_str!("templates/clusters.yaml")),
    ("control.yaml", include_str!("templates/control.yaml")),
    ("envoy.yaml", include_str!("templates/envoy.yaml")),
    ("gate.yaml", include_str!("templates/gate.yaml")),
    ("listener.yaml", include_str!("templates/listener.yaml")),
    ("manager.yaml", include_str!("templates/manager.yaml")),
    ("overload.yaml", include_str!("templates/overload.yaml")),
    ("routes.yaml", include_str!("templates/routes.yaml")),
    ("statistics.yaml", include_str!("templates/statistics.yaml")),
    ("vm.yaml", include_str!("templates/vm.yaml")),
];

/// Words that a YAML parser does not read as text.
const RESERVED: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];

static TEMPLATES: LazyLock<Result<Environment<'static>, String>> = LazyLock::new(|| parse().map_err(|error| format!("{error:#}")));

fn parse() -> Result<Environment<'static>, Error> {
    let mut templates = Environment::empty();
    // A line with only a tag leaves no line.
    templates.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build()?);
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    templates.set_auto_escape_callback(|_| AutoEscape::Custom("yaml".into()));
    templates.set_formatter(write_value);
    templates.add_filter("nest", nest);
    templates.add_filter("safe", minijinja::filters::safe);
    templates.add_filter("once", |text: &str| Value::from_safe_string(without_repetition(text)));
    for (name, source) in SOURCES {
        templates.add_template(name, source)?;
    }
    Ok(templates)
}

/// Renders a template as text.
pub(super) fn text(template: &str, context: impl Serialize) -> Result<String, Failure> {
    let templates = TEMPLATES.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
    let rendered = templates.get_template(template).and_then(|template| template.render(Value::from(Serde(context))));
    Ok(rendered.with_context(|| format!("{template} cannot be rendered"))?)
}

/// Renders a template as data.
pub(super) fn data<T: DeserializeOwned>(template: &str, context: impl Serialize) -> Result<T, Failure> {
    let text = text(template, context)?;
    Ok(serde_yaml::from_str(&text).with_context(|| format!("{template} is no YAML"))?)
}

fn write_value(output: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let written = match value.as_str() {
        _ if value.is_undefined() => return Err(Error::from(ErrorKind::UndefinedError)),
        Some(text) if !value.is_safe() => output.write_str(&scalar(text)),
        Some(text) => output.write_str(text),
        None => output.write_str(&value.to_string()),
    };
    Ok(written?)
}

/// Indents all lines that are not empty.
fn nest(text: &str, width: usize) -> Value {
    let indent = " ".repeat(width);
    let lines = text.split_inclusive('\n').flat_map(|line| [if line == "\n" { "" } else { &indent }, line]);
    Value::from_safe_string(lines.collect())
}

/// Writes text as a YAML scalar on one line, with quotes where it needs them. It never contains a `#`, which would begin a comment.
fn scalar(text: &str) -> String {
    if is_plain(text) || text.parse::<std::net::Ipv4Addr>().is_ok() {
        return text.to_owned();
    }
    let quoted = text.chars().fold(String::from("\""), |mut quoted, c| {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '#' | '\0'..' ' | '\u{7f}'..='\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => quoted.push(c),
        }
        quoted
    });
    quoted + "\""
}

/// Returns whether every YAML parser reads this text as text: it begins with a letter and is no word or number.
fn is_plain(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let begins_as_text =
        text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') || text.starts_with("./") || text.starts_with("../");
    let is_number = lower.starts_with("inf") || lower.starts_with("nan");
    let is_simple = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
    begins_as_text && !is_number && text.bytes().all(is_simple) && !RESERVED.contains(&lower.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_quoted_where_they_have_to_be() {
        let cases = [
            ("vllm-local", "vllm-local"),
            ("127.0.0.1", "127.0.0.1"),
            ("api.openai.com", "api.openai.com"),
            ("::1", "\"::1\""),
            ("null", "\"null\""),
            ("Yes", "\"Yes\""),
            ("infinity", "\"infinity\""),
            ("1e3", "\"1e3\""),
            ("0x10", "\"0x10\""),
            ("", "\"\""),
            ("a # b", "\"a \\u0023 b\""),
            ("a\"\\\n", "\"a\\\"\\\\\\u000a\""),
        ];
        for (text, written) in cases {
            assert_eq!(scalar(text), written);
            assert_eq!(serde_yaml::from_str::<String>(written).unwrap(), text, "{written}");
        }
    }

    #[test]
    fn empty_lines_are_not_indented() {
        assert_eq!(nest("a\n\n b\n", 2).as_str(), Some("  a\n\n   b\n"));
    }
}
