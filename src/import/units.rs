//! Durations and sizes as other programs write them.
//! Owns the table of units.
//! Never rounds a duration down to nothing.

use std::time::Duration;

/// Reads "1m30s", "1min 30s", "1.5h"; a bare number is in `bare` seconds.
pub(crate) fn duration(text: &str, bare: f64) -> Option<Duration> {
    let mut seconds = 0.0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|one: char| !one.is_ascii_digit() && one != '.');
        let (number, after) = rest.split_at(end.unwrap_or(rest.len()));
        let after = after.trim_start();
        let end = after.find(|one: char| !one.is_alphabetic());
        let (unit, after) = after.split_at(end.unwrap_or(after.len()));
        let factor = match unit {
            "" => bare,
            "ns" => 1e-9,
            "us" | "µs" | "usec" => 1e-6,
            "ms" | "msec" => 1e-3,
            "s" | "sec" | "second" | "seconds" => 1.0,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            "w" | "week" | "weeks" => 604_800.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * factor;
        rest = after.trim_start();
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// A duration as mainstay reads it.
pub(crate) fn shown(duration: Duration) -> String {
    let millis = duration.as_micros().div_ceil(1000);
    match millis % 1000 {
        0 => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    }
}

/// Reads "512m", "1.5G", "300MB" or bytes; returns whole MiB, at least one.
pub(crate) fn mebibytes(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_lowercase();
    let end = text.find(|one: char| !one.is_ascii_digit() && one != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let factor = match unit.trim().trim_end_matches('b').trim_end_matches('i') {
        "" => 1.0,
        "k" => 1024.0,
        "m" => 1_048_576.0,
        "g" => 1_073_741_824.0,
        "t" => 1_099_511_627_776.0,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * factor;
    (bytes > 0.0).then(|| (bytes / 1_048_576.0).ceil().min(1e9) as i64)
}
