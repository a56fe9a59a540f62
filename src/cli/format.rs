//! Formats durations, times, sizes and text of modules for people.
//! Owns the format of quantities in all verbs.
//! Never passes a control character of a module to the terminal.

use std::borrow::Cow;
use std::time::Duration;

use mainstay_protocol::Timestamp;

use super::terminal_text::is_control;

/// Formats a duration by its two largest units: `850ms`, `12s`, `3m 5s`, `2h 3m`, `4d 1h`.
pub(crate) fn compact_duration(span: Duration) -> String {
    let seconds = span.as_secs();
    let two = |large: u64, l: &str, small: u64, s: &str| match small {
        0 => format!("{large}{l}"),
        _ => format!("{large}{l} {small}{s}"),
    };
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        3600..86400 => two(seconds / 3600, "h", seconds / 60 % 60, "m"),
        _ => two(seconds / 86400, "d", seconds / 3600 % 24, "h"),
    }
}

/// Returns the time since `at`; zero for a future time.
pub(crate) fn since(at: Timestamp, now: Timestamp) -> String {
    compact_duration(Duration::from_millis(now.0.saturating_sub(at.0)))
}

/// Returns the time until `at`; `now` for a past time.
pub(crate) fn until(at: Timestamp, now: Timestamp) -> String {
    match at.0.saturating_sub(now.0) {
        0 => "now".to_owned(),
        left => format!("in {}", compact_duration(Duration::from_millis(left))),
    }
}

/// Formats a local time, to the millisecond: `2026-11-20 13:00:00.123`.
pub(crate) fn time(at: Timestamp) -> String {
    in_zone(at, "%Y-%m-%d %H:%M:%S%.3f")
}

/// Formats a local time, to the second: `2026-11-20 13:00:00`.
pub(crate) fn local_time(at: Timestamp) -> String {
    in_zone(at, "%Y-%m-%d %H:%M:%S")
}

fn in_zone(at: Timestamp, pattern: &str) -> String {
    let zoned = i64::try_from(at.0).ok().and_then(|ms| {
        let at = jiff::Timestamp::from_millisecond(ms).ok()?;
        Some(at.to_zoned(zone()))
    });
    zoned.map_or_else(
        || at.to_string(),
        |zoned| zoned.strftime(pattern).to_string(),
    )
}

/// The current time in the zone of the machine.
pub(crate) fn zoned_now() -> jiff::Zoned {
    let now = i64::try_from(super::terminal::now().0).unwrap_or(i64::MAX);
    let now = jiff::Timestamp::from_millisecond(now).unwrap_or_default();
    now.to_zoned(zone())
}

/// The zone of the machine; `TZ` names another.
#[cfg(not(test))]
pub(crate) fn zone() -> jiff::tz::TimeZone {
    machine_zone().unwrap_or_else(jiff::tz::TimeZone::system)
}

/// The rules in /etc/localtime, without their name: to find that, all zones there are are listed.
#[cfg(not(test))]
fn machine_zone() -> Option<jiff::tz::TimeZone> {
    if cfg!(windows) || std::env::var_os("TZ").is_some() {
        return None;
    }
    let rules = std::fs::read("/etc/localtime").ok()?;
    jiff::tz::TimeZone::tzif("", &rules).ok()
}

#[cfg(test)]
pub(crate) fn zone() -> jiff::tz::TimeZone {
    jiff::tz::TimeZone::UTC
}

/// `512 B`, `1.5 KiB`, `12.0 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    if count < 1024 {
        return format!("{count} B");
    }
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let exponent = (count.ilog2() / 10).min(6);
    let tenths = (u128::from(count) * 10) >> (10 * exponent);
    format!(
        "{}.{} {}",
        tenths / 10,
        tenths % 10,
        units[exponent as usize - 1]
    )
}

/// `512B`, `1.5K`, `20M`: for columns.
pub(crate) fn short_bytes(count: u64) -> String {
    let text = bytes(count);
    match text.split_once(' ') {
        Some((number, unit)) => {
            let whole = number.split('.').next().unwrap_or(number);
            let number = if whole.len() > 1 { whole } else { number };
            format!("{number}{}", unit.chars().next().unwrap_or('B'))
        }
        None => text,
    }
}

