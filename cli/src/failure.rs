//! Why a command failed: the message and the exit code.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    code: Code,
    message: String,
}

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The input, or what it asks for, is refused.
    Refused = 1,
    /// The command line cannot be understood.
    Usage = 2,
    /// No gateway answers.
    Unreachable = 3,
}

/// Returns the last cause of an error: `Connection refused`.
pub fn innermost(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

// === impl Failure ===

impl Failure {
    /// Creates a failure. The message states what failed, where, and what to do; it has no final full stop.
    pub fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }

    /// Creates a failure with [`Code::Refused`].
    pub fn refused(message: impl fmt::Display) -> Self {
        Self::new(Code::Refused, message)
    }

    /// Creates a failure with [`Code::Usage`].
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Code::Usage, message)
    }

    /// Creates a failure with [`Code::Unreachable`].
    pub fn unreachable(message: impl fmt::Display) -> Self {
        Self::new(Code::Unreachable, message)
    }

    /// Prints the message to stderr, one `error:` for each of its lines, and returns the exit code.
    pub fn report(&self) -> ExitCode {
        for line in self.message.lines() {
            if line.starts_with(' ') {
                eprintln!("{line}");
            } else {
                eprintln!("{} {line}", crate::output::style::error("error:"));
            }
        }
        ExitCode::from(self.code as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::refused(format!("{error:#}"))
    }
}
