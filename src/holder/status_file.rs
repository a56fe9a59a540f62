//! What a holder says of itself: `holder.json`, for `status` when nobody answers.
//! Owns its shape.
//! Never stands in anyone's way: a full disk costs this text and nothing else.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// What `holder.json` says.
#[derive(Debug, Serialize)]
pub(crate) struct HolderStatus<'a> {
    pid: u32,
    runtime_pid: Option<u32>,
    state: &'a str,
    restarts: u32,
    since: String,
    tree: &'a str,
    /// The directory of the configuration; empty when there is none.
    config_dir: &'a str,
    /// Why the runtime is not there, or how the last one ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_exit: Option<&'a str>,
}

impl<'a> HolderStatus<'a> {
    /// This holder, now.
    pub(crate) fn now(
        state: &'a str,
        runtime_pid: Option<u32>,
        restarts: u32,
        tree: &'a str,
        config_dir: &'a str,
        runtime_exit: Option<&'a str>,
    ) -> HolderStatus<'a> {
        HolderStatus {
            pid: std::process::id(),
            runtime_pid,
            state,
            restarts,
            since: rfc3339(SystemTime::now()),
            tree,
            config_dir,
            runtime_exit,
        }
    }

    /// Returns the content of the file.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default() // texts and numbers alone
    }
}

/// UTC with milliseconds.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to a date, counted in eras of 400 years that begin on 1 March of year 0.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let in_year = day - (365 * year + year / 4 - year / 100);
    let march = (5 * in_year + 2) / 153;
    let day = in_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let milli = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_written_as_the_calendar_says() {
        let at = |seconds: u64| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_798_761_599), "2026-12-31T23:59:59.000Z");
    }
}
