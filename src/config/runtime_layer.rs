//! The layer above all others: what `config set` said while the system ran.
//! Owns the list of its values. It is a part of each plan: it is committed, rolled back and kept
//! with it.
//! Never drops a value by itself, except of a module that the files no longer have.

use mainstay_protocol::Timestamp;
use serde::{Deserialize, Serialize};

use super::lower::{Configuration, lower};
use super::overrides::{apply_runtime_layer, keys};
use super::problem::Problems;
use super::slots::{Base, SlotRule};

/// One value of the layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeValue {
    /// The key, for instance `health.interval`.
    pub path: String,
    /// The value as TOML, or a text that is not.
    pub value: String,
    /// Who set it.
    pub requester: String,
    /// The time at which it was set.
    pub at: Timestamp,
}

/// Sets a value; it replaces those at and below its key.
pub(crate) fn set(layer: &mut Vec<RuntimeValue>, value: RuntimeValue) {
    let _there_may_be_none = unset(layer, &value.path);
    layer.push(value);
}

/// Removes the values at and below a key; returns whether there were any.
pub(crate) fn unset(layer: &mut Vec<RuntimeValue>, path: &str) -> bool {
    let Some(path) = keys(path) else {
        return false;
    };
    let before = layer.len();
    layer.retain(|value| keys(&value.path).is_none_or(|each| !each.starts_with(&path)));
    layer.len() < before
}

impl Configuration {
    /// What `config set` said.
    #[must_use]
    pub fn overrides(&self) -> &[RuntimeValue] {
        &self.merged.overrides
    }

    /// The same configuration with other values of `config set`, whatever the files say now.
    ///
    /// # Errors
    /// All problems of the values.
    pub(crate) fn with_overrides(
        &self,
        values: Vec<RuntimeValue>,
    ) -> Result<Configuration, Problems> {
        let mut merged = self.merged.clone();
        let mut problems = Problems::default();
        apply_runtime_layer(values, &mut merged, &mut problems);
        let env_files = self.env_files.of_the_same_moment();
        let base = Base {
            fixed: Some(self.fixed()),
            ids: self.ids.clone(),
            slots: SlotRule::Named,
        };
        lower(merged, problems, env_files, base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(path: &str, value: &str) -> RuntimeValue {
        RuntimeValue {
            path: path.to_owned(),
            value: value.to_owned(),
            requester: "ann".to_owned(),
            at: Timestamp(1),
        }
    }

    #[test]
    fn the_last_value_of_a_key_holds_and_one_above_replaces_it() {
        let mut layer = Vec::new();
        for (path, said) in [
            ("a.b", "1"),
            ("a.\"b\"", "2"),
            ("a.bc", "3"),
            ("a.b.c", "4"),
        ] {
            set(&mut layer, value(path, said));
        }
        let paths: Vec<&str> = layer.iter().map(|each| &*each.path).collect();
        assert_eq!(paths, ["a.\"b\"", "a.bc", "a.b.c"]);
        set(&mut layer, value("a.b", "5"));
        assert_eq!(layer.len(), 2);
        assert!(unset(&mut layer, "a") && layer.is_empty() && !unset(&mut layer, "a"));
    }
}
