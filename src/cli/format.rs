//! Formats durations, times, sizes and text of modules for people.
//! Owns the format of quantities in all verbs.
//! Never passes a control character of a module to the terminal.

use std::borrow::Cow;
use std::time::Duration;

use mainstay_protocol::Timestamp;

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

/// `2026-11-20 12:00:00.123Z`.
pub(crate) fn time(at: Timestamp) -> String {
    at.to_string().replacen('T', " ", 1)
}

/// Formats a local time, to the second: `2026-11-20 13:00:00`.
pub(crate) fn local_time(at: Timestamp) -> String {
    let zoned = i64::try_from(at.0).ok().and_then(|ms| {
        let at = jiff::Timestamp::from_millisecond(ms).ok()?;
        Some(at.to_zoned(jiff::tz::TimeZone::system()))
    });
    zoned.map_or_else(
        || time(at),
        |zoned| zoned.strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
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

/// Puts text on one line: control characters become spaces.
pub(crate) fn single_line(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        Cow::Owned(
            text.chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect(),
        )
    } else {
        Cow::Borrowed(text)
    }
}

/// Escapes a module's line for a terminal: keeps colours, shows other control characters.
pub(crate) fn escape_controls(line: &str) -> Cow<'_, str> {
    let plain = |c: char| c == '\t' || !c.is_control();
    if line.chars().all(plain) {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len() + 8);
    let mut rest = line.strip_suffix('\r').unwrap_or(line);
    while let Some(c) = rest.chars().next() {
        let length = colour(rest).unwrap_or(c.len_utf8());
        let (now, later) = rest.split_at(length);
        match u8::try_from(c) {
            Ok(byte) if length == 1 && !plain(c) => out.extend(['^', char::from(byte ^ 0x40)]),
            _ if plain(c) || length > c.len_utf8() => out.push_str(now),
            _ => out.push(char::REPLACEMENT_CHARACTER),
        }
        rest = later;
    }
    out.into()
}

/// Returns the length of the colour sequence (`ESC [ … m`) at the start of the text.
fn colour(text: &str) -> Option<usize> {
    let numbers = text.strip_prefix("\x1b[")?;
    let end = numbers.find(|c: char| !matches!(c, '0'..='9' | ';' | ':'))?;
    numbers[end..].starts_with('m').then_some(end + 3)
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
        assert_eq!(time(early), "2026-11-18 11:06:40.123Z");
    }

    #[test]
    fn sizes_have_one_decimal_and_never_overflow() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(1_572_864), "1.5 MiB");
        assert_eq!(bytes(u64::MAX), "15.9 EiB");
    }

    #[test]
    fn control_characters_do_not_pass() {
        assert_eq!(single_line("a\x1b[31mb\nc"), "a [31mb c");
        assert_eq!(single_line("plain ü"), "plain ü");
    }

    #[test]
    fn of_a_line_a_terminal_gets_text_and_colours() {
        for (line, shown) in [
            ("plain\tü", "plain\tü"),
            ("\x1b[1;38:5:9mred\x1b[0m!\r", "\x1b[1;38:5:9mred\x1b[0m!"),
            ("a\x1b]0;title\x07b", "a^[]0;title^Gb"),
            ("\x1b[2J\x1b[1;1H", "^[[2J^[[1;1H"),
            ("\x1b[3", "^[[3"),
            ("50%\r60%\x08\x7f", "50%^M60%^H^?"),
            ("\u{9b}2J", "\u{fffd}2J"),
        ] {
            assert_eq!(escape_controls(line), shown);
        }
    }

    #[test]
    fn lists_read_as_sentences() {
        let names = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(list(&names), "a, b and c");
        assert_eq!(list(&names[..1]), "a");
        assert_eq!(list(&[]), "");
    }
}
