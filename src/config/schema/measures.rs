//! Durations and sizes.
//! Owns their units, bounds and format.
//! Never takes a number without a unit for a duration.

use std::time::Duration;

use super::{Form, Value};
use crate::config::reading::Reading;
use crate::config::tree::{Node, Tree};

/// Longest accepted duration: 100 years.
const MAX_SPAN: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A duration that may be zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// A duration that is more than zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LongSpan(pub(crate) Duration);

/// A size in bytes, more than zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl Span {
    pub(crate) const fn seconds(seconds: u64) -> Span {
        Span(Duration::from_secs(seconds))
    }

    pub(crate) const fn millis(millis: u64) -> Span {
        Span(Duration::from_millis(millis))
    }
}

impl LongSpan {
    pub(crate) const fn seconds(seconds: u64) -> LongSpan {
        LongSpan(Duration::from_secs(seconds))
    }
}

/// Parses a duration within bounds, such as "250ms", "10s", "1h 30m".
fn duration<'a>(node: &'a Node, at: &mut Reading<'a>, zero: bool) -> Option<Duration> {
    let form = Form::Span { zero };
    let text = at.text(node, form)?;
    match humantime::parse_duration(text) {
        Ok(span) if span <= MAX_SPAN && (zero || !span.is_zero()) => Some(span),
        _ => at.wrong(node, form),
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

impl Value for Span {
    const FORM: Form = Form::Span { zero: true };

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        duration(node, at, true).map(Span)
    }

    fn show(&self) -> String {
        show_duration(self.0).show()
    }
}

impl Value for LongSpan {
    const FORM: Form = Form::Span { zero: false };

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        duration(node, at, false).map(LongSpan)
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

impl Value for Bytes {
    const FORM: Form = Form::Bytes;

    fn read<'a>(node: &'a Node, at: &mut Reading<'a>) -> Option<Self> {
        let bytes = match &node.value {
            Tree::Text(text) => parse_bytes(text),
            Tree::Whole(bytes) => u64::try_from(*bytes).ok(),
            _ => None,
        };
        match bytes {
            Some(bytes) if bytes > 0 && i64::try_from(bytes).is_ok() => Some(Bytes(bytes)),
            _ => at.wrong(node, Self::FORM),
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
