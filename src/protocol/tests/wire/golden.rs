//! Golden files: text that is compared byte for byte, or rewritten on request.
//! Owns the one way a JSON value is spelled in them: keys sorted, two spaces, a newline at the end.
//! Never decides what an example says.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Where the golden files are.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The value as it stands in a golden file, whatever order its keys were inserted in.
pub(crate) fn spell(value: &Value) -> String {
    let text = serde_json::to_string_pretty(&sorted(value)).expect("a value can be written");
    text + "\n"
}

pub(crate) fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            let pairs = fields
                .into_iter()
                .map(|(key, value)| (key.clone(), sorted(value)));
            Value::Object(pairs.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        plain => plain.clone(),
    }
}

/// Compares the value with the file byte for byte and returns the file read back.
pub(crate) fn check(path: &Path, value: &Value) -> Value {
    let text = spell(value);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &text).expect("a golden file can be written");
    }
    let kept = std::fs::read_to_string(path).unwrap_or_else(|error| {
        panic!(
            "cannot read {}: {error}; UPDATE_GOLDEN=1 writes it",
            path.display()
        )
    });
    assert!(
        kept == text,
        "{} no longer says what the types say; if that is meant, UPDATE_GOLDEN=1 rewrites it.\n\
         --- now\n{text}",
        path.display()
    );
    serde_json::from_str(&kept).expect("a golden file is JSON")
}
