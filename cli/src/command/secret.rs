//! `pai add secret`, `pai create secret generic`.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;

use anyhow::Context as _;

use super::{Outcome, Shared};
use crate::failure::Failure;
use crate::output;

/// The key whose value is read from the terminal where none is named.
const DEFAULT_KEY: &str = "api-key";
/// The longest name or key of a Kubernetes Secret.
const MAX_NAME: usize = 253;

/// Add a secret, such as the API key of a provider, or change it
///
/// A ModelProvider refers to it in spec.apiKeySecretRef. The next request uses a changed value. No command prints a value.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pai add secret vllm-token --from-literal api-key=YOUR_VLLM_TOKEN
  pai add secret openai --from-env api-key=OPENAI_API_KEY
  pai add secret vllm-token              # asks for the value of api-key

A literal stays in the shell's history and is visible to other processes while the command runs.
Prefer --from-file, --from-env or the question.")]
pub struct Args {
    /// Name of the secret
    name: String,
    /// A key and its value. Can be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    from_literal: Vec<(String, String)>,
    /// A key and a file with its value. Can be repeated
    #[arg(long, value_name = "KEY=PATH", value_parser = pair)]
    from_file: Vec<(String, String)>,
    /// A key and an environment variable with its value. Can be repeated
    #[arg(long, value_name = "KEY=VARIABLE", value_parser = pair)]
    from_env: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE, such as api-key=YOUR_VLLM_TOKEN".to_owned()),
    }
}

impl Args {
    /// Runs the command.
    pub fn run(self, shared: &Shared) -> Outcome {
        let name = self.name.clone();
        check_name("the name of a secret", &name)?;
        let values = self.values()?;
        let directory = shared.directory()?;
        let _lock = directory.lock()?;
        let is_new = directory.secrets().set(&name, &values)?;
        output::print(&format!("secret/{name} {}\n", if is_new { "created" } else { "configured" }))
    }

    fn values(self) -> Result<BTreeMap<String, String>, Failure> {
        let mut given: Vec<(String, String)> = self.from_literal;
        for (key, path) in self.from_file {
            let value = std::fs::read_to_string(PathBuf::from(&path))
                .with_context(|| format!("--from-file {key}={path}: cannot be read"))?;
            given.push((key, value));
        }
        for (key, variable) in self.from_env {
            let value = std::env::var(&variable).map_err(|_| {
                Failure::refused(format!(
                    "--from-env {key}={variable}: there is no environment variable {variable}, or it is not UTF-8"
                ))
            })?;
            given.push((key, value));
        }
        if given.is_empty() {
            given.push((DEFAULT_KEY.to_owned(), ask(&self.name)?));
        }
        let mut values = BTreeMap::new();
        for (key, value) in given {
            check_name("a key", &key)?;
            let value = checked(&key, &value)?;
            if values.insert(key.clone(), value).is_some() {
                return Err(Failure::usage(format!("key `{key}` is given twice")));
            }
        }
        Ok(values)
    }
}

/// Asks for a value without an echo, or reads it from a pipe.
fn ask(name: &str) -> Result<String, Failure> {
    if std::io::stdin().is_terminal() {
        let value = rpassword::prompt_password(format!("Value of {DEFAULT_KEY} in secret {name}: "));
        return Ok(value.context("the value cannot be read from the terminal")?);
    }
    let mut value = String::new();
    std::io::stdin().read_to_string(&mut value).context("the value cannot be read from standard input")?;
    Ok(value)
}

/// Checks a value as the gateway does: trimmed, visible ASCII. The message does not contain it.
pub fn checked(key: &str, value: &str) -> Result<String, Failure> {
    let value = value.trim();
    if value.is_empty() {
        return Err(Failure::refused(format!("the value of `{key}` is empty")));
    }
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::refused(format!(
            "the value of `{key}` must consist of visible ASCII characters: no blanks, no line breaks"
        )));
    }
    Ok(value.to_owned())
}

/// Checks a name: it is the name of a file too.
fn check_name(what: &str, name: &str) -> Outcome {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || name.starts_with('.') || !name.bytes().all(is_allowed) {
        return Err(Failure::usage(format!(
            "{what} has 1 to {MAX_NAME} characters: letters, digits, `-`, `_` and `.`, not first; got `{}`",
            name.escape_default()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{check_name, checked, pair};

    #[test]
    fn values_are_trimmed_visible_ascii() {
        assert_eq!(checked("k", " s3cret\n").unwrap(), "s3cret");
        for value in ["", " \n", "two words", "naïve", "a\nb"] {
            assert!(checked("k", value).is_err(), "{value}");
        }
    }

    #[test]
    fn a_name_never_leaves_its_directory() {
        for name in ["vllm-token", "api-key", "a.b_c", "A1"] {
            assert!(check_name("name", name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", ".hidden", "a/b", "../x", "a b", "ä", &"x".repeat(254)] {
            assert!(check_name("name", name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_pair_is_split_at_its_first_equals_sign() {
        assert_eq!(pair("api-key=a=b"), Ok(("api-key".to_owned(), "a=b".to_owned())));
        for text in ["api-key", "=x", "api-key="] {
            assert!(pair(text).is_err(), "{text}");
        }
    }
}