/// The time alone if it is of the same day as `now`, else the date too.
pub(crate) fn local_clock(at: Timestamp, now: Timestamp) -> String {
    let (at, now) = (local_time(at), local_time(now));
    match (at.split_once(' '), now.split_once(' ')) {
        (Some((day, time)), Some((today, _))) if day == today => time.to_owned(),
        _ => at,
    }
}

/// `12.5%` of one core.
pub(crate) fn percent(share: f64) -> String {
    format!("{share:.1}%")
}

/// Puts text on one line: what controls a terminal or the order of text becomes spaces.
pub(crate) fn single_line(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_control) {
        Cow::Owned(
            text.chars()
                .map(|c| if is_control(c) { ' ' } else { c })
                .collect(),
        )
    } else {
        Cow::Borrowed(text)
    }
}

/// Puts lines that belong together on one: what follows a line is behind a semicolon, and so is the
/// advice of a problem of the configuration.
pub(crate) fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines = lines.map(|line| single_line(line.strip_prefix("= ").unwrap_or(line)));
    let mut out = String::new();
    for line in lines {
        match out.chars().last() {
            None => {}
            Some(':' | ';') => out.push(' '),
            Some(_) => out.push_str("; "),
        }
        out.push_str(&line);
    }
    out
}

/// Returns `a, b and c`; empty for an empty list.
pub(crate) fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [only] => single_line(only).into_owned(),
        [first @ .., last] => format!(
            "{} and {}",
            single_line(&first.join(", ")),
            single_line(last)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_keep_their_two_largest_units() {
        let said = |ms| compact_duration(Duration::from_millis(ms));
        assert_eq!(said(0), "0ms");
        assert_eq!(said(999), "999ms");
        assert_eq!(said(1_999), "1s");
        assert_eq!(said(60_000), "1m");
        assert_eq!(said(185_000), "3m 5s");
        assert_eq!(said(7_380_000), "2h 3m");
        assert_eq!(said(349_200_000), "4d 1h");
    }

    #[test]
    fn times_count_from_now_in_both_directions() {
        let (early, late) = (Timestamp(1_795_000_000_123), Timestamp(1_795_000_090_123));
        assert_eq!(since(early, late), "1m 30s");
        assert_eq!(since(late, early), "0ms");
        assert_eq!(until(late, early), "in 1m 30s");
        assert_eq!(until(early, late), "now");
        assert_eq!(time(early), "2026-11-18 11:06:40.123");
    }

    #[test]
    fn sizes_have_one_decimal_and_never_overflow() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(1_572_864), "1.5 MiB");
        assert_eq!(bytes(u64::MAX), "15.9 EiB");
        let short = [512, 1_572_864, 20 << 20].map(short_bytes);
        assert_eq!(short, ["512B", "1.5M", "20M"]);
    }

    #[test]
    fn control_characters_do_not_pass() {
        assert_eq!(single_line("a\x1b[31mb\nc"), "a [31mb c");
        assert_eq!(single_line("plain ü"), "plain ü");
        assert_eq!(single_line("a\u{202e}b\u{2066}c"), "a b c");
    }

    #[test]
    fn lines_that_belong_together_are_one_line() {
        let text = "plan 1 is in force:\na.toml:4:1: cannot use x\n   = did you mean y?\n\nb: z";
        let expected = "plan 1 is in force: a.toml:4:1: cannot use x; did you mean y?; b: z";
        assert_eq!(one_line(text), expected);
        assert_eq!(one_line("a\x1b[2J\nb"), "a [2J; b");
        assert_eq!(one_line(""), "");
    }

    #[test]
    fn lists_read_as_sentences() {
        let names = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(list(&names), "a, b and c");
        assert_eq!(list(&names[..1]), "a");
        assert_eq!(list(&[]), "");
    }
}
