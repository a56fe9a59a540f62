//! The values of all layers in one tree, each with its origin.
//! Owns merging: tables merge, other values are replaced by the later layer.
//! Never knows the keys: the schema does.

use toml::de::{DeTable, DeValue};

use super::origin::Origin;

/// A value and its origin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: TreeValue,
    pub(crate) origin: Origin,
}

/// A value of TOML.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TreeValue {
    Text(String),
    Whole(i64),
    Number(f64),
    Flag(bool),
    /// A date or time, or a whole number that is too large: kept as written.
    Other(String),
    List(Vec<Node>),
    Table(KeyTable),
}

pub(crate) use super::key_table::KeyTable;

/// A value and the origin of its key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TableEntry {
    pub(crate) key: Origin,
    pub(crate) node: Node,
}

impl Node {
    /// An empty table.
    pub(crate) fn table() -> Node {
        Node {
            value: TreeValue::Table(KeyTable::new()),
            origin: Origin::default(),
        }
    }

    pub(crate) fn as_table(&self) -> Option<&KeyTable> {
        match &self.value {
            TreeValue::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Returns the value at a path.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter()
            .try_fold(self, |node, key| Some(&node.as_table()?.get(key)?.node))
    }

    /// Merges `later` over this one.
    pub(crate) fn merge(&mut self, later: Node) {
        match (&mut self.value, later.value) {
            (TreeValue::Table(table), TreeValue::Table(more)) => {
                if table.is_empty() {
                    *table = more;
                } else {
                    for (key, entry) in more {
                        merge_entry(table, key, entry);
                    }
                }
                if self.origin.is_none() {
                    self.origin = later.origin;
                }
            }
            (_, value) => {
                *self = Node {
                    value,
                    origin: later.origin,
                };
            }
        }
    }

    /// Returns the kind of the value, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            TreeValue::Text(_) => "text",
            TreeValue::Whole(_) => "a whole number",
            TreeValue::Number(_) => "a number",
            TreeValue::Flag(_) => "true or false",
            TreeValue::Other(_) => "a date, a time or a number out of range",
            TreeValue::List(_) => "a list",
            TreeValue::Table(_) => "a table",
        }
    }
}

fn merge_entry(table: &mut KeyTable, key: String, entry: TableEntry) {
    let Some(present) = table.get_mut(&key) else {
        table.insert(key, entry);
        return;
    };
    let both_tables = matches!(
        (&present.node.value, &entry.node.value),
        (TreeValue::Table(_), TreeValue::Table(_))
    );
    if !both_tables {
        present.key = entry.key;
    }
    present.node.merge(entry.node);
}

/// The tree of a parsed table; `text` is the number of the text that contains it.
pub(crate) fn from_table(table: DeTable<'_>, text: u32) -> KeyTable {
    let entry = |(key, value): (toml::Spanned<_>, toml::Spanned<DeValue<'_>>)| {
        let origin = origin_of(text, &key.span());
        let name: std::borrow::Cow<'_, str> = key.into_inner();
        let node = from_value(value, text);
        (name.into_owned(), TableEntry { key: origin, node })
    };
    table.into_iter().map(entry).collect()
}

/// The node of a parsed value.
pub(crate) fn from_value(value: toml::Spanned<DeValue<'_>>, text: u32) -> Node {
    let origin = origin_of(text, &value.span());
    let value = match value.into_inner() {
        DeValue::String(value) => TreeValue::Text(value.into_owned()),
        DeValue::Integer(value) => i64::from_str_radix(value.as_str(), value.radix())
            .map_or_else(|_| TreeValue::Other(value.to_string()), TreeValue::Whole),
        DeValue::Float(value) => value
            .as_str()
            .parse()
            .map_or_else(|_| TreeValue::Other(value.to_string()), TreeValue::Number),
        DeValue::Boolean(value) => TreeValue::Flag(value),
        DeValue::Datetime(value) => TreeValue::Other(value.to_string()),
        DeValue::Array(values) => TreeValue::List(
            values
                .into_iter()
                .map(|value| from_value(value, text))
                .collect(),
        ),
        DeValue::Table(table) => TreeValue::Table(from_table(table, text)),
    };
    Node { value, origin }
}

pub(crate) fn origin_of(text: u32, span: &std::ops::Range<usize>) -> Origin {
    Origin {
        text,
        start: u32::try_from(span.start).unwrap_or(u32::MAX),
        end: u32::try_from(span.end).unwrap_or(u32::MAX),
    }
}
