//! The table of all keys: name, type, default, change class, availability, description.
//! Owns that table and the macro that declares a section as a type.
//! Never reads a file: reading walks a tree along it, `reference` prints it.

pub(crate) mod choices;
pub(crate) mod compound;
mod expected;
pub(crate) mod features;
pub(crate) mod module;
pub(crate) mod probes;
pub(crate) mod scalars;
pub(crate) mod secrets;
pub(crate) mod sockets;
pub(crate) mod system;
mod units;

use super::launch::Feature;
use super::read_context::ReadContext;
use super::tree::{KeyTable, Node};
pub use mainstay_policy::diff::KeyClass;

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) form: ValueType,
    /// The default as TOML; empty: none.
    pub(crate) default: fn() -> String,
    pub(crate) class: KeyClass,
    /// False: designed and not implemented; refused if it is set.
    pub(crate) available: bool,
    pub(crate) about: &'static str,
}

/// A table with a closed set of keys.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) about: &'static str,
    pub(crate) keys: &'static [Key],
    /// Keys that this section shares with another.
    pub(crate) base: Option<&'static Section>,
}

impl Section {
    /// A key by name.
    pub(crate) fn find(&self, name: &str) -> Option<&'static Key> {
        let own = self.keys.iter().find(|key| key.name == name);
        own.or_else(|| self.base.and_then(|base| base.find(name)))
    }

    /// All keys, its own first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &'static Key> {
        let base = self.base.map_or(&[][..], |base| base.keys);
        self.keys.iter().chain(base)
    }
}

/// One of a closed set of words.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) word: &'static str,
    pub(crate) available: bool,
}

