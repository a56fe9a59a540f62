//! Looks up values of a configuration with their origins.
//! Owns the walk along the schema and the tree, and the defaults.
//! Never changes a value.

use mainstay_protocol::config_values::{ConfigLayer, ConfigOrigin, ConfigValue};
use serde_json::{Value as Json, json};

use super::committed::to_json;
use super::hints::{closest, key_path};
use super::lower::Configuration;
use super::overrides::keys;
use super::problem::{LayerKind, SourceLocation};
use super::reference::default_of;
use super::schema::{Key, Section, ValueType, root};
use super::tree::Node;

/// Why there is no such key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {hint}")]
pub struct UnknownKey {
    message: String,
    hint: String,
}

/// A position in the schema, with the written value there.
#[derive(Clone, Copy)]
struct SchemaCursor<'c> {
    form: ValueType,
    key: Option<&'static Key>,
    said: Option<&'c Node>,
    /// The value for all modules that a module may override.
    general: Option<&'c Node>,
}

impl Configuration {
    /// Returns each available key at or below `path` ("" for all), with its value and origin.
    ///
    /// # Errors
    /// There is no such key, or no module of that name.
    pub fn values(&self, path: &str) -> Result<Vec<ConfigValue>, UnknownKey> {
        let path = if path.is_empty() {
            Vec::new()
        } else {
            keys(path).ok_or_else(|| UnknownKey {
                message: format!("cannot find {path}: a part of it is empty"),
                hint: "name a key as in health.interval".to_owned(),
            })?
        };
        let mut spot = SchemaCursor {
            form: ValueType::Table(root()),
            key: None,
            said: Some(&self.merged.tree),
            general: None,
        };
        let mut names: Vec<&str> = Vec::with_capacity(path.len());
        for (at, name) in path.iter().enumerate() {
            if !matches!(spot.form, ValueType::Table(_) | ValueType::Map(_)) {
                return self.inside(spot, &names, &path[at..]).map(|one| vec![one]);
            }
            spot = self.step(spot, &names, name)?;
            names.push(name);
        }
        let mut found = Vec::new();
        self.collect(spot, &mut names, &mut found);
        Ok(found)
    }

