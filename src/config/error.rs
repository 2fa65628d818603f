//! What is wrong with a configuration: where, which key, what was written, what is allowed.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In the configuration file; lines and columns count from 1.
    File {
        /// The file, as named on the command line.
        file: PathBuf,
        /// Line.
        line: usize,
        /// Column, in characters.
        column: usize,
    },
    /// In this environment variable.
    Environment(String),
}

impl Origin {
    /// The place of byte `offset` in `text`.
    pub(super) fn in_file(file: &Path, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self::File {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.chars().count()
                - before
                    .get(..line_start)
                    .map_or(0, |head| head.chars().count())
                + 1,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, column } => write!(f, "{}:{line}:{column}", file.display()),
            Self::Environment(variable) => write!(f, "environment {variable}"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: {reason}", file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file is not TOML.
    #[error("{origin}: not valid TOML: {reason}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What the parser said; it never quotes the line, which may hold a secret.
        reason: String,
    },
    /// No such key.
    #[error("{origin}: unknown key {key}{}", did_you_mean(suggestion.as_deref()))]
    UnknownKey {
        /// Where.
        origin: Origin,
        /// What was written.
        key: String,
        /// The known key that looks most like it.
        suggestion: Option<String>,
    },
    /// The value can't be used.
    #[error("{origin}: {key}{}: {allowed}", written(value.as_deref()))]
    BadValue {
        /// Where.
        origin: Origin,
        /// Which key.
        key: String,
        /// What was written; `None` for a secret.
        value: Option<String>,
        /// What is allowed, or why it can't be.
        allowed: String,
    },
    /// A table lacks a key that it needs.
    #[error("{origin}: {key} is missing: {allowed}")]
    Missing {
        /// Where the table begins.
        origin: Origin,
        /// Which key.
        key: String,
        /// What it should hold.
        allowed: String,
    },
}

/// Everything that is wrong with a configuration, in the order in which it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |known| format!("; did you mean {known}?"))
}

fn written(value: Option<&str>) -> String {
    value.map_or_else(String::new, |value| format!(" = {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        let text = "a = 1\nè = 2\n";
        let place = |offset| Origin::in_file(Path::new("x.toml"), text, offset).to_string();
        assert_eq!(place(0), "x.toml:1:1");
        assert_eq!(place(6), "x.toml:2:1");
        assert_eq!(place(8), "x.toml:2:2");
        assert_eq!(place(9999), "x.toml:3:1");
    }
}