/// What a value looks like.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ValueType {
    /// true or false.
    Flag,
    /// Text as it is.
    Text,
    /// Text in which variables are replaced.
    Template,
    /// `[a-z0-9][a-z0-9_-]*`.
    Name,
    /// A whole number.
    Whole { min: i64, max: i64 },
    /// A number.
    Number { min: f64, max: f64 },
    /// "250ms", "10s", "5m".
    Duration { zero: bool },
    /// "10MiB" or a number of bytes.
    Bytes,
    /// "SIGTERM".
    Signal,
    /// One of these words.
    Choice(&'static [Choice]),
    /// Program and arguments.
    Command,
    /// Any number of.
    List(&'static ValueType),
    /// Freely named keys.
    Map(&'static ValueType),
    /// A table with these keys.
    Table(&'static Section),
    /// One of several forms.
    OneOf(&'static [ValueType]),
    /// The module's own.
    Any,
}

/// A type that a value of the configuration is read into.
pub(crate) trait FromConfig: Sized + PartialEq {
    /// What it looks like.
    const FORM: ValueType;

    /// Reads a value; none if it is wrong, which is then reported.
    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self>;

    /// Reads a value over the current one; sections merge, other values are replaced.
    fn update<'a>(&mut self, node: &'a Node, at: &mut ReadContext<'a>) {
        if let Some(value) = Self::read(node, at) {
            *self = value;
        }
    }

    /// As TOML, for the reference; empty: none.
    fn show(&self) -> String;

    /// Adds the keys to `found` in which `self` and `other` differ; a section looks into itself.
    fn differ(&self, other: &Self, found: &mut KeyChanges) {
        if self != other {
            found.add();
        }
    }
}

/// The keys in which two values differ, each with its class.
#[derive(Debug, Default)]
pub(crate) struct KeyChanges {
    path: Vec<(&'static str, KeyClass)>,
    pub(crate) found: Vec<(Vec<&'static str>, KeyClass)>,
}

impl KeyChanges {
    /// Compares the value of one key.
    pub(crate) fn key<T: FromConfig>(
        &mut self,
        name: &'static str,
        class: KeyClass,
        (one, other): (&T, &T),
    ) {
        self.path.push((name, class));
        one.differ(other, self);
        self.path.pop();
    }

    /// Whether the key at the top differs.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.found
            .iter()
            .any(|(path, _)| path.first() == Some(&key))
    }

    fn add(&mut self) {
        if let Some((_, class)) = self.path.last() {
            let path = self.path.iter().map(|(name, _)| *name).collect();
            self.found.push((path, *class));
        }
    }
}

/// Reads each key of `table` with `set_key`; a key unknown to `set_key` is a problem.
pub(crate) fn read_section<'a>(
    table: &'a KeyTable,
    at: &mut ReadContext<'a>,
    section: &'static Section,
    mut set_key: impl FnMut(&str, &'a Node, &mut ReadContext<'a>) -> bool,
) {
    for (name, entry) in table {
        at.push_key(name);
        if !set_key(name, &entry.node, at) {
            at.unknown(name, entry, section);
        }
        at.pop_key();
    }
}

/// Declares a section: a type with defaults, how it is read, and its rows of the table.
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        $name:ident $(over $base:ident : $base_type:ty)? {
            $(
                $(#[doc = $doc:literal])*
                $class:ident $field:ident : $kind:ty = $default:expr;
            )*
        }
        $(later {
            $(
                $(#[doc = $later_doc:literal])*
                $later_class:ident $later:ident : $later_form:expr, $later_default:literal;
            )*
        })?
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) struct $name {
            $(pub(crate) $base: $base_type,)?
            $($(#[doc = $doc])* pub(crate) $field: $kind,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($base: <$base_type>::default(),)?
                    $($field: $default,)*
                }
            }
        }

        impl $name {
            pub(crate) const SECTION: &'static $crate::config::schema::Section =
                &$crate::config::schema::Section {
                    about: concat!($($about),*),
                    keys: &[
                        $($crate::config::schema::Key {
                            name: stringify!($field),
                            form: <$kind as $crate::config::schema::FromConfig>::FORM,
                            default: || {
                                <$kind as $crate::config::schema::FromConfig>::show(&$default)
                            },
                            class: $crate::config::schema::KeyClass::$class,
                            available: true,
                            about: concat!($($doc),*),
                        },)*
                        $($($crate::config::schema::Key {
                            name: stringify!($later),
                            form: $later_form,
                            default: || $later_default.to_owned(),
                            class: $crate::config::schema::KeyClass::$later_class,
                            available: false,
                            about: concat!($($later_doc),*),
                        },)*)?
                    ],
                    base: section!(@base $($base_type)?),
                };

            /// Reads one key; returns false for an unknown one.
            pub(crate) fn set_key<'a>(
                &mut self,
                key: &str,
                node: &'a $crate::config::tree::Node,
                at: &mut $crate::config::read_context::ReadContext<'a>,
            ) -> bool {
                $(if key == stringify!($field) {
                    $crate::config::schema::FromConfig::update(&mut self.$field, node, at);
                    return true;
                })*
                $(if self.$base.set_key(key, node, at) {
                    return true;
                })?
                false
            }
        }

        impl $crate::config::schema::FromConfig for $name {
            fn differ(&self, other: &Self, found: &mut $crate::config::schema::KeyChanges) {
                $(self.$base.differ(&other.$base, found);)?
                $(found.key(
                    stringify!($field),
                    $crate::config::schema::KeyClass::$class,
                    (&self.$field, &other.$field),
                );)*
            }

            const FORM: $crate::config::schema::ValueType =
                $crate::config::schema::ValueType::Table(Self::SECTION);

            fn read<'a>(
                node: &'a $crate::config::tree::Node,
                at: &mut $crate::config::read_context::ReadContext<'a>,
            ) -> Option<Self> {
                let mut value = Self::default();
                value.update(node, at);
                Some(value)
            }

            fn update<'a>(
                &mut self,
                node: &'a $crate::config::tree::Node,
                at: &mut $crate::config::read_context::ReadContext<'a>,
            ) {
                if let Some(table) = at.table(node, Self::FORM) {
                    $crate::config::schema::read_section(table, at, Self::SECTION, |key, node, at| {
                        self.set_key(key, node, at)
                    });
                }
            }

            fn show(&self) -> String {
                let keys: Vec<(&str, String)> = vec![$((
                    stringify!($field),
                    $crate::config::schema::FromConfig::show(&self.$field),
                )),*];
                $crate::config::schema::scalars::show_table(&keys)
            }
        }
    };
    (@base) => { None };
    (@base $base:ty) => { Some(<$base>::SECTION) };
}
pub(crate) use section;

