//! Scalar values: flags, texts, names, numbers, lists and maps of them.
//! Owns how each is read and printed.
//! Never accepts a value out of bounds: the bounds are part of the type.

use std::collections::BTreeMap;

pub(crate) use super::measures::{Bytes, LongSpan, Span};
use super::{Form, Value};
use crate::config::origin::Origin;
use crate::config::reading::Reading;
use crate::config::tree::{Node, Tree};

/// Text in which `${…}` is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Filled(pub(crate) String);

/// A name of a system or a module, and its origin.
#[derive(Debug, Clone, Eq)]
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

/// A whole number between two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole<const MIN: u64, const MAX: u64>(pub(crate) u64);

/// A whole number between two bounds, of which one may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signed<const MIN: i64, const MAX: i64>(pub(crate) i32);

/// A number of 1 or more, at most 1000.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Factor(pub(crate) f64);

/// A fraction: 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Share(pub(crate) f64);

/// Program and arguments, never empty, and their origin.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Command {
    pub(crate) words: Vec<String>,
    pub(crate) origin: Origin,
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.text == other.text
    }
}

impl Name {
    pub(crate) fn new(text: &str) -> Name {
        Name {
            text: text.to_owned(),
            origin: Origin::default(),
        }
    }
}

/// Returns whether a text is a valid name of a system or a module.
pub(crate) fn is_name(text: &str) -> bool {
    let first = text.bytes().next();
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 64
        && first.is_some_and(word)
        && text
            .bytes()
            .all(|byte| word(byte) || byte == b'_' || byte == b'-')
}

impl Value for bool {
    const FORM: Form = Form::Flag;

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        match node.value {
            Tree::Flag(value) => Some(value),
            _ => at.wrong(node, Self::FORM),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    const FORM: Form = Form::Text;

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        at.text(node, Self::FORM).map(str::to_owned)
    }

    fn show(&self) -> String {
        toml::Value::String(self.clone()).to_string()
    }
}

impl Value for Filled {
    const FORM: Form = Form::Filled;

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        let text = at.text(node, Self::FORM)?.to_owned();
        at.fill(&text, node.origin).map(Filled)
    }

    fn show(&self) -> String {
        self.0.show()
    }
}

impl Value for Name {
    const FORM: Form = Form::Name;

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        let text = at.text(node, Self::FORM)?.to_owned();
        if !is_name(&text) {
            return at.wrong(node, Self::FORM);
        }
        let origin = node.origin;
        Some(Name { text, origin })
    }

    fn show(&self) -> String {
        self.text.show()
    }
}

impl<const MIN: u64, const MAX: u64> Value for Whole<MIN, MAX> {
    const FORM: Form = Form::Whole {
        min: MIN.cast_signed(),
        max: MAX.cast_signed(),
    };

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        if let Tree::Whole(value) = node.value
            && let Ok(value) = u64::try_from(value)
            && (MIN..=MAX).contains(&value)
        {
            return Some(Whole(value));
        }
        at.wrong(node, Self::FORM)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

impl<const MIN: u64, const MAX: u64> Whole<MIN, MAX> {
    /// Converts to a smaller type, which fits the bounds of each use.
    pub(crate) fn small(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl<const MIN: i64, const MAX: i64> Value for Signed<MIN, MAX> {
    const FORM: Form = Form::Whole { min: MIN, max: MAX };

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        if let Tree::Whole(value) = node.value
            && (MIN..=MAX).contains(&value)
            && let Ok(value) = i32::try_from(value)
        {
            return Some(Signed(value));
        }
        at.wrong(node, Self::FORM)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

fn number<'a, T>(node: &'a Node, at: &mut Reading<'a>, form: Form) -> Option<T>
where
    T: From<Number>,
{
    let Form::Number { min, max } = form else {
        return None;
    };
    #[expect(clippy::cast_precision_loss, reason = "the bounds are far below 2^52")]
    let value = match node.value {
        Tree::Number(value) => value,
        Tree::Whole(value) => value as f64,
        _ => f64::NAN,
    };
    if (min..=max).contains(&value) {
        return Some(T::from(Number(value)));
    }
    at.wrong(node, form)
}

/// Converts a number whose bounds are checked.
struct Number(f64);

impl From<Number> for Factor {
    fn from(number: Number) -> Factor {
        Factor(number.0)
    }
}

impl From<Number> for Share {
    fn from(number: Number) -> Share {
        Share(number.0)
    }
}

impl Value for Factor {
    const FORM: Form = Form::Number {
        min: 1.0,
        max: 1000.0,
    };

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        number(node, at, Self::FORM)
    }

    fn show(&self) -> String {
        format!("{:?}", self.0)
    }
}

impl Value for Share {
    const FORM: Form = Form::Number { min: 0.0, max: 1.0 };

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        number(node, at, Self::FORM)
    }

    fn show(&self) -> String {
        format!("{:?}", self.0)
    }
}

impl Value for Command {
    const FORM: Form = Form::Command;

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        let Tree::List(list) = &node.value else {
            return at.wrong(node, Self::FORM);
        };
        if list.is_empty() {
            return at.wrong(node, Self::FORM);
        }
        let words: Vec<String> = list
            .iter()
            .filter_map(|word| Filled::read(word, at).map(|filled| filled.0))
            .collect();
        if words.len() < list.len() {
            return None;
        }
        if words.first().is_some_and(String::is_empty) {
            let message = format!("cannot use {}: its first text is empty", at.path());
            return at.problem(node.origin, message, "the first text is the program");
        }
        let origin = node.origin;
        Some(Command { words, origin })
    }

    fn show(&self) -> String {
        self.words.show()
    }
}

impl<T: Value> Value for Option<T> {
    const FORM: Form = T::FORM;

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        T::read(node, at).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(String::new, T::show)
    }
}

impl<T: Value> Value for Vec<T> {
    const FORM: Form = Form::List(&T::FORM);

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        let Tree::List(list) = &node.value else {
            return at.wrong(node, Self::FORM);
        };
        Some(list.iter().filter_map(|each| T::read(each, at)).collect())
    }

    fn show(&self) -> String {
        let each: Vec<String> = self.iter().map(T::show).collect();
        format!("[{}]", each.join(", "))
    }
}

impl<T: Value> Value for BTreeMap<String, T> {
    const FORM: Form = Form::Map(&T::FORM);

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        let table = at.table(node, Self::FORM)?;
        let mut map = BTreeMap::new();
        for (key, entry) in table {
            at.enter(key);
            if let Some(value) = T::read(&entry.node, at) {
                map.insert(key.clone(), value);
            }
            at.leave();
        }
        Some(map)
    }

    fn show(&self) -> String {
        let keys: Vec<(&str, String)> = self
            .iter()
            .map(|(key, value)| (key.as_str(), value.show()))
            .collect();
        show_table(&keys)
    }
}

/// Formats an inline table of the keys that have a value.
pub(crate) fn show_table(keys: &[(&str, String)]) -> String {
    let shown: Vec<String> = keys
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{key} = {value}"))
        .collect();
    if shown.is_empty() {
        "{}".to_owned()
    } else {
        format!("{{ {} }}", shown.join(", "))
    }
}
