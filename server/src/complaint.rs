//! What is wrong with a file, and where: the one error type of configuration and clients files. Never
//! quotes a value that could be a secret.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Shown as `FILE:LINE:COLUMN: what is wrong; what to do`.
#[derive(Debug, PartialEq, Eq)]
pub struct Complaint {
    file: PathBuf,
    at: Option<Place>,
    what: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
}

impl Complaint {
    /// About the file as a whole.
    pub fn file(file: &Path, what: impl Into<String>) -> Complaint {
        Complaint { file: file.to_owned(), at: None, what: what.into() }
    }

    /// About the place where `span` begins in `text`.
    pub fn at(file: &Path, text: &str, span: Range<usize>, what: impl Into<String>) -> Complaint {
        let before = text.get(..span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).map_or(0, |rest| rest.chars().count()) + 1;
        Complaint { file: file.to_owned(), at: Some(Place { line, column }), what: what.into() }
    }

    /// What the TOML reader found; it names unknown keys and the ones it knows.
    pub fn toml(file: &Path, text: &str, error: &toml::de::Error) -> Complaint {
        Complaint::where_toml_failed(file, text, error, error.message().trim().replace('\n', "; "))
    }

    /// The same for a file of secrets: the reader's own words quote values.
    pub fn secret_toml(file: &Path, text: &str, error: &toml::de::Error) -> Complaint {
        let what = "not what stands here in a clients file (a missing or unknown key, a value of \
                    another type, or no TOML)";
        Complaint::where_toml_failed(file, text, error, what)
    }

    fn where_toml_failed(
        file: &Path,
        text: &str,
        error: &toml::de::Error,
        what: impl Into<String>,
    ) -> Complaint {
        match error.span() {
            Some(span) => Complaint::at(file, text, span, what),
            None => Complaint::file(file, what),
        }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(place) = &self.at {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for Complaint {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_in_characters() {
        let text = "a = 1\nü = [\"x\", 2]\n";
        let at = text.find('2').expect("there");
        let complaint = Complaint::at(Path::new("p.toml"), text, at..at + 1, "no");
        assert_eq!(complaint.to_string(), "p.toml:2:11: no");
    }
}
