//! Files of NAME=value lines that are read into a module's environment.
//! Owns their syntax: comments, `export`, quotes.
//! Never replaces variables in them: they are written for other programs too.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::layers::read_text;

/// Lines of such a file.
pub(crate) type EnvLines = Vec<(String, String)>;

/// The files that were read, or those that an earlier process read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EnvFiles {
    /// By absolute path.
    read: BTreeMap<String, EnvLines>,
    /// Nothing more is read from disk.
    #[serde(skip)]
    frozen: bool,
}

impl EnvFiles {
    /// As they were; files that changed since change nothing.
    pub(crate) fn frozen(mut self) -> EnvFiles {
        self.frozen = true;
        self
    }

    /// For keeping: as they are, without what this process may still do.
    pub(crate) fn snapshot(&self) -> EnvFiles {
        EnvFiles {
            read: self.read.clone(),
            frozen: false,
        }
    }

    /// All files that were read.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &EnvLines)> {
        self.read.iter().map(|(path, lines)| (path.as_str(), lines))
    }

    /// The lines of a file, or why there are none.
    pub(crate) fn lines(&mut self, path: &Path) -> Result<&EnvLines, String> {
        let key = path.to_string_lossy().into_owned();
        if !self.read.contains_key(&key) {
            if self.frozen {
                return Err("it was not read when this plan was made".to_owned());
            }
            let text = read_text(path).map_err(|error| error.to_string())?;
            self.read.insert(key.clone(), parse(&text)?);
        }
        self.read.get(&key).ok_or_else(|| "it is gone".to_owned())
    }
}

fn parse(text: &str) -> Result<EnvLines, String> {
    let mut lines = EnvLines::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| format!("line {}: {what}", index + 1);
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| wrong("it is not NAME=value"))?;
        let name = name.trim_end();
        if !is_variable(name) {
            return Err(wrong("its name cannot name a variable"));
        }
        let value = unquoted(value.trim()).ok_or_else(|| wrong("its quotes do not close"))?;
        if value.contains('\0') {
            return Err(wrong("it has a NUL character in it"));
        }
        lines.push((name.to_owned(), value));
    }
    Ok(lines)
}

/// Whether a text can name a variable.
pub(crate) fn is_variable(name: &str) -> bool {
    let good = |each: char| !each.is_whitespace() && each != '=' && each != '\0';
    !name.is_empty() && name.chars().all(good)
}

/// The value without its quotes; without quotes it ends before ` #`.
fn unquoted(value: &str) -> Option<String> {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            let (inside, after) = rest.rsplit_once(quote)?;
            let after = after.trim();
            return (after.is_empty() || after.starts_with('#')).then(|| inside.to_owned());
        }
    }
    let end = value.find(" #").unwrap_or(value.len());
    Some(value.get(..end)?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_names_and_values() {
        let text = "# c\nA=1\nexport B = \"x # y\" # z\nC='q'\nD=e f # g\n\nE=\n";
        let read = parse(text).expect("good lines");
        let expected = [
            ("A", "1"),
            ("B", "x # y"),
            ("C", "q"),
            ("D", "e f"),
            ("E", ""),
        ];
        let read: Vec<(&str, &str)> = read
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = parse("A=1\nnonsense\n").expect_err("no name");
        assert_eq!(error, "line 2: it is not NAME=value");
        assert!(parse("A='x\n").is_err());
        assert!(parse("A B=x\n").is_err());
    }
}
