//! Scalar values: flags, texts, names, numbers, lists and maps of them.
//! Owns how each is read and printed.
//! Never accepts a value out of bounds: the bounds are part of the type.

use std::collections::BTreeMap;

pub(crate) use super::units::{ByteSize, DurationValue, PositiveDuration};
use super::{FromConfig, ValueType};
use crate::config::origin::Origin;
use crate::config::read_context::ReadContext;
use crate::config::tree::{Node, TreeValue};

/// Text in which `${…}` is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Template(pub(crate) String);

/// A name of a system or a module, and its origin.
#[derive(Debug, Clone, Eq)]
pub(crate) struct ModuleName {
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

/// A whole number between two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BoundedInt<const MIN: u64, const MAX: u64>(pub(crate) u64);

/// A whole number between two bounds, of which one may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signed<const MIN: i64, const MAX: i64>(pub(crate) i32);

/// A number of 1 or more, at most 1000.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct GrowthFactor(pub(crate) f64);

/// CPU time in percent of one core.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CpuPercent(pub(crate) f64);

/// A fraction: 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fraction(pub(crate) f64);

/// Program and arguments, never empty, and their origin.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct CommandLine {
    pub(crate) words: Vec<String>,
    pub(crate) origin: Origin,
}

impl PartialEq for ModuleName {
    fn eq(&self, other: &ModuleName) -> bool {
        self.text == other.text
    }
}

impl ModuleName {
    pub(crate) fn new(text: &str) -> ModuleName {
        ModuleName {
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

impl FromConfig for bool {
    const FORM: ValueType = ValueType::Flag;

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        match node.value {
            TreeValue::Flag(value) => Some(value),
            _ => at.type_error(node, Self::FORM),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl FromConfig for String {
    const FORM: ValueType = ValueType::Text;

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        at.text(node, Self::FORM).map(str::to_owned)
    }

    fn show(&self) -> String {
        toml::Value::String(self.clone()).to_string()
    }
}

impl FromConfig for Template {
    const FORM: ValueType = ValueType::Template;

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        let text = at.text(node, Self::FORM)?.to_owned();
        at.expand(&text, node.origin).map(Template)
    }

    fn show(&self) -> String {
        self.0.show()
    }
}

impl FromConfig for ModuleName {
    const FORM: ValueType = ValueType::Name;

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        let text = at.text(node, Self::FORM)?.to_owned();
        if !is_name(&text) {
            return at.type_error(node, Self::FORM);
        }
        let origin = node.origin;
        Some(ModuleName { text, origin })
    }

    fn show(&self) -> String {
        self.text.show()
    }
}

impl<const MIN: u64, const MAX: u64> FromConfig for BoundedInt<MIN, MAX> {
    const FORM: ValueType = ValueType::Whole {
        min: MIN.cast_signed(),
        max: MAX.cast_signed(),
    };

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        if let TreeValue::Whole(value) = node.value
            && let Ok(value) = u64::try_from(value)
            && (MIN..=MAX).contains(&value)
        {
            return Some(BoundedInt(value));
        }
        at.type_error(node, Self::FORM)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

impl<const MIN: u64, const MAX: u64> BoundedInt<MIN, MAX> {
    /// Converts to a smaller type, which fits the bounds of each use.
    pub(crate) fn small(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl<const MIN: i64, const MAX: i64> FromConfig for Signed<MIN, MAX> {
    const FORM: ValueType = ValueType::Whole { min: MIN, max: MAX };

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        if let TreeValue::Whole(value) = node.value
            && (MIN..=MAX).contains(&value)
            && let Ok(value) = i32::try_from(value)
        {
            return Some(Signed(value));
        }
        at.type_error(node, Self::FORM)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

fn number<'a, T>(node: &'a Node, at: &mut ReadContext<'a>, form: ValueType) -> Option<T>
where
    T: From<Number>,
{
    let ValueType::Number { min, max } = form else {
        return None;
    };
    #[expect(clippy::cast_precision_loss, reason = "the bounds are far below 2^52")]
    let value = match node.value {
        TreeValue::Number(value) => value,
        TreeValue::Whole(value) => value as f64,
        _ => f64::NAN,
    };
    if (min..=max).contains(&value) {
        return Some(T::from(Number(value)));
    }
    at.type_error(node, form)
}

/// Converts a number whose bounds are checked.
struct Number(f64);

impl From<Number> for GrowthFactor {
    fn from(number: Number) -> GrowthFactor {
        GrowthFactor(number.0)
    }
}

impl From<Number> for Fraction {
    fn from(number: Number) -> Fraction {
        Fraction(number.0)
    }
}

impl From<Number> for CpuPercent {
    fn from(number: Number) -> CpuPercent {
        CpuPercent(number.0)
    }
}

impl CpuPercent {
    /// In thousandths of a core.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the bounds are those of the value"
    )]
    pub(crate) fn permille(self) -> u64 {
        (self.0 * 10.0).round() as u64
    }
}

impl FromConfig for CpuPercent {
    const FORM: ValueType = ValueType::Number {
        min: 1.0,
        max: 100_000.0,
    };

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        number(node, at, Self::FORM)
    }

    fn show(&self) -> String {
        format!("{:?}", self.0)
    }
}

impl FromConfig for GrowthFactor {
    const FORM: ValueType = ValueType::Number {
        min: 1.0,
        max: 1000.0,
    };

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        number(node, at, Self::FORM)
    }

    fn show(&self) -> String {
        format!("{:?}", self.0)
    }
}

impl FromConfig for Fraction {
    const FORM: ValueType = ValueType::Number { min: 0.0, max: 1.0 };

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        number(node, at, Self::FORM)
    }

    fn show(&self) -> String {
        format!("{:?}", self.0)
    }
}

impl FromConfig for CommandLine {
    const FORM: ValueType = ValueType::Command;

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        let TreeValue::List(list) = &node.value else {
            return at.type_error(node, Self::FORM);
        };
        if list.is_empty() {
            return at.type_error(node, Self::FORM);
        }
        let words: Vec<String> = list
            .iter()
            .filter_map(|word| Template::read(word, at).map(|filled| filled.0))
            .collect();
        if words.len() < list.len() {
            return None;
        }
        if words.first().is_some_and(String::is_empty) {
            let message = format!("cannot use {}: its first text is empty", at.path());
            return at.problem(node.origin, message, "the first text is the program");
        }
        // A program of that name is looked up in PATH; none has a blank in its name.
        if let [whole] = &words[..]
            && whole.contains(char::is_whitespace)
            && !whole.contains(['/', '\\'])
        {
            let split: Vec<&str> = whole.split_whitespace().collect();
            let message = format!("cannot use {whole:?} for {}: it is one text", at.path());
            let hint = format!("did you mean {split:?}?");
            return at.problem(node.origin, message, &hint);
        }
        let origin = node.origin;
        Some(CommandLine { words, origin })
    }

