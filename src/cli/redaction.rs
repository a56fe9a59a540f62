//! Takes secrets out of text: the values of env and settings, wherever they appear.
//! Owns the list of values and of keys that may hold one.
//! Never shows a value that it is not sure of: keys that may hold a secret are replaced as a whole.

use serde_json::Value;

use crate::config::Configuration;

/// What stands in the place of a secret.
const HIDDEN: &str = "[redacted]";
/// A value that is shorter is in too many other words; its key is replaced all the same.
const LENGTH_MIN: usize = 4;
/// Tables and keys whose values are replaced.
const KEYS: [&str; 4] = ["env", "settings", "headers", "secrets"];
/// Arrays of which the first word alone stays, here and in arrays of them.
const COMMANDS: [&str; 6] = [
    "command",
    "before_start",
    "after_stop",
    "reload_command",
    "exec",
    "prewarm",
];

/// The values that are taken out.
#[derive(Debug, Default)]
pub(super) struct Redaction {
    /// The longest first.
    values: Vec<String>,
}

impl Redaction {
    /// What configurations may keep secret.
    pub(super) fn of(configurations: &[&Configuration]) -> Redaction {
        let mut values = Vec::new();
        for (_, launch) in configurations.iter().flat_map(|it| &it.modules) {
            values.extend(launch.env.iter().map(|(_, value)| value.clone()));
            launch
                .settings
                .values()
                .for_each(|value| leaves(value, &mut values));
        }
        values.retain(|value| value.len() >= LENGTH_MIN);
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Redaction { values }
    }

    pub(super) fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.values {
            text = text.replace(value.as_str(), HIDDEN);
            // In JSON it may be escaped.
            let escaped = Value::from(value.as_str()).to_string();
            let escaped = escaped.trim_matches('"');
            if escaped != value {
                text = text.replace(escaped, HIDDEN);
            }
        }
        text
    }
}

fn leaves(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(all) => all.iter().for_each(|one| leaves(one, found)),
        Value::Object(all) => all.values().for_each(|one| leaves(one, found)),
        Value::Number(number) => found.push(number.to_string()),
        Value::Null | Value::Bool(_) => {}
    }
}

/// A configuration file without what may be secret; comments are left out.
pub(super) fn redacted_toml(text: &str) -> String {
    let table: Result<toml::Table, _> = text.parse();
    match table {
        Ok(mut table) => {
            table.iter_mut().for_each(|(key, value)| redact(key, value));
            toml::to_string_pretty(&table).unwrap_or_default()
        }
        Err(error) => format!("# it cannot be parsed: {}\n", error.message()),
    }
}

fn redact(key: &str, value: &mut toml::Value) {
    let lower = key.to_lowercase();
    let is_named = ["secret", "password", "token", "credential"];
    if KEYS.contains(&key) || is_named.iter().any(|word| lower.contains(word)) {
        return hide(value);
    }
    if COMMANDS.contains(&key) {
        return keep_program(value);
    }
    match value {
        toml::Value::Table(table) => table.iter_mut().for_each(|(key, value)| redact(key, value)),
        toml::Value::Array(all) => all.iter_mut().for_each(|value| redact("", value)),
        // The user and the query of an address may be secret.
        toml::Value::String(text) if text.contains("://") => {
            let address = text.split(['?', '#']).next().unwrap_or_default();
            let (scheme, rest) = address.split_once("://").unwrap_or_default();
            let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            *text = format!("{scheme}://{rest}");
        }
        _ => {}
    }
}

fn hide(value: &mut toml::Value) {
    match value {
        toml::Value::Table(table) => table.iter_mut().for_each(|(_, value)| hide(value)),
        value => *value = toml::Value::String(HIDDEN.to_owned()),
    }
}

/// Of a command line its program stays.
fn keep_program(value: &mut toml::Value) {
    let toml::Value::Array(words) = value else {
        return hide(value);
    };
    for (place, word) in words.iter_mut().enumerate() {
        match word {
            toml::Value::Array(_) => keep_program(word),
            word if place > 0 => hide(word),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_replaced_and_the_rest_stays() {
        let text = "# hunter0\n[module.web]\ncommand = [\"serve\", \"--key\", \"hunter1\"]\n\
            before_start = [[\"migrate\", \"hunter2\"]]\nenv = { PASSWORD = \"hunter3\" }\n\
            startup_timeout = \"7s\"\nready = { http = \"http://u:hunter4@host/?key=hunter5\" }\n\
            api_token = \"hunter6\"\n[module.web.settings.deep]\nlist = [\"hunter7\", 8]\n";
        let shown = redacted_toml(text);
        assert!(!shown.contains("hunter"), "{shown}");
        for kept in [
            "serve",
            "migrate",
            "PASSWORD",
            "7s",
            "http://host/",
            "[module.web.settings.deep]",
        ] {
            assert!(shown.contains(kept), "no {kept} in {shown}");
        }
        assert!(redacted_toml("hunter = ").contains("cannot be parsed"));
    }

    #[test]
    fn values_are_replaced_wherever_they_appear() {
        let redaction = Redaction {
            values: vec![
                "hunter22".to_owned(),
                "hunter2".to_owned(),
                "a\"b\nc".to_owned(),
            ],
        };
        let text = "said hunter22 and hunter2; {\"log\":\"a\\\"b\\nc\"}";
        let shown = redaction.apply(text);
        assert_eq!(
            shown,
            "said [redacted] and [redacted]; {\"log\":\"[redacted]\"}"
        );
    }
}
