//! Looks up values of a configuration with their origins.
//! Owns the walk along the schema and the tree, and the defaults.
//! Never changes a value.

use mainstay_protocol::config::{ConfigLayer, ConfigOrigin, ConfigValue};
use serde_json::{Value as Json, json};

use super::effective::to_json;
use super::hints::{dotted, near};
use super::lower::Configuration;
use super::overrides::keys;
use super::problem::{Place, PlaceKind};
use super::reference::default_of;
use super::schema::{Form, Key, Section, root};
use super::tree::Node;

/// Why there is no such key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {hint}")]
pub struct NoSuchKey {
    message: String,
    hint: String,
}

/// A position in the schema, with the written value there.
#[derive(Clone, Copy)]
struct Spot<'c> {
    form: Form,
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
    pub fn values(&self, path: &str) -> Result<Vec<ConfigValue>, NoSuchKey> {
        let path = if path.is_empty() {
            Vec::new()
        } else {
            keys(path).ok_or_else(|| NoSuchKey {
                message: format!("cannot find {path}: a part of it is empty"),
                hint: "name a key as in health.interval".to_owned(),
            })?
        };
        let mut spot = Spot {
            form: Form::Table(root()),
            key: None,
            said: Some(&self.merged.tree),
            general: None,
        };
        let mut names: Vec<&str> = Vec::with_capacity(path.len());
        for (at, name) in path.iter().enumerate() {
            if !matches!(spot.form, Form::Table(_) | Form::Map(_)) {
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
        spot: Spot<'c>,
        names: &[&str],
        name: &str,
    ) -> Result<Spot<'c>, NoSuchKey> {
        match spot.form {
            Form::Table(section) => match section.find(name).filter(|key| key.available) {
                Some(key) => Ok(self.key(spot, key)),
                None => Err(no_key(section, names, name)),
            },
            Form::Map(each) => spot.named(each, name).ok_or_else(|| {
                let present = spot.said.and_then(Node::as_table);
                let present = present.into_iter().flatten();
                let hint = match near(name, present.map(|(name, _)| name.as_str())) {
                    Some(other) => format!("did you mean `{other}`?"),
                    None => "nobody said anything of that name".to_owned(),
                };
                let message = format!("cannot find {}", with(names, name));
                NoSuchKey { message, hint }
            }),
            _ => Ok(spot),
        }
    }

    /// A key of a table.
    fn key<'c>(&'c self, spot: Spot<'c>, key: &'static Key) -> Spot<'c> {
        let below = |node: Option<&'c Node>| node.and_then(|node| node.at(&[key.name]));
        let shared = match key.form {
            // `[health]` has the defaults of `[module.NAME.health]`.
            Form::Table(section) if section.base.is_some() => self.merged.tree.at(&[key.name]),
            _ => None,
        };
        Spot {
            form: key.form,
            key: Some(key),
            said: below(spot.said),
            general: shared.or_else(|| below(spot.general)),
        }
    }

    fn collect<'c>(
        &'c self,
        spot: Spot<'c>,
        names: &mut Vec<&'c str>,
        found: &mut Vec<ConfigValue>,
    ) {
        match spot.form {
            Form::Table(section) => {
                for key in section.all().filter(|key| key.available) {
                    names.push(key.name);
                    self.collect(self.key(spot, key), names, found);
                    names.pop();
                }
            }
            Form::Map(each) => {
                let present = spot.said.and_then(Node::as_table);
                for (name, _) in present.into_iter().flatten() {
                    if let Some(one) = spot.named(each, name) {
                        names.push(name);
                        self.collect(one, names, found);
                        names.pop();
                    }
                }
            }
            _ => found.push(self.leaf(spot, names)),
        }
    }

    fn leaf(&self, spot: Spot<'_>, names: &[&str]) -> ConfigValue {
        let node = spot.said.or(spot.general);
        let place = node.and_then(|node| self.merged.texts.place(node.origin));
        let value = match node {
            Some(node) => to_json(node),
            None => self.unsaid(spot, names),
        };
        ConfigValue {
            path: dotted(names),
            value,
            hidden: false,
            origin: place.map_or_else(nobody, origin),
        }
    }

    /// Returns the default; two directories depend on the platform.
    fn unsaid(&self, spot: Spot<'_>, names: &[&str]) -> Json {
        match names {
            ["mainstay", "state_dir"] => json!(self.system.state_dir),
            ["mainstay", "runtime_dir"] => json!(self.system.runtime_dir),
            _ => spot.key.and_then(default_of).unwrap_or_default(),
        }
    }

    /// Returns a part of a value that is written as one: `recovery.probation.initial`.
    fn inside(
        &self,
        spot: Spot<'_>,
        names: &[&str],
        rest: &[String],
    ) -> Result<ConfigValue, NoSuchKey> {
        let whole = self.leaf(spot, names);
        let part = rest
            .iter()
            .try_fold(&whole.value, |value, name| value.get(name.as_str()));
        let Some(part) = part.cloned() else {
            let rest = rest.join(".");
            return Err(NoSuchKey {
                message: format!("cannot find {rest} in {}", whole.path),
                hint: format!("its value is {}", whole.value),
            });
        };
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        Ok(ConfigValue {
            path: dotted(&[names, &rest].concat()),
            value: part,
            hidden: false,
            origin: whole.origin,
        })
    }
}

impl<'c> Spot<'c> {
    /// Returns a freely named key, if it is written.
    fn named(self, each: &'static Form, name: &str) -> Option<Spot<'c>> {
        let said = Some(self.said?.at(&[name])?);
        Some(Spot {
            form: *each,
            key: None,
            said,
            general: None,
        })
    }
}

fn with(names: &[&str], name: &str) -> String {
    dotted(&[names, &[name]].concat())
}

fn no_key(section: &'static Section, names: &[&str], name: &str) -> NoSuchKey {
    let path = with(names, name);
    if section.find(name).is_some() {
        return NoSuchKey {
            message: format!("cannot find {path}: not available yet"),
            hint: "it is designed, not built".to_owned(),
        };
    }
    let available = section.all().filter(|key| key.available);
    NoSuchKey {
        message: format!("cannot find {path}: there is no such key"),
        hint: match near(name, available.map(|key| key.name)) {
            Some(other) => format!("did you mean `{other}`?"),
            None => "`mainstay check --schema` lists every key".to_owned(),
        },
    }
}

fn nobody() -> ConfigOrigin {
    ConfigOrigin {
        layer: ConfigLayer::Default,
        name: String::new(),
        line: None,
    }
}

fn origin(place: Place) -> ConfigOrigin {
    let layer = match place.kind {
        PlaceKind::Default => return nobody(),
        PlaceKind::File => ConfigLayer::File,
        PlaceKind::Variable => ConfigLayer::Variable,
        PlaceKind::Set => ConfigLayer::Set,
        PlaceKind::Override => ConfigLayer::Override,
    };
    ConfigOrigin {
        layer,
        name: place.name,
        line: place.line,
    }
}