    fn show(&self) -> String {
        self.words.show()
    }
}

impl<T: FromConfig> FromConfig for Option<T> {
    const FORM: ValueType = T::FORM;

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        T::read(node, at).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(String::new, T::show)
    }
}

impl<T: FromConfig> FromConfig for Vec<T> {
    const FORM: ValueType = ValueType::List(&T::FORM);

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        let TreeValue::List(list) = &node.value else {
            return at.type_error(node, Self::FORM);
        };
        Some(list.iter().filter_map(|each| T::read(each, at)).collect())
    }

    fn show(&self) -> String {
        let each: Vec<String> = self.iter().map(T::show).collect();
        format!("[{}]", each.join(", "))
    }
}

impl<T: FromConfig> FromConfig for BTreeMap<String, T> {
    const FORM: ValueType = ValueType::Map(&T::FORM);

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        let table = at.table(node, Self::FORM)?;
        let mut map = BTreeMap::new();
        for (key, entry) in table {
            at.push_key(key);
            if let Some(value) = T::read(&entry.node, at) {
                map.insert(key.clone(), value);
            }
            at.pop_key();
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

/// A capability of Linux, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capability(pub(crate) u8);

/// Their names without `CAP_`, by number.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl FromConfig for Capability {
    const FORM: ValueType = ValueType::Text;

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        let text = at.text(node, Self::FORM)?;
        let name = text.strip_prefix("CAP_").unwrap_or(text);
        let found = CAPABILITIES.iter().position(|one| *one == name);
        if let Some(number) = found.and_then(|at| u8::try_from(at).ok()) {
            return Some(Capability(number));
        }
        let message = format!("cannot use {text:?} for {}: no such capability", at.path());
        at.problem(
            node.origin,
            message,
            "for instance \"CAP_NET_BIND_SERVICE\"",
        )
    }

    fn show(&self) -> String {
        format!("\"CAP_{}\"", CAPABILITIES[usize::from(self.0)])
    }
}