    fn step<'c>(
        &'c self,
        spot: SchemaCursor<'c>,
        names: &[&str],
        name: &str,
    ) -> Result<SchemaCursor<'c>, UnknownKey> {
        match spot.form {
            ValueType::Table(section) => match section.find(name).filter(|key| key.available) {
                Some(key) => Ok(self.key(spot, key)),
                None => Err(no_key(section, names, name)),
            },
            ValueType::Map(each) => spot.named(each, name).ok_or_else(|| {
                let present = spot.said.and_then(Node::as_table);
                let present = present.into_iter().flatten();
                let hint = match closest(name, present.map(|(name, _)| name.as_str())) {
                    Some(other) => format!("did you mean `{other}`?"),
                    None => "nobody said anything of that name".to_owned(),
                };
                let message = format!("cannot find {}", with(names, name));
                UnknownKey { message, hint }
            }),
            _ => Ok(spot),
        }
    }

    /// A key of a table.
    fn key<'c>(&'c self, spot: SchemaCursor<'c>, key: &'static Key) -> SchemaCursor<'c> {
        let below = |node: Option<&'c Node>| node.and_then(|node| node.at(&[key.name]));
        let shared = match key.form {
            // `[health]` has the defaults of `[module.NAME.health]`.
            ValueType::Table(section) if section.base.is_some() => self.merged.tree.at(&[key.name]),
            _ => None,
        };
        SchemaCursor {
            form: key.form,
            key: Some(key),
            said: below(spot.said),
            general: shared.or_else(|| below(spot.general)),
        }
    }

    fn collect<'c>(
        &'c self,
        spot: SchemaCursor<'c>,
        names: &mut Vec<&'c str>,
        found: &mut Vec<ConfigValue>,
    ) {
        match spot.form {
            ValueType::Table(section) => {
                for key in section.all().filter(|key| key.available) {
                    names.push(key.name);
                    self.collect(self.key(spot, key), names, found);
                    names.pop();
                }
            }
            ValueType::Map(each) => {
                let present = spot.said.and_then(Node::as_table);
                for (name, _) in present.into_iter().flatten() {
                    if let Some(one) = spot.named(each, name) {
                        names.push(name);
                        self.collect(one, names, found);
                        names.pop();
                    }
                }
            }
            _ => found.push(self.value_at(spot, names)),
        }
    }

    fn value_at(&self, spot: SchemaCursor<'_>, names: &[&str]) -> ConfigValue {
        let node = spot.said.or(spot.general);
        let place = node.and_then(|node| self.merged.texts.place(node.origin));
        let value = match node {
            Some(node) => to_json(node),
            None => self.default_value(spot, names),
        };
        ConfigValue {
            path: key_path(names),
            value,
            hidden: false,
            origin: place.map_or_else(ConfigOrigin::default, origin),
        }
    }

    /// Returns the default; two directories depend on the platform.
    fn default_value(&self, spot: SchemaCursor<'_>, names: &[&str]) -> Json {
        match names {
            ["mainstay", "state_dir"] => json!(self.system.state_dir),
            ["mainstay", "runtime_dir"] => json!(self.system.runtime_dir),
            _ => spot.key.and_then(default_of).unwrap_or_default(),
        }
    }

    /// Returns a part of a value that is written as one: `recovery.probation.initial`.
    fn inside(
        &self,
        spot: SchemaCursor<'_>,
        names: &[&str],
        rest: &[String],
    ) -> Result<ConfigValue, UnknownKey> {
        let whole = self.value_at(spot, names);
        let part = rest
            .iter()
            .try_fold(&whole.value, |value, name| value.get(name.as_str()));
        let Some(part) = part.cloned() else {
            let rest = rest.join(".");
            return Err(UnknownKey {
                message: format!("cannot find {rest} in {}", whole.path),
                hint: format!("{} has no such part", whole.path),
            });
        };
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        Ok(ConfigValue {
            path: key_path(&[names, &rest].concat()),
            value: part,
            hidden: false,
            origin: whole.origin,
        })
    }
}

impl<'c> SchemaCursor<'c> {
    /// Returns a freely named key, if it is written.
    fn named(self, each: &'static ValueType, name: &str) -> Option<SchemaCursor<'c>> {
        let said = Some(self.said?.at(&[name])?);
        Some(SchemaCursor {
            form: *each,
            key: None,
            said,
            general: None,
        })
    }
}

fn with(names: &[&str], name: &str) -> String {
    key_path(&[names, &[name]].concat())
}

fn no_key(section: &'static Section, names: &[&str], name: &str) -> UnknownKey {
    let path = with(names, name);
    if section.find(name).is_some() {
        return UnknownKey {
            message: format!("cannot find {path}: not available yet"),
            hint: "it is designed, not built".to_owned(),
        };
    }
    let available = section.all().filter(|key| key.available);
    UnknownKey {
        message: format!("cannot find {path}: there is no such key"),
        hint: match closest(name, available.map(|key| key.name)) {
            Some(other) => format!("did you mean `{other}`?"),
            None => "`mainstay check --schema` lists every key".to_owned(),
        },
    }
}

fn origin(place: SourceLocation) -> ConfigOrigin {
    let layer = match place.kind {
        LayerKind::Default => return ConfigOrigin::default(),
        LayerKind::File => ConfigLayer::File,
        LayerKind::Variable => ConfigLayer::Variable,
        LayerKind::Set => ConfigLayer::Set,
        LayerKind::Override => ConfigLayer::Override,
    };
    ConfigOrigin {
        layer,
        name: place.name,
        line: place.line,
    }
}
