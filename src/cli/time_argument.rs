//! Points in time as a person types them: `1h`, `10:30`, `yesterday 18:00`, `2026-11-20T12:00:00Z`.
//! Owns the accepted forms, for every verb with `--since` or `--until`.
//! Never reads the clock: the moment and the time zone are an argument of `resolve`.

use std::str::FromStr;
use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::{Span, Zoned};
use mainstay_protocol::Timestamp;

const FORMS: &str = "use an age such as 10m or 1h30m, a time such as 10:30, yesterday 18:00 or \
                     2026-11-20 10:30, or RFC 3339";

/// A point in time; what it is relative to is given when it is resolved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum TimeArgument {
    /// This long ago.
    Ago(Duration),
    /// The last time the clock showed this.
    Clock(Time),
    /// A time of the day this many days ago.
    Day(i64, Time),
    /// A local date and time.
    Local(DateTime),
    /// An instant.
    At(jiff::Timestamp),
}

impl FromStr for TimeArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<TimeArgument, String> {
        let text = text.trim();
        let parsed = day(text)
            .or_else(|| age(text).map(TimeArgument::Ago))
            .or_else(|| clock(text).map(TimeArgument::Clock))
            .or_else(|| text.parse().ok().map(TimeArgument::At))
            .or_else(|| local(text).map(TimeArgument::Local));
        parsed.ok_or_else(|| format!("this is no time; {FORMS}"))
    }
}

impl TimeArgument {
    /// Returns the instant; `now` also says the time zone of local times.
    ///
    /// # Errors
    /// The instant is out of the calendar's range.
    pub(crate) fn resolve(self, now: &Zoned) -> Result<Timestamp, jiff::Error> {
        let today = |days: i64, time: Time| -> Result<Zoned, jiff::Error> {
            let date = now.date().checked_sub(Span::new().try_days(days)?)?;
            date.to_datetime(time).to_zoned(now.time_zone().clone())
        };
        let at = match self {
            TimeArgument::Ago(age) => now.timestamp().checked_sub(age)?,
            TimeArgument::Clock(time) => match today(0, time)? {
                at if at <= *now => at.timestamp(),
                _ => today(1, time)?.timestamp(),
            },
            TimeArgument::Day(days, time) => today(days, time)?.timestamp(),
            TimeArgument::Local(at) => at.to_zoned(now.time_zone().clone())?.timestamp(),
            TimeArgument::At(at) => at,
        };
        // Before 1970 nothing was recorded.
        Ok(Timestamp(u64::try_from(at.as_millisecond()).unwrap_or(0)))
    }
}

/// `today`, `yesterday`, each with a time of day or midnight; `now`.
fn day(text: &str) -> Option<TimeArgument> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let days = match word.to_ascii_lowercase().as_str() {
        "now" if rest.is_empty() => return Some(TimeArgument::Ago(Duration::ZERO)),
        "today" => 0,
        "yesterday" => 1,
        _ => return None,
    };
    let time = match rest.trim() {
        "" => Time::midnight(),
        time => clock(time)?,
    };
    Some(TimeArgument::Day(days, time))
}

/// `1h`, `1h 30m`, `2days ago`.
fn age(text: &str) -> Option<Duration> {
    let text = text.strip_suffix("ago").unwrap_or(text);
    humantime::parse_duration(text.trim()).ok()
}

/// `10:30`, `10:30:15`.
fn clock(text: &str) -> Option<Time> {
    let digits = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b":.".contains(&byte));
    (digits && text.contains(':')).then(|| text.parse().ok())?
}

/// `2026-11-20`, `2026-11-20 10:30`.
fn local(text: &str) -> Option<DateTime> {
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let date: Date = date.parse().ok()?;
    Some(date.to_datetime(clock(time.trim())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str, now: &str) -> String {
        let now: Zoned = now.parse().expect("a time");
        let argument: TimeArgument = text.parse().expect(text);
        argument.resolve(&now).expect("in range").to_string()
    }

    #[test]
    fn every_form_is_a_point_in_local_time() {
        let now = "2026-11-20T13:00:00+01:00[Europe/Berlin]";
        for (text, instant) in [
            ("now", "2026-11-20T12:00:00.000Z"),
            ("1h", "2026-11-20T11:00:00.000Z"),
            ("1h30m", "2026-11-20T10:30:00.000Z"),
            ("90s ago", "2026-11-20T11:58:30.000Z"),
            ("2 days ago", "2026-11-18T12:00:00.000Z"),
            ("10:30", "2026-11-20T09:30:00.000Z"),
            ("10:30:15.5", "2026-11-20T09:30:15.500Z"),
            ("18:00", "2026-11-19T17:00:00.000Z"),
            ("today", "2026-11-19T23:00:00.000Z"),
            ("today 14:00", "2026-11-20T13:00:00.000Z"),
            ("yesterday", "2026-11-18T23:00:00.000Z"),
            ("Yesterday 18:00", "2026-11-19T17:00:00.000Z"),
            ("2026-11-03", "2026-11-02T23:00:00.000Z"),
            ("2026-11-03 10:30", "2026-11-03T09:30:00.000Z"),
            ("2026-07-03T10:30:01", "2026-07-03T08:30:01.000Z"),
            ("2026-11-03T10:30:00Z", "2026-11-03T10:30:00.000Z"),
            ("2026-11-03T10:30:00.123+05:00", "2026-11-03T05:30:00.123Z"),
            ("1969-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(resolved(text, now), instant, "{text}");
        }
    }

    #[test]
    fn a_time_that_the_clock_skipped_or_showed_twice_is_one_instant() {
        let spring = "2026-03-29T12:00:00+02:00[Europe/Berlin]";
        assert_eq!(resolved("02:30", spring), "2026-03-29T01:30:00.000Z");
        let autumn = "2026-10-25T12:00:00+01:00[Europe/Berlin]";
        assert_eq!(resolved("02:30", autumn), "2026-10-25T00:30:00.000Z");
    }

    #[test]
    fn what_is_no_time_is_refused_with_the_forms() {
        for text in [
            "",
            "12",
            "soon",
            "25:00",
            "10:30 tomorrow",
            "2026-13-01",
            "-1h",
            "yesterday x",
        ] {
            let problem = text.parse::<TimeArgument>().expect_err(text);
            assert!(problem.contains("10:30"), "{text}: {problem}");
        }
        let now: Zoned = "2026-11-20T13:00:00+01:00[Europe/Berlin]"
            .parse()
            .expect("a time");
        let endless: TimeArgument = "500000years".parse().expect("an age");
        assert!(endless.resolve(&now).is_err());
    }
}
