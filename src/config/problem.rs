//! Problems of a configuration, for people and in JSON.
//! Owns the format of a problem and the list of all problems.
//! Never decides what is wrong: the reader of a value does.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Problems that are kept of one reading; further ones are counted.
pub const MAX_PROBLEMS: usize = 100;

/// What kind of layer a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// The default.
    Default,
    /// A file of the configuration.
    File,
    /// A variable of the environment.
    Variable,
    /// `--set` on the command line.
    Set,
    /// `config set` of a running system.
    Override,
}

/// The location of a value: a file with line and column, a variable, an option.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLocation {
    /// What kind of layer it is.
    pub kind: LayerKind,
    /// The file's path, the variable's name, the option's text.
    pub name: String,
    /// From 1; only in files.
    pub line: Option<u32>,
    /// In characters, from 1; only in files whose text is known.
    pub column: Option<u32>,
}

impl SourceLocation {
    /// A whole file.
    #[must_use]
    pub fn file(name: impl Into<String>) -> SourceLocation {
        SourceLocation {
            kind: LayerKind::File,
            name: name.into(),
            line: None,
            column: None,
        }
    }
}

impl fmt::Display for SourceLocation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            LayerKind::Default => out.write_str("default"),
            LayerKind::File => out.write_str(&self.name),
            LayerKind::Variable => write!(out, "environment variable {}", self.name),
            LayerKind::Set => write!(out, "--set {}", self.name),
            LayerKind::Override => write!(out, "config set {}", self.name),
        }?;
        if let Some(line) = self.line {
            write!(out, ":{line}")?;
        }
        if let Some(column) = self.column {
            write!(out, ":{column}")?;
        }
        Ok(())
    }
}

/// The line of a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Excerpt {
    /// The line, shortened if it is long; tabs are spaces.
    pub text: String,
    /// Characters before the mark.
    pub before: u32,
    /// Length of the mark in characters, at least 1.
    pub length: u32,
}

/// A related location, such as an edge of a cycle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Related {
    /// Its location.
    pub place: SourceLocation,
    /// What it is.
    pub text: String,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Its location, if it has one.
    pub place: Option<SourceLocation>,
    /// "cannot …".
    pub message: String,
    /// How to fix it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The line itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<Excerpt>,
    /// Related locations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Related>,
}

impl Problem {
    /// Returns a problem without a location.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Problem {
        Problem {
            place: None,
            message: message.into(),
            hint: None,
            excerpt: None,
            related: Vec::new(),
        }
    }

    /// Sets the location.
    #[must_use]
    pub fn at(mut self, place: SourceLocation) -> Problem {
        self.place = Some(place);
        self
    }

    /// Sets the hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(out, "{place}: ")?;
        }
        out.write_str(&self.message)?;
        let line = self.place.as_ref().and_then(|place| place.line);
        let gutter = line.map_or(1, |line| line.to_string().len());
        if let Some(excerpt) = &self.excerpt {
            let number = line.map_or_else(String::new, |line| line.to_string());
            let before = " ".repeat(excerpt.before as usize);
            let mark = "^".repeat(excerpt.length as usize);
            write!(out, "\n {:gutter$} |", "")?;
            write!(out, "\n {number:gutter$} | {}", excerpt.text)?;
            write!(out, "\n {:gutter$} | {before}{mark}", "")?;
        }
        for related in &self.related {
            write!(
                out,
                "\n {:gutter$} - {}: {}",
                "", related.place, related.text
            )?;
        }
        if let Some(hint) = &self.hint {
            write!(out, "\n {:gutter$} = {hint}", "")?;
        }
        Ok(())
    }
}

/// All problems of one reading; never empty as an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Problems {
    /// The first ones, by file and line; those without a location come first.
    pub problems: Vec<Problem>,
    /// The number of further ones.
    pub more: usize,
}

impl Problems {
    /// The same without the lines of the files: they may hold what others must not see.
    pub(crate) fn without_excerpts(mut self) -> Problems {
        for problem in &mut self.problems {
            problem.excerpt = None;
        }
        self
    }

    /// Returns the number of all problems.
    #[must_use]
    pub fn count(&self) -> usize {
        self.problems.len() + self.more
    }

    /// Returns whether there is no problem.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Returns whether further problems are counted only.
    pub(crate) fn is_full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    /// Adds a problem, or counts it if the list is full.
    pub(crate) fn push(&mut self, problem: impl FnOnce() -> Problem) {
        if self.is_full() {
            self.more += 1;
        } else {
            self.problems.push(problem());
        }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Problems {
        Problems {
            problems: vec![problem],
            more: 0,
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                out.write_str("\n\n")?;
            }
            problem.fmt(out)?;
        }
        if self.more > 0 {
            write!(out, "\n\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
