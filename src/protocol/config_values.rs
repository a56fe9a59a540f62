//! Values of the configuration in JSON, each with its origin.
//! Owns their shape.
//! Never knows which keys there are: the configuration does.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::enums::wire_enum;

/// Parameters of `config.get`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ConfigGetParams {
    /// A key, or a table of keys: `health.interval`, `module.storage`; without it, everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Result of `config.get`: each key at or below the path, in the order of the reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ConfigValues {
    /// One, when the path names one key.
    pub values: Vec<ConfigValue>,
}

/// One key of the configuration in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ConfigValue {
    /// For instance `health.interval`.
    pub path: String,
    /// As it was written, variables like `${project}` as such; null: nothing, and that is the
    /// default, or it is hidden.
    pub value: Value,
    /// The value is left out: `env` and `settings` may be confidential.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
    /// The layer that set it.
    pub origin: ConfigOrigin,
}

/// The origin of a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ConfigOrigin {
    /// The layer.
    pub layer: ConfigLayer,
    /// The file's path, the variable's name, the option's text; empty for a default.
    #[serde(default)]
    pub name: String,
    /// From 1; only in files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

wire_enum! {
    /// The layers of a configuration; later ones win.
    ConfigLayer {
        /// It is not set: the default holds.
        Default = "default",
        /// A file of the configuration.
        File = "file",
        /// A variable of the environment.
        Variable = "variable",
        /// `--set` on the command line.
        Set = "set",
        /// `config set` while it ran.
        Override = "override",
    }
}

impl Default for ConfigOrigin {
    fn default() -> ConfigOrigin {
        ConfigOrigin {
            layer: ConfigLayer::Default,
            name: String::new(),
            line: None,
        }
    }
}

impl fmt::Display for ConfigOrigin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            ConfigLayer::Default => out.write_str("default"),
            ConfigLayer::File => out.write_str(&self.name),
            ConfigLayer::Variable => write!(out, "${}", self.name),
            ConfigLayer::Set => write!(out, "--set {}", self.name),
            ConfigLayer::Override => write!(out, "config set {}", self.name),
            ConfigLayer::Other(layer) => write!(out, "{} {}", layer.as_str(), self.name),
        }?;
        self.line.map_or(Ok(()), |line| write!(out, ":{line}"))
    }
}
