//! `${NAME:-default}` in compose files.
//! Owns the forms of a reference and where values come from: the environment, then `.env`.
//! Never asks a shell.

use std::collections::BTreeMap;
use std::path::Path;

use super::yaml::{Node, Value};
use super::{Fault, Import};

/// Replaces the references in all scalars below a node.
pub(crate) fn interpolate(node: &mut Node, found: &mut Import) -> Result<(), Fault> {
    let file = dotenv(&found.folder().join(".env"));
    walk(node, &file, found)
}

fn walk(node: &mut Node, file: &BTreeMap<String, String>, found: &mut Import) -> Result<(), Fault> {
    let line = node.line;
    match &mut node.value {
        Value::Null => {}
        Value::Scalar(text) if text.contains('$') => {
            let lookup = |name: &str| {
                let own = std::env::var(name).ok();
                own.or_else(|| file.get(name).cloned())
            };
            let (filled, used) = replace(text, &lookup).map_err(|text| Fault::new(line, text))?;
            *text = filled;
            for (name, given) in used {
                let text = match given {
                    true => format!("${{{name}}} is replaced by its value of now"),
                    false => format!("${{{name}}} is replaced by its default or nothing"),
                };
                found.note(line, "", text);
            }
        }
        Value::Scalar(_) => {}
        Value::List(items) => items
            .iter_mut()
            .try_for_each(|item| walk(item, file, found))?,
        Value::Map(entries) => {
            let mut nodes = entries.iter_mut().map(|entry| &mut entry.node);
            nodes.try_for_each(|node| walk(node, file, found))?;
        }
    }
    Ok(())
}

/// The names that were used, and whether each had a value.
type Used = Vec<(String, bool)>;

fn replace(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<(String, Used), String> {
    let (mut filled, mut used) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            filled.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = closing(after).ok_or("`${` is never closed")?;
            let (value, name, given) = reference(&after[..end], lookup, &mut used)?;
            filled.push_str(&value);
            used.push((name, given));
            rest = &after[end + 1..];
        } else {
            let end = rest.find(|one: char| !one.is_ascii_alphanumeric() && one != '_');
            let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
            if name.is_empty() {
                filled.push('$');
                continue;
            }
            let value = lookup(name);
            used.push((name.to_owned(), value.is_some()));
            filled.push_str(&value.unwrap_or_default());
            rest = after;
        }
    }
    filled.push_str(rest);
    Ok((filled, used))
}

/// Where the brace of a reference closes, past the references within it.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, one) in text.char_indices() {
        match one {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn reference(
    inside: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    used: &mut Used,
) -> Result<(String, String, bool), String> {
    let end = inside.find(|one: char| !one.is_ascii_alphanumeric() && one != '_');
    let (name, rest) = inside.split_at(end.unwrap_or(inside.len()));
    let value = lookup(name);
    let (colon, rest) = match rest.strip_prefix(':') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let given = value
        .as_ref()
        .is_some_and(|value| !colon || !value.is_empty());
    let mut chars = rest.chars();
    let (form, other) = (chars.next(), chars.as_str());
    let nested = |used: &mut Used| -> Result<String, String> {
        let (text, more) = replace(other, lookup)?;
        used.extend(more);
        Ok(text)
    };
    let filled = match form {
        None => value.unwrap_or_default(),
        Some('-') if !given => nested(used)?,
        Some('+') => match given {
            true => nested(used)?,
            false => String::new(),
        },
        Some('?') if !given => return Err(format!("${{{name}}} has no value: {other}")),
        Some('-' | '?') => value.unwrap_or_default(),
        Some(_) => return Err(format!("${{{inside}}} is no reference")),
    };
    Ok((filled, name.to_owned(), given))
}

/// The plain lines of an env file.
fn dotenv(path: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        (!line.starts_with('#')).then(|| (name.trim().to_owned(), value.to_owned()))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_have_defaults_demands_and_alternatives() {
        let lookup = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("$A-${A}-$$A", "a-a-$A"),
            ("${B:-x}${EMPTY:-y}${EMPTY-z}", "xy"),
            ("${B:-${A:-q}}", "a"),
            ("${A:+set}${B+set}", "set"),
            ("a$", "a$"),
            ("${A:?needed}", "a"),
        ] {
            let (filled, _) = replace(text, &lookup).expect(text);
            assert_eq!(filled, expected, "{text}");
        }
        assert!(
            replace("${B:?say it}", &lookup)
                .expect_err("none")
                .contains("say it")
        );
        assert!(replace("${B", &lookup).is_err());
    }
}
