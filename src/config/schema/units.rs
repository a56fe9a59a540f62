//! Durations and sizes.
//! Owns their units, bounds and format.
//! Never takes a number without a unit for a duration.

use std::time::Duration;

use super::{FromConfig, ValueType};
use crate::config::read_context::ReadContext;
use crate::config::tree::{Node, TreeValue};

/// Longest accepted duration: 100 years.
const MAX_SPAN: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A duration that may be zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DurationValue(pub(crate) Duration);

/// A duration that is more than zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PositiveDuration(pub(crate) Duration);

/// A size in bytes, more than zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteSize(pub(crate) u64);

impl DurationValue {
    pub(crate) const fn seconds(seconds: u64) -> DurationValue {
        DurationValue(Duration::from_secs(seconds))
    }

    pub(crate) const fn millis(millis: u64) -> DurationValue {
        DurationValue(Duration::from_millis(millis))
    }
}

impl PositiveDuration {
    pub(crate) const fn seconds(seconds: u64) -> PositiveDuration {
        PositiveDuration(Duration::from_secs(seconds))
    }
}

/// Parses a duration within bounds, such as "250ms", "10s", "1h 30m".
fn duration<'a>(node: &'a Node, at: &mut ReadContext<'a>, zero: bool) -> Option<Duration> {
    let form = ValueType::Duration { zero };
    let text = at.text(node, form)?;
    match humantime::parse_duration(text) {
        Ok(span) if span <= MAX_SPAN && (zero || !span.is_zero()) => Some(span),
        _ => at.type_error(node, form),
    }
}

/// Formats a duration in the largest unit that keeps it whole.
pub(crate) fn show_duration(span: Duration) -> String {
    let nanos = span.as_nanos();
    let units: [(u128, &str); 6] = [
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
        (1, "ns"),
    ];
    let fits = |(size, _): &&(u128, &str)| nanos.is_multiple_of(*size) && nanos >= *size;
    match units.iter().find(fits) {
        Some((size, unit)) => format!("{}{unit}", nanos / size),
        None => "0s".to_owned(),
    }
}

impl FromConfig for DurationValue {
    const FORM: ValueType = ValueType::Duration { zero: true };

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        duration(node, at, true).map(DurationValue)
    }

    fn show(&self) -> String {
        show_duration(self.0).show()
    }
}

impl FromConfig for PositiveDuration {
    const FORM: ValueType = ValueType::Duration { zero: false };

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        duration(node, at, false).map(PositiveDuration)
    }

    fn show(&self) -> String {
        show_duration(self.0).show()
    }
}

/// Parses bytes, such as "10MiB", "512KiB", "1GiB", "1000" or "1MB".
fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|each: char| !each.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let size: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(size)
}

impl FromConfig for ByteSize {
    const FORM: ValueType = ValueType::Bytes;

    fn read<'a>(node: &'a Node, at: &mut ReadContext<'a>) -> Option<Self> {
        let bytes = match &node.value {
            TreeValue::Text(text) => parse_bytes(text),
            TreeValue::Whole(bytes) => u64::try_from(*bytes).ok(),
            _ => None,
        };
        match bytes {
            Some(bytes) if bytes > 0 && i64::try_from(bytes).is_ok() => Some(ByteSize(bytes)),
            _ => at.type_error(node, Self::FORM),
        }
    }

    fn show(&self) -> String {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.iter().find(|(size, _)| self.0.is_multiple_of(*size)) {
            Some((size, unit)) => format!("{}{unit}", self.0 / size).show(),
            None => self.0.to_string(),
        }
    }
}
