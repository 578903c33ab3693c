//! Why a configuration was refused: every error that was found.
//!
//! [`Errors`] collects them while a configuration is read. A reader that reports an error returns a [`Reported`] in place of the
//! value: so reading goes on with the next field, and no value is missing without an error.

use std::cell::RefCell;
use std::fmt;

use super::path::Path;

/// The most errors that are kept.
const MAX_ERRORS: usize = 20;

/// A configuration that was refused, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InvalidConfig {
    errors: Vec<ConfigError>,
    omitted: usize,
}

/// One error of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The manifest: `ModelProvider vllm-local`, or `document 2` or `items[2]` where kind and name are unknown.
    pub manifest: String,
    /// The field within the manifest, `spec.allowedModels[2]`; empty for the whole manifest.
    pub field: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// The errors of one configuration.
#[derive(Debug, Default)]
pub(super) struct Errors(RefCell<InvalidConfig>);

/// Proof that an error was reported. Only [`Errors::report`] makes one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reported(());

/// What is wrong with a value, without its path.
#[derive(Debug)]
pub(super) struct Reason(String);

// === impl InvalidConfig ===

impl InvalidConfig {
    /// Returns one line for each error: `ModelProvider vllm-local: spec.endpoint: must begin with http:// or https://`. At most
    /// twenty errors have a line of their own; if there are more, a last line has their number.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.errors.iter().map(ConfigError::to_string).chain(self.omitted())
    }

    /// Returns the errors that are kept.
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// Returns a sentence about the errors that are not kept, where there are any.
    pub fn omitted(&self) -> Option<String> {
        match self.omitted {
            0 => None,
            1 => Some("1 more error is not shown".to_owned()),
            omitted => Some(format!("{omitted} more errors are not shown")),
        }
    }
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.lines().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidConfig {}

// === impl ConfigError ===

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { manifest, field, reason } = self;
        match field.as_str() {
            "" => write!(f, "{manifest}: {reason}"),
            field => write!(f, "{manifest}: {field}: {reason}"),
        }
    }
}

// === impl Errors ===

impl Errors {
    /// Records an error, or counts it if there are enough already.
    pub(super) fn report(&self, path: &Path, reason: impl Into<Reason>) -> Reported {
        self.report_with(|| (path.clone(), reason.into()))
    }

    /// Records an error like [`Errors::report`], and writes it only if it is shown.
    pub(super) fn report_with(&self, error: impl FnOnce() -> (Path, Reason)) -> Reported {
        let mut invalid = self.0.borrow_mut();
        if invalid.errors.len() < MAX_ERRORS {
            let (path, Reason(reason)) = error();
            let (manifest, field) = path.into_parts();
            invalid.errors.push(ConfigError { manifest, field, reason });
        } else {
            invalid.omitted = invalid.omitted.saturating_add(1);
        }
        Reported(())
    }

    /// Returns whether further errors are only counted.
    pub(super) fn is_full(&self) -> bool {
        self.0.borrow().errors.len() >= MAX_ERRORS
    }

    /// Returns `value` if no error was reported.
    pub(super) fn into_result<T>(self, value: Result<T, Reported>) -> Result<T, InvalidConfig> {
        let invalid = self.0.into_inner();
        match value {
            Ok(value) if invalid.errors.is_empty() => Ok(value),
            Ok(_) | Err(Reported(())) => Err(invalid),
        }
    }
}

// === impl Reason ===

impl From<&str> for Reason {
    fn from(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

impl From<String> for Reason {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}
