//! The two dialects of INI: supervisord's and systemd's.
//! Owns continuation lines and comments, which are where they differ.
//! Never interprets a value.

use ini_roundtrip::{Item, Parser};

use super::Fault;

/// A section with its line.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) keys: Vec<IniKey>,
}

/// A key with its line.
#[derive(Debug, Clone)]
pub(crate) struct IniKey {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) line: usize,
}

/// How lines belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// An indented line continues the value; `;` after a blank begins a comment.
    Supervisor,
    /// A backslash at the end of a line continues it.
    Systemd,
}

impl Section {
    /// The last value of a key.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.keys.iter().rev().find(|key| key.name == name);
        found.map(|key| key.value.as_str())
    }
}

/// Reads all sections.
pub(crate) fn parse(text: &str, dialect: Dialect) -> Result<Vec<Section>, Fault> {
    let mut sections: Vec<Section> = Vec::new();
    let mut line = 0;
    let mut is_continued = false;
    for item in Parser::new(text) {
        let raw = match item {
            Item::SectionEnd => continue,
            Item::Section { raw, .. } | Item::Property { raw, .. } => raw,
            Item::Comment { raw } | Item::Blank { raw } | Item::Error(raw) => raw,
        };
        line += 1;
        let indented = dialect == Dialect::Supervisor && raw.starts_with([' ', '\t']);
        let last = sections
            .last_mut()
            .and_then(|section| section.keys.last_mut());
        let is_comment = raw.trim_start().starts_with([';', '#']);
        if let Some(key) = last
            && (is_continued || indented)
            && !raw.trim().is_empty()
        {
            if !is_comment {
                key.value.push(if indented { '\n' } else { ' ' });
                is_continued = append(key, raw.trim(), dialect);
            }
            continue;
        }
        is_continued = false;
        match item {
            Item::Section { name, .. } => sections.push(Section {
                name: name.to_owned(),
                line,
                keys: Vec::new(),
            }),
            Item::Error(raw) => {
                return Err(Fault::new(line, format!("{raw:?} is no section")));
            }
            Item::Property { raw, .. } if !is_comment => {
                let signs: &[char] = match dialect {
                    Dialect::Supervisor => &['=', ':'],
                    Dialect::Systemd => &['='],
                };
                let Some((name, value)) = raw.split_once(signs) else {
                    return Err(Fault::new(line, format!("{raw:?} is no key with a value")));
                };
                let Some(section) = sections.last_mut() else {
                    return Err(Fault::new(line, "a key before any section"));
                };
                let mut key = IniKey {
                    name: name.trim().to_owned(),
                    value: String::new(),
                    line,
                };
                is_continued = append(&mut key, value.trim(), dialect);
                section.keys.push(key);
            }
            _ => {}
        }
    }
    Ok(sections)
}

/// Adds a line to a value; returns whether the next line belongs to it too.
fn append(key: &mut IniKey, line: &str, dialect: Dialect) -> bool {
    match dialect {
        Dialect::Systemd => {
            let more = line.strip_suffix('\\');
            key.value.push_str(more.unwrap_or(line).trim_end());
            more.is_some()
        }
        Dialect::Supervisor => {
            let comment = [" ;", "\t;"].iter().filter_map(|sign| line.find(sign));
            let end = comment.min().unwrap_or(line.len());
            key.value
                .push_str(line.get(..end).unwrap_or_default().trim_end());
            false
        }
    }
}