/// The sections at the top of a configuration.
pub(crate) fn root() -> &'static Section {
    const fn top(name: &'static str, form: ValueType, available: bool, about: &'static str) -> Key {
        Key {
            name,
            form,
            default: String::new,
            class: KeyClass::Live,
            available,
            about,
        }
    }
    const fn section(section: &'static Section, name: &'static str) -> Key {
        top(name, ValueType::Table(section), true, section.about)
    }
    const ROOT: &Section = &Section {
        about: "A configuration.",
        keys: &[
            section(system::MainstaySection::SECTION, "mainstay"),
            section(system::HealthSection::SECTION, "health"),
            section(system::SystemRecoverySection::SECTION, "recovery"),
            section(system::ResourcesSection::SECTION, "resources"),
            section(system::IpcSection::SECTION, "ipc"),
            section(system::LogsSection::SECTION, "logs"),
            section(system::ChaosSection::SECTION, "chaos"),
            section(system::ForensicsSection::SECTION, "forensics"),
            top("module", MODULES, true, "The modules, by name."),
            top("group", GROUPS, true, "Supervision groups, by name."),
            top("features", FEATURES, true, FEATURES_ABOUT),
            top("secrets", SECRETS, true, SECRETS_ABOUT),
        ],
        base: None,
    };
    const MODULES: ValueType = ValueType::Map(&ValueType::Table(module::ModuleSection::SECTION));
    const SECRETS: ValueType = ValueType::Map(&ValueType::Text);
    const SECRETS_ABOUT: &str = "Encrypted values, by name. `mainstay secret set NAME` writes them \
        to `conf.d/secrets.toml`; a module gets those that its `secrets` and `secret_env` name.";
    const FEATURES: ValueType = ValueType::Map(&Feature::FORM);
    const FEATURES_ABOUT: &str = "Features of modules, by name: on, off, or on for this share of \
        the instances in percent, always the same ones. A module finds those that are on in \
        MAINSTAY_FEATURES, with the SDK in `feature()` and `on_feature()` at once; one with \
        `reload_signal` or `reload_command` is told, and reads MAINSTAY_FEATURES_FILE.";
    const GROUPS: ValueType = ValueType::Map(&ValueType::Table(system::GroupSection::SECTION));
    ROOT
}

/// What a key takes, roughly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyForm {
    /// A text.
    Text,
    /// A table of keys.
    Section,
    /// Something else, or it is not known.
    Other,
}

/// What the key at `path` takes.
pub(crate) fn form_of(path: &[&str]) -> KeyForm {
    let form = path
        .iter()
        .try_fold(ValueType::Table(root()), |form, key| match form {
            ValueType::Table(section) => Some(section.find(key)?.form),
            ValueType::Map(each) => Some(*each),
            _ => None,
        });
    match form {
        Some(
            ValueType::Text
            | ValueType::Template
            | ValueType::Name
            | ValueType::Duration { .. }
            | ValueType::Signal
            | ValueType::Choice(_),
        ) => KeyForm::Text,
        Some(ValueType::Table(_) | ValueType::Map(&ValueType::Table(_))) => KeyForm::Section,
        _ => KeyForm::Other,
    }
}

/// Returns the change class of the key at `path`; none for an unknown key.
#[must_use]
pub fn class_of(path: &[&str]) -> Option<KeyClass> {
    let mut form = ValueType::Table(root());
    let mut class = None;
    for key in path {
        form = match form {
            ValueType::Table(section) => {
                let key = section.find(key)?;
                class = Some(key.class);
                key.form
            }
            ValueType::Map(each) => *each,
            // Inside of a value the class of the value holds.
            _ => return class,
        };
    }
    class
}
