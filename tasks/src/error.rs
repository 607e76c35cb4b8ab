//! What is wrong with a pack, where, and what to do about it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is wrong with a pack, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackError {
    /// File of the pack.
    pub file: String,
    /// Line, from 1; 0 for the whole file.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl PackError {
    /// `FILE:LINE`, or `FILE` for the whole of it.
    pub fn place(&self) -> String {
        if self.line == 0 { self.file.clone() } else { format!("{}:{}", self.file, self.line) }
    }
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; hint: {}", self.place(), self.message, self.hint)
    }
}

impl std::error::Error for PackError {}

pub(crate) fn at(
    file: impl Into<String>,
    line: usize,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> PackError {
    PackError { file: file.into(), line, message: message.into(), hint: hint.into() }
}
