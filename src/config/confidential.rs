//! Which values may be confidential, by their keys and by how they look.
//! Owns that rule, for everything that shows a value.
//! Never knows a value of a secret.

use serde_json::Value;

use super::overrides::keys;

/// Parts of names of keys whose values are confidential.
const WORDS: [&str; 9] = [
    "apikey",
    "api_key",
    "api-key",
    "credential",
    "passphrase",
    "passw",
    "private_key",
    "secret",
    "token",
];

/// Whether the value of a key, or a part of it, may be confidential.
pub(crate) fn is_confidential(path: &str, value: &Value) -> bool {
    let keys = keys(path).unwrap_or_default();
    let below = match keys.first().map(String::as_str) {
        // A module may be named after what it does.
        Some("module" | "group") => keys.get(2..).unwrap_or_default(),
        _ => &keys,
    };
    if keys.first().is_some_and(|first| first == "secrets") {
        return true;
    }
    let first = below.first().map(String::as_str);
    let is_of_module = keys.first().is_some_and(|first| first == "module");
    if is_of_module && matches!(first, Some("env" | "settings")) {
        return true;
    }
    below.iter().any(|key| is_secret_name(key)) || has_secret(value)
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

fn has_secret(value: &Value) -> bool {
    match value {
        Value::String(text) => text.starts_with("age:"),
        Value::Array(list) => list.iter().any(has_secret),
        Value::Object(table) => table
            .iter()
            .any(|(key, value)| is_secret_name(key) || has_secret(value)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn environments_settings_and_what_looks_like_a_secret_are_not_shown() {
        for (path, value) in [
            ("module.web.env.A", json!("1")),
            ("module.web.env", json!({})),
            ("module.web.settings.depth", json!(1)),
            ("module.web.\"settings\"", json!(1)),
            ("ipc.api_key", json!("x")),
            ("module.web.degrade.DB_PASSWORD", json!("x")),
            ("health.interval", json!("age:abc")),
            ("module.web.ready", json!({ "http": { "token": "x" } })),
        ] {
            assert!(is_confidential(path, &value), "{path} {value}");
        }
        for path in ["module.secrets.command", "health.interval", "module.web"] {
            assert!(!is_confidential(path, &json!("1s")), "{path}");
        }
    }
}
